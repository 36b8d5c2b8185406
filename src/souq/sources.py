"""Models and adapters from outside: a Hugging Face folder, a GGUF file, a hub id, a PEFT LoRA folder; all read strictly.

Nothing is executed: no pickles, no `auto_map`, no Python files; configurations and chat templates are judged by model/config.py.

    source = open_source("./SmolLM2-135M-Instruct")
    source.weights["model.norm.weight"], source.files["config.json"]
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from souq.errors import Hostile, Missing, NotFound, UsageError
from souq.model.config import MAX_FILE, MODEL_FILES, admit
from souq.model.gguf import GGUF
from souq.records import refuse_nested
from souq.weights.delta import Array, Checkpoint
from souq.weights.safetensors import TensorFile, open_tensors


@dataclass(frozen=True)
class Source:
    """A model somebody published: tensors, the files beside them, and what it says of itself."""

    weights: Checkpoint
    files: dict[str, bytes]
    name: str
    licence: str | None
    origin: str


def open_source(path: str, revision: str | None = None) -> Source:
    """A model by folder, .gguf file or hub id; the revision is the hub's.

    Raises:
        NotFound: nothing there.
        Hostile: it would have to run code to be read, or breaks its format.
    """
    place = Path(path)
    if place.is_file() and place.suffix == ".gguf":
        return _gguf(place)
    if place.is_dir():
        return _folder(place)
    if place.exists():
        raise Hostile(f"{path} is neither a model folder nor a .gguf file")
    if _is_hub_id(path):
        return _hub(path, revision)
    raise NotFound(f"no model at {path}", hint="name a Hugging Face folder, a .gguf file, or a hub id like org/name")


def _is_hub_id(path: str) -> bool:
    return re.fullmatch(r"[\w.\-]+/[\w.\-]+", path) is not None and not Path(path).parent.is_dir()


def _gguf(path: Path) -> Source:
    found = GGUF(path)
    files = found.files()
    admit(files)
    return Source(found, files, found.name, found.licence, f"GGUF {path.name}")


_WANTED = ["*.safetensors", "*.safetensors.index.json", *MODEL_FILES, "README.md", "adapter_config.json"]


def _download(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise Missing("huggingface_hub is not installed", hint='run `pip install "souq[lab]"`') from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:
        raise NotFound(f"cannot get {name} from the hub: {error}", hint="check the id and your connection") from error


def _hub(name: str, revision: str | None) -> Source:
    found = _folder(_download(name, revision))
    return Source(found.weights, found.files, name.rpartition("/")[2], found.licence, f"hub {name}")


def _folder(folder: Path) -> Source:
    if not (folder / "config.json").is_file():
        raise NotFound(f"no config.json in {folder}", hint="name the folder that holds config.json and *.safetensors")
    files = {name: _small(_inside(folder, name)) for name in MODEL_FILES if (folder / name).is_file()}
    admit(files)
    return Source(weights_of(folder), files, folder.resolve().name, _licence(folder), f"folder {folder.name}")


def _small(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE:
        raise Hostile(f"{path.name} is larger than {MAX_FILE:,} bytes")
    return path.read_bytes()


def _inside(folder: Path, name: str) -> Path:
    """A file of a folder that somebody handed over; a link out of it would publish its reader's own files.

    Raises:
        Hostile: a link to somewhere else than the folder, or than the blobs of a hub's cache.
    """
    path = folder / name
    blobs = folder.resolve().parent.parent / "blobs"  # models--org--name/snapshots/<revision> links there
    if not any(path.resolve().is_relative_to(place) for place in (folder.resolve(), blobs)):
        raise Hostile(f"{name} is a link out of its folder", hint="replace it by the file you mean")
    return path


def _json(data: bytes, name: str) -> Any:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Hostile(f"{name} is not JSON: {error}") from error
    refuse_nested(found, where=name)
    return found


def weights_of(folder: Path) -> Checkpoint:
    """A folder's tensors, in one file or in several.

    Raises:
        NotFound: no safetensors there.
        Hostile: pickles, or files that break their format.
    """
    if (folder / "model.safetensors.index.json").is_file():
        return Sharded(folder)
    if (folder / "model.safetensors").is_file():
        return open_tensors(_inside(folder, "model.safetensors"))
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        raise Hostile(
            f"{folder} holds pickles, which run code when opened", hint="save it with safe_serialization=True"
        )
    raise NotFound(f"no model.safetensors in {folder}", hint="name a folder with safetensors weights")


class Sharded(Mapping[str, Array]):
    """A checkpoint in several safetensors files, by its index."""

    def __init__(self, folder: Path) -> None:
        try:
            told = json.loads(_small(_inside(folder, "model.safetensors.index.json")))["weight_map"]
            names = {str(name): str(shard) for name, shard in told.items()}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise Hostile("model.safetensors.index.json has no weight_map of names to files") from error
        for shard in names.values():
            if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}\.safetensors", shard):
                raise Hostile(f"the index names a file outside the folder: {shard[:80]!r}")
        self._shards = {shard: open_tensors(_inside(folder, shard)) for shard in sorted(set(names.values()))}
        self._names = dict(sorted(names.items()))
        held = {name: shard for shard, file in self._shards.items() for name in file}
        if held != self._names or sum(map(len, self._shards.values())) != len(held):
            raise Hostile("the index and its files do not name the same tensors")

    @property
    def files(self) -> list[TensorFile]:
        """The files, in the order of their names."""
        return list(self._shards.values())

    def __getitem__(self, name: str) -> Array:
        return self._shards[self._names[name]][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _licence(folder: Path) -> str | None:
    """What the card's first lines say, as SPDX; None where they do not."""
    card = folder / "README.md"
    text = _small(card).decode("utf-8", "replace")[:4000] if card.is_file() else ""
    if not (said := re.search(r"^license:\s*([\w.\-+]+)\s*$", text, re.MULTILINE)):
        return None
    from license_expression import get_spdx_licensing  # slow to load its list

    known = {name.lower(): name for name in get_spdx_licensing().known_symbols}
    return known.get(said.group(1).lower())


# -- adapters ----------------------------------------------------------------------------------------------------------

Adapter = dict[str, tuple[Array, Array, float]]
_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")
_WHOLE = re.compile(r"base_model\.model\.((?!.*\.lora_[AB]\.)(.+)\.(?:weight|bias))")
_UNSUPPORTED = {  # key of adapter_config.json -> what it means
    "use_dora": "DoRA", "trainable_token_indices": "trained tokens", "layer_replication": "replicated layers",
    "alora_invocation_tokens": "aLoRA", "use_qalora": "QALoRA", "use_bdlora": "BD-LoRA", "megatron_config": "Megatron",
    "target_parameters": "bare parameters", "fan_in_fan_out": "transposed weights", "lora_bias": "biases",
}  # fmt: skip


def open_adapter(folder: Path) -> Adapter:
    """A PEFT LoRA folder: tensor name -> (a (r, n), b (m, r), scale), as its author trained them.

    Raises:
        NotFound: not an adapter folder.
        Hostile: not a LoRA souq can keep exactly; the reason says what it is.
    """
    return _adapter(folder, whole=False)[0]


def read_adapter(path: str, revision: str | None = None) -> tuple[Adapter, dict[str, Array]]:
    """A PEFT LoRA by folder or hub id: its pairs as `open_adapter` has them, and the tensors it replaces whole.

    Raises:
        NotFound: nothing there, or no adapter.
        Hostile: not a LoRA souq can apply exactly.
    """
    place = Path(path)
    return _adapter(_download(path, revision) if not place.exists() and _is_hub_id(path) else place, whole=True)


def _adapter(folder: Path, *, whole: bool) -> tuple[Adapter, dict[str, Array]]:
    if not (folder / "adapter_config.json").is_file():
        raise NotFound(f"no adapter_config.json in {folder}", hint="name the folder PEFT's save_pretrained wrote")
    config = _adapter_config(folder)
    if config.get("modules_to_save") and not whole:
        raise Hostile(
            "the adapter has whole modules beside the LoRA (modules_to_save)",
            hint="merge it and offer the full fine-tune instead",
        )
    if not (folder / "adapter_model.safetensors").is_file():
        if any(folder.glob("adapter_model.bin")):
            raise Hostile("the adapter is a pickle, which runs code when opened", hint="save it as safetensors")
        raise NotFound(f"no adapter_model.safetensors in {folder}")
    tensors = open_tensors(_inside(folder, "adapter_model.safetensors"))
    replaced = _replaced(tensors, config)
    return _pairs({n: tensors[n] for n in tensors if n not in replaced}, config), {
        replaced[name]: tensors[name] for name in replaced
    }


def _replaced(tensors: Checkpoint, config: Mapping[str, Any]) -> dict[str, str]:
    """Key -> tensor name, of the modules that are kept whole."""
    saved = config.get("modules_to_save") or []
    if not isinstance(saved, list) or not all(isinstance(module, str) and module for module in saved):
        raise Hostile("modules_to_save is no list of names")
    found = {key: told for key in tensors if (told := _WHOLE.fullmatch(key))}
    return {key: told[1] for key, told in found.items() if told[2].endswith(tuple(saved))} if saved else {}


def _adapter_config(folder: Path) -> dict[str, Any]:
    config = _json(_small(_inside(folder, "adapter_config.json")), "adapter_config.json")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Hostile("adapter_config.json is not of a LoRA", hint="souq takes LoRA adapters and full fine-tunes")
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            raise Hostile(f"the adapter has {what} ({key})", hint="merge it and offer the full fine-tune instead")
    if config.get("bias", "none") != "none":
        raise Hostile("the adapter trains biases", hint="merge it and offer the full fine-tune instead")
    return config


def _pairs(tensors: Checkpoint, config: Mapping[str, Any]) -> Adapter:
    halves: dict[str, dict[str, Array]] = {}
    for name in tensors:
        found = _KEY.fullmatch(name)
        if not found:
            raise Hostile(f"the adapter holds {name[:80]!r}, which is no LoRA factor")
        halves.setdefault(found.group(1), {})[found.group(2)] = tensors[name]
    for module, pair in halves.items():
        if (
            pair.keys() != {"A", "B"}
            or pair["A"].ndim != 2
            or pair["B"].ndim != 2
            or len(pair["A"]) != pair["B"].shape[1]
        ):
            raise Hostile(f"the factors of {module} do not fit each other")
    if not halves:
        raise Hostile("the adapter is empty")
    return {
        f"{m}.weight": (pair["A"], pair["B"], _scale(m, len(pair["A"]), config)) for m, pair in sorted(halves.items())
    }


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """alpha / r, or alpha / sqrt(r) for rsLoRA; patterns win over the default, as in PEFT."""
    alpha: Any = config.get("lora_alpha")
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or any(re.search(r"[^\w.\-]", pattern) for pattern in patterns):
        raise Hostile("alpha_pattern has regular expressions", hint="name the modules in it one by one")
    for pattern, value in patterns.items():
        if module == pattern or module.endswith(f".{pattern}"):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UsageError("adapter_config.json has no lora_alpha", hint="was it written by PEFT?")
    if rank < 1:
        raise Hostile(f"the factors of {module} have rank 0, which changes nothing", hint="was its training cut short?")
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))

"""Adapters, read strictly from a folder or a hub id: PEFT's files and MLX's, whoever saved them.

It knows files and the names in them; what becomes of a base is fit.py's. What cannot be followed exactly is
refused by name, with what to do instead.

    adapter = open_adapter(Path("adapter"))
    adapter.modules["model.layers.0.self_attn.q_proj"].a
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from souq.errors import Hostile, NotFound
from souq.model.adapter.config import MERGED, AdapterConfig, bounded_patterns, read_config
from souq.model.adapter.experts import EXPERTS
from souq.model.adapter.mlx import is_mlx, read_mlx
from souq.model.adapter.modules import IN_A_REPOSITORY, MOST_SHOWN, Adapter, Module, NeedsPeft, listed, shown
from souq.model.source import download, inside, is_hub_id, refuse_pointers
from souq.weights.delta import Array, Checkpoint
from souq.weights.safetensors import open_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PREFIX = re.compile(r"(?:module\.)*(?:base_model\.model\.)?(?:module\.)*")
_FACTOR = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)((?:\.[^.]+){0,2})")
_ROWS = re.compile(r"(.+?)(?:\.token_adapter)?\.trainable_tokens_delta((?:\.[^.]+)?)")
_WHOLE = re.compile(r"(.+?)(?:\.base_layer|\.modules_to_save(?:\.[^.]+)?)?\.([^.]+)")
_LEAVES = {"lora_A": ("weight",), "lora_B": ("weight", "bias"), "lora_magnitude_vector": ("weight", "")}


def open_adapter(folder: Path) -> Adapter:
    """A PEFT or MLX adapter from a folder, its tensors still on disk.

    Raises:
        NotFound: not an adapter folder; the message says what is there instead.
        Hostile: not an adapter souq can keep exactly; the reason says what it is.
        NeedsPeft: PEFT has to merge it first.
    """
    folder, notes = locate(folder)
    tensors: Checkpoint
    if is_mlx(folder):
        config, tensors = read_mlx(folder)
    else:
        config, tensors = read_config(inside(folder, CONFIG)), _tensors(folder)
        if config.needs_peft:
            raise NeedsPeft(
                f"{folder.name}: {', '.join(config.needs_peft)}, and PEFT has to merge it", hint=IN_A_REPOSITORY
            )
    modules, more = _modules(tensors)
    bounded_patterns(config, len(modules))
    _judge(modules, config)
    return Adapter(config, modules, folder, (*notes, *more))


def read_adapter(path: str, revision: str | None = None) -> Adapter:
    """An adapter by folder or hub id.

    Raises:
        NotFound: nothing there, or no adapter.
        Hostile: not one that can be applied exactly.
    """
    place = Path(path)
    return open_adapter(download(path, revision) if not place.exists() and is_hub_id(path) else place)


def locate(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that holds the adapter, and what is to be said about it; a named adapter stands one folder below.

    Raises:
        NotFound: no adapter there; the message names the checkpoints, or the other files, that are.
    """
    if (folder / CONFIG).is_file():
        return folder, ()
    named = adapters_below(folder)
    checkpoints = sorted((path for path in named if _step(path) is not None), key=lambda path: _step(path) or 0)
    if checkpoints:
        raise NotFound(
            f"{folder} holds {len(checkpoints)} checkpoints of a training, the newest {checkpoints[-1].name}",
            hint=f"`--from {shlex.quote(str(checkpoints[-1]))}`",
        )
    if len(named) == 1:
        return named[0], (f"read from its folder {named[0].name}",)
    if named:
        names = ", ".join(path.name for path in named[:MOST_SHOWN])
        raise NotFound(f"{folder} holds {len(named)} adapters: {names}", hint=f"name one: `--from {named[0]}`")
    if ggufs := gguf_adapters(folder):
        raise NotFound(
            f"{ggufs[0]} is llama.cpp's form of an adapter",
            hint="give the PEFT folder that it was made of (convert_lora_to_gguf.py reads one)",
        )
    raise NotFound(f"no {CONFIG} in {folder}", hint="name the folder PEFT's save_pretrained wrote")


def gguf_adapters(folder: Path) -> list[Path]:
    """llama.cpp's adapters in a folder, or the one that is named, known by a key that no model's head has."""
    paths = [folder] if folder.suffix == ".gguf" and folder.is_file() else sorted(folder.glob("*.gguf"))
    return [path for path in paths if path.is_file() and _HEAD_KEY in _head(path)]


_HEAD_KEY = b"adapter.lora.alpha"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)


def adapters_below(folder: Path) -> list[Path]:
    """The folders in a folder that hold an adapter each."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_symlink() and (path / CONFIG).is_file())


def _step(path: Path) -> int | None:
    match = re.fullmatch(r"checkpoint-(\d{1,12})", path.name)
    return int(match[1]) if match else None


def _tensors(folder: Path) -> Checkpoint:
    path = folder / WEIGHTS
    if path.is_file():
        refuse_pointers(folder, [WEIGHTS])
        return open_tensors(inside(folder, WEIGHTS))
    pickles = [*folder.glob("adapter_model.bin"), *folder.glob("adapter_model.pt")]
    if pickles:
        raise Hostile(
            f"{pickles[0].name} is a pickle, which runs code when opened",
            hint=f"convert it where you trust it: `python -c {shlex.quote(_UNPICKLE)} "
            f"{shlex.quote(str(pickles[0]))} {shlex.quote(str(path))}`",
        )
    raise NotFound(f"no {WEIGHTS} in {folder}", hint="was the download whole?")


_UNPICKLE = (
    "import sys, torch; from safetensors.torch import save_file; "
    "save_file({k: v.contiguous() for k, v in torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])"
)


def plain_names(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Key -> the name without what PEFT, DDP, FSDP and torch.compile put before it; and which of those were there.

    Raises:
        Hostile: two keys that would be one.
    """
    plain = {key: _WRAPPERS.sub("", key) for key in names}
    plain = {key: name[match.end() :] if (match := _PREFIX.match(name)) else name for key, name in plain.items()}
    if len(set(plain.values())) < len(plain):
        raise Hostile("the adapter holds two tensors of one name", hint="save it again with PEFT's save_pretrained")
    odd = {word for key in plain for word in ("module", "_orig_mod", "_fsdp_wrapped_module") if word in key.split(".")}
    return plain, sorted(odd)


def _modules(tensors: Checkpoint) -> tuple[dict[str, Module], list[str]]:
    """A file's tensors by module, and what is to be said about their names."""
    modules: dict[str, Module] = {}
    unknown, called = list[str](), set[str]()
    plain, odd = plain_names(tensors)
    for key, name in plain.items():
        if name.endswith(".lora_velora_embed"):  # by which VeLoRA's backward pass compresses; it computes nothing
            continue
        if not _place(modules, name, tensors[key], called):
            unknown.append(key)
    if unknown:
        raise Hostile(f"the adapter holds {shown(unknown)}, which souq does not know", hint=MERGED)
    if len(called) > 1:
        raise Hostile(f"the file holds {len(called)} adapters: {shown(called)}", hint="save one of them alone")
    return modules, [f"read without `{prefix}.` in its names" for prefix in odd]


def _place(modules: dict[str, Module], name: str, array: Array, called: set[str]) -> bool:
    """Put a tensor where it belongs in its module; False where nothing is known of such a name."""
    if match := _FACTOR.fullmatch(name):
        return _place_factor(modules.setdefault(match[1], Module()), match[2], match[3], array, called)
    if match := _ROWS.fullmatch(name):
        modules.setdefault(match[1], Module()).rows = array
        called.update({match[2][1:]} - {"", "default"})
        return True
    match = _WHOLE.fullmatch(name)
    if match is None or "lora_" in name or "original_module" in name.split("."):
        return False
    modules.setdefault(match[1], Module()).whole[match[2]] = array
    return True


def _place_factor(module: Module, factor: str, tail: str, array: Array, called: set[str]) -> bool:
    words = tail.split(".")[1:]
    leaf = words.pop() if words and words[-1] in ("weight", "bias") else ""
    if leaf not in _LEAVES.get(factor, ("",)) or len(words) > 1:
        return False
    called.update(set(words) - {"default"})
    if factor == "lora_B" and leaf == "bias":
        module.shift = array
    elif factor == "lora_magnitude_vector":
        module.magnitude = array
    else:
        module.embedding |= "embedding" in factor
        setattr(module, factor[-1].lower(), array)
    return True


def _judge(modules: Mapping[str, Module], config: AdapterConfig) -> None:
    """That each module's tensors belong together, whatever the base."""
    if not modules:
        raise Hostile("the adapter is empty", hint="was it saved before its training ended?")
    wrong = [reason for name, module in modules.items() for reason in _misfits(name, module, config)]
    wrong += _absent(modules, config)
    if wrong:
        raise Hostile(listed(wrong), hint="was it saved whole? sharded trainings gather their weights first")
    for name, module in modules.items():
        if module.a is not None and not EXPERTS.fullmatch(name):  # theirs is known when the base is
            config.scale(name, module.rank)


def _absent(modules: Mapping[str, Module], config: AdapterConfig) -> Iterator[str]:
    """What its configuration says was trained beside the factors, and the file does not hold."""
    if config.tokens and all(module.rows is None for module in modules.values()):
        yield "adapter_config.json names tokens it trained, and the file holds no rows of them"
    held = [name for name, module in modules.items() if module.whole]
    for saved in config.values.get("modules_to_save") or ():
        # PEFT writes both names of a classifier's head, of which a model has one.
        if saved not in ("classifier", "score") and not any(f".{saved}." in f".{name}." for name in held):
            yield f"adapter_config.json says that {saved[:80]!r} was trained and saved, and the file does not hold it"


def _misfits(name: str, module: Module, config: AdapterConfig) -> Iterator[str]:
    a, b = module.a, module.b
    if (a is None) != (b is None):
        yield f"{name} has one factor and not the other"
    elif a is not None and b is not None and (a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]):
        yield f"the factors of {name} do not fit each other"
    if module.magnitude is not None and not config.dora:
        yield f"{name} has a DoRA magnitude, and adapter_config.json says nothing of DoRA"
    if config.dora and a is not None and module.magnitude is None:
        yield f"{name} has no DoRA magnitude (use_dora)"
    if (module.magnitude is not None or module.shift is not None) and a is None:
        yield f"{name} has a magnitude or a bias beside no factors"
    if config.values.get("lora_bias") and a is not None and module.shift is None and not module.embedding:
        yield f"{name} has no bias beside B (lora_bias)"
    if module.rows is not None and not config.tokens:
        yield f"{name} has rows of tokens, and adapter_config.json does not say whose (trainable_token_indices)"
    arrays = (a, b, module.magnitude, module.shift, module.rows, *module.whole.values())
    if not all(np.isfinite(array.astype(np.float32)).all() for array in arrays if array is not None):
        yield f"the tensors of {name} hold numbers that are not finite (NaN or infinity)"

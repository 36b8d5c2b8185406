"""Recipe to model: fold, write down what came out, and export it.

Building needs no torch and no network. A built model is a cache entry named by its recipe: delete it and the same
bytes come again.

    built = build(main)            # cached by recipe
    export(main, Path("out"))      # a Hugging Face folder
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from souq.card import card
from souq.errors import UsageError
from souq.making import Making, folded, sums_of
from souq.merge import Fold
from souq.merge.sums import Kept
from souq.progress import Progress, quiet
from souq.records import Recipe, digest
from souq.repo import Repo
from souq.shelf import Made, Shelf
from souq.snapshot import Offer, Snapshot, model_files
from souq.store import Store
from souq.tensorfile import open_tensors, write_tensors
from souq.weights import Array, Checkpoint, Lock, TensorRef, format_lock, parse_lock, tensor_digest


class Stored(Mapping[str, Array]):
    """The checkpoint a lock describes, read tensor by tensor from a store that checks every digest."""

    def __init__(self, lock: Lock, store: Store) -> None:
        self._lock, self._store = lock, store

    def __getitem__(self, name: str) -> Array:
        return self._store.get(self._lock[name].digest)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lock)

    def __len__(self) -> int:
        return len(self._lock)


@dataclass(frozen=True)
class Built:
    """A model on this disk: its recipe, its lock, and the folder that holds it."""

    recipe: Recipe
    lock: Lock
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def made(self) -> Made:
        """How it came to be: what was read, copied and computed."""
        return msgspec.json.decode((self.folder / "made.json").read_bytes(), type=Made)

    @property
    def weights(self) -> Checkpoint:
        return open_tensors(self.path)

    @property
    def digest(self) -> str:
        """The name of the built model: the digest of its lock."""
        return digest(format_lock(self.lock).encode())


def fold(snapshot: Snapshot, extra: Offer | None = None) -> Fold:
    """The merged checkpoint of a commit, lazy, with one more contribution where asked."""
    return folded(snapshot, Stored(snapshot.base, snapshot.repo.store), snapshot.deltas(extra), extra=extra)


def model_lock(snapshot: Snapshot, progress: Progress = quiet) -> Lock:
    """What a commit builds to, computed and not read: every tensor's digest."""
    merged, lock = fold(snapshot), dict(snapshot.base)
    for done, name in enumerate(merged.changed):
        progress("rebuild", done, len(merged.changed))
        lock[name] = TensorRef.of(merged[name])
    progress("rebuild", len(merged.changed), len(merged.changed))
    return lock


def build(snapshot: Snapshot, extra: Offer | None = None, progress: Progress = quiet) -> Built:
    """The model of a commit as a safetensors file; a second build of the same recipe only reads its name.

    What an earlier build left is used: the sums of the contributions both have, and every tensor that stays as it was.
    Accepting one more contribution reads that one and no other.
    """
    recipe = snapshot.recipe(extra)
    shelf = Shelf(snapshot.repo.cache)
    folder = shelf.builds / recipe.digest.removeprefix("b3:")[:32]
    with FileLock(shelf.builds / "lock"):
        if not (folder / "model.lock").is_file():
            _make(snapshot, extra, shelf, folder, progress)
    return Built(recipe, parse_lock((folder / "model.lock").read_text()), folder)


def _make(snapshot: Snapshot, extra: Offer | None, shelf: Shelf, folder: Path, progress: Progress) -> None:
    base = Stored(snapshot.base, snapshot.repo.store)
    kept, left = shelf.nearest(sums_of(snapshot, extra), frozenset(snapshot.changing(extra)))
    try:
        lock = Making(snapshot, base, extra, shelf, kept, left).write(folder, progress)
        damaged = bool(kept.members) and extra is None and lock != snapshot.model
    except (OSError, ValueError):
        damaged = bool(kept.members)
        if not damaged:
            raise
    if damaged:  # what was kept cannot be trusted: a cache may be damaged, a model may not
        shelf.clear()
        Making(snapshot, base, extra, shelf, Kept(), {}).write(folder, progress)
    shelf.tidy()


class _Watched(Mapping[str, Array]):
    """A checkpoint that writes down each tensor's digest as it passes."""

    def __init__(self, inner: Checkpoint, progress: Progress) -> None:
        self._inner, self._progress = inner, progress
        self.lock: Lock = {}

    def __getitem__(self, name: str) -> Array:
        self._progress("build", len(self.lock), len(self._inner))
        array = self._inner[name]
        self.lock[name] = TensorRef.of(array)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)


def export(snapshot: Snapshot, out: Path, progress: Progress = quiet) -> Built:
    """Main's model as a folder `AutoModelForCausalLM.from_pretrained` loads, with model.lock and a model card beside the weights.

    Raises:
        UsageError: the folder is already there and holds something.
    """
    refuse_full(out)
    built = build(snapshot, progress=progress)
    with _whole_folder(out) as partial:
        _model_files(snapshot, partial)
        shutil.copyfile(built.path, partial / "model.safetensors")
        (partial / "model.lock").write_text(format_lock(built.lock))
        (partial / "README.md").write_text(card(snapshot, built.digest, built.recipe))
    return built


def export_weights(snapshot: Snapshot, weights: Checkpoint, out: Path, progress: Progress = quiet) -> None:
    """Any checkpoint of this base's shape as such a folder."""
    refuse_full(out)
    with _whole_folder(out) as partial:
        _model_files(snapshot, partial)
        watched = _Watched(weights, progress)
        write_tensors(partial / "model.safetensors", watched, {"format": "pt"}, layout=_layout(snapshot.base))


def refuse_full(out: Path) -> None:
    """A folder that holds something is never written into."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is already there and not empty", hint="choose another folder")


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder that appears under its real name only when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as partial:
        whole = Path(partial) / "out"
        whole.mkdir()
        yield whole
        if out.exists():
            out.rmdir()
        whole.replace(out)


def _model_files(snapshot: Snapshot, folder: Path) -> None:
    for name, data in model_files(snapshot).items():
        (folder / name).write_bytes(data)


def _layout(lock: Lock) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (ref.dtype, ref.shape) for name, ref in lock.items()}


def differing(claimed: Lock, rebuilt: Lock) -> list[str]:
    """The tensors two locks do not agree on."""
    return sorted(name for name in claimed.keys() | rebuilt.keys() if claimed.get(name) != rebuilt.get(name))


def check_export(folder: Path, lock: Lock) -> list[str]:
    """The tensors of an exported folder that are not what the lock says."""
    weights = open_tensors(folder / "model.safetensors")
    names = sorted(weights.keys() | lock.keys())
    return [n for n in names if n not in weights or n not in lock or tensor_digest(weights[n]) != lock[n].digest]


def needed(repo: Repo, commits: Mapping[str, str]) -> list[str]:
    """The tensors that these commits' locks point at, each once, bases before what is kept as a difference."""
    found = {ref.digest: None for commit in commits.values() for ref in Snapshot(repo, commit).tensors()}
    return list(found)

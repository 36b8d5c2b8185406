"""Recipe to model: fold, write down what came out, and export it.

Building needs no torch and no network. A built model is a cache entry named by its recipe: delete it and the same
bytes come again.

    built = build(main)            # cached by recipe
    export(main, Path("out"))      # a Hugging Face folder
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from souq.card import Edition, card
from souq.errors import UsageError
from souq.making import Making, folded, sums_of
from souq.merge import Fold
from souq.merge.grow import Larger, grow
from souq.merge.sums import Kept
from souq.progress import Progress, quiet
from souq.records import Recipe, digest
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot, base_files, model_files
from souq.shelf import Made, Shelf
from souq.weights.delta import Array, Checkpoint, Delta, Load, Lock, TensorRef, tensor_digest
from souq.weights.lockfile import format_lock, parse_lock
from souq.weights.safetensors import Layout, open_tensors, write_tensors
from souq.weights.store import Store


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
    files: Mapping[str, bytes]
    """config.json, the tokenizer and its chat template."""

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


@dataclass(frozen=True)
class Model:
    """A model in pieces: the files beside its weights, its tensors, and their dtypes and shapes."""

    files: Mapping[str, bytes]
    weights: Checkpoint
    layout: Layout


def applied(main: Snapshot, delta: Delta, load: Load) -> Model:
    """The base with one change and nothing else."""
    merged = Fold(Stored(main.base, main.repo.store), {"b3:" + "0" * 64: delta}, load, method="mean")
    grown = grow(main.base, base_files(main), [delta])
    return Model(grown.files, Larger(merged, grown, load), grown.layout)


def model_lock(snapshot: Snapshot, progress: Progress = quiet) -> Lock:
    """What a commit builds to, computed and not read: every tensor's digest."""
    merged, grown = fold(snapshot), snapshot.grown()
    whole = Larger(merged, grown, snapshot.repo.store.get)
    changed, lock = set(merged.changed), Lock()
    for done, name in enumerate(whole):
        progress("rebuild", done, len(whole))
        own = grown.own(name)
        lock[name] = snapshot.base[own] if own is not None and own not in changed else TensorRef.of(whole[name])
    progress("rebuild", len(whole), len(whole))
    return lock


def moved(snapshot: Snapshot, lock: Lock) -> list[str]:
    """The tensors of a commit's model that are not the base's own."""
    grown, base = snapshot.grown(), snapshot.base
    return [name for name, ref in lock.items() if (own := grown.own(name)) is None or base[own] != ref]


def build(snapshot: Snapshot, extra: Offer | None = None, progress: Progress = quiet, *, settled: bool = True) -> Built:
    """The model of a commit as a safetensors file; a second build of the same recipe only reads its name.

    What an earlier build left is used: the sums of the contributions both have, and every tensor that stays as it was.
    Accepting one more contribution reads that one and no other. What a commit's model.lock says is compared, unless it
    is not `settled` yet.
    """
    recipe = snapshot.recipe(extra)
    shelf = Shelf(snapshot.repo.cache)
    folder = shelf.builds / recipe.digest.removeprefix("b3:")[:32]
    with FileLock(shelf.builds / "lock"):
        if not (folder / "model.lock").is_file():
            _make(snapshot, extra, shelf, folder, progress, settled=settled and extra is None)
    return Built(recipe, parse_lock((folder / "model.lock").read_text()), folder, model_files(snapshot, extra))


def _make(
    snapshot: Snapshot, extra: Offer | None, shelf: Shelf, folder: Path, progress: Progress, *, settled: bool
) -> None:
    base = Stored(snapshot.base, snapshot.repo.store)
    kept, left = shelf.nearest(sums_of(snapshot, extra), frozenset(snapshot.changing(extra)))
    try:
        lock = Making(snapshot, base, extra, shelf, kept, left).write(folder, progress)
        damaged = bool(kept.members) and settled and lock != snapshot.model
    except (OSError, ValueError):
        damaged = bool(kept.members)
        if not damaged:
            raise
    if damaged:  # what was kept cannot be trusted: a cache may be damaged, a model may not
        shelf.clear()
        Making(snapshot, base, extra, shelf, Kept(), {}).write(folder, progress)
    shelf.tidy()


class _Watched(Mapping[str, Array]):
    """A checkpoint that says how far its reader is."""

    def __init__(self, inner: Checkpoint, progress: Progress) -> None:
        self._inner, self._progress, self._read = inner, progress, 0

    def __getitem__(self, name: str) -> Array:
        self._progress("build", self._read, len(self._inner))
        self._read += 1
        return self._inner[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)


def export(
    snapshot: Snapshot,
    out: Path,
    progress: Progress = quiet,
    *,
    papers: Mapping[str, bytes] | None = None,
    shown: Sequence[str] = (),
) -> Built:
    """Main's model as a folder `AutoModelForCausalLM.from_pretrained` loads, with model.lock and a model card beside the weights.

    Raises:
        UsageError: the folder is already there and holds something.
    """
    refuse_full(out)
    built = build(snapshot, progress=progress)
    with _whole_folder(out) as partial:
        _write_files(built.files, partial)
        shutil.copyfile(built.path, partial / "model.safetensors")
        (partial / "model.lock").write_text(format_lock(built.lock))
        edition = Edition("", {}, shown=shown)
        (partial / "README.md").write_text(card(snapshot, built.digest, built.recipe, edition=edition))
        _write_files(papers or {}, partial)
    return built


def export_model(model: Model, out: Path, progress: Progress = quiet) -> None:
    """Any model as such a folder."""
    refuse_full(out)
    with _whole_folder(out) as partial:
        _write_files(model.files, partial)
        watched = _Watched(model.weights, progress)
        write_tensors(partial / "model.safetensors", watched, {"format": "pt"}, layout=model.layout)


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


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


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

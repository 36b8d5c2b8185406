"""Recipe to model: fold, write down what came out, and export it.

Building needs no torch and no network. A built model is a cache entry named by its recipe: delete it and the same
bytes come again.

    built = build(main)            # cached by recipe
    export(main, Path("out"))      # a Hugging Face folder
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from souq.build.cache import BuildCache, BuildInfo
from souq.build.incremental import IncrementalBuild, sums_of
from souq.merge import Fold
from souq.merge.grow import Larger, grow
from souq.merge.sums import Kept
from souq.progress import Progress, quiet
from souq.records import Recipe, digest
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot, base_files, model_files
from souq.weights.delta import Checkpoint, Delta, Load, Lock
from souq.weights.lockfile import format_lock, parse_lock
from souq.weights.safetensors import Layout, open_tensors
from souq.weights.store import Stored


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
    def info(self) -> BuildInfo:
        """How it came to be: what was read, copied and computed."""
        return msgspec.json.decode((self.folder / "made.json").read_bytes(), type=BuildInfo)

    @property
    def weights(self) -> Checkpoint:
        return open_tensors(self.path)

    @property
    def digest(self) -> str:
        """The name of the built model: the digest of its lock."""
        return digest(format_lock(self.lock).encode())


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


def build(snapshot: Snapshot, extra: Offer | None = None, progress: Progress = quiet, *, settled: bool = True) -> Built:
    """The model of a commit as a safetensors file; a second build of the same recipe only reads its name.

    What an earlier build left is used: the sums of the contributions both have, and every tensor that stays as it was.
    Accepting one more contribution reads that one and no other. What a commit's model.lock says is compared, unless it
    is not `settled` yet. Workers of the repository merge the tensors, where it has some.
    """
    recipe = snapshot.recipe(extra)
    cache = BuildCache(snapshot.repo.cache)
    folder = cache.builds / recipe.digest.removeprefix("b3:")[:32]
    with FileLock(cache.builds / "lock"):
        if not (folder / "model.lock").is_file():
            _make(snapshot, extra, cache, folder, progress, settled=settled and extra is None)
    return Built(recipe, parse_lock((folder / "model.lock").read_text()), folder, model_files(snapshot, extra))


def _make(
    snapshot: Snapshot, extra: Offer | None, cache: BuildCache, folder: Path, progress: Progress, *, settled: bool
) -> None:
    base = Stored(snapshot.base, snapshot.repo.store)
    kept, left = cache.nearest(sums_of(snapshot, extra), frozenset(snapshot.members(extra)))
    try:
        lock = IncrementalBuild(snapshot, base, extra, cache, kept, left).write(folder, progress)
        damaged = bool(kept.members) and settled and lock != snapshot.model
    except (OSError, ValueError):
        damaged = bool(kept.members)
        if not damaged:
            raise
    if damaged:  # what was kept cannot be trusted: a cache may be damaged, a model may not
        cache.clear()
        IncrementalBuild(snapshot, base, extra, cache, Kept(), {}).write(folder, progress)
    cache.tidy()

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
from souq.build.plan import Plan
from souq.errors import UsageError
from souq.merge import Fold
from souq.merge.grow import Larger, grow
from souq.merge.sums import Kept
from souq.progress import Progress, quiet
from souq.records import Digest, Recipe, digest
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot, base_files, model_files
from souq.weights.bucket import Bucket
from souq.weights.delta import Checkpoint, Delta, Load, Lock
from souq.weights.lockfile import format_lock, parse_lock
from souq.weights.safetensors import Layout, open_tensors
from souq.weights.store import Store, Stored
from souq.weights.supply import Supply


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


def build(
    snapshot: Snapshot, extra: Offer | None = None, progress: Progress = quiet, *, settled: bool = True,
    memory: int = 0, there: Bucket | Store | None = None,
) -> Built:  # fmt: skip
    """The model of a commit as a safetensors file; a second build of the same recipe only reads its name.

    What an earlier build left is used: the sums of the contributions both have, and every tensor that stays as it was.
    Accepting one more contribution reads that one and no other. What a commit's model.lock says is compared, unless it
    is not `settled` yet. With `memory`, no more bytes than that are held at once; tensors that are not here are read
    from `there`. Workers of the repository merge, where it has some.

    Raises:
        UsageError: it does not fit; nothing was read.
    """
    recipe = snapshot.recipe(extra)
    cache = BuildCache(snapshot.repo.cache)
    folder = cache.builds / recipe.digest.removeprefix("b3:")[:32]
    with FileLock(cache.builds / "lock"):
        if not (folder / "model.lock").is_file():
            with Supply(snapshot.repo.store, there) as supply:
                wanted = _Wanted(snapshot, extra, supply, cache, memory)
                _make(wanted, folder, progress, settled=settled and not extra)
    return Built(recipe, parse_lock((folder / "model.lock").read_text()), folder, model_files(snapshot, extra))


def planned(
    snapshot: Snapshot, extra: Offer | None = None, *, memory: int = 0, there: Bucket | Store | None = None
) -> Plan | None:
    """What `build` would do now; None where the model is built already. No tensor is read for it."""
    cache = BuildCache(snapshot.repo.cache)
    if (cache.builds / snapshot.recipe(extra).digest.removeprefix("b3:")[:32] / "model.lock").is_file():
        return None
    with Supply(snapshot.repo.store, there) as supply:
        return _Wanted(snapshot, extra, supply, cache, memory).from_what_was_kept().plan()


def refuse_unfit(plan: Plan) -> None:
    """Say no to a build that cannot fit, before a tensor of it is read.

    Raises:
        UsageError: it cannot, and why.
    """
    if plan.lacking:
        least = f"type `--memory {-(-plan.needs // 10**8) / 10:g}GB`, or give the disk more room"
        raise UsageError(f"this build does not fit: {plan.lacking}", hint=least if plan.limit else "free some of it")


@dataclass(frozen=True)
class _Wanted:
    """A build that is asked for."""

    snapshot: Snapshot
    extra: Offer | None
    supply: Supply
    cache: BuildCache
    memory: int

    def from_what_was_kept(self) -> IncrementalBuild:
        """With the nearest sums; from nothing where a tensor is merged by its rows."""
        kept, left = self.cache.nearest(
            sums_of(self.snapshot, self.extra), frozenset(self.snapshot.members(self.extra))
        )
        made = self.begun(kept, left)
        return self.begun(Kept(), {}) if kept.members and made.by_rows else made

    def begun(self, kept: Kept, left: Mapping[Digest, Delta]) -> IncrementalBuild:
        asked = (self.snapshot, self.supply, self.extra, self.cache)
        return IncrementalBuild(*asked, kept, left, self.memory)


def _make(wanted: _Wanted, folder: Path, progress: Progress, *, settled: bool) -> None:
    building = wanted.from_what_was_kept()
    if wanted.memory:
        refuse_unfit(building.plan())
    kept = bool(building.kept.members)
    try:
        lock = building.write(folder, progress)
        damaged = kept and settled and lock != wanted.snapshot.model
    except (OSError, ValueError):
        damaged = kept
        if not damaged:
            raise
    if damaged:  # what was kept cannot be trusted: a cache may be damaged, a model may not
        wanted.cache.clear()
        wanted.begun(Kept(), {}).write(folder, progress)
    wanted.cache.tidy()

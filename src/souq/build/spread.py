"""A merge as workers do it: they are sent text, read tensors by digest where they can, and answer tensors or digests.

What comes back is hashed here, and some of it computed here as well (workers.py), since a worker may lie.

    lock = model_lock_on(main, cluster)     # as build/lock.py does, on all machines
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from souq.build.cache import BuildCache
from souq.build.lock import fold
from souq.build.merger import Merger
from souq.errors import Hostile, NotFound
from souq.merge import Fold
from souq.merge.grow import Grown, Larger
from souq.merge.sums import Kept
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.repo.config import Merging
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from souq.weights.bucket import open_remote
from souq.weights.computed import Computed
from souq.weights.delta import DTYPES, Array, Delta, Lock, TensorRef
from souq.weights.safetensors import Layout
from souq.weights.store import Store, Stored
from souq.workers import Done, Workers, checked

Group = Sequence[str]
Answer = dict[str, Any]
"""Tensor name -> its TensorRef, or its bytes, uint8 (n,): what every pickle copies without looking at it."""


# -- what a worker does ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shelf:
    """Where a worker reads tensors: the folder of a store, where its machine has that, else from a URL."""

    folder: Path
    url: str = ""

    def opened(self) -> Callable[[Digest], Array]:
        """A tensor by its digest, which is computed again, wherever it comes from.

        Raises:
            NotFound: this machine has no such folder, and no URL is known.
        """
        if not (there := Store(self.folder)).objects.is_dir():
            if not self.url:
                raise NotFound(
                    f"a worker has no folder {self.folder}, and knows no bucket to ask",
                    hint="keep the repository where all machines see it, or send its tensors to a bucket: "
                    "`git config souq.store s3://bucket/folder`, `souq push`",
                )
            there = Store(Path(tempfile.mkdtemp(prefix="souq-worker-")))
        return partial(self._get, there)

    def _get(self, store: Store, name: Digest) -> Array:
        if self.url and name not in store:
            open_remote(self.url).copy(store, [name])
        return store.get(name)


@dataclass(frozen=True)
class Merge:
    """The merge of groups of tensors, as it is sent to workers; with `digests` only these are answered."""

    shelf: Shelf
    base: Lock
    sketch: Delta | None
    merging: Merging
    grown: Grown
    wanted: tuple[str, ...]
    joined: Mapping[Digest, Delta]
    kept: Kept
    left: Mapping[Digest, Delta]
    alone: Mapping[Digest, Delta]  # of those that were kept, who is all that there is to a tensor
    cache: Path | None = None  # where sums are kept, on machines that have this folder
    sums: str = ""
    digests: bool = False
    cores = 1

    @classmethod
    def of(
        cls, main: Snapshot, extra: Offer | None, merger: Merger, url: str, *, kept: Kept | None = None,
        left: Mapping[Digest, Delta] | None = None, **more: Any,
    ) -> Merge:  # fmt: skip
        """The merge of a commit (and one more offer) that `merger` would do here."""
        merged = merger.fold
        lone = (
            {merged.sums.only(own) for own in merger.places if merged.is_alone(own)} if merged.sums else set[Digest]()
        )
        wanted = tuple(name for names in merger.places.values() for name in names)
        return cls(
            Shelf(main.repo.store.root, url), main.base, main.sketch, main.merging(extra),
            replace(main.grown(extra), files={}), wanted, merged.deltas, kept or Kept(), left or {},
            main.deltas(extra, only=lone - merged.deltas.keys()), **more,
        )  # fmt: skip

    def fold(self) -> Fold:
        """What is merged, of tensors that are read where this is called."""
        load = self.shelf.opened()
        base = Computed({name: partial(load, ref.digest) for name, ref in self.base.items()})
        return Fold(
            base, self.joined, load, method=self.merging.method, settings=self.merging.settings,
            weights=self.merging.weights, base_sketch=self.sketch, kept=self.kept, left=self.left,
            member=self.alone.__getitem__,
        )  # fmt: skip

    def ready(self) -> Callable[[Group], Answer]:
        """Nothing is read yet but who is merged."""
        merged = self.fold()
        cache = BuildCache(self.cache) if self.cache is not None and self.cache.is_dir() else None
        return partial(self._answer, Merger(merged, self.grown, merged.load, self.wanted, cache, self.sums))

    def _answer(self, merger: Merger, group: Group) -> Answer:
        with threadpool_limits(1, "blas"):
            shown = TensorRef.of if self.digests else _flat
            return {name: shown(array) for name, array in merger.tensors(group)}


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


# -- what is done with it here -----------------------------------------------------------------------------------------


def tensors(task: Merge, merger: Merger, workers: Workers) -> Iterator[dict[str, Array]]:
    """The tensors of each group as they come; some are computed here too.

    Raises:
        Hostile: a worker answers what was not asked, or otherwise than this machine does.
    """
    for done in checked(workers, task, merger.groups, _alike):
        _refuse_other(done, merger, merger.groups[done.piece])
        yield {name: _shaped(data, *task.grown.layout[name], done.worker) for name, data in done.answer.items()}


def _alike(theirs: Answer, ours: Answer) -> bool:
    return (
        isinstance(theirs, dict)
        and theirs.keys() == ours.keys()
        and all(np.array_equal(theirs[name], ours[name]) for name in ours)
    )


def _refuse_other(done: Done[Answer], merger: Merger, group: Group) -> None:
    asked = {name for own in group for name in merger.places[own]}
    if not isinstance(done.answer, dict) or done.answer.keys() != asked:
        raise Hostile(f"{done.worker} answers other tensors than it was asked for", hint="leave that machine out")


def _shaped(data: Any, dtype: str, shape: tuple[int, ...], worker: str) -> Array:
    array, size = np.asarray(data), DTYPES[dtype].itemsize
    for dim in shape:
        size *= dim
    if array.dtype != np.uint8 or array.shape != (size,):
        raise Hostile(f"{worker} answers no {dtype} of shape {shape}", hint="leave that machine out")
    shaped: Array = array.view(DTYPES[dtype]).reshape(shape)
    return shaped


def model_lock_on(main: Snapshot, workers: Workers, progress: Progress = quiet) -> Lock:
    """What a commit builds to, every tensor's digest; most of them are workers' words, and some are computed here too.

    Raises:
        Hostile: a worker answers what was not asked, or otherwise than this machine does.
    """
    grown, load, lock = main.grown(), main.repo.store.get, Lock()
    merger = Merger(fold(main), grown, load, grown.layout)
    rest = set(grown.layout).difference(*merger.places.values())
    progress("rebuild", 0, len(grown.layout))
    for done in checked(workers, Merge.of(main, None, merger, workers.store, digests=True), merger.groups):
        _refuse_other(done, merger, merger.groups[done.piece])
        lock |= {name: _ref(ref, grown.layout, name, done.worker) for name, ref in done.answer.items()}
        progress("rebuild", len(lock), len(grown.layout))
    unmerged = Larger(Stored(main.base, main.repo.store), grown, load)
    for name in rest:
        own = grown.own(name)
        lock[name] = main.base[own] if own is not None else TensorRef.of(unmerged[name])
    progress("rebuild", len(grown.layout), len(grown.layout))
    return {name: lock[name] for name in grown.layout}


def _ref(ref: Any, layout: Layout, name: str, worker: str) -> TensorRef:
    if not isinstance(ref, TensorRef) or (ref.dtype, ref.shape) != (layout[name][0], tuple(layout[name][1])):
        raise Hostile(f"{worker} answers no digest of {name}", hint="leave that machine out")
    return ref

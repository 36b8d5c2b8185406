"""One build: the tensors that stay as they were are copied, the others computed, each sum kept for the next build.

lock = Making(snapshot, extra, shelf, kept, left).write(folder, progress)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from itertools import islice
from pathlib import Path

import msgspec
from threadpoolctl import threadpool_limits

from souq.build.cache import Former, Made, Shelf, as_made
from souq.build.lock import folded
from souq.merge.grow import Grown, Larger
from souq.merge.methods import SUMS
from souq.merge.sums import Kept, Tally, Whole
from souq.progress import Progress
from souq.records import Digest, digest_of
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Array, Checkpoint, Delta, Lock, TensorRef
from souq.weights.lockfile import format_lock
from souq.weights.safetensors import TensorFile, TensorWriter

FORMERS = 3  # earlier builds that are looked through for tensors that stay as they were


def sums_of(snapshot: Snapshot, extra: Offer | None) -> str:
    """What this repository's sums are sums of; empty where its merge method is no function of sums."""
    told = snapshot.merging(extra)
    if told.method not in SUMS:
        return ""
    weights = "".join(f" {name} {weight}" for name, weight in told.weights.items())
    return f"rows {snapshot.base_digest} {'heard' if SUMS[told.method] else 'plain'}{weights}"


class Making:
    """The model of a commit, from sums that were `kept`, those who joined since, and those who `left`."""

    def __init__(
        self,
        snapshot: Snapshot,
        base: Checkpoint,
        extra: Offer | None,
        shelf: Shelf,
        kept: Kept,
        left: Mapping[Digest, Delta],
    ) -> None:
        self._base, self._shelf, self._lock = base, shelf, snapshot.base
        self._grown, self._load = snapshot.grown(extra), snapshot.repo.store.get
        self.recipe = snapshot.recipe(extra)
        self._sums, self._kept, self._left = sums_of(snapshot, extra), kept, left
        self._joined = snapshot.deltas(extra, only=frozenset(self.recipe.contributions) - kept.members)
        self.fold = folded(snapshot, base, self._joined, kept, left, extra)

    def write(self, folder: Path, progress: Progress) -> Lock:
        """Weights first, the lock last and whole: a folder with a lock in it is a finished one."""
        folder.mkdir(exist_ok=True)
        lock: Lock = {}
        layout = self._grown.layout
        method = digest_of(msgspec.structs.replace(self.recipe, contributions=()))
        formers = [_Found(former, former.made.method == method) for former in islice(self._shelf.former(), FORMERS)]
        with TensorWriter(folder / "model.safetensors", layout, {"format": "pt"}) as writer:
            copied = self._copy(formers, writer, lock, progress)
            fresh = {name: same for name in layout if name not in lock and (same := self._same(name)) is not None}
            computed = [name for name in layout if name not in lock and name not in fresh]
            stored = Larger(self._base, self._grown, self._load)
            for name, ref in fresh.items():  # the store compares every digest as it reads
                writer.put(name, stored[name])
                lock[name] = ref
                progress("build", len(lock), len(layout))
            self._compute(computed, writer, lock, progress, len(layout))
        progress("build", len(layout), len(layout))
        if self._sums:
            self._shelf.remember(self._joined)
        made = Made(
            sums=self._sums,
            method=method,
            shape=self._grown.digest,
            members=self.recipe.contributions,
            tallies=as_made(self.fold.sums.tallies) if self.fold.sums else {},
            kept=len(self._kept.members - self._left.keys()),
            joined=tuple(sorted(self._joined)),
            left=tuple(sorted(self._left)),
            computed=tuple(sorted(computed)),
            copied=copied,
            base=len(fresh),
        )
        for name, text in (("made.json", msgspec.json.encode(made)), ("model.lock", format_lock(lock).encode())):
            partial = folder / f"{name}.part"
            partial.write_bytes(text)
            partial.replace(folder / name)
        return lock

    def _same(self, name: str) -> TensorRef | None:
        """The stored tensor that a tensor of the model is, where nothing has to be computed."""
        own = self._grown.own(name)
        return self._grown.brought(name) if own is None or own in self.fold.changed else self._lock[own]

    def _copy(self, formers: Sequence[_Found], writer: TensorWriter, lock: Lock, progress: Progress) -> int:
        """Every tensor that an earlier build holds just as it will be."""
        for name in self._grown.layout:
            own = self._grown.own(name)
            tally = self.fold.sums.tallies.get(own) if self.fold.sums and own else None
            found = next((one for one in formers if one.has(name, own, self._same(name), tally, self._grown)), None)
            if found is not None:
                writer.copy(name, found.file)
                lock[name] = found.lock[name]
                progress("build", len(lock), len(self._grown.layout))
        return len(lock)

    def _compute(self, names: Sequence[str], writer: TensorWriter, lock: Lock, progress: Progress, total: int) -> None:
        """The others: of the base's changed tensors those that share a system of sketches together, on all cores."""
        wanted = set(names)
        places = {own: wanted.intersection(found) for own, found in self._grown.places.items()}
        merged = sorted(own for own in places if own in self.fold.changed and places[own])
        beside = wanted.difference(*(places[own] for own in merged))
        lock.update(self._put(beside, self._base, writer))
        groups: dict[object, list[str]] = {}
        for own in merged:
            group = self.fold.group(own) if self.fold.sums else None
            groups.setdefault(own if group is None else group, []).append(own)
        keeps = bool(self._sums) and self._shelf.room(8 * sum(self._lock[own].size for own in merged))

        def made(own: str, array: Array) -> Lock:
            return self._put(places[own], {own: array}, writer)

        # One thread a group: more inside each product would only wait for each other.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            jobs = [pool.submit(self._together, found, made, keeps) for found in groups.values()]
            try:
                for job in as_completed(jobs):
                    lock.update(job.result())
                    progress("build", len(lock), total)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _put(self, names: Collection[str], inner: Checkpoint, writer: TensorWriter) -> Lock:
        """Write tensors of the model, each made of one of the base's (merged) or of none."""
        larger, lock = Larger(inner, self._grown, self._load), Lock()
        for name in sorted(names):
            array = larger[name]
            writer.put(name, array)
            lock[name] = TensorRef.of(array)
        return lock

    def _together(self, names: Sequence[str], made: Callable[[str, Array], Lock], keeps: bool) -> Lock:
        sums, lock, balanced = self.fold.sums, Lock(), None
        if sums is not None and self.fold.group(names[0]) is not None:
            gram = sums.gram(names[0])
            self._keep(self._shelf.gram(sums.tallies[names[0]]), gram, keeps)
            balanced = self.fold.balanced(names[0], gram)
        for name in names:
            if sums is None:
                array = self.fold[name]
            else:
                top = sums.top(name)
                self._keep(self._shelf.top(self._sums, name, sums.tallies[name]), top, keeps)
                array = self.fold.finish(name, top, balanced)
            lock |= made(name, array)
        return lock

    def _keep(self, path: Path, array: Whole, keeps: bool) -> None:
        if keeps:
            try:
                self._shelf.keep(path, array)
            except OSError:
                return  # a full disk: the next build computes it again


class _Found:
    """An earlier build, and whether its merged tensors are made by the same method and settings."""

    def __init__(self, former: Former, alike: bool) -> None:
        self._former, self._alike = former, alike

    @cached_property
    def lock(self) -> Lock:
        return self._former.lock

    @cached_property
    def file(self) -> TensorFile:
        return self._former.file

    def has(self, name: str, own: str | None, same: TensorRef | None, tally: Tally | None, grown: Grown) -> bool:
        """Whether it holds this stored tensor (`same`), or this tensor merged of the very same contributions."""
        if same is not None:
            return self.lock.get(name) == same
        made = self._former.made
        return bool(
            self._alike and made.shape == grown.digest and tally and own in made.tallies and made.tally(own) == tally
        )

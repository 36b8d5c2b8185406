"""One build: the tensors that stay as they were are copied, the others computed, each sum kept for the next build.

lock = IncrementalBuild(snapshot, base, extra, cache, kept, left).write(folder, progress)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from itertools import islice
from pathlib import Path

import msgspec
from threadpoolctl import threadpool_limits

from souq.build.cache import BuildCache, BuildInfo, CachedBuild, written_tallies
from souq.build.lock import folded
from souq.build.merger import Merger
from souq.build.spread import Merge, tensors
from souq.files import replacing
from souq.merge.grow import Grown, Larger
from souq.merge.methods import SUMS
from souq.merge.sums import Kept, Tally
from souq.progress import Progress
from souq.records import Digest, digest_of
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Array, Checkpoint, Delta, Lock, TensorRef
from souq.weights.lockfile import format_lock
from souq.weights.safetensors import TensorFile, TensorWriter

EARLIER = 3  # earlier builds that are looked through for tensors that stay as they were


def sums_of(snapshot: Snapshot, extra: Offer | None) -> str:
    """What this repository's sums are sums of; empty where its merge method is no function of sums."""
    merging = snapshot.merging(extra)
    if merging.method not in SUMS:
        return ""
    weights = "".join(f" {name} {weight}" for name, weight in merging.weights.items())
    return f"rows {snapshot.base_digest} {'heard' if SUMS[merging.method] else 'plain'}{weights}"


class IncrementalBuild:
    """The model of a commit, from sums that were `kept`, those who joined since, and those who `left`."""

    def __init__(
        self,
        snapshot: Snapshot,
        base: Checkpoint,
        extra: Offer | None,
        cache: BuildCache,
        kept: Kept,
        left: Mapping[Digest, Delta],
    ) -> None:
        self._snapshot, self._extra, self._workers = snapshot, extra, snapshot.repo.workers
        self._base, self._cache, self._lock = base, cache, snapshot.base
        self._grown, self._load = snapshot.grown(extra), snapshot.repo.store.get
        self.recipe = snapshot.recipe(extra)
        self._method = digest_of(msgspec.structs.replace(self.recipe, contributions=()))
        self._sums, self._kept, self._left = sums_of(snapshot, extra), kept, left
        self._joined = snapshot.deltas(extra, only=frozenset(self.recipe.contributions) - kept.members)
        self.fold = folded(snapshot, base, self._joined, kept, left, extra)

    def write(self, folder: Path, progress: Progress) -> Lock:
        """Weights first, the lock last and whole: a folder with a lock in it is a finished one."""
        folder.mkdir(exist_ok=True)
        layout, lock = self._grown.layout, Lock()
        progress("build", 0, len(layout))
        with TensorWriter(folder / "model.safetensors", layout, {"format": "pt"}) as writer:
            copied = self._copy_unchanged(writer, lock, progress)
            stored = self._write_stored(writer, lock, progress)
            computed = sorted(name for name in layout if name not in lock)
            self._compute(computed, writer, lock, progress)
        progress("build", len(layout), len(layout))
        if self._sums:
            self._cache.remember(self._joined)
        info = self._info(copied, stored, computed)
        for name, text in (("made.json", msgspec.json.encode(info)), ("model.lock", format_lock(lock).encode())):
            with replacing(folder / name) as partial:
                partial.write_bytes(text)
        return lock

    def _info(self, copied: int, stored: int, computed: Sequence[str]) -> BuildInfo:
        return BuildInfo(
            sums=self._sums,
            method=self._method,
            shape=self._grown.digest,
            members=self.recipe.contributions,
            tallies=written_tallies(self.fold.sums.tallies) if self.fold.sums else {},
            kept=len(self._kept.members - self._left.keys()),
            joined=tuple(sorted(self._joined)),
            left=tuple(sorted(self._left)),
            computed=tuple(computed),
            copied=copied,
            base=stored,
        )

    def _stored_ref(self, name: str) -> TensorRef | None:
        """The stored tensor that a tensor of the model is, where nothing has to be computed."""
        own = self._grown.own(name)
        return self._grown.brought(name) if own is None or own in self.fold.changed else self._lock[own]

    def _copy_unchanged(self, writer: TensorWriter, lock: Lock, progress: Progress) -> int:
        """Copy every tensor that an earlier build holds just as it will be; how many."""
        earlier = [
            _Earlier(build, build.info.method == self._method) for build in islice(self._cache.finished(), EARLIER)
        ]
        for name in self._grown.layout:
            own = self._grown.own(name)
            tally = self.fold.sums.tallies.get(own) if self.fold.sums and own else None
            stored = self._stored_ref(name)
            holder = next((build for build in earlier if build.has(name, own, stored, tally, self._grown)), None)
            if holder is not None:
                writer.copy(name, holder.file)
                lock[name] = holder.lock[name]
                progress("build", len(lock), len(self._grown.layout))
        return len(lock)

    def _write_stored(self, writer: TensorWriter, lock: Lock, progress: Progress) -> int:
        """Write every other tensor that the store holds as it is; how many. The store compares digests as it reads."""
        names = [name for name in self._grown.layout if name not in lock]
        refs = {name: ref for name in names if (ref := self._stored_ref(name)) is not None}
        stored = Larger(self._base, self._grown, self._load)
        for name, ref in refs.items():
            writer.put(name, stored[name])
            lock[name] = ref
            progress("build", len(lock), len(self._grown.layout))
        return len(refs)

    def _compute(self, names: Sequence[str], writer: TensorWriter, lock: Lock, progress: Progress) -> None:
        """The others: what contributions have merged, and what stands beside that."""
        merger = Merger(self.fold, self._grown, self._load, names)
        keeps = bool(self._sums) and self._cache.room(8 * sum(self._lock[own].size for own in merger.places))
        cache = self._cache if keeps else None
        beside = Larger(self._base, self._grown, self._load)
        for name in set(names).difference(*merger.places.values()):
            lock |= _put(writer, [(name, beside[name])])
        merger = Merger(self.fold, self._grown, self._load, names, cache, self._sums)
        for done in self._here(merger, writer) if self._workers is None else self._there(merger, writer, cache):
            lock |= done
            progress("build", len(lock), len(self._grown.layout))

    def _here(self, merger: Merger, writer: TensorWriter) -> Iterator[Lock]:
        """On all cores, one thread a group: more inside each product would only wait for each other."""
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            jobs = [pool.submit(_put, writer, merger.tensors(group)) for group in merger.groups]
            try:
                yield from (job.result() for job in as_completed(jobs))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _there(self, merger: Merger, writer: TensorWriter, cache: BuildCache | None) -> Iterator[Lock]:
        """Wherever a worker has room."""
        assert self._workers is not None
        task = Merge.of(
            self._snapshot, self._extra, merger, self._workers.store, kept=self._kept, left=self._left,
            cache=cache and cache.folder, sums=self._sums,
        )  # fmt: skip
        for made in tensors(task, merger, self._workers):
            yield _put(writer, made.items())


def _put(writer: TensorWriter, made: Iterable[tuple[str, Array]]) -> Lock:
    """Write tensors; what they are."""
    lock = Lock()
    for name, array in made:
        writer.put(name, array)
        lock[name] = TensorRef.of(array)
    return lock


class _Earlier:
    """An earlier build, and whether its merged tensors are made by the same method and settings."""

    def __init__(self, build: CachedBuild, same_method: bool) -> None:
        self._build, self._same_method = build, same_method

    @cached_property
    def lock(self) -> Lock:
        return self._build.lock

    @cached_property
    def file(self) -> TensorFile:
        return self._build.file

    def has(self, name: str, own: str | None, stored: TensorRef | None, tally: Tally | None, grown: Grown) -> bool:
        """Whether it holds this stored tensor, or else this tensor merged of the very same contributions."""
        if stored is not None:
            return self.lock.get(name) == stored
        info = self._build.info
        merged_alike = self._same_method and info.shape == grown.digest
        return bool(merged_alike and tally and own in info.tallies and info.tally(own) == tally)

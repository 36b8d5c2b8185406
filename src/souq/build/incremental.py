"""One build: the tensors that stay as they were are copied, the others computed, each sum kept for the next build.

lock = IncrementalBuild(snapshot, supply, extra, cache, kept, left).write(folder, progress)
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import msgspec
from threadpoolctl import threadpool_limits

from souq.build.cache import BuildCache, BuildInfo, CachedBuild, written_tallies
from souq.build.laid import Laid
from souq.build.lock import folded
from souq.build.merger import Merger
from souq.build.plan import Piece, Plan, Room, Step, held_now, least, operations, peak, steps
from souq.build.spread import Merge, tensors
from souq.files import replacing
from souq.merge.grow import Brought, Grown, Larger, Mean, Own
from souq.merge.methods import SUMS, Balanced
from souq.merge.strip import Strip
from souq.merge.sums import Kept, Tally
from souq.progress import Progress
from souq.records import Digest, digest_of
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from souq.weights.delta import DTYPES, Array, Checkpoint, Delta, Dense, Lock, Lora, TensorRef, digest_of_parts, refs_of
from souq.weights.lockfile import format_lock
from souq.weights.safetensors import TensorFile, TensorWriter
from souq.weights.store import Stored
from souq.weights.supply import Supply, passed_on

EARLIER = 3  # earlier builds that are looked through for tensors that stay as they were


def sums_of(snapshot: Snapshot, extra: Offer | None) -> str:
    """What this repository's sums are sums of; empty where its merge method is no function of sums."""
    merging = snapshot.merging(extra)
    if merging.method not in SUMS:
        return ""
    weights = "".join(f" {name} {weight}" for name, weight in merging.weights.items())
    return f"rows {snapshot.base_digest} {'heard' if SUMS[merging.method] else 'plain'}{weights}"


@dataclass(frozen=True)
class _Work:
    """What a build has to do: tensors by how they come to be."""

    copied: dict[str, _Earlier]
    stored: dict[str, TensorRef]
    merger: Merger
    beside: tuple[str, ...]  # put together of what contributions bring and of what stays


class IncrementalBuild:
    """The model of a commit, from sums that were `kept`, those who joined since, and those who `left`.

    With `memory`, in bytes, no more than that is held at once, as far as plan.py has measured what merging takes.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        supply: Supply,
        extra: Offer | None,
        cache: BuildCache,
        kept: Kept,
        left: Mapping[Digest, Delta],
        memory: int = 0,
    ) -> None:
        self._snapshot, self._extra, self._workers = snapshot, extra, snapshot.repo.workers
        self._base, self._supply = Stored(snapshot.base, snapshot.repo.store), supply
        self._cache, self._lock, self._memory = cache, snapshot.base, memory
        self._grown, self._load = snapshot.grown(extra), snapshot.repo.store.get
        self.recipe = snapshot.recipe(extra)
        self._method = digest_of(msgspec.structs.replace(self.recipe, contributions=()))
        self._sums, self.kept, self._left = sums_of(snapshot, extra), kept, left
        self._joined = snapshot.deltas(extra, only=frozenset(self.recipe.contributions) - kept.members)
        self.fold = folded(snapshot, self._base, self._joined, kept, left, extra)
        self._sketch = snapshot.sketch

    # -- before anything is read -------------------------------------------------------------------------------------

    @cached_property
    def _work(self) -> _Work:
        earlier = [
            _Earlier(build, build.info.method == self._method) for build in islice(self._cache.finished(), EARLIER)
        ]
        copied = {name: build for name in self._grown.layout if (build := self._holder(name, earlier)) is not None}
        rest = [name for name in self._grown.layout if name not in copied]
        stored = {name: ref for name in rest if (ref := self._stored_ref(name)) is not None}
        wanted = {*rest} - {*stored}
        merger = Merger(self.fold, self._grown, self._load, wanted)
        return _Work(copied, stored, merger, tuple(sorted(wanted.difference(*merger.places.values()))))

    def _holder(self, name: str, earlier: Sequence[_Earlier]) -> _Earlier | None:
        """An earlier build that holds a tensor just as it will be."""
        own = self._grown.own(name)
        tally = self.fold.sums.tallies.get(own) if self.fold.sums and own else None
        stored = self._stored_ref(name)
        return next((build for build in earlier if build.has(name, own, stored, tally, self._grown)), None)

    def _stored_ref(self, name: str) -> TensorRef | None:
        """The stored tensor that a tensor of the model is, where nothing has to be computed."""
        own = self._grown.own(name)
        return self._grown.brought(name) if own is None or own in self.fold.changed else self._lock[own]

    @cached_property
    def _held(self) -> int:
        return held_now()

    @cached_property
    def _steps(self) -> dict[str, Step]:
        return {step.piece.name: step for step in steps(self._pieces(), self._memory, self._held)}

    def _pieces(self) -> Iterator[Piece]:
        work = self._work
        yield from (Piece(name, "copied") for name in work.copied)
        yield from (Piece(name, "read") for name in work.stored)
        for name in work.beside:
            yield Piece(name, "merged", (self._grown.layout[name][1],), grown=True)
        for group in work.merger.groups:
            yield self._piece(group)

    def _piece(self, group: Sequence[str]) -> Piece:
        shapes = tuple(self._lock[own].shape for own in group)
        deltas = [delta for delta in (*self._joined.values(), *self._left.values()) if {*group} & delta.parts.keys()]
        parts = [[part for own in group if (part := delta.parts.get(own))] for delta in deltas]
        ranks = sum(max(part.a.shape[0] if isinstance(part, Lora) else 0 for part in each) for each in parts)
        solved = self.fold.sums is not None and self.fold.group(group[0]) is not None
        return Piece(
            self._work.merger.first(group), "merged", shapes, shapes[0][-1] if solved else 0, max(len(deltas), 1),
            self.fold.sums is not None, ranks, any(self._grown.places[own] != [own] for own in group),
        )  # fmt: skip

    @property
    def by_rows(self) -> bool:
        """Whether a tensor is merged in strips: then nothing that was kept is used, and nothing is kept."""
        return any(step.rows for step in self._steps.values())

    def plan(self) -> Plan:
        """What it will read, write, compute and hold; no tensor is read for it."""
        made, work = sorted(self._steps.values(), key=lambda step: -step.need), self._work
        pieces = [step.piece for step in made]
        here, there = self._supply.sizes([*work.stored.values(), *self._asked()])
        writes = sum(math.prod(shape) * DTYPES[dtype].itemsize for dtype, shape in self._grown.layout.values())
        rows = {step.piece.name: step.rows for step in made if step.rows}
        scratch = sum(
            self._lock[own].nbytes for group in work.merger.groups if work.merger.first(group) in rows for own in group
        )
        free = shutil.disk_usage(self._cache.builds).free
        at_most = peak(made, self._held)
        if self._memory and not any(step.need > self._memory - self._held for step in made):
            at_most = min(at_most, self._memory)
        return Plan(
            limit=self._memory, peak=at_most, needs=least(pieces, self._held), reads=here + there,
            fetches=there, writes=writes, scratch=scratch, operations=operations(pieces), rows=rows,
            tensors=dict(Counter(step.how for step in made for _ in step.piece.shapes or (0,))),
            lacking=self._lacking(made[0], writes + scratch, free),
        )  # fmt: skip

    def _lacking(self, largest: Step, disk: int, free: int) -> str:
        if self._memory and largest.need + self._held > self._memory:
            what = f"{largest.piece.name} takes {largest.need / 1e9:.2f} GB beside {self._held / 1e9:.2f} GB"
            return f"{what}, and {self._memory / 1e9:.2f} GB are allowed"
        return f"{disk / 1e9:.1f} GB are written, and {free / 1e9:.1f} GB are free" if disk > free else ""

    def _asked(self) -> list[TensorRef]:
        """The stored tensors that are read to compute others."""
        changed, refs = {own for group in self._work.merger.groups for own in group}, list[TensorRef]()
        refs += [self._lock[own] for own in sorted(changed)]
        for delta in [*self._joined.values(), *self._left.values(), *([self._sketch] if self._sketch else [])]:
            parts = [part for own, part in delta.parts.items() if own in changed]
            grams = [gram for own in sorted(changed) if (gram := delta.gram_of(own)) is not None]
            refs += [ref for part in (*parts, *grams) for ref in refs_of(part)]
        for name in {*self._work.beside}.union(*(self._grown.places[own] for own in changed)):
            for piece in self._grown.pieces[name]:
                refs += [self._lock[piece.name]] if isinstance(piece, Own) else []
                refs += [piece.ref] if isinstance(piece, Brought) else []
                refs += [ref for row in piece.rows for ref, _ in row] if isinstance(piece, Mean) else []
        return list(dict.fromkeys(refs))

    # -- the work ----------------------------------------------------------------------------------------------------

    def write(self, folder: Path, progress: Progress) -> Lock:
        """Weights first, the lock last and whole: a folder with a lock in it is a finished one."""
        folder.mkdir(exist_ok=True)
        layout, lock, work = self._grown.layout, Lock(), self._work
        self._supply.bring((ref.digest for ref in self._asked() if not self._is_laid(ref)), progress)
        progress("build", 0, len(layout))
        with TensorWriter(folder / "model.safetensors", layout, {"format": "pt"}) as writer:
            for name, holder in work.copied.items():
                writer.copy(name, holder.file)
                lock[name] = holder.lock[name]
                progress("build", len(lock), len(layout))
            self._make(writer, folder, lock, progress)
        progress("build", len(layout), len(layout))
        if self._sums:
            self._cache.remember(self._joined)
        computed = sorted(layout.keys() - work.copied.keys() - work.stored.keys())
        info = self._info(len(work.copied), len(work.stored), computed)
        for name, text in (("made.json", msgspec.json.encode(info)), ("model.lock", format_lock(lock).encode())):
            with replacing(folder / name) as partial:
                partial.write_bytes(text)
        return lock

    def _is_laid(self, ref: TensorRef) -> bool:
        """Whether a tensor is read by its rows, so that it need not be in the store."""
        return ref in self._laid

    @cached_property
    def _laid(self) -> set[TensorRef]:
        merger = self._work.merger
        owns = {own for group in merger.groups if self._steps[merger.first(group)].rows for own in group}
        dense = [delta.parts.get(own) for own in owns for delta in self._joined.values()]
        return {self._lock[own] for own in owns} | {part.value for part in dense if isinstance(part, Dense)}

    def _info(self, copied: int, stored: int, computed: Sequence[str]) -> BuildInfo:
        return BuildInfo(
            sums=self._sums,
            method=self._method,
            shape=self._grown.digest,
            members=self.recipe.contributions,
            tallies=written_tallies(self.fold.sums.tallies) if self.fold.sums else {},
            kept=len(self.kept.members - self._left.keys()),
            joined=tuple(sorted(self._joined)),
            left=tuple(sorted(self._left)),
            computed=tuple(computed),
            copied=copied,
            base=stored,
        )

    def _make(self, writer: TensorWriter, folder: Path, lock: Lock, progress: Progress) -> None:
        """All that is not copied, the largest first, on all cores and within the memory there is."""
        work, room = self._work, Room(self._memory - self._held if self._memory else 0)
        size = 8 * sum(self._lock[own].size for own in work.merger.places)
        keeps = bool(self._sums) and not self.by_rows and self._cache.room(size)
        merger = work.merger.keeping(self._cache, self._sums) if keeps else work.merger
        beside = Larger(self._base, self._grown, self._load)
        jobs: dict[str, Callable[[], Lock]] = {name: partial(self._read, name, writer) for name in work.stored}
        jobs |= {name: partial(_put, writer, _lone(beside, name)) for name in work.beside}
        if self._workers is None:
            jobs |= {
                merger.first(group): partial(self._together, group, merger, writer, folder) for group in merger.groups
            }

        def done(name: str) -> Lock:
            with room.of(self._steps[name].need):
                return jobs[name]()

        # One thread a job: more inside each product would only wait for each other.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            waiting = [pool.submit(done, name) for name in self._steps if name in jobs]
            try:
                for job in as_completed(waiting):
                    lock.update(job.result())
                    progress("build", len(lock), len(self._grown.layout))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for made in self._elsewhere(merger, keeps) if self._workers is not None else ():
            lock |= _put(writer, made.items())
            progress("build", len(lock), len(self._grown.layout))

    def _elsewhere(self, merger: Merger, keeps: bool) -> Iterator[dict[str, Array]]:
        """What is merged, wherever a worker has room."""
        assert self._workers is not None
        task = Merge.of(
            self._snapshot, self._extra, merger, self._workers.store, kept=self.kept, left=self._left,
            cache=self._cache.folder if keeps else None, sums=self._sums,
        )  # fmt: skip
        return tensors(task, merger, self._workers)

    def _read(self, name: str, writer: TensorWriter) -> Lock:
        """Write a tensor as it is stored."""
        ref = self._work.stored[name]
        with writer.filling(name) as write:
            self._supply.read(ref, write)
        return {name: ref}

    def _together(self, group: Sequence[str], merger: Merger, writer: TensorWriter, folder: Path) -> Lock:
        """Merge and write the tensors of one group."""
        rows = self._steps[merger.first(group)].rows
        if not rows:
            return _put(writer, merger.tensors(group))
        lock, balanced = Lock(), merger.balanced(group)
        for own in group:
            lock |= self._by_rows(own, rows, balanced, writer, folder)
        return lock

    def _by_rows(self, name: str, rows: int, balanced: Balanced | None, writer: TensorWriter, folder: Path) -> Lock:
        """Merge and write one tensor a strip of rows at a time: the same bits as of the whole."""
        ref = self._lock[name]
        with Laid(self._supply, folder) as laid, writer.filling(name) as write:
            strips = self._strips(name, rows, balanced, laid)
            digest = digest_of_parts(ref.dtype, ref.shape, passed_on(strips, write))
        return {name: TensorRef(dtype=ref.dtype, shape=ref.shape, digest=digest)}

    def _strips(self, name: str, rows: int, balanced: Balanced | None, laid: Laid) -> Iterator[Array]:
        ref, height = self._lock[name], self._lock[name].shape[0]
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            strip = Strip(start, stop, height, laid.rows)
            fold = self.fold.rows(laid.rows(ref, start, stop), strip)
            assert fold.sums is not None
            alone = fold.is_alone(name)
            merged = fold.alone(name) if alone else fold.finish(name, fold.sums.top(name), balanced)
            yield merged.reshape(-1)


def _put(writer: TensorWriter, made: Iterable[tuple[str, Array]]) -> Lock:
    """Write tensors; what they are."""
    lock = Lock()
    for name, array in made:
        writer.put(name, array)
        lock[name] = TensorRef.of(array)
    return lock


def _lone(larger: Checkpoint, name: str) -> Iterator[tuple[str, Array]]:
    """One tensor, made when it is asked for."""
    yield name, larger[name]


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

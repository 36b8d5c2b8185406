"""A tensor read by ranges from where its object lies, a few stretches ahead of who uses its words.

Nothing of it is kept, and never more than some stretches are in memory. It decodes and compares nothing by itself: who
reads a tensor to its end compares its digest, which is what makes the bytes anybody's to believe.

    with Reader(bucket.range) as reader:
        for words in reader.parts(name): ...
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from souq.errors import Hostile
from souq.records import Digest
from souq.weights.codec import BLOCK, MAGIC, MAX_HEADER, Header, in_parts, read_header, refuse_unbounded
from souq.weights.delta import Array

Range = Callable[[Digest, int, int], bytes]
"""Bytes of an object from one place to another; fewer where it ends before."""

FIRST = 128 << 10  # bytes that are asked for before the header is known: a vector and its header
AT_ONCE = 4  # stretches that are under way
STRETCH = 8  # blocks of one plane: a million numbers each
DEPTH = 2  # a difference's base may be a difference where another repository wrote it


class Reader:
    """Reads tensors, each by several hands."""

    def __init__(self, range_of: Range) -> None:
        self._range, self._hands = range_of, ThreadPoolExecutor(AT_ONCE, thread_name_prefix="souq-ranges")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._hands.shutdown(cancel_futures=True)

    def parts(self, name: Digest, depth: int = 0) -> Iterator[Array]:
        """A tensor's words, flat, a block at a time.

        Raises:
            Hostile: it is no object, or cut short.
        """
        header, start, begun = self._head(name)
        held = None
        if header.base:
            if depth == DEPTH:
                raise Hostile("it is a difference from a difference from a difference")
            held = self.parts(header.base, depth + 1)
        refuse_unbounded(header, header.length)

        def fetch(begin: int, end: int) -> Future[bytes]:
            return self._hands.submit(self._piece, name, start, begin, end, begun)

        yield from in_parts(header, _Stretches(header, fetch), held, twice=False)

    def _head(self, name: Digest) -> tuple[Header, int, bytes]:
        """An object's header, where its payload begins, and what of that came with it."""
        data = self._range(name, 0, FIRST)
        at = len(MAGIC) + 8
        length = int.from_bytes(data[len(MAGIC) : at], "little")
        if FIRST < at + length <= MAX_HEADER:
            data += self._range(name, len(data), at + length)
        header, start = read_header(data[:at], lambda n: data[at : at + n])
        return header, start, data[start:]

    def _piece(self, name: Digest, start: int, begin: int, end: int, begun: bytes) -> bytes:
        if end <= len(begun):
            return begun[begin:end]
        data = self._range(name, start + begin, start + end)
        if len(data) != end - begin:
            raise Hostile(f"it ends {end - begin - len(data):,} bytes early")
        return data


class _Stretches:
    """A payload of which the stretches that are read next are on their way."""

    def __init__(self, header: Header, fetch: Callable[[int, int], Future[bytes]]) -> None:
        self._fetch, self._length = fetch, header.length
        self._order = _stretches(header)
        self._starts = sorted(begin for begin, _ in self._order)
        self._place = {begin: place for place, (begin, _) in enumerate(self._order)}
        self._coming: dict[int, Future[bytes]] = {}
        self._asked, self._width = 0, len(header.blocks)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> memoryview:
        begin, end, _ = part.indices(self._length)
        start = self._starts[max(bisect_right(self._starts, begin) - 1, 0)] if self._starts else 0
        place = self._place[start]
        ahead = place - place % self._width + 2 * self._width  # those of this round, and of the next
        for each in range(self._asked, min(ahead, len(self._order))):
            self._coming[each] = self._fetch(*self._order[each])
        self._asked = max(self._asked, ahead)
        for old in [each for each in self._coming if each < place - place % self._width]:
            del self._coming[old]
        return memoryview(self._coming[place].result())[begin - start : end - start]


def _stretches(header: Header) -> list[tuple[int, int]]:
    """The ranges of a payload in the order in which they are read: some blocks of each plane, then the next."""
    if header.codec == "raw":
        span = STRETCH * BLOCK * (header.nbytes // max(header.size, 1))
        return [(at, min(at + span, header.length)) for at in range(0, header.length, span)]
    ranges, at = list[list[tuple[int, int]]](), 0
    for plane in header.blocks:
        ranges.append([])
        for first in range(0, len(plane), STRETCH):
            size = sum(plane[first : first + STRETCH])
            ranges[-1].append((at, at + size))
            at += size
    return [each for together in zip(*ranges, strict=True) for each in together]

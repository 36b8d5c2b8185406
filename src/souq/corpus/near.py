"""Which texts say the same: exact copies, then near ones, and which of them is kept in the others' place.

Near are two texts whose sets of five words in a row have a Jaccard index of at least the threshold. Candidates come from
MinHash and LSH (Broder 1997; Leskovec, Rajaraman and Ullman, chapter 3), in bands narrow enough that at the threshold
hardly one is missed, and each is then verified on the sets themselves. What is near what is near is one cluster; of a
cluster the one of the lowest priority number is kept (real text before synthetic), of equals the one whose text sorts first:
the order of the texts does not matter.

    >>> clusters(["The cat sat on the mat today.", "the cat SAT on the mat, today", "Another thing altogether is said here."])
    [0, 0, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from souq.errors import UsageError
from souq.text import skeleton
from souq.weights.delta import Array

WORDS = 5  # of a shingle
THRESHOLD = 0.7
ROWS = 3  # of a band
BANDS = 42  # at a Jaccard index of 0.7 a pair is missed once in forty million, at 0.5 once in 270, at 0.4 once in 16
SEED = 20_241_126
PART = 64 << 20  # bytes of text looked at together: shingles take eight bytes for each
MET = 16  # of a bucket's texts, that each further one of it is compared with


def clusters(texts: Sequence[str], *, threshold: float = THRESHOLD, priorities: Sequence[int] | None = None) -> list[int]:  # fmt: skip
    """For each text the number of the one kept in its place: its own, if it is kept.

    Raises:
        UsageError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"a threshold of {threshold}", hint="it is a Jaccard index above 0, at most 1")
    data = [skeleton(text).encode() for text in texts]
    order = sorted(range(len(data)), key=lambda i: (priorities[i] if priorities else 0, data[i], texts[i]))
    joined = _Joined(len(data), order)
    first: dict[bytes, int] = {}
    for i in order:
        joined.join(first.setdefault(data[i], i), i)
    chosen = sorted(first.values(), key=lambda i: data[i])
    _near(joined, chosen, [data[i] for i in chosen], threshold)
    return [joined.root(i) for i in range(len(data))]


class _Joined:
    """Disjoint sets whose root is the first in a given order."""

    def __init__(self, size: int, order: Sequence[int]) -> None:
        self._parent = list(range(size))
        self._rank = {number: place for place, number in enumerate(order)}

    def root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        if self._rank[a] > self._rank[b]:
            a, b = b, a
        self._parent[b] = a


def _near(joined: _Joined, numbers: Sequence[int], data: Sequence[bytes], threshold: float) -> None:
    from souq.corpus import shingles

    found, starts, counts, signatures = _signed(data)
    for band in range(BANDS):
        keys = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS]).view(f"V{4 * ROWS}")[:, 0]
        for bucket in _buckets(keys):
            for place, i in enumerate(bucket):
                for j in bucket[max(0, place - MET) : place]:
                    if joined.root(numbers[i]) != joined.root(numbers[j]) and shingles.alike(found, starts[i], counts[i], starts[j], counts[j]) >= threshold:  # fmt: skip
                        joined.join(numbers[i], numbers[j])


def _buckets(keys: Array) -> list[list[int]]:
    """Numbers of equal keys, where there is more than one."""
    order = np.argsort(keys, kind="stable")
    same = keys[order]
    edges = np.flatnonzero(np.concatenate([[True], same[1:] != same[:-1], [True]])) if len(keys) else np.array([0])
    return [order[a:b].tolist() for a, b in pairwise(edges) if b - a > 1]


def _signed(data: Sequence[bytes]) -> tuple[Array, Array, Array, Array]:
    """Shingles of all texts in one array, where each text's begin, how many they are, and signatures (texts, BANDS * ROWS)."""
    from souq.corpus import shingles

    chance = np.random.default_rng(SEED)
    factors = chance.integers(0, 1 << 63, BANDS * ROWS, np.uint64) * np.uint64(2) + np.uint64(1)
    terms = chance.integers(0, 1 << 63, BANDS * ROWS, np.uint64)
    kept, counts, signatures = [np.empty(0, np.uint64)], [], []
    for first, last in _parts(data):
        text, bounds = joined_bytes(data[first:last])
        room, sizes = np.empty(len(text), np.uint64), np.zeros(last - first, np.int64)
        shingles.shingled(text, bounds, WORDS, room, sizes)
        signature = np.empty((last - first, BANDS * ROWS), np.uint32)
        shingles.signed(room, bounds, sizes, factors, terms, signature)
        kept += [room[a : a + size] for a, size in zip(bounds, sizes, strict=False)]
        counts.append(sizes)
        signatures.append(signature)
    count = np.concatenate(counts) if counts else np.empty(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64) if len(count) else count
    return np.concatenate(kept), starts, count, np.concatenate(signatures) if signatures else np.empty((0, BANDS * ROWS), np.uint32)  # fmt: skip


def _parts(data: Sequence[bytes]) -> list[tuple[int, int]]:
    """Ranges of texts of about PART bytes together."""
    edges, size = [0], 0
    for number, text in enumerate(data):
        if size > PART:
            edges.append(number)
            size = 0
        size += len(text)
    return list(zip(edges, [*edges[1:], len(data)], strict=True)) if data else []


def joined_bytes(data: Sequence[bytes]) -> tuple[Array, Array]:
    """Texts one after the other (bytes,) uint8, and where each begins and the last ends (texts + 1,) int64."""
    bounds = np.concatenate([[0], np.cumsum([len(text) for text in data])]).astype(np.int64)
    return np.frombuffer(b"".join(data) or b" ", np.uint8), bounds

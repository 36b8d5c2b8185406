"""Which texts say nearly the same, and which of them is kept in the others' place.

Near are two texts whose sets of so many words in a row have a Jaccard index of at least the threshold. Candidates come
from MinHash and LSH (Broder 1997; Leskovec, Rajaraman and Ullman, chapter 3), in bands narrow enough that at the
threshold hardly one is missed, and each is then verified on the sets themselves. What is near what is near is one
cluster; of a cluster the one of the lowest priority number is kept (real text before synthetic), of equals the one
whose text sorts first: the order of the texts does not matter.

    >>> clusters(["The cat sat on the mat today.", "the cat SAT on the mat, today", "Another thing altogether."])
    [0, 0, 2]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import AnyStr, NamedTuple

import numpy as np

from souq.errors import UsageError
from souq.text import skeleton
from souq.weights.delta import Array

WORDS = 5  # of a run
THRESHOLD = 0.7
ROWS = 3  # of a band
BANDS = 42  # at a Jaccard index of 0.7 a pair is missed once in forty million, at 0.5 once in 270, at 0.4 once in 16
SEED = 20_241_126
PART = 64 << 20  # bytes of text looked at together: runs take eight bytes for each
MET = 16  # of a bucket's texts, that each further one of it is compared with
_BAND = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64
)  # odd: a band's rows in one key


class Runs(NamedTuple):
    """What is compared of some texts: of each its different runs of words, as hashes."""

    hashes: Array  # (runs of all texts,) uint64, text after text, sorted within each
    counts: Array  # (texts,) int64: how many are of each text

    @classmethod
    def joined(cls, parts: Sequence[Runs]) -> Runs:
        """The runs of several lots of texts, one lot after the other."""
        hashes = [np.empty(0, np.uint64), *(part.hashes for part in parts)]
        return cls(np.concatenate(hashes), np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]))


def clusters(
    texts: Sequence[str], *, threshold: float = THRESHOLD, priorities: Sequence[int] | None = None
) -> list[int]:
    """For each text the number of the one kept in its place: its own, if it is kept.

    Raises:
        UsageError: a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"a threshold of {threshold}", hint="it is a Jaccard index above 0, at most 1")
    data = [skeleton(text).encode() for text in texts]
    first: dict[bytes, int] = {}  # of exact copies, the one that is kept
    for i in sorted(range(len(data)), key=lambda i: (priorities[i] if priorities else 0, data[i], texts[i])):
        first.setdefault(data[i], i)
    ranks = {text: rank for rank, text in enumerate(first)}
    chosen = sorted(first)
    roots = _joined(_runs(chosen, WORDS), threshold, np.array([ranks[text] for text in chosen], np.int64))
    kept = {text: first[chosen[root]] for text, root in zip(chosen, roots, strict=True)}
    return [kept[text] for text in data]


def repeats(ours: Runs, earlier: Runs, *, threshold: float) -> list[int]:
    """The numbers of our texts that are kept out by one of ours before them, or by an earlier one."""
    first = len(earlier.counts)
    both = Runs.joined([earlier, ours])
    roots = _joined(both, threshold, np.arange(len(both.counts)), first)
    return [i - first for i, root in enumerate(roots) if i >= first and root != i]


def runs_of(texts: Sequence[str], words: int = WORDS) -> Runs:
    """Every text's different runs of so many words, or of all its words where it has fewer."""
    return _runs([skeleton(text).encode() for text in texts], words)


def _runs(data: Sequence[bytes], words: int) -> Runs:
    from souq.corpus import shingles

    parts = []
    for part in portions(data):
        text, bounds = joined_bytes(part)
        room, counts = np.empty(len(text), np.uint64), np.zeros(len(part), np.int64)
        shingles.shingled(text, bounds, words, room, counts)
        hashes = [room[start : start + count] for start, count in zip(bounds, counts, strict=False)]
        parts.append(Runs(np.concatenate(hashes), counts))
    return Runs.joined(parts)


def _joined(runs: Runs, threshold: float, ranks: Array, first: int = 0) -> list[int]:
    """For each text the one of the least rank in its cluster; those below `first` are not compared with each other."""
    from souq.corpus import shingles

    chance = np.random.default_rng(SEED)
    factors = chance.integers(0, 1 << 63, BANDS * ROWS, np.uint64) * np.uint64(2) + np.uint64(1)
    terms = chance.integers(0, 1 << 63, BANDS * ROWS, np.uint64)
    starts = np.cumsum(runs.counts) - runs.counts
    signatures = np.empty((len(runs.counts), BANDS * ROWS), np.uint32)
    shingles.signed(runs.hashes, starts, runs.counts, factors, terms, signatures)
    parents = np.arange(len(runs.counts))
    for at in range(0, BANDS * ROWS, ROWS):
        keys = signatures[:, at : at + ROWS].astype(np.uint64) @ _BAND
        order = np.argsort(keys, kind="stable")
        edges = np.concatenate([[0], np.flatnonzero(np.diff(keys[order])) + 1, [len(keys)]])
        shingles.join_near(order, edges, runs.hashes, starts, runs.counts, threshold, MET, first, ranks, parents)
    roots = parents
    while (roots[roots] != roots).any():
        roots = roots[roots]
    return list(roots.tolist())


def portions(texts: Sequence[AnyStr]) -> Iterator[Sequence[AnyStr]]:
    """The texts in runs of about PART characters or bytes together."""
    start, size = 0, 0
    for number, text in enumerate(texts):
        if size > PART:
            yield texts[start:number]
            start, size = number, 0
        size += len(text)
    if texts:
        yield texts[start:]


def joined_bytes(data: Sequence[bytes]) -> tuple[Array, Array]:
    """Texts one after the other (bytes,) uint8, and where each begins and the last ends (texts + 1,) int64."""
    bounds = np.concatenate([[0], np.cumsum([len(text) for text in data])]).astype(np.int64)
    return np.frombuffer(b"".join(data) or b" ", np.uint8), bounds

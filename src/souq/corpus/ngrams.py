"""Which texts hold a case of an eval: thirteen of its words in a row, or the whole of a shorter one.

The rule of checks/contamination.py (13-grams, as GPT-3's: arXiv 2005.14165, appendix C), compiled, for corpora. Cases are
indexed, texts go by; the time is in proportion to the text, however many cases there are.

    >>> Exam({"a": "What is the capital of France? Paris"}).held(["They ask what is the capital of France, Paris or Rome?"])
    ['a']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from souq.corpus.near import PART, joined_bytes
from souq.errors import UsageError
from souq.text import skeleton

NGRAM = 13  # words
SHORTEST = 4  # words: a case of fewer stands in ordinary text too


class Exam:
    """Cases by name, as text: question and answer. What is too short to be looked for is in `short`."""

    def __init__(self, cases: Mapping[str, str], *, ngram: int = NGRAM) -> None:
        from souq.corpus import shingles

        if ngram < SHORTEST:
            raise UsageError(f"runs of {ngram} words", hint=f"at least {SHORTEST}")
        self.names = list(cases)
        text, bounds = joined_bytes([skeleton(case).encode() for case in cases.values()])
        found: dict[int, dict[int, int]] = {}
        self.short: list[str] = []
        for case, (start, end) in enumerate(pairwise(bounds)):
            size = min(ngram, shingles.counted(text, start, end))
            if size < SHORTEST:
                self.short.append(self.names[case])
                continue
            room, count = np.empty(end - start, np.uint64), np.zeros(1, np.int64)
            shingles.shingled(text[start:end], np.array([0, end - start]), size, room, count)
            for run in room[: count[0]].tolist():
                found.setdefault(size, {}).setdefault(run, case)
        self._lengths = np.array(sorted(found, reverse=True), np.int64)
        runs = [sorted(found[length]) for length in self._lengths.tolist()]
        self._whose = [found[length][run] for length, part in zip(self._lengths.tolist(), runs, strict=True) for run in part]  # fmt: skip
        self._needles = np.array([run for part in runs for run in part], np.uint64)
        self._offsets = np.concatenate([[0], np.cumsum([len(part) for part in runs])]).astype(np.int64)

    def held(self, texts: Sequence[str]) -> list[str]:
        """For each text the name of a case it holds, or nothing."""
        return [name for part in _portions(texts) for name in self._part([skeleton(text).encode() for text in part])]

    def _part(self, data: Sequence[bytes]) -> list[str]:
        from souq.corpus import shingles

        text, bounds = joined_bytes(data)
        found = np.full(len(data), -1, np.int64)
        if len(self._needles):
            shingles.holding(text, bounds, self._lengths, self._needles, self._offsets, found)
        return [self.names[self._whose[i]] if i >= 0 else "" for i in found.tolist()]


def _portions(texts: Sequence[str]) -> list[Sequence[str]]:
    edges, size = [0], 0
    for number, text in enumerate(texts):
        if size > PART:
            edges.append(number)
            size = 0
        size += len(text)
    return [texts[a:b] for a, b in zip(edges, [*edges[1:], len(texts)], strict=True)]

"""Which texts hold a case of an eval: thirteen of its words in a row (as GPT-3's: arXiv 2005.14165, appendix C), or the
whole of a shorter one.

Cases are indexed, texts go by; the time is in proportion to the text, however many cases there are.

    >>> Exam({"a": "What is the capital of France? Paris"}).held(["So what is the capital of France, Paris or Rome?"])
    ['a']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from souq.corpus.near import joined_bytes, portions
from souq.errors import UsageError
from souq.text import skeleton

NGRAM = 13  # words
SHORTEST = 4  # words: a case of fewer stands in ordinary text too


class Exam:
    """Cases by name, as text: question and answer. What is too short to be looked for is in `short`.

    Raises:
        UsageError: runs shorter than the shortest case.
    """

    def __init__(self, cases: Mapping[str, str], *, ngram: int = NGRAM, shortest: int = SHORTEST) -> None:
        from souq.corpus import shingles

        if ngram < shortest:
            raise UsageError(f"runs of {ngram} words", hint=f"at least {shortest}")
        text, bounds = joined_bytes([skeleton(case).encode() for case in cases.values()])
        runs, counts = np.empty(len(text), np.uint64), np.zeros(len(cases), np.int64)
        shingles.shingled(text, bounds, ngram, runs, counts)
        by_length: dict[int, dict[int, str]] = {}  # words of a run -> its hash -> the first case that has it
        self.short: list[str] = []
        for name, count, (start, end) in zip(cases, counts.tolist(), pairwise(bounds.tolist()), strict=True):
            if (size := min(ngram, shingles.counted(text, start, end))) < shortest:
                self.short.append(name)
                continue
            for run in runs[start : start + count].tolist():
                by_length.setdefault(size, {}).setdefault(run, name)
        lengths = sorted(by_length, reverse=True)
        needles = [(run, by_length[length][run]) for length in lengths for run in sorted(by_length[length])]
        self._names = [name for _, name in needles]
        self._needles = np.array([run for run, _ in needles], np.uint64)
        self._lengths = np.array(lengths, np.int64)
        self._offsets = np.cumsum([0, *(len(by_length[length]) for length in lengths)])

    def held(self, texts: Sequence[str]) -> list[str]:
        """For each text the name of a case it holds, or nothing: of several, of a longest one."""
        return [name for part in portions(texts) for name in self._held([skeleton(text).encode() for text in part])]

    def _held(self, data: Sequence[bytes]) -> list[str]:
        from souq.corpus import shingles

        text, bounds = joined_bytes(data)
        places = np.full(len(data), -1, np.int64)
        if len(self._needles):
            shingles.holding(text, bounds, self._lengths, self._needles, self._offsets, places)
        return [self._names[i] if i >= 0 else "" for i in places.tolist()]

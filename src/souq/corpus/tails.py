"""The tail report: what of real text's rare things is still there, in a corpus or in what a student writes.

Means hide tails: a model trained on models loses the rare first (Shumailov et al., Nature 2024), while most loss stays
where it was. So every measure stands beside a ceiling: as many words of the real text, drawn again. Sizes are matched
before anything is counted, since types and n-grams grow with size.

    report = compare(texts, real)
    report.corpus.rare_kept, report.ceiling.rare_kept
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from zlib import crc32  # of bytes: Python's own hash of text differs between processes

import numpy as np

from souq.errors import UsageError
from souq.records import Record
from souq.text import words

RARE = 5  # times, at most, that a rare word stands in the real text
VENDI_TEXTS = 400  # a matrix of so many squared
BUCKETS = 1 << 14  # of hashed words, for the kernel
HEAD = 10  # ranks that are no tail

Texts = Sequence[Sequence[str]]


class Tail(Record, frozen=True):
    """One body of text, in `words` words. Shares are of 1; `zipf` is the slope of log frequency over log rank."""

    words: int
    types: int
    rare_kept: float  # of the real text's rare words
    cover: float  # of the real text's different pairs of words
    distinct_2: float
    distinct_3: float
    zipf: float
    vendi: float  # effective number of unlike texts, at most VENDI_TEXTS


class Report(Record, frozen=True):
    """What was looked at beside the real text drawn again at the same size."""

    corpus: Tail
    ceiling: Tail
    rare: int  # different words of the real text that stand there at most RARE times
    rare_at_most: int = RARE

    @property
    def kept(self) -> float:
        """The share of the rare that is left, of what a text of that size could hold; 1 where nothing was lost."""
        return self.corpus.rare_kept / self.ceiling.rare_kept if self.ceiling.rare_kept else 1.0


def compare(texts: Sequence[str], real: Sequence[str], *, seed: int = 0) -> Report:
    """How much of the real text's tail is left in `texts`; both cut to as many words, whole texts in a seeded order.

    Raises:
        UsageError: one of them has no words.
    """
    ours, theirs = _split(texts), _split(real)
    if not ours or not theirs:
        raise UsageError("no words to compare" if theirs else "no words in the real text", hint="give more text")
    size = min(_size(ours), _size(theirs))
    chance = np.random.default_rng(seed)
    again = list[Sequence[str]]()
    while _size(again) < size:  # once is enough, but where few texts hold most of the words
        again += [theirs[i] for i in chance.integers(0, len(theirs), 2 * len(theirs))]
    rare = {word for word, count in Counter(w for text in theirs for w in text).items() if count <= RARE}
    pairs = set(_grams(theirs, 2))
    ceiling = measured(_cut(again, size), rare, pairs)
    shuffled = [ours[i] for i in chance.permutation(len(ours))]
    return Report(corpus=measured(_cut(shuffled, size), rare, pairs), ceiling=ceiling, rare=len(rare))


def measured(texts: Texts, rare: set[str], pairs: set[tuple[str, ...]]) -> Tail:
    """What there is to count of texts as they are, whatever their size, beside the real text's rare words and pairs."""
    counts = Counter(word for text in texts for word in text)
    twos, threes = _grams(texts, 2), _grams(texts, 3)
    return Tail(
        words=sum(counts.values()), types=len(counts), rare_kept=_share(len(rare & counts.keys()), len(rare)),
        cover=_share(len(pairs & set(twos)), len(pairs)), distinct_2=_share(len(set(twos)), len(twos)),
        distinct_3=_share(len(set(threes)), len(threes)), zipf=zipf(list(counts.values())), vendi=vendi(texts),
    )  # fmt: skip


def zipf(counts: Sequence[int]) -> float:
    """The slope of log frequency over log rank (Zipf) beyond the first ranks, each doubling of rank weighing alike."""
    sizes = np.sort(np.asarray(counts, float))[::-1]
    ranks = np.unique(np.geomspace(HEAD, len(sizes), 24).astype(int)) if len(sizes) > 2 * HEAD else np.array([], int)
    if len(ranks) < 3:
        return 0.0
    return float(np.polyfit(np.log(ranks), np.log(sizes[ranks - 1]), 1)[0])


def vendi(texts: Texts) -> float:
    """How many unlike texts there are in effect: exp of the entropy of K/n's eigenvalues (Friedman and Dieng, arXiv
    2210.02410), K the cosines of hashed TF-IDF vectors of the first VENDI_TEXTS texts.
    """
    chosen = [text for text in texts[:VENDI_TEXTS] if text]
    if not chosen:
        return 0.0
    counts = np.zeros((len(chosen), BUCKETS), np.float32)
    for row, text in zip(counts, chosen, strict=True):
        np.add.at(row, [crc32(word.encode()) % BUCKETS for word in text], 1)
    weights = counts * np.log((1 + len(chosen)) / (1 + (counts > 0).sum(0)) + 1)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    values = np.linalg.eigvalsh((weights @ weights.T).astype(float) / len(chosen)).clip(1e-12)
    return float(np.exp(-(values * np.log(values)).sum()))


def _split(texts: Sequence[str]) -> list[list[str]]:
    return [split for text in texts if (split := words(text))]


def _size(texts: Texts) -> int:
    return sum(map(len, texts))


def _cut(texts: Texts, size: int) -> list[Sequence[str]]:
    """The first texts, `size` words in all; the last one is cut."""
    first, left = list[Sequence[str]](), size
    for text in texts:
        if left <= 0:
            break
        first.append(text[:left])
        left -= len(text)
    return first


def _grams(texts: Texts, n: int) -> list[tuple[str, ...]]:
    return [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]


def _share(some: int, of: int) -> float:
    return some / of if of else 0.0

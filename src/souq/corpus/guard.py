"""Choose what the next generation trains on, so that the rare survives.

Four rules against collapse. Accumulate, never replace: what is chosen from is everything so far (Gerstgrasser et al.,
arXiv 2404.01413). A floor of real text, by words. Real texts are taken so that together they cover the rare words, not
at random. What machines wrote is no deeper than the cap, verified where somebody can, and drawn the rarer the likelier.

    chosen = choose(pool, 100_000, rare=rare_words(real), floor=0.3, deepest=3, seed=0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from souq.errors import UsageError

RARE = 5  # times, at most


@dataclass(frozen=True)
class Piece:
    """A text as words; `depth` is 0 where people wrote it, else 1 + its deepest parent's."""

    words: tuple[str, ...]
    depth: int = 0


Verify = Callable[[Piece], bool]


def rare_words(pieces: Sequence[Piece], most: int = RARE) -> frozenset[str]:
    """What stands in them at most so many times."""
    counts = Counter(word for piece in pieces for word in piece.words)
    return frozenset(word for word, count in counts.items() if count <= most)


def choose(
    pool: Sequence[Piece], size: int, *, rare: Collection[str], floor: float, seed: int, deepest: int | None = None,
    rarity: float = 1.0, cover: bool = True, verify: Verify | None = None,
) -> list[Piece]:  # fmt: skip
    """Pieces of about `size` words: the floor from real text, the rest from what machines wrote, each at most once.

    `rarity` 0 draws machines' pieces alike; `cover` False takes the real ones at random.

    Raises:
        UsageError: the pool holds too little real text for the floor.
    """
    chance = np.random.default_rng(seed)
    real = [piece for piece in pool if piece.depth == 0]
    made = [p for p in pool if p.depth and (deepest is None or p.depth <= deepest) and (verify is None or verify(p))]
    want = round(floor * size)
    if (have := sum(len(piece.words) for piece in real)) < want:
        raise UsageError(f"{have:,} words of real text, and the floor is {want:,}", hint="bring more, or ask for less")
    order = _covering(real, rare, chance) if cover else _drawn(real, rare, 0.0, chance)
    kept = _until(order, want)
    return kept + _until(_drawn(made, rare, rarity, chance), size - sum(len(piece.words) for piece in kept))


def _covering(pieces: Sequence[Piece], rare: Collection[str], chance: np.random.Generator) -> list[Piece]:
    """First, one by one, whatever brings most rare words that none before it has; then the others, shuffled."""
    waiting = {i: {w for w in pieces[i].words if w in rare} for i in chance.permutation(len(pieces)).tolist()}
    order, seen = list[Piece](), set[str]()
    # Lazily: a piece's gain only falls, so the best of yesterday that is still the best today is the best.
    line = sorted(waiting, key=lambda i: -len(waiting[i]))
    while line:
        gains = [(len(waiting[i] - seen), i) for i in line]
        if max(gains)[0] == 0:
            break
        fresh = sorted(gains, key=lambda pair: -pair[0])
        taken = set[int]()
        bar = fresh[min(len(fresh) - 1, 16)][0]
        for _, i in fresh:
            if len(gain := waiting[i] - seen) and len(gain) >= bar:
                order.append(pieces[i])
                seen |= gain
                taken.add(i)
        line = [i for i in line if i not in taken]
    return order + [pieces[i] for i in chance.permutation(line).tolist()]


def _drawn(pieces: Sequence[Piece], rare: Collection[str], rarity: float, chance: np.random.Generator) -> list[Piece]:
    """A random order in which what holds more rare words tends to come earlier (Efraimidis and Spirakis 2006)."""
    weights = [(1 + sum(word in rare for word in piece.words)) ** rarity for piece in pieces]
    keys = chance.exponential(size=len(pieces)) / np.asarray(weights, float)
    return [pieces[i] for i in np.argsort(keys, kind="stable").tolist()]


def _until(pieces: Sequence[Piece], size: int) -> list[Piece]:
    first, left = list[Piece](), size
    for piece in pieces:
        if left <= 0:
            break
        first.append(piece)
        left -= len(piece.words)
    return first

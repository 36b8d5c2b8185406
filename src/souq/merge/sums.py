"""What a set of contributions comes to, as sums that one more can enter and any can leave, the bits always the same.

The methods that are sums (covariance, mean, task arithmetic) need of each contribution only its part of
N = sum_i d_i G_i and of S = sum_i G_i: RegMean's least squares (arXiv 2212.09849) on changes d_i and Gram matrices G_i.
Every part is rounded once, to a whole multiple of 2^-40 or 2^-36, and kept as int64: integers add without rounding, so
a set has one sum, whatever the order of joining, and taking a part out again leaves no trace. Knows arrays and tensor
names; neither files nor people.

    >>> once = part(Change(None, np.full((1, 2), 0.5), None))
    >>> (once - once).any()
    False
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from souq.errors import Hostile
from souq.merge.exact import Float
from souq.merge.methods import Change, Sketch, times_gram, touched
from souq.records import Digest
from souq.weights.delta import Delta, Gram

Whole = NDArray[np.int64]
"""Whole numbers on a grid: what sums are made of."""

_TOP, _GRAM = 40, 36  # bits after the point; a float64's 53 bits fall on this grid without losing what a merge can feel
_MOST = 1 << 10  # of one number in one part of N
UNIT = 1024  # weights are whole multiples of 1 / UNIT
MEMBERS = 4096  # at most: 2^12 parts of 2^10 on a grid of 2^-40 fill an int64
_MASK = (1 << 128) - 1


@dataclass(frozen=True)
class Tally:
    """What is in one tensor's sums, in no order: the two keys are sums of hashes, equal for equal sets."""

    count: int = 0  # contributions that change it
    known: int = 0  # of them, with a sketch
    mass: int = 0  # their weights together, in UNIT parts of 1
    unsketched_weight: int = 0  # the weights of those without a sketch
    member_set: int = 0  # names N: these contributions
    sketch_set: int = 0  # names S: these sketches

    def __add__(self, other: Tally) -> Tally:
        return self._with(other, 1)

    def __sub__(self, other: Tally) -> Tally:
        return self._with(other, -1)

    def _with(self, other: Tally, sign: int) -> Tally:
        return Tally(
            self.count + sign * other.count,
            self.known + sign * other.known,
            self.mass + sign * other.mass,
            self.unsketched_weight + sign * other.unsketched_weight,
            (self.member_set + sign * other.member_set) & _MASK,
            (self.sketch_set + sign * other.sketch_set) & _MASK,
        )


def _hash(text: str) -> int:
    return int.from_bytes(blake3(text.encode()).digest(16), "little")


def _member_hash(member: Digest, weight: int) -> int:
    return _hash(f"{member} {weight}")


@dataclass(frozen=True)
class Kept:
    """The sums of an earlier build: who is in them, each tensor's tally, and the arrays, read by need."""

    members: frozenset[Digest] = frozenset()
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    top: Callable[[str], Whole] = lambda name: np.zeros(0, np.int64)
    gram: Callable[[str], Whole] = lambda name: np.zeros(0, np.int64)


def part(change: Change) -> Whole:
    """d G (or d, without a sketch) on the grid: int64 (m, n), or (n,) for a norm or a bias.

    Raises:
        Hostile: not finite, or beyond what any honest change comes near.
    """
    right = times_gram(change) if change.right.ndim == 2 else change.weight * change.right
    return _on_grid(change.to(right).whole() * 2.0**_TOP, _MOST * 2.0**_TOP)


def rows_part(change: Change) -> Whole:
    """d on the grid, and in one more column the weight of the change at each row it touches: int64 (m, n + 1).

    Raises:
        Hostile: not finite, or beyond what any honest change comes near.
    """
    rows = part(replace(change, gram=None))
    count = _on_grid(touched(change) * (change.weight * 2.0**_TOP), _MOST * 2.0**_TOP)
    return np.column_stack([rows, count])


def by_rows(total: Whole) -> Float:
    """Float64 (m, n) of a sum of `rows_part`s, int64 (m, n + 1): each row over the weight of those who changed it."""
    wide, mass = numbers(total[:, :-1]), numbers(total[:, -1])
    wide /= np.where(mass > 0, mass, 1.0)[:, None]
    return wide


def gram_part(sketch: Sketch, weight: float = 1.0) -> Whole:
    """The lower triangle of the unit sketch by its weight, on its grid, row by row: int64 (n (n + 1) / 2,)."""
    return _on_grid(triangle(sketch.unit().whole()) * (weight * 2.0**_GRAM), 2.0 ** (62 - 12))


def _on_grid(x: Float, most: float) -> Whole:
    np.rint(x, out=x)
    if not (x.size == 0 or max(x.max(), -x.min()) <= most):  # NaN too
        raise Hostile("a change holds numbers that are not finite, or larger than any change of weights")
    return x.astype(np.int64)


def triangle(square: NDArray[Any]) -> NDArray[Any]:
    """The lower triangle of a matrix (n, n), row by row, in its own dtype: (n (n + 1) / 2,)."""
    return np.concatenate([row[: i + 1] for i, row in enumerate(square)]) if len(square) else square.reshape(-1)


def square(packed: NDArray[Any], n: int) -> Float:
    """The symmetric matrix, float64 (n, n), of its lower triangle packed row by row, (n (n + 1) / 2,)."""
    lower, at = np.zeros((n, n)), 0
    for i in range(n):
        lower[i, : i + 1] = packed[at : at + i + 1]
        at += i + 1
    diagonal = lower.diagonal().copy()
    whole = lower + lower.T
    whole[np.diag_indices(n)] = diagonal
    return whole


class Sums:
    """The sums after some have joined those that were kept and some have left; each computed when it is asked for.

    `change` gives a member's change to a tensor, and `sketch` reads a gram; without it nobody's sketch counts.
    `is_table` tells which tensors are merged by their rows: there no sketch counts either.
    """

    def __init__(
        self,
        kept: Kept,
        joined: Mapping[Digest, Delta],
        left: Mapping[Digest, Delta],
        change: Callable[[str, Delta], Change],
        sketch: Callable[[Gram], Sketch] | None,
        weights: Mapping[Digest, float] | None = None,
        is_table: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.kept, self.change, self._sketch, self._weights = kept, change, sketch, dict(weights or {})
        self._is_table = is_table
        self._moves = [(1, member, joined[member]) for member in sorted(joined)]
        self._moves += [(-1, member, left[member]) for member in sorted(left)]
        self.members = (kept.members | joined.keys()) - left.keys()
        if len(self.members) > MEMBERS:
            raise Hostile(f"{len(self.members):,} contributions; the most is {MEMBERS:,}")
        tallies = dict(kept.tallies)
        for member, delta in joined.items():
            for name in delta.parts:
                tallies[name] = tallies.get(name, Tally()) + self._tally(member, delta, name)
        for member, delta in left.items():
            for name in delta.parts:
                tallies[name] -= self._tally(member, delta, name)
        self.tallies = {name: tally for name, tally in sorted(tallies.items()) if tally.count}

    def _tally(self, member: Digest, delta: Delta, name: str) -> Tally:
        gram = delta.gram_of(name) if self._sketch and not self._is_table(name) else None
        weight = self.weight(member)
        return Tally(
            count=1,
            known=int(gram is not None),
            mass=weight,
            unsketched_weight=0 if gram else weight,
            member_set=_member_hash(member, weight),
            sketch_set=_hash(f"{gram.factor} {gram.diag} {weight}") if gram else 0,
        )

    def weight(self, member: Digest) -> int:
        """How much a contribution counts, in parts of 1 / UNIT."""
        return round(self._weights.get(member, 1.0) * UNIT)

    def only(self, name: str) -> Digest:
        """The one contribution that changes a tensor."""
        members = (m for m in self.members if _member_hash(m, self.weight(m)) == self.tallies[name].member_set)
        return next(members)

    def moved(self, name: str) -> int:
        """How many contributions are read for a tensor; the rest comes out of what was kept."""
        return sum(name in delta.parts for _, _, delta in self._moves)

    def top(self, name: str) -> Whole:
        """N of a tensor, int64 of its shape; a table's with one more column (rows_part)."""
        total = self.kept.top(name) if name in self.kept.tallies else None
        part_of = rows_part if self._is_table(name) else part
        for sign, member, delta in self._moves:
            if name in delta.parts:
                change = replace(self.change(name, delta), weight=self.weight(member) / UNIT)
                total = _added(total, sign, part_of(change))
        assert total is not None
        return total

    def gram(self, name: str) -> Whole:
        """S of a tensor's known sketches, its lower triangle row by row: int64 (n (n + 1) / 2,)."""
        before = self.kept.tallies.get(name)
        total = self.kept.gram(name) if before and before.known else None
        for sign, member, delta in self._moves:
            gram = delta.gram_of(name) if name in delta.parts else None
            if gram is not None and self._sketch is not None:
                total = _added(total, sign, gram_part(self._sketch(gram), self.weight(member) / UNIT))
        assert total is not None
        return total


def _added(total: Whole | None, sign: int, more: Whole) -> Whole:
    if total is None:
        return more if sign > 0 else -more
    return total + more if sign > 0 else total - more


def numbers(total: Whole) -> Float:
    """N, int64 of any shape, as float64 of that shape, rounded once."""
    wide = total.astype(np.float64)
    wide *= 2.0**-_TOP
    return wide


def gram_numbers(packed: Whole, n: int) -> Float:
    """S, int64 (n (n + 1) / 2,), as float64 (n, n), rounded once."""
    wide = square(packed, n)
    wide *= 2.0**-_GRAM
    return wide

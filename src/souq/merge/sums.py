"""What a set of contributions comes to, as sums that one more can enter and any can leave, the bits the same either way.

The methods that are sums (covariance, mean, task arithmetic) need of each contribution only its part of
N = sum_i d_i G_i and of S = sum_i G_i (specs/merge_methods.md, section 0). Every part is rounded once, to a whole
multiple of 2^-40 or 2^-36, and kept as int64: integers add without rounding, so a set has one sum, whatever the order
of joining, and taking a part out again leaves no trace. Knows arrays and tensor names; neither files nor people.

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
from souq.merge.exact import Float, matmul
from souq.merge.methods import Change, Sketch, heard, touched
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
    alike: int = 0  # the weights of those without a sketch
    who: int = 0  # names N: these contributions
    heard: int = 0  # names S: these sketches

    def __add__(self, other: Tally) -> Tally:
        return self._with(other, 1)

    def __sub__(self, other: Tally) -> Tally:
        return self._with(other, -1)

    def _with(self, other: Tally, sign: int) -> Tally:
        return Tally(
            self.count + sign * other.count,
            self.known + sign * other.known,
            self.mass + sign * other.mass,
            self.alike + sign * other.alike,
            (self.who + sign * other.who) & _MASK,
            (self.heard + sign * other.heard) & _MASK,
        )


def _hash(text: str) -> int:
    return int.from_bytes(blake3(text.encode()).digest(16), "little")


@dataclass(frozen=True)
class Kept:
    """The sums of an earlier build: who is in them, each tensor's tally, and the arrays, read by need."""

    members: frozenset[Digest] = frozenset()
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    top: Callable[[str], Whole] = lambda name: _none()
    gram: Callable[[str], Whole] = lambda name: _none()


def _none() -> Whole:
    return np.zeros(0, np.int64)


def part(change: Change) -> Whole:
    """d G (or d, without a sketch) on the grid; (m, n), or (n,) for a norm or a bias.

    Raises:
        Hostile: not finite, or beyond what any honest change comes near.
    """
    right = heard(change) if change.right.ndim == 2 else change.weight * change.right
    wide = right if change.left is None else matmul(change.left, right)
    return _whole(wide * 2.0**_TOP, _MOST * 2.0**_TOP)


def rows_part(change: Change) -> Whole:
    """d on the grid, and in one more column the weight of who changes each row: (m, n + 1).

    Raises:
        Hostile: as `part`.
    """
    rows = part(replace(change, gram=None))
    count = _whole(touched(change) * (change.weight * 2.0**_TOP), _MOST * 2.0**_TOP)
    return np.column_stack([rows, count])


def by_rows(total: Whole) -> Float:
    """(m, n) of what `rows_part` adds up to: every row divided by the weight of those who changed it, or nothing."""
    wide, mass = numbers(total[:, :-1]), numbers(total[:, -1])
    wide /= np.where(mass > 0, mass, 1.0)[:, None]
    return wide


def gram_part(sketch: Sketch, weight: float = 1.0) -> Whole:
    """The lower triangle of the unit sketch by its weight, on its grid, row by row."""
    return _whole(triangle(sketch.unit().whole()) * (weight * 2.0**_GRAM), 2.0 ** (62 - 12))


def _whole(x: Float, most: float) -> Whole:
    np.rint(x, out=x)
    if not (x.size == 0 or max(x.max(), -x.min()) <= most):  # NaN too
        raise Hostile("a change holds numbers that are not finite, or larger than any change of weights")
    return x.astype(np.int64)


def triangle(square: NDArray[Any]) -> NDArray[Any]:
    """The lower triangle of (n, n), row by row, (n (n + 1) / 2,)."""
    return np.concatenate([row[: i + 1] for i, row in enumerate(square)]) if len(square) else square.reshape(-1)


def square(packed: NDArray[Any], n: int) -> Float:
    """(n, n) float64 of a packed lower triangle."""
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

    `change` gives a member's change to a tensor, and `sketch` what a gram says; without it nobody's sketch is heard.
    `table` tells which tensors are merged by their rows: there no sketch is heard either.
    """

    def __init__(
        self,
        kept: Kept,
        joined: Mapping[Digest, Delta],
        left: Mapping[Digest, Delta],
        change: Callable[[str, Delta], Change],
        sketch: Callable[[Gram], Sketch] | None,
        weights: Mapping[Digest, float] | None = None,
        table: Callable[[str], bool] = lambda name: False,
    ) -> None:
        self.kept, self._change, self._sketch, self._weights = kept, change, sketch, dict(weights or {})
        self._table = table
        self._moves = [(1, who, joined[who]) for who in sorted(joined)]
        self._moves += [(-1, who, left[who]) for who in sorted(left)]
        self.members = (kept.members | joined.keys()) - left.keys()
        if len(self.members) > MEMBERS:
            raise Hostile(f"{len(self.members):,} contributions; the most is {MEMBERS:,}")
        tallies = dict(kept.tallies)
        for who, delta in joined.items():
            for name in delta.parts:
                tallies[name] = tallies.get(name, Tally()) + self._tally(who, delta, name)
        for who, delta in left.items():
            for name in delta.parts:
                tallies[name] -= self._tally(who, delta, name)
        self.tallies = {name: found for name, found in sorted(tallies.items()) if found.count}

    def _tally(self, who: Digest, delta: Delta, name: str) -> Tally:
        gram = delta.gram_of(name) if self._sketch and not self._table(name) else None
        weight = self.weight(who)
        heard = _hash(f"{gram.factor} {gram.diag} {weight}") if gram else 0
        return Tally(1, int(gram is not None), weight, 0 if gram else weight, _hash(f"{who} {weight}"), heard)

    def weight(self, who: Digest) -> int:
        """In parts of 1 / UNIT."""
        return round(self._weights.get(who, 1.0) * UNIT)

    def moved(self, name: str) -> int:
        """How many contributions are read for a tensor; the rest comes out of what was kept."""
        return sum(name in delta.parts for _, _, delta in self._moves)

    def top(self, name: str) -> Whole:
        """N of a tensor, its shape; a table's with one more column (rows_part)."""
        total, said = self.kept.top(name) if name in self.kept.tallies else None, self._part_of(name)
        for sign, who, delta in self._moves:
            if name in delta.parts:
                change = replace(self._change(name, delta), weight=self.weight(who) / UNIT)
                total = _added(total, sign, said(change))
        assert total is not None
        return total

    def _part_of(self, name: str) -> Callable[[Change], Whole]:
        return rows_part if self._table(name) else part

    def gram(self, name: str) -> Whole:
        """S of a tensor's known sketches, its lower triangle row by row."""
        before = self.kept.tallies.get(name)
        total = self.kept.gram(name) if before and before.known else None
        for sign, who, delta in self._moves:
            gram = delta.gram_of(name) if name in delta.parts else None
            if gram is not None and self._sketch is not None:
                total = _added(total, sign, gram_part(self._sketch(gram), self.weight(who) / UNIT))
        assert total is not None
        return total


def _added(total: Whole | None, sign: int, found: Whole) -> Whole:
    if total is None:
        return found if sign > 0 else -found
    return total + found if sign > 0 else total - found


def numbers(total: Whole) -> Float:
    """N as float64, rounded once."""
    wide = total.astype(np.float64)
    wide *= 2.0**-_TOP
    return wide


def gram_numbers(packed: Whole, n: int) -> Float:
    """S (n, n) as float64, rounded once."""
    wide = square(packed, n)
    wide *= 2.0**-_GRAM
    return wide

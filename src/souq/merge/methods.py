"""Merge methods as pure functions of the changes to one linear layer.

A change is a product left @ right: a LoRA keeps its b (m, r) and a (r, n), a full change has no left. Every method
answers with changes whose sum is the merged change; those that can leave the lefts alone, so a LoRA is never expanded.
Nothing here knows names, files or people; a new method is a new function.

    >>> c = Change(left=None, right=np.ones((1, 2)), gram=None)
    >>> [c.right.tolist() for c in METHODS["mean"]([c, c], None)]
    [[[0.5, 0.5]], [[0.5, 0.5]]]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from souq.errors import UsageError, nearest
from souq.merge.exact import Float, added, divide, gram, inverse_root, matmul


@dataclass(frozen=True, eq=False)
class Sketch:
    """What flows into a layer: G ~ factor.T @ factor + diag(diag); factor (k, n), diag (n,), float64."""

    factor: Float
    diag: Float

    @property
    def trace(self) -> float:
        squares = matmul((self.factor * self.factor), np.ones((self.factor.shape[1], 1)))
        return added(squares[:, 0]) + added(self.diag)

    def unit(self) -> Sketch:
        """This sketch with a mean diagonal of 1."""
        level = self.trace / len(self.diag)
        return Sketch(self.factor / np.sqrt(level), self.diag / level)

    def whole(self) -> Float:
        """G itself, float64 (n, n), symmetric to the last bit."""
        whole = gram(self.factor.T) if len(self.factor) else np.zeros((len(self.diag),) * 2)
        whole[np.diag_indices(len(whole))] += self.diag
        return whole

    def under(self, right: Float) -> Float:
        """right (r, n) @ G, float64 (r, n), without building G."""
        product = right * self.diag
        if len(self.factor):
            product += matmul(matmul(right, self.factor.T), self.factor)
        return product


@dataclass(frozen=True, eq=False)
class Change:
    """One contribution's change to one matrix: left (m, r) @ right (r, n), or right (m, n) alone; scale folded in."""

    left: Float | None
    right: Float
    gram: Sketch | None
    weight: float = 1.0  # how much it counts beside the others, in the methods that are sums

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return len(self.right if self.left is None else self.left), self.right.shape[1]

    def to(self, right: Float) -> Change:
        """This change with another right, and no sketch."""
        return Change(self.left, right, None)

    def whole(self) -> Float:
        """Written out as one matrix, float64 (m, n); a right alone is itself, not a copy."""
        return self.right if self.left is None else matmul(self.left, self.right)


Method = Callable[..., list[Change]]
METHODS: dict[str, Method] = {}
MATRICES: set[Method] = set()
"""The methods that look at a linear layer as a whole; a table of one row a token is merged by its rows instead."""
SUMS = {"covariance": True, "mean": False, "task-arithmetic": False}
"""The methods that need of a contribution only its part of two sums (sums.py), and whether sketches are in them."""
Balanced = tuple[Float, Float]
"""An inverse root (n, n) of everybody's sketches, and the scale (n,) it is for."""


def merge_method(name: str, *, matrices: bool = False) -> Callable[[Method], Method]:
    """Register a function (changes, base sketch, **settings) -> changes that add up to the merged one."""

    def register(method: Method) -> Method:
        METHODS[name] = method
        if matrices:
            MATRICES.add(method)
        return method

    return register


@merge_method("mean")
def mean(changes: Sequence[Change], base: Sketch | None) -> list[Change]:
    """The mean of the changes by their weights, equal unless told (model soups, arXiv 2203.05482)."""
    everyone = added(np.array([change.weight for change in changes]))
    return [change.to(change.right * (change.weight / everyone)) for change in changes]


def by_rows(changes: Sequence[Change]) -> list[Change]:
    """Each row (a token's) the mean over those who changed it, by their weights; whole where only one did."""
    weights = [change.weight * touched(change) for change in changes]
    total = np.add.accumulate(weights, axis=0)[-1]
    shares = [np.divide(each, total, out=np.zeros_like(each), where=total > 0)[:, None] for each in weights]
    return [
        Change(None, share * change.right, None)
        if change.left is None
        else Change(share * change.left, change.right, None)
        for change, share in zip(changes, shares, strict=True)
    ]


def touched(change: Change) -> Float:
    """1 for each row that a change changes, 0 for the others: float64 (m,)."""
    rows: Float = (change.right if change.left is None else change.left) != 0
    return np.asarray(rows.any(axis=1), np.float64)


@merge_method("task-arithmetic")
def task_arithmetic(changes: Sequence[Change], base: Sketch | None, *, scale: float = 1.0) -> list[Change]:
    """`scale` times the sum of the changes (Editing Models with Task Arithmetic, arXiv 2212.04089)."""
    return [change.to(change.right * (scale * change.weight)) for change in changes]


@merge_method("covariance", matrices=True)
def covariance(
    changes: Sequence[Change],
    base: Sketch | None,
    *,
    base_weight: float = 1.0,
    base_share: float = 0.0,
    ridge: float = 1e-4,
) -> list[Change]:
    """Each change where its own inputs live: D = (sum_i d_i G_i) (sum_i G_i + b G_0 + ridge I)^-1.

    RegMean's least squares (arXiv 2212.09849) on changes, with contributed sketches for G_i, each scaled to a mean
    diagonal of 1, so that nobody is louder for having larger inputs. The base takes part as a contributor that changed
    nothing, b = base_weight + base_share (k - 1) times as loud as one of the k others: where b is 0 a change that is
    alone is itself. A change without a sketch cares for every direction alike (G_i = I); where nobody has one the
    answer is the plain mean.
    """
    weight = weight_of_base(len(changes), base_weight, base_share)
    if len(changes) == 1 and weight == 0:
        return [changes[0].to(changes[0].right)]
    known = [change for change in changes if change.gram is not None]
    if not known:
        return mean(changes, None)
    s = np.zeros((changes[0].right.shape[1],) * 2)
    for change in known:
        assert change.gram is not None
        s += change.weight * change.gram.unit().whole()
    unsketched = added(np.array([change.weight for change in changes if change.gram is None]))
    balanced = balance(s, unsketched, base, base_weight=weight, ridge=ridge)
    solved = solve(np.concatenate([times_gram(change) for change in changes]), balanced)
    rights = np.split(solved, np.cumsum([len(change.right) for change in changes])[:-1])
    return [change.to(right) for change, right in zip(changes, rights, strict=True)]


def weight_of_base(count: int, base_weight: float, base_share: float) -> float:
    """How loud the base is among `count` changes of one tensor, each of which is 1."""
    return base_weight + base_share * (count - 1)


def times_gram(change: Change) -> Float:
    """right (r, n) @ G times the change's weight, float64 (r, n); G is the identity for a change without a sketch."""
    return change.weight * (change.right if change.gram is None else change.gram.unit().under(change.right))


def balance(s: Float, unsketched: float, base: Sketch | None, *, base_weight: float, ridge: float) -> Balanced:
    """The system everybody's sketches make, ready to divide by: its inverse root (n, n), and the scale (n,) it is for.

    s (n, n) is the sum of the unit sketches by weight; `unsketched` is the weight of the changes that have none.

    Raises:
        UsageError: the ridge is too small to solve it.
    """
    s = s + base_weight * base.unit().whole() if base is not None and base_weight > 0 else s.copy()
    s[np.diag_indices(len(s))] += unsketched + ridge
    # Powers of two bring every diagonal entry near 1: nothing is rounded, and small directions keep their digits.
    _, exponent = np.frexp(np.diagonal(s))
    scale = np.ldexp(1.0, -(exponent // 2))
    s *= scale[:, None]
    s *= scale
    try:
        return inverse_root(s, slices=1), scale
    except ValueError as error:
        raise UsageError(
            "the sketches make a system that cannot be solved", hint="raise `ridge` in souq.toml"
        ) from error


def solve(top: Float, balanced: Balanced) -> Float:
    """top (m, n) @ S^-1, float64 (m, n), where `balanced` is the answer of `balance` for S."""
    root, scale = balanced
    solved = divide(top * scale, root, slices=1)
    solved *= scale
    return solved


def settings_of(method: str) -> dict[str, Any]:
    """A method's settings and their defaults: its keyword arguments.

    Raises:
        UsageError: no method has this name.
    """
    if method not in METHODS:
        raise UsageError(
            f"no merge method {method!r}{nearest(method, METHODS)}", hint=f"one of: {', '.join(sorted(METHODS))}"
        )
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_settings(method: str, settings: Mapping[str, Any]) -> None:
    """Refuse a setting the method does not have, with the nearest it has.

    Raises:
        UsageError: no such method or setting, or its value is no number from 0 up.
    """
    known = settings_of(method)
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"merge method {method!r} has no setting {key!r}{nearest(key, [*known, 'method'])}")
        if isinstance(value, str) and isinstance(known[key], str):
            continue  # the method itself says which words it takes
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise UsageError(f"merge setting {key} is a number from 0 up, not {value!r}")

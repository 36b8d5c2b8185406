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
from souq.merge.exact import Float, cholesky, matmul, solve_cholesky


@dataclass(frozen=True, eq=False)
class Sketch:
    """What flows into a layer: G ~ factor.T @ factor + diag(diag); factor (k, n), diag (n,), float64."""

    factor: Float
    diag: Float

    @property
    def trace(self) -> float:
        squares = matmul((self.factor * self.factor), np.ones((self.factor.shape[1], 1)))
        return _total(squares[:, 0]) + _total(self.diag)


@dataclass(frozen=True, eq=False)
class Change:
    """One contribution's change to one matrix: left (m, r) @ right (r, n), or right (m, n) alone; scale folded in."""

    left: Float | None
    right: Float
    gram: Sketch | None

    def to(self, right: Float) -> Change:
        """The same left with another right."""
        return Change(self.left, right, None)


Method = Callable[..., list[Change]]
METHODS: dict[str, Method] = {}


def merge_method(name: str) -> Callable[[Method], Method]:
    """Register a function (changes, base sketch, **settings) -> changes that add up to the merged one."""

    def register(method: Method) -> Method:
        METHODS[name] = method
        return method

    return register


@merge_method("mean")
def mean(changes: Sequence[Change], base: Sketch | None) -> list[Change]:
    """The plain mean of the changes (model soups, arXiv 2203.05482)."""
    return [change.to(change.right / len(changes)) for change in changes]


@merge_method("task-arithmetic")
def task_arithmetic(changes: Sequence[Change], base: Sketch | None, *, scale: float = 1.0) -> list[Change]:
    """`scale` times the sum of the changes (Editing Models with Task Arithmetic, arXiv 2212.04089)."""
    return [change.to(change.right * scale) for change in changes]


@merge_method("covariance")
def covariance(
    changes: Sequence[Change], base: Sketch | None, *, base_weight: float = 0.5, ridge: float = 1e-4
) -> list[Change]:
    """Each change where its own inputs live: D = (sum_i d_i G_i) (sum_i G_i + base_weight G_0 + eps I)^-1.

    RegMean's least squares (arXiv 2212.09849) on changes, with contributed sketches for G_i. The base takes part as a
    contributor that changed nothing. eps = ridge times the mean of the diagonal. A change without a sketch is taken to
    care for every direction alike; where nobody has one the answer is the plain mean.
    """
    sketches = [change.gram for change in changes]
    known = [sketch for sketch in sketches if sketch is not None]
    if not known:
        return mean(changes, None)
    alike = _alike(known)
    grams = [alike if sketch is None else sketch for sketch in sketches]
    everyone = [*grams, *([_scaled(base, base_weight)] if base is not None and base_weight > 0 else [])]
    tops = [_times(change.right, gram) for change, gram in zip(changes, grams, strict=True)]
    solved = _divide(np.concatenate(tops), everyone, ridge)
    rights = np.split(solved, np.cumsum([len(top) for top in tops])[:-1])
    return [change.to(right) for change, right in zip(changes, rights, strict=True)]


def settings_of(method: str) -> dict[str, Any]:
    """A method's settings and their defaults: its keyword arguments."""
    if method not in METHODS:
        raise UsageError(
            f"no merge method {method!r}{nearest(method, METHODS)}", hint=f"one of: {', '.join(sorted(METHODS))}"
        )
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_settings(method: str, settings: Mapping[str, Any]) -> None:
    """A setting the method does not have is answered with the nearest it has."""
    known = settings_of(method)
    for key, value in settings.items():
        if key not in known:
            raise UsageError(f"merge method {method!r} has no setting {key!r}{nearest(key, [*known, 'method'])}")
        if isinstance(value, str) and isinstance(known[key], str):
            continue  # the method itself says which words it takes
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise UsageError(f"merge setting {key} is a number from 0 up, not {value!r}")


def _alike(known: Sequence[Sketch]) -> Sketch:
    n = len(known[0].diag)
    level = _total(np.array([sketch.trace for sketch in known])) / (len(known) * n)
    return Sketch(np.zeros((0, n)), np.full(n, level))


def _scaled(sketch: Sketch, weight: float) -> Sketch:
    return Sketch(sketch.factor * np.sqrt(weight), sketch.diag * weight)


def _times(right: Float, gram: Sketch) -> Float:
    """right (r, n) @ G, without building G."""
    product = right * gram.diag
    if len(gram.factor):
        product += matmul(matmul(right, gram.factor.T), gram.factor)
    return product


def _divide(top: Float, grams: Sequence[Sketch], ridge: float) -> Float:
    """top (r, n) @ (sum of grams + eps I)^-1, by the smaller of two exact routes."""
    factor = np.concatenate([gram.factor for gram in grams])
    diag = grams[0].diag.copy()
    for gram in grams[1:]:
        diag += gram.diag
    diag += ridge * _total(np.array([gram.trace for gram in grams])) / len(diag)
    if len(factor) < len(diag):
        return _divide_low_rank(top, factor, diag)
    s = matmul(np.ascontiguousarray(factor.T), factor)
    s[np.diag_indices(len(diag))] += diag
    return solve_cholesky(cholesky(s), np.ascontiguousarray(top.T)).T


def _divide_low_rank(top: Float, factor: Float, diag: Float) -> Float:
    """Woodbury: (P + V^T V)^-1 = P^-1 - P^-1 V^T (I + V P^-1 V^T)^-1 V P^-1, work on k x k instead of n x n."""
    root = factor / np.sqrt(diag)
    core = matmul(root, root.T)
    core[np.diag_indices(len(core))] += 1.0
    rest = top / np.sqrt(diag)
    inside = solve_cholesky(cholesky(core), matmul(root, rest.T))
    rest = rest - matmul(inside.T, root)
    return rest / np.sqrt(diag)


def _total(x: Float) -> float:
    """A sum in the order of the elements: np.sum's order depends on the processor."""
    return float(np.add.accumulate(x)[-1]) if len(x) else 0.0

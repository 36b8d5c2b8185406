"""Merge methods that look at one position of every tensor at a time, block by block, in memory that does not grow.

Each takes the tensors as `Blocks`, goes over them once or a few times, and hands float32 blocks of the result to
`write`, in order. Three ideas are behind fifteen names: a linear combination whose coefficients come from the tensors'
inner products (linear, task arithmetic, SLERP, multi-SLERP, Karcher, model stock); differences from a base made sparse
and, perhaps, made to agree on a sign (TIES, DARE, DELLA, breadcrumbs); and a choice by variance (SCE). Results are
mergekit 0.1.5's in float32, where chance has no part. Knows numbers; has never heard of files.

    >>> blocks = Held(np.array([[2.0, 0.0], [4.0, 2.0]], np.float32), np.zeros(2, np.float32))
    >>> held(linear, blocks, [{"weight": 1.0}, {"weight": 3.0}], {"normalize": True}).tolist()
    [3.5, 1.5]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from souq.errors import Hostile, UsageError
from souq.merge import kernels
from souq.weights import Array

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Keys = NDArray[np.uint32]
Write = Callable[[F32], None]
Each = Sequence[Mapping[str, Any]]  # the parameters of each tensor
Shared = Mapping[str, Any]
Block = tuple[int, Array, Array]
"""Where it begins; the tensors' elements (T, n); the base's (n,). All bf16 bits (uint16), or all float32."""


class Blocks(Protocol):
    """T tensors of one shape and their base, read from the front as often as needed."""

    @property
    def count(self) -> int: ...  # T

    @property
    def size(self) -> int: ...  # elements

    @property
    def row(self) -> int: ...  # the length of the last axis; blocks are whole rows, or parts of one

    @property
    def keys(self) -> Keys: ...  # (T, 2): what each tensor's chance is drawn from

    def __iter__(self) -> Iterator[Block]: ...


@dataclass(frozen=True)
class Held:
    """Blocks that are in memory: tensors (T, ...) and base (...), float32."""

    tensors: F32
    base: F32
    keys: Keys = field(default_factory=lambda: np.zeros((0, 2), np.uint32))

    @property
    def count(self) -> int:
        return len(self.tensors)

    @property
    def size(self) -> int:
        return self.base.size

    @property
    def row(self) -> int:
        return self.base.shape[-1] if self.base.ndim else 1

    def __iter__(self) -> Iterator[Block]:
        yield 0, self.tensors.reshape(self.count, -1), self.base.reshape(-1)


Elementwise = Callable[[Blocks, Each, Shared, Write], None]


def held(method: Elementwise, blocks: Held, each: Each, shared: Shared) -> F32:
    """A method on what is in memory: the merged tensor, float32, in the base's shape."""
    told: list[F32] = []
    method(blocks, each, shared, lambda block: told.append(block.copy()))
    return np.concatenate(told).reshape(blocks.base.shape) if told else blocks.base


# -- linear combinations -----------------------------------------------------------------------------------------------


def linear(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """sum_t w_t x_t / sum_t w_t (model soups, arXiv 2203.05482)."""
    weights = _of(each, "weight")
    divisor = _added(weights) if shared.get("normalize", True) else 1.0
    if divisor == 0:
        raise UsageError("the weights add up to zero", hint="set `normalize: false`, or other weights")
    _combine(blocks, (weights / divisor)[None], write, based=False)


def passthrough(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """The one tensor there is, times its scale."""
    scale = each[0].get("scale")
    _combine(blocks, np.array([[1.0 if scale is None else scale]]), write, based=False)


def slerp(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """The great circle from the first tensor to the second, `t` of the way; straight where they are almost parallel."""
    (((aa, ab), (_, bb)),) = _inner_products(blocks, based=False)
    t, (a, b) = float(shared["t"]), (norm if norm > 1e-8 else 1.0 for norm in (math.sqrt(aa), math.sqrt(bb)))
    cosine = min(max(ab / (a * b), -1.0), 1.0)
    _combine(blocks, np.array([arc(t, cosine, abs(cosine) > 0.9995)]), write, based=False)


def nuslerp(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """SLERP of two tensors, or of their differences from the base, by their weights; whole or row by row."""
    first, second = _of(each, "weight")
    t = 0.5 if abs(first + second) < 1e-6 else second / (first + second)
    based, whole = bool(shared.get("based")), bool(shared.get("nuslerp_flatten", True))
    factors = []
    for (aa, ab), (_, bb) in _inner_products(blocks, based=based, by_row=not whole):
        cosine = min(max(ab / (max(math.sqrt(aa), 1e-7) * max(math.sqrt(bb), 1e-7)), -1.0), 1.0)
        factors.append(arc(t, cosine, straight(cosine)))
    _combine(blocks, np.array(factors), write, based=based)


def arc(t: float, cosine: float, flat: bool) -> tuple[float, float]:
    """How much of either end there is `t` of the way along a great circle, or along a line where `flat`."""
    if flat:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def straight(cosine: float) -> bool:
    """Whether two directions are one, or opposite, as far as float32 can tell: there a great circle is not defined."""
    told = np.float32(cosine)
    return bool(np.float32(1) - told * told <= np.float32(1e-16))


def multislerp(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Barycentric interpolation on a hypersphere: a weighted mean in the tangent space at the mean direction."""
    based, eps = bool(shared.get("based")), float(shared.get("eps", 1e-8))
    (gram,) = _inner_products(blocks, based=based)
    weights = _of(each, "weight")
    weights = weights / _added(weights) if shared.get("normalize_weights", True) else weights
    norms = np.sqrt(np.diag(gram))
    mean = weights / (norms + eps)
    length = _length(mean, gram)
    if blocks.count == 1:
        factors = np.ones(1)
    elif length < eps and (blocks.count == 2 or (based and not gram.any())):  # a layer nobody changed stays the base's
        factors = weights
    elif length < eps:
        raise UsageError("the weighted directions cancel out, so they have no mean", hint="choose other weights")
    else:
        mean = mean / length
        tangent = weights / (norms + eps) - mean * _added(weights * _dots(mean, gram) / (norms + eps))
        angle = _length(tangent, gram) + eps
        factors = mean * math.cos(angle) + tangent * (math.sin(angle) / angle)
        factors = factors * _added(norms * weights)
    _combine(blocks, factors[None], write, based=based and blocks.count > 1)


def karcher(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """The point on the unit sphere nearest to all (arXiv 2603.04972), times the mean norm."""
    (gram,) = _inner_products(blocks, based=False)
    tol = float(shared.get("tol", 1e-5))
    norms = np.sqrt(np.diag(gram))
    units = [np.eye(blocks.count)[t] / norms[t] for t in range(blocks.count) if norms[t] > tol]
    factors = np.zeros(blocks.count)
    if blocks.count == 1:
        factors = np.ones(1)
    elif units:
        point = _direction(np.add.accumulate(units)[-1] / len(units), gram, tol, units[0])
        for _ in range(int(shared.get("max_iter", 10))):
            tangent = _tangent(point, units, gram, tol)
            length = _length(tangent, gram)
            if length < tol:
                break
            point = _direction(math.cos(length) * point + math.sin(length) / length * tangent, gram, tol, point)
        factors = point * (_added(norms) / blocks.count)
    _combine(blocks, factors[None], write, based=False)


def _direction(vector: F64, gram: F64, tol: float, otherwise: F64) -> F64:
    length = _length(vector, gram)
    return vector / length if length >= tol else otherwise


def _tangent(point: F64, units: Sequence[F64], gram: F64, tol: float) -> F64:
    told = np.zeros_like(point)
    for unit in units:
        cosine = min(max(_added(unit * _dots(point, gram)), -1.0), 1.0)
        angle = math.acos(cosine)
        if angle >= tol:
            told = told + (angle / math.sin(angle)) * (unit - cosine * point) / len(units)
    return told


def model_stock(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Between the base and the mean, by how much the differences agree (arXiv 2403.19522)."""
    factors = []
    for gram in _inner_products(blocks, based=True, by_row=bool(shared.get("filter_wise"))):
        norms = np.sqrt(np.diag(gram))
        pairs = [(s, t) for s in range(blocks.count) for t in range(s + 1, blocks.count)]
        cosines = [min(max(gram[s, t] / max(norms[s] * norms[t], 1e-6), -1.0), 1.0) for s, t in pairs]
        cosine = _added(np.array(cosines)) / len(pairs)
        divisor = 1 + (blocks.count - 1) * cosine
        share = 0.0 if abs(divisor) < 1e-6 else blocks.count * cosine / divisor
        factors.append(np.full(blocks.count, share / blocks.count))
    _combine(blocks, np.array(factors), write, based=True)


def _combine(blocks: Blocks, weights: F64, write: Write, *, based: bool) -> None:
    """weights (R, T): one row of them for the whole tensor, or one for each of its rows."""
    factors, row = weights.astype(np.float32), blocks.row if len(weights) > 1 else max(blocks.size, 1)
    for at, raw, base in blocks:
        out = np.empty(raw.shape[1], np.float32)
        kernels.combine(raw, base, based, factors, row, at // row, out)
        write(out)


def _inner_products(blocks: Blocks, *, based: bool, by_row: bool = False) -> F64:
    """(R, T, T): of the whole tensors (R = 1), or of each of their rows."""
    row = blocks.row if by_row else max(blocks.size, 1)
    lanes = np.zeros((max(-(-blocks.size // row), 1), blocks.count, blocks.count, kernels.LANES))
    for at, raw, base in blocks:
        kernels.inner_products(raw, base, based, row, at // row, lanes)
    lower = np.add.accumulate(lanes, axis=-1)[..., -1]
    return np.where(np.tri(blocks.count, dtype=bool), lower, lower.swapaxes(1, 2))


def _dots(vector: F64, gram: F64) -> F64:
    """gram @ vector, in the order of the elements."""
    return np.asarray(np.add.accumulate(gram * vector, axis=1)[:, -1])


def _length(vector: F64, gram: F64) -> float:
    return math.sqrt(max(_added(vector * _dots(vector, gram)), 0.0))


# -- differences, made sparse and made to agree ------------------------------------------------------------------------


def task_arithmetic(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """base + lambda sum_t w_t d_t (arXiv 2212.04089)."""
    weights = _of(each, "weight") * float(shared.get("lambda", 1.0))
    divisor = _added(_of(each, "weight")) if shared.get("normalize", False) else 1.0
    _combine(blocks, (weights / (divisor if abs(divisor) >= 1e-8 else 1.0))[None], write, based=True)


def ties(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """The largest `density` of each difference, those of the elected sign, their weighted mean (arXiv 2306.01708)."""
    _agree(
        blocks, each, {"normalize": True, **shared}, write, _Band.largest(blocks, _of(each, "density", 1.0)), elect=True
    )


def dare_linear(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """A random `density` of each difference, scaled to its old L1 norm; their weighted sum (arXiv 2311.03099)."""
    _agree(blocks, each, {"rescale": True, **shared}, write, _Chance(_of(each, "density", 1.0)), elect=False)


def dare_ties(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """DARE, those of the elected sign alone."""
    _agree(blocks, each, {"rescale": True, **shared}, write, _Chance(_of(each, "density", 1.0)), elect=True)


def della(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """DARE with a chance that rises with the rank of the magnitude in its row; elected signs; mean (arXiv 2406.11617)."""
    _agree(blocks, each, {"rescale": True, "normalize": True, **shared}, write, _ByRank.of(each), elect=True)


def della_linear(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """DELLA without the election."""
    _agree(blocks, each, {"rescale": True, **shared}, write, _ByRank.of(each), elect=False)


def breadcrumbs(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Neither the largest `gamma` of each difference nor the smallest (arXiv 2312.06795)."""
    _agree(blocks, each, shared, write, _Band.middle(blocks, each), elect=False)


def breadcrumbs_ties(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Breadcrumbs, those of the elected sign alone."""
    _agree(blocks, each, shared, write, _Band.middle(blocks, each), elect=True)


@dataclass(frozen=True)
class _Band:
    """Keep what lies between two magnitudes; of those equal to an edge, the first ones by position."""

    low: Keys
    low_left: NDArray[np.int64]  # equals of low that stay
    high: Keys
    high_left: NDArray[np.int64]  # equals of high that go
    mode: int = 1

    @classmethod
    def largest(cls, blocks: Blocks, density: F64) -> _Band:
        kept = [blocks.size if d >= 1 else max(int(d * blocks.size), 1 if d > 0 else 0) for d in density.tolist()]
        return cls._ranked(blocks, np.zeros(blocks.count, np.int64), np.array(kept, np.int64))

    @classmethod
    def middle(cls, blocks: Blocks, each: Each) -> _Band:
        size, first, last = blocks.size, [], []
        for density, gamma in zip(_of(each, "density", 1.0).tolist(), _of(each, "gamma", 0.01).tolist(), strict=True):
            kept = size if density >= 1 else int(density * size)
            least = max(0, size - kept - int(gamma * size))
            first.append(size - kept - least)
            last.append(size - least)
        return cls._ranked(blocks, np.array(first, np.int64), np.array(last, np.int64))

    @classmethod
    def exactly(cls, blocks: Blocks, kept: int, count: int = 1) -> _Band:
        """The `kept` largest."""
        return cls._ranked(blocks, np.zeros(count, np.int64), np.full(count, kept, np.int64))

    @classmethod
    def _ranked(cls, blocks: Blocks, first: NDArray[np.int64], last: NDArray[np.int64]) -> _Band:
        """Ranks from the largest down: first <= rank < last stay."""
        count = len(first)
        everything = np.full(count, 0x7F800000, np.uint32)
        high, skipped = (everything, np.zeros_like(first)) if not first.any() else _ranks(blocks, first)
        low, below = (np.zeros(count, np.uint32), last) if (last == blocks.size).all() else _ranks(blocks, last)
        stays = np.where(last == blocks.size, np.iinfo(np.int64).max, below)
        return cls(np.where(last == blocks.size, 0, low).astype(np.uint32), stays, high, skipped)


def _ranks(blocks: Blocks, wanted: NDArray[np.int64]) -> tuple[Keys, NDArray[np.int64]]:
    """Of each tensor the magnitude (bits) at which the `wanted` largest end, and how many equal to it are among them."""
    whole = np.zeros((blocks.count, kernels.HIGH), np.int64)
    _histogram(blocks, np.full(blocks.count, -1, np.int64), whole)
    if whole[:, 0x7F80:].any():  # where the exponent of Inf and NaN lies
        raise _infinite()
    high, left = _cut(whole, wanted)
    fine = np.zeros((blocks.count, kernels.LOW), np.int64)
    _histogram(blocks, high, fine)
    low, left = _cut(fine, left)
    return (high << 16 | low).astype(np.uint32), left


def _histogram(blocks: Blocks, high: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    for _, raw, base in blocks:
        kernels.histogram(raw, base, high, counts)


def _cut(counts: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bin, counted from the top, in which the wanted-th lies, and how many are still wanted there."""
    above = np.add.accumulate(counts[:, ::-1], axis=1)
    index = np.argmax(above >= np.maximum(wanted, 1)[:, None], axis=1)
    bins = counts.shape[1] - 1 - index
    each = np.arange(len(counts))
    return bins, wanted - (above[each, index] - counts[each, bins])


@dataclass(frozen=True)
class _Chance:
    """Keep each element with a chance, drawn from the tensor's key and the element's position."""

    density: F64
    mode: int = 2


@dataclass(frozen=True)
class _ByRank:
    """Keep each element with a chance that rises with its rank in the row, by epsilon up and down."""

    density: F64
    epsilon: F64
    mode: int = 3

    @classmethod
    def of(cls, each: Each) -> _ByRank | _Chance:
        density, epsilon = _of(each, "density", 1.0), _of(each, "epsilon", 0.15)
        inside = (density + epsilon < 1) & (density - epsilon > 0)
        if not (inside | (density >= 1) | (density <= 0)).all():
            raise UsageError("density ± epsilon must lie between 0 and 1", hint="lower epsilon")
        return cls(density, np.where(inside, epsilon, 0.0))


def _agree(
    blocks: Blocks, each: Each, shared: Shared, write: Write, rule: _Band | _Chance | _ByRank, *, elect: bool
) -> None:
    weights = _of(each, "weight").astype(np.float32)
    scales = np.ones(blocks.count, np.float32)
    if shared.get("rescale", False):
        before, after = _sizes(blocks, rule)
        small = (before < 1e-7) | (after < 1e-7)
        scales = np.where(small, 1.0, before / np.where(small, 1.0, after)).astype(np.float32)
    scale, normalise = np.float32(shared.get("lambda", 1.0)), bool(shared.get("normalize", False))
    # Chance could drop a NaN unseen; nothing else measures what it leaves out.
    unseen = isinstance(rule, _Chance | _ByRank) and not shared.get("rescale", False)
    lanes = np.zeros((blocks.count, 2, kernels.LANES)) if unseen else None
    for _, base, kept in _sparse(blocks, rule, lanes):
        out = np.empty(kept.shape[1], np.float32)
        kernels.agree(kept, base, weights, scales, weights, elect, normalise, scale, out)
        write(out)
    if lanes is not None:
        _refuse_infinite(lanes)


def _sizes(blocks: Blocks, rule: _Band | _Chance | _ByRank) -> tuple[F64, F64]:
    """The L1 norms (T,) of the differences, and of what the rule keeps of them."""
    lanes = np.zeros((blocks.count, 2, kernels.LANES))
    for _ in _sparse(blocks, rule, lanes):
        pass
    _refuse_infinite(lanes)
    told = np.add.accumulate(lanes, axis=-1)[..., -1]
    return told[:, 0], told[:, 1]


def _refuse_infinite(lanes: F64) -> None:
    if not np.isfinite(lanes).all():
        raise _infinite()


def _infinite() -> Hostile:
    return Hostile("a model holds NaN or Inf", hint="leave it out, or get it again")


def _sparse(blocks: Blocks, rule: _Band | _Chance | _ByRank, lanes: F64 | None) -> Iterator[tuple[int, Array, F32]]:
    """Every block's position, base, and kept differences (T, n); `lanes` (T, 2, LANES) gathers the norms."""
    count = blocks.count
    band = rule if isinstance(rule, _Band) else None
    low, high = (band.low, band.high) if band else (np.zeros(count, np.uint32),) * 2
    low_left, high_left = (band.low_left.copy(), band.high_left.copy()) if band else (np.zeros(count, np.int64),) * 2
    chance = np.zeros(count) if isinstance(rule, _Band) else rule.density
    epsilon = rule.epsilon if isinstance(rule, _ByRank) else np.zeros(count)
    into = np.zeros((count, 2, kernels.LANES)) if lanes is None else lanes
    held = np.empty((count, 0), np.float32)
    for at, raw, base in blocks:
        if held.shape[1] < raw.shape[1]:
            held = np.empty(raw.shape, np.float32)
        kept = held[:, : raw.shape[1]]
        kernels.sparsify(
            raw, base, at, blocks.row, rule.mode, low, low_left, high, high_left, blocks.keys, chance, epsilon,
            lanes is not None, kept, into,
        )  # fmt: skip
        yield at, base, kept


# -- a choice by variance ----------------------------------------------------------------------------------------------


def sce(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Positions of the largest variance; weights from the squares there; elected signs (arXiv 2408.07990)."""
    squares = np.zeros((1, blocks.count, blocks.count, kernels.LANES))
    topk = float(shared.get("select_topk", 1.0))
    varied = _Variance(blocks)
    nonzero = 0 if topk >= 1 else sum(int(np.count_nonzero(raw)) for _, raw, _ in varied)
    # In float32, as mergekit counts: 10 * 0.7 are 7 there, and 6 in float64.
    band = _Band.exactly(varied, blocks.size if topk >= 1 else int(np.float32(nonzero) * np.float32(max(topk, 0))))
    for kept, _ in _chosen(blocks, varied, band):
        kernels.inner_products(kept, kept[0], False, max(kept.shape[1], 1), 0, squares)
    sizes = np.diag(np.add.accumulate(squares, axis=-1)[0, ..., -1]) / max(blocks.size, 1)
    total = _added(sizes)
    weights = (np.full(blocks.count, 1 / blocks.count) if abs(total) < 1e-6 else sizes / total).astype(np.float32)
    ones = np.ones(blocks.count, np.float32)
    for kept, base in _chosen(blocks, varied, band):
        out = np.empty(kept.shape[1], np.float32)
        kernels.agree(kept, base, weights, ones, ones, True, True, np.float32(1), out)
        write(out)


@dataclass(frozen=True)
class _Variance:
    """Blocks of one tensor: the variance of the differences at each position."""

    of: Blocks
    count: int = 1
    keys: Keys = field(default_factory=lambda: np.zeros((1, 2), np.uint32))

    @property
    def size(self) -> int:
        return self.of.size

    @property
    def row(self) -> int:
        return self.of.row

    def __iter__(self) -> Iterator[Block]:
        for at, raw, base in self.of:
            told = np.empty((1, raw.shape[1]), np.float32)
            kernels.variance(raw, base, told[0])
            yield at, told, np.zeros(raw.shape[1], np.float32)


def _chosen(blocks: Blocks, varied: _Variance, band: _Band) -> Iterator[tuple[F32, Array]]:
    """The differences (T, n) where the variance is in the band, zero elsewhere, and the base (n,)."""
    everything = _Band.exactly(varied, blocks.size, blocks.count)
    for (_, base, kept), (_, _, spread) in zip(
        _sparse(blocks, everything, None), _sparse(varied, band, None), strict=True
    ):
        yield kept * (spread != 0) if band.low_left[0] < blocks.size else kept, base


def _of(each: Each, key: str, default: float = 1.0) -> F64:
    return np.array([float(default if (value := told.get(key)) is None else value) for told in each])


def _added(x: F64) -> float:
    """A sum in the order of the elements: np.sum's order depends on the processor."""
    return float(np.add.accumulate(x)[-1]) if len(x) else 0.0


ELEMENTWISE: dict[str, Elementwise] = {
    "linear": linear, "passthrough": passthrough, "slerp": slerp, "nuslerp": nuslerp, "multislerp": multislerp,
    "karcher": karcher, "model_stock": model_stock, "task_arithmetic": task_arithmetic, "ties": ties,
    "dare_linear": dare_linear, "dare_ties": dare_ties, "della": della, "della_linear": della_linear,
    "breadcrumbs": breadcrumbs, "breadcrumbs_ties": breadcrumbs_ties, "sce": sce,
}  # fmt: skip

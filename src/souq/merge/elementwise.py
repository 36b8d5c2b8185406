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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from souq.errors import Hostile, UsageError
from souq.merge import kernels
from souq.merge.exact import added
from souq.merge.kernels import Thinning, Weighting
from souq.weights.delta import Array

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Keys = NDArray[np.uint32]
Counts = NDArray[np.int64]
Write = Callable[[F32], None]
Each = Sequence[Mapping[str, Any]]  # the parameters of each tensor
Shared = Mapping[str, Any]
Block = tuple[int, Array, Array]
"""Where it begins; the tensors' elements (T, n); the base's (n,). All bits of bf16 (uint16) or float32 (uint32)."""


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

    def sample(self, count: int) -> tuple[Array, Array]: ...  # about so many elements (T, n), (n,) from all over

    def __iter__(self) -> Iterator[Block]: ...


def spread(size: int, count: int, run: int) -> NDArray[np.int64]:
    """Where runs of `run` elements, `count` in all, begin in a tensor: evenly, and never always in the same columns.

    int64 (count // run,), rising, for a tensor of `size` elements.
    """
    step = size * run // count
    number = np.arange(count // run)
    return number * step + number * 2654435761 % (step - run + 1)


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

    def sample(self, count: int) -> tuple[Array, Array]:
        return sampled(*next(iter(self))[1:], count)

    def __iter__(self) -> Iterator[Block]:
        yield 0, self.tensors.reshape(self.count, self.size).view(np.uint32), self.base.reshape(-1).view(np.uint32)


def sampled(words: Array, base: Array, count: int, run: int = 16) -> tuple[Array, Array]:
    """About `count` elements of a block that is in memory, in runs of `run` that lie side by side.

    words (T, n) and base (n,), uint16 or uint32, as (T, k) and (k,); all of them where there are no more.
    """
    if len(base) <= max(count, run):
        return words, base
    places = (spread(len(base), max(count, run), run)[:, None] + np.arange(run)).reshape(-1)
    return words[:, places], base[places]


_SAMPLE = 1 << 13  # elements of a tensor that are looked at before it is gone over
_INFINITE = np.uint32(0x7F800000)
_BEYOND = np.uint32(0x7FFFFFFF)  # a magnitude that no other exceeds, NaN or not
_ENDLESS = np.iinfo(np.int64).max

Elementwise = Callable[[Blocks, Each, Shared, Write], None]


def held(method: Elementwise, blocks: Held, each: Each, shared: Shared) -> F32:
    """A method on what is in memory: the merged tensor, float32, in the base's shape."""
    parts: list[F32] = []
    method(blocks, each, shared, lambda block: parts.append(block.copy()))
    return np.concatenate(parts).reshape(blocks.base.shape) if parts else blocks.base


# -- linear combinations -----------------------------------------------------------------------------------------------


def linear(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """sum_t w_t x_t / sum_t w_t (model soups, arXiv 2203.05482).

    Raises:
        UsageError: the weights add up to zero.
    """
    weights = _settings(each, "weight")
    divisor = added(weights) if shared.get("normalize", True) else 1.0
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
    first, second = _settings(each, "weight")
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
    narrow = np.float32(cosine)
    return bool(np.float32(1) - narrow * narrow <= np.float32(1e-16))


def multislerp(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Barycentric interpolation on a hypersphere: a weighted mean in the tangent space at the mean direction.

    Raises:
        UsageError: the weighted directions cancel out.
    """
    based, eps = bool(shared.get("based")), float(shared.get("eps", 1e-8))
    (gram,) = _inner_products(blocks, based=based)
    weights = _settings(each, "weight")
    weights = weights / added(weights) if shared.get("normalize_weights", True) else weights
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
        tangent = weights / (norms + eps) - mean * added(weights * _dots(mean, gram) / (norms + eps))
        angle = _length(tangent, gram) + eps
        factors = mean * math.cos(angle) + tangent * (math.sin(angle) / angle)
        factors = factors * added(norms * weights)
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
        factors = point * (added(norms) / blocks.count)
    _combine(blocks, factors[None], write, based=False)


def _direction(vector: F64, gram: F64, tol: float, otherwise: F64) -> F64:
    length = _length(vector, gram)
    return vector / length if length >= tol else otherwise


def _tangent(point: F64, units: Sequence[F64], gram: F64, tol: float) -> F64:
    tangent = np.zeros_like(point)
    for unit in units:
        cosine = min(max(added(unit * _dots(point, gram)), -1.0), 1.0)
        angle = math.acos(cosine)
        if angle >= tol:
            tangent = tangent + (angle / math.sin(angle)) * (unit - cosine * point) / len(units)
    return tangent


def model_stock(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Between the base and the mean, by how much the differences agree (arXiv 2403.19522)."""
    factors = []
    for gram in _inner_products(blocks, based=True, by_row=bool(shared.get("filter_wise"))):
        norms = np.sqrt(np.diag(gram))
        pairs = [(s, t) for s in range(blocks.count) for t in range(s + 1, blocks.count)]
        cosines = [min(max(gram[s, t] / max(norms[s] * norms[t], 1e-6), -1.0), 1.0) for s, t in pairs]
        cosine = added(np.array(cosines)) / len(pairs)
        divisor = 1 + (blocks.count - 1) * cosine
        share = 0.0 if abs(divisor) < 1e-6 else blocks.count * cosine / divisor
        factors.append(np.full(blocks.count, share / blocks.count))
    _combine(blocks, np.array(factors), write, based=True)


def _combine(blocks: Blocks, weights: F64, write: Write, *, based: bool) -> None:
    """weights (R, T): one row of them for the whole tensor, or one for each of its rows."""
    factors, row = weights.astype(np.float32), blocks.row if len(weights) > 1 else max(blocks.size, 1)
    for at, words, base in blocks:
        out = np.empty(len(base), np.float32)
        kernels.combine(words, base, based, factors, row, at // row, out)
        write(out)


def _inner_products(blocks: Blocks, *, based: bool, by_row: bool = False) -> F64:
    """(R, T, T): of the whole tensors (R = 1), or of each of their rows."""
    row = blocks.row if by_row else max(blocks.size, 1)
    lanes = np.zeros((max(-(-blocks.size // row), 1), blocks.count, blocks.count, kernels.LANES))
    for at, words, base in blocks:
        kernels.inner_products(words, base, based, row, at, lanes)
    lower = np.add.accumulate(lanes, axis=-1)[..., -1]
    return np.where(np.tri(blocks.count, dtype=bool), lower, lower.swapaxes(1, 2))


def _dots(vector: F64, gram: F64) -> F64:
    """gram @ vector, in the order of the elements."""
    return np.asarray(np.add.accumulate(gram * vector, axis=1)[:, -1])


def _length(vector: F64, gram: F64) -> float:
    return math.sqrt(max(added(vector * _dots(vector, gram)), 0.0))


# -- differences, made sparse and made to agree ------------------------------------------------------------------------


def task_arithmetic(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """base + lambda sum_t w_t d_t (arXiv 2212.04089)."""
    weights = _settings(each, "weight") * float(shared.get("lambda", 1.0))
    divisor = added(_settings(each, "weight")) if shared.get("normalize", False) else 1.0
    _combine(blocks, (weights / (divisor if abs(divisor) >= 1e-8 else 1.0))[None], write, based=True)


def _sparse(rule: Callable[[Blocks, Each], Thinning], *, elect: bool = False, **defaults: bool) -> Elementwise:
    """base + lambda sum_t w_t s_t d_t over what a rule leaves of each difference d_t.

    Where `elect`, only those of the elected sign count. `rescale` (s_t) gives what is left of a difference its old L1
    norm; `normalize` divides by the weights that took part.
    """

    def method(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
        _agree(blocks, each, defaults | dict(shared), write, rule, elect=elect)

    return method


def _between(blocks: Blocks, low: tuple[Keys, Counts], high: tuple[Keys, Counts]) -> Thinning:
    """What stays lies between two magnitudes, each (T,) with how many equal to it stay (low) or go (high)."""
    none, ranks = np.zeros(blocks.count), np.empty((blocks.count, 0), np.int32)
    return Thinning(kernels.BAND, *low, *high, blocks.keys, none, none, blocks.row, ranks)


def _by_chance(blocks: Blocks, mode: int, chance: F64, epsilon: F64) -> Thinning:
    """What stays is drawn; chance and epsilon are (T,)."""
    none, left = np.zeros(blocks.count, np.uint32), np.zeros(blocks.count, np.int64)
    ranks = np.empty((blocks.count, 0), np.int32)
    return Thinning(mode, none, left, none, left, blocks.keys, chance, epsilon, blocks.row, ranks)


def _thinned(blocks: Iterable[Block], thinning: Thinning) -> Iterator[tuple[Array, Array, int, Thinning]]:
    """Every block's elements, its base, where it begins, and what stays of it; the equals are counted on."""
    thinning = thinning._replace(low_left=thinning.low_left.copy(), high_left=thinning.high_left.copy())
    for at, words, base in blocks:
        if thinning.mode == kernels.BY_RANK:
            thinning = thinning._replace(ranks=_ranks_in_rows(words, base, thinning.row))
        yield words, base, at, thinning


def _largest(blocks: Blocks, each: Each) -> Thinning:
    """Of each difference its share `density`, one element at least."""
    size, densities = blocks.size, _settings(each, "density", 1.0).tolist()
    kept = [size if d >= 1 else max(int(d * size), 1 if d > 0 else 0) for d in densities]
    return _ranked(blocks, [0] * len(kept), kept)


def _middle(blocks: Blocks, each: Each) -> Thinning:
    """Of each difference its share `density`, after its share `gamma` of the largest."""
    size, first, last = blocks.size, [], []
    for density, gamma in zip(
        _settings(each, "density", 1.0).tolist(), _settings(each, "gamma", 0.01).tolist(), strict=True
    ):
        kept = size if density >= 1 else int(density * size)
        least = max(0, size - kept - int(gamma * size))
        first.append(size - kept - least)
        last.append(size - least)
    return _ranked(blocks, first, last)


def _random(blocks: Blocks, each: Each) -> Thinning:
    """Of each difference a random share `density`."""
    return _by_chance(blocks, kernels.CHANCE, _settings(each, "density", 1.0), np.zeros(len(each)))


def _by_rank(blocks: Blocks, each: Each) -> Thinning:
    """Each element with a chance that rises with its magnitude's rank in the row, within `epsilon` of `density`."""
    density, epsilon = _settings(each, "density", 1.0), _settings(each, "epsilon", 0.15)
    inside = (density + epsilon < 1) & (density - epsilon > 0)
    if not (inside | (density >= 1) | (density <= 0)).all():
        raise UsageError("density ± epsilon must lie between 0 and 1", hint="lower epsilon")
    return _by_chance(blocks, kernels.BY_RANK, density, np.where(inside, epsilon, 0.0))


def _agree(
    blocks: Blocks, each: Each, shared: Shared, write: Write, rule: Callable[[Blocks, Each], Thinning], *, elect: bool
) -> None:
    weights = _settings(each, "weight").astype(np.float32)
    everyone = np.float32(added(weights))
    changed = _changed(blocks)
    if not changed.all():  # zeros add nothing, and the rest is quicker without them
        blocks, weights = _some(blocks, changed), weights[changed]
        each = [parameters for parameters, differs in zip(each, changed, strict=True) if differs]
    thinning, scales = rule(blocks, each), np.ones(blocks.count, np.float32)
    if shared.get("rescale", False):
        before, after = _sizes(blocks, thinning)
        small = (before < 1e-7) | (after < 1e-7)
        scales = np.where(small, 1.0, before / np.where(small, 1.0, after)).astype(np.float32)
    scale, normalise = np.float32(shared.get("lambda", 1.0)), bool(shared.get("normalize", False))
    _write_agreed(blocks, thinning, Weighting(scales, weights, weights, everyone, elect, normalise, scale), write)


def _write_agreed(blocks: Iterable[Block], thinning: Thinning, weighting: Weighting, write: Write) -> None:
    for words, base, at, rest in _thinned(blocks, thinning):
        out = np.empty(len(base), np.float32)
        if not kernels.agree(words, base, at, rest, weighting, out):
            raise _infinite()
        write(out)


@dataclass(frozen=True)
class _View:
    """Blocks made of others': of `count` tensors, by what `make` makes of the elements (T, n) and the base (n,)."""

    of: Blocks
    count: int
    keys: Keys
    make: Callable[[Array, Array], tuple[Array, Array]]

    @property
    def size(self) -> int:
        return self.of.size

    @property
    def row(self) -> int:
        return self.of.row

    def sample(self, count: int) -> tuple[Array, Array]:
        return self.make(*self.of.sample(count))

    def __iter__(self) -> Iterator[Block]:
        for at, words, base in self.of:
            yield at, *self.make(words, base)


def _some(blocks: Blocks, those: NDArray[np.bool_]) -> Blocks:
    keys = blocks.keys[those] if len(blocks.keys) else blocks.keys
    return _View(blocks, int(np.count_nonzero(those)), keys, lambda words, base: (words[those], base))


def _changed(blocks: Blocks) -> NDArray[np.bool_]:
    """Which tensors (T,) differ from the base at all; the first block tells, unless a layer was frozen."""
    changed = np.zeros(blocks.count, np.bool_)
    for _, words, base in blocks:
        changed |= (words != base).any(axis=1)
        if changed.all():
            break
    return changed


def _sizes(blocks: Blocks, thinning: Thinning) -> tuple[F64, F64]:
    """The L1 norms (T,) of the differences, and of what stays of them."""
    lanes = np.zeros((blocks.count, 2, kernels.LANES))
    for words, base, at, rest in _thinned(blocks, thinning):
        kernels.sizes(words, base, at, rest, lanes)
    if not np.isfinite(lanes).all():
        raise _infinite()
    sums = np.add.accumulate(lanes, axis=-1)[..., -1]
    return sums[:, 0], sums[:, 1]


def _infinite() -> Hostile:
    return Hostile("a model holds NaN or Inf", hint="leave it out, or get it again")


# -- order -------------------------------------------------------------------------------------------------------------


def _ranked(blocks: Blocks, first: Sequence[int], last: Sequence[int]) -> Thinning:
    """Of each difference the ranks first <= rank < last, from the largest down."""
    high = _ranks(blocks, np.array(first, np.int64))
    low, below = _ranks(blocks, np.array([n if n < blocks.size else 0 for n in last], np.int64))
    whole = np.array(last, np.int64) == blocks.size
    return _between(blocks, (np.where(whole, 0, low).astype(np.uint32), np.where(whole, _ENDLESS, below)), high)


def _ranks(blocks: Blocks, wanted: Counts) -> tuple[Keys, Counts]:
    """Of each tensor the magnitude (bits) at which the `wanted` largest end, and how many equal to it are among them.

    A sample says about where that is, one pass what is so; where the sample was misleading, two passes of counting.
    """
    value, left = np.full(len(wanted), _BEYOND, np.uint32), np.zeros(len(wanted), np.int64)
    if not wanted.any():
        return value, left
    low, high, room = _guess(blocks, wanted)
    counts, inside = np.zeros((blocks.count, 4), np.int64), np.empty((blocks.count, room), np.uint32)
    for _, words, base in blocks:
        kernels.bracket(words, base, low, high, counts, inside)
    missed = np.zeros(len(wanted), np.bool_)
    for t, (above, highs, between, lows) in enumerate(counts.tolist()):
        rank = int(wanted[t]) - above
        if wanted[t] == 0:
            continue
        if 0 < rank <= highs:
            value[t], left[t] = high[t], rank
        elif between <= room and highs < rank <= highs + between:
            some = inside[t, :between]
            value[t] = np.partition(some, between - (rank - highs))[between - (rank - highs)]
            left[t] = rank - highs - np.count_nonzero(some > value[t])
        elif between <= room and highs + between < rank <= highs + between + lows:
            value[t], left[t] = low[t], rank - highs - between
        else:
            missed[t] = True
    if missed.any():
        counted = _ranks_by_counting(blocks, wanted)
        value, left = np.where(missed, counted[0], value), np.where(missed, counted[1], left)
    return value, left


def _guess(blocks: Blocks, wanted: Counts) -> tuple[Keys, Keys, int]:
    """Of each tensor two magnitudes, the first less than the second, between which the wanted-th should lie.

    And how many elements lie between them, at most, if all goes well.
    """
    words, base = blocks.sample(min(max(_SAMPLE, blocks.size >> 8), 1 << 18))
    sizes = np.empty(words.shape, np.uint32)
    kernels.differences(words, base, sizes)
    n = len(base)
    low, high, widest = np.zeros(len(wanted), np.uint32), np.full(len(wanted), _BEYOND, np.uint32), 0.0
    for t, share in enumerate((wanted / blocks.size).tolist()):
        margin = 0.0 if n == blocks.size else 3 * math.sqrt(n * share * (1 - share)) + 2
        first, last = int((1 - share) * n - margin) - 1, int((1 - share) * n + margin) + 1
        edges = np.partition(sizes[t], [max(first, 0), min(last, n - 1)])
        high[t] = _BEYOND if last >= n else max(edges[last], 1)
        low[t] = 0 if first < 0 else min(edges[first], high[t] - 1)
        widest = max(widest, (last - first) / n)
    return low, high, min(int(1.5 * widest * blocks.size) + _SAMPLE, blocks.size)


def _ranks_by_counting(blocks: Blocks, wanted: Counts) -> tuple[Keys, Counts]:
    """`_ranks`, exact for all numbers there are: count by the upper bits, then within one bin by the lower."""
    high, low, left = np.full(blocks.count, -1, np.int64), np.zeros(blocks.count, np.int64), wanted.copy()
    whole, fine = (np.zeros((blocks.count, bins), np.int64) for bins in (kernels.HIGH, kernels.LOW))
    for _, words, base in blocks:
        kernels.histogram(words, base, high, whole)
    kernels.cut(whole, left, high)
    for _, words, base in blocks:
        kernels.histogram(words, base, high, fine)
    kernels.cut(fine, left, low)
    return (high << 16 | low).astype(np.uint32), left


def _ranks_in_rows(words: Array, base: Array, row: int) -> NDArray[np.int32]:
    """(T, n): each difference's rank in its row, from the smallest up, equals in the order of their places."""
    sizes = np.empty(words.shape, np.uint32)
    kernels.differences(words, base, sizes)
    keys = sizes.reshape(len(words), len(base) // row, row).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(row, dtype=np.uint64)
    keys.sort(axis=-1)
    ranks = np.empty(keys.shape, np.int32)
    order = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    np.put_along_axis(ranks, order, np.arange(row, dtype=np.int32)[None, None], axis=-1)
    return ranks.reshape(words.shape)


# -- a choice by variance ----------------------------------------------------------------------------------------------


def sce(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Positions of the largest variance; weights from the squares there; elected signs (arXiv 2408.07990)."""
    topk, kept = float(shared.get("select_topk", 1.0)), blocks.size
    varied = _View(blocks, 1, blocks.keys, _variance)
    if topk < 1:
        nonzero = sum(int(np.count_nonzero(words)) for _, words, _ in varied)
        kept = int(np.float32(nonzero) * np.float32(max(topk, 0)))  # as mergekit counts: 10 * 0.7 are 7, in float64 6
    band = _ranked(varied, [0], [kept])
    squares = np.zeros((1, blocks.count, blocks.count, kernels.LANES))
    for at, words, base in _chosen(blocks, band):
        kernels.inner_products(words, base, True, max(blocks.size, 1), at, squares)
    sizes = np.diag(np.add.accumulate(squares, axis=-1)[0, ..., -1]) / max(blocks.size, 1)
    total = added(sizes)
    weights = (np.full(blocks.count, 1 / blocks.count) if abs(total) < 1e-6 else sizes / total).astype(np.float32)
    ones, whole = np.ones(blocks.count, np.float32), np.float32(1)
    every = _by_chance(blocks, kernels.EVERY, sizes, sizes)
    _write_agreed(_chosen(blocks, band), every, Weighting(ones, weights, ones, whole, True, True, whole), write)


def _chosen(blocks: Blocks, band: Thinning) -> Iterator[Block]:
    """The tensors where their variance is in a band, the base elsewhere."""
    low, left = band.low[0], int(band.low_left[0])
    for at, words, base in blocks:
        if left < blocks.size:
            sizes = _variance(words, base)[0][0]
            if (sizes >= _INFINITE).any():  # also where it would not be chosen
                raise _infinite()
            equals = sizes == low
            stays = (sizes > low) | (equals & (np.cumsum(equals) <= left))
            left = max(left - int(np.count_nonzero(equals)), 0)
            words = np.where(stays & (sizes != 0), words, base)
        yield at, words, base


def _variance(words: Array, base: Array) -> tuple[Array, Array]:
    """As a block of one tensor, and zeros for its base."""
    variance = np.empty((1, len(base)), np.float32)
    kernels.variance(words, base, variance[0])
    return variance.view(np.uint32), np.zeros(len(base), np.uint32)


def _settings(each: Each, key: str, default: float = 1.0) -> F64:
    """One setting of each tensor (T,)."""
    return np.array([float(default if (value := own.get(key)) is None else value) for own in each])


ELEMENTWISE: dict[str, Elementwise] = {
    "linear": linear, "passthrough": passthrough, "slerp": slerp, "nuslerp": nuslerp, "multislerp": multislerp,
    "karcher": karcher, "model_stock": model_stock, "task_arithmetic": task_arithmetic, "sce": sce,
    "ties": _sparse(_largest, elect=True, normalize=True),  # arXiv 2306.01708
    "dare_linear": _sparse(_random, rescale=True),  # arXiv 2311.03099
    "dare_ties": _sparse(_random, elect=True, rescale=True),
    "della": _sparse(_by_rank, elect=True, rescale=True, normalize=True),  # arXiv 2406.11617
    "della_linear": _sparse(_by_rank, rescale=True),
    "breadcrumbs": _sparse(_middle),  # arXiv 2312.06795
    "breadcrumbs_ties": _sparse(_middle, elect=True),
}  # fmt: skip

"""Merge methods that weigh every position, or every column, by itself: NearSwap, RAM, NuSLERP down the columns.

Each is one or two passes over `Blocks` in numpy: element-wise IEEE operations in float32, sums in float64 in the order
of the rows, so the bits are fixed. Results are mergekit 0.1.5's in float32. Knows numbers; has never heard of files.

    >>> blocks = Held(np.array([[2.0, 0.5]], np.float32), np.zeros(2, np.float32))
    >>> held(nearswap, blocks, [{}], {"t": 0.5}).tolist()  # what moved by t or less is taken whole
    [0.5, 0.5]
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from souq.merge.elementwise import F32, Blocks, Each, Elementwise, Shared, Write, arc, straight
from souq.merge.elementwise import nuslerp as nuslerp_whole
from souq.weights.delta import Array


def nearswap(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Towards the other model by t / |d|, all the way where |d| <= t (QuartetAnemoi-70B-t0.0001's card)."""
    t = np.float32(shared["t"])
    for _, base, ((change,), (other,)) in _changes(blocks):
        share = np.clip(np.reciprocal(np.maximum(np.abs(change), np.float32(1e-6))) * t, 0, 1).astype(np.float32)
        write(share * other + (1 - share) * base)


def ram(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """Where one model alone moved by more than epsilon its change; where several did, their mean (arXiv 2601.13572)."""
    _share_out(blocks, np.float32(shared.get("epsilon", 1e-5)), np.ones(blocks.count, np.float32), write)


def ramplus_tl(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """RAM, with what is a model's own raised by 1 + r min(shared / own, alpha), positions counted in this tensor."""
    epsilon = float(shared.get("epsilon", 1e-5))
    both, own = np.zeros(blocks.count, np.int64), np.zeros(blocks.count, np.int64)
    for _, _, (changes, _) in _changes(blocks):
        moved = np.abs(changes) > np.float32(epsilon)
        alone = np.count_nonzero(moved, axis=0) == 1
        both += np.count_nonzero(moved & ~alone, axis=1)
        own += np.count_nonzero(moved & alone, axis=1)
    rho = both.astype(np.float32) / np.maximum(own.astype(np.float32), np.float32(epsilon))
    raised = 1 + np.float32(shared.get("r", 0.1)) * np.clip(rho, 0, np.float32(shared.get("alpha", 0.2)))
    _share_out(blocks, np.float32(epsilon), raised.astype(np.float32), write)


def _share_out(blocks: Blocks, epsilon: np.float32, raised: F32, write: Write) -> None:
    for _, base, (changes, _) in _changes(blocks):
        moved = np.abs(changes) > epsilon
        count = np.count_nonzero(moved, axis=0)
        total = np.zeros(len(base), np.float32)
        for t in range(blocks.count):
            share = np.where(count > 1, changes[t] / np.maximum(count, 1).astype(np.float32), changes[t] * raised[t])
            total += np.where(moved[t], share, np.float32(0))
        # A NaN moves nowhere, as comparisons go: it must not vanish.
        write(base + (total if np.isfinite(changes).all() else np.float32(np.nan)))


def nuslerp(blocks: Blocks, each: Each, shared: Shared, write: Write) -> None:
    """NuSLERP; with `nuslerp_row_wise`, and not flattened, along the first axis: each column is turned by itself."""
    if shared.get("nuslerp_flatten", True) or not shared.get("nuslerp_row_wise", False):
        return nuslerp_whole(blocks, each, shared, write)
    shape = shared.get("shape", (blocks.size // max(blocks.row, 1), blocks.row))
    columns, based = max(math.prod(shape[1:]), 1), bool(shared.get("based"))
    products = np.zeros((3, columns))
    for at, base, (changes, tensors) in _changes(blocks):
        first, second = (changes if based else tensors).astype(np.float64)
        for i, j in _runs(at, len(base), columns):
            to = slice((at + i) % columns, (at + i) % columns + j - i)
            products[0, to] += first[i:j] * first[i:j]
            products[1, to] += first[i:j] * second[i:j]
            products[2, to] += second[i:j] * second[i:j]
    left, right = (float(own["weight"]) for own in each)
    t = 0.5 if abs(left + right) < 1e-6 else right / (left + right)
    factors = np.array([_turn(t, *column) for column in products.T.tolist()], np.float32).T
    for at, base, (changes, tensors) in _changes(blocks):
        first, second = changes if based else tensors
        where = (at + np.arange(len(base))) % columns
        turned = factors[0, where] * first + factors[1, where] * second
        write(base + turned if based else turned)
    return None


def _turn(t: float, aa: float, ab: float, bb: float) -> tuple[float, float]:
    cosine = min(max(ab / (max(math.sqrt(aa), 1e-7) * max(math.sqrt(bb), 1e-7)), -1.0), 1.0)
    return arc(t, cosine, straight(cosine))


def _runs(at: int, count: int, columns: int) -> Iterator[tuple[int, int]]:
    """The block's parts that lie each within one row of `columns`."""
    start = 0
    while start < count:
        stop = min(start + columns - (at + start) % columns, count)
        yield start, stop
        start = stop


def _changes(blocks: Blocks) -> Iterator[tuple[int, F32, tuple[F32, F32]]]:
    """Of every block: where it begins, the base (n,), and the tensors (T, n) minus it and as they are; float32."""
    for at, words, base in blocks:
        tensors, under = _wide(words), _wide(base)
        yield at, under, (tensors - under, tensors)


def _wide(words: Array) -> F32:
    return (words if words.dtype == np.uint32 else words.astype(np.uint32) << np.uint32(16)).view(np.float32)


POSITIONAL: dict[str, Elementwise] = {"nearswap": nearswap, "ram": ram, "ramplus_tl": ramplus_tl, "nuslerp": nuslerp}

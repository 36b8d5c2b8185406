"""Linear algebra that gives the same bits on every machine, in every order of threads, with every BLAS.

BLAS libraries add in different orders, so their products differ in the last bits. Here every operand is first cut
into slices of small integers; the products of the slices are exact in float64, whatever the order of addition, and
what remains are element-wise IEEE operations in a written order (the idea is that of Ozaki, Ogita, Oishi and Rump,
"Error-free transformations of matrix multiplication by using fast routines of matrix multiplication", 2012).

    >>> a = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> bool(np.allclose(matmul(a, a), a @ a, rtol=1e-12))
    True
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from souq.weights.delta import DTYPES

Float = NDArray[np.float64]

_DEPTH = 2048  # the longest sum of products of slices that stays exact
_BITS = 21  # of each slice: 2 * 21 + log2(2048) = 53 bits, what a float64 holds exactly
_SMALL = 48  # a matrix this small is factored element by element


def matmul(a: Float, b: Float, *, slices: int = 2) -> Float:
    """a (m, k) @ b (k, n), float64 (m, n), bits fixed.

    To about 41 bits of each row's and column's largest entry with two slices; to about 21 with one, in a third of the
    time.
    """
    if slices == 1:
        (high, unit), (other, its) = _integers(a, 1), _integers(b, 0)
        return _scaled(_summed(high, other), unit, its)
    total = _product(a[:, :_DEPTH], b[:_DEPTH])
    for start in range(_DEPTH, a.shape[1], _DEPTH):
        total += _product(a[:, start : start + _DEPTH], b[start : start + _DEPTH])
    return total


def gram(a: Float) -> Float:
    """a (m, k) @ a^T, float64 (m, m), the bits of `matmul(a, a.T, slices=1)`: BLAS computes one half of it."""
    x, unit = _integers(a, 1)
    return _scaled(_summed(x, x.T), unit, unit.T)


def inner(left: Float | None, right: Float, left2: Float | None, right2: Float) -> float:
    """<left @ right, left2 @ right2>, the sum of products of two matrices' elements, with the same bits everywhere.

    left (m, r) and right (r, n) in float64; where a left is None, its right is the whole array, of any shape. Of low
    ranks neither product is built: <L R, L' R'> is the sum of (L^T L') * (R R'^T), of r x r' numbers.
    """
    if left is not None and left2 is not None:
        return float(np.sum(matmul(left.T, left2) * matmul(right, right2.T)))
    if left is not None:
        return float(np.sum(left * matmul(right2, right.T)))
    if left2 is not None:
        return float(np.sum(left2 * matmul(right, right2.T)))
    return float(np.sum(right * right2))


def added(x: NDArray[Any]) -> float:
    """The sum of x (n,) in the order of its elements and in its dtype: np.sum's order depends on the processor."""
    return float(np.add.accumulate(x)[-1]) if len(x) else 0.0


def _unit(x: Float, axis: int) -> tuple[Float, Float]:
    """Powers of two (kept dims) that bring each row's largest entry just below 2^21, and their inverses."""
    most = np.maximum(x.max(axis=axis, keepdims=True, initial=0.0), -x.min(axis=axis, keepdims=True, initial=0.0))
    _, exponent = np.frexp(most)
    return np.ldexp(1.0, _BITS - exponent), np.ldexp(1.0, exponent - _BITS)


def _integers(x: Float, axis: int) -> tuple[Float, Float]:
    """x as integers, and the power of two each row (axis 1) or column (axis 0) counts in."""
    scale, unit = _unit(x, axis)
    x = x * scale  # by powers of two: exact
    return np.rint(x, out=x), unit


def _summed(a: Float, b: Float) -> Float:
    """The product of integers, exact in stretches of _DEPTH, which are added in order."""
    total: Float = a[:, :_DEPTH] @ b[:_DEPTH]
    for start in range(_DEPTH, a.shape[1], _DEPTH):
        total += a[:, start : start + _DEPTH] @ b[start : start + _DEPTH]
    return total


def _scaled(total: Float, unit: Float, its: Float) -> Float:
    total *= unit
    total *= its
    return total


def _product(a: Float, b: Float) -> Float:
    (a_high, a_low), a_unit = _cut(a, 1)
    (b_high, b_low), b_unit = _cut(b, 0)
    total: Float = a_high @ b_low
    total += a_low @ b_high  # each below 2^52, so their sum is exact too
    total *= 2.0**-_BITS
    total += a_high @ b_high
    return _scaled(total, a_unit, b_unit)


def _cut(x: Float, axis: int) -> tuple[tuple[Float, Float], Float]:
    """Integers and a power of two for each row (axis 1) or column (axis 0): x ~ (high + low 2^-21) unit."""
    scale, unit = _unit(x, axis)
    low = x * scale
    high = np.rint(low)
    low -= high
    low *= 2.0**_BITS
    return (high, np.rint(low, out=low)), unit


def inverse_root(s: Float, *, slices: int = 2) -> Float:
    """The inverse of the Cholesky factor of s (n, n), positive definite: the lower M, float64 (n, n), with M s M^T = I.

    By halves, so that nearly all of the work is products of large matrices.

    Raises:
        ValueError: s is not positive definite, or not by enough for so few slices.
    """
    n = len(s)
    if n <= _SMALL:
        return _small_inverse_root(s)
    k = n // 2
    m = np.zeros((n, n))
    first = m[:k, :k] = inverse_root(s[:k, :k], slices=slices)
    side = _times_lower_transposed(s[k:, :k], first, slices)
    rest = gram(side) if slices == 1 else matmul(side, side.T)
    np.subtract(s[k:, k:], rest, out=rest)
    second = m[k:, k:] = inverse_root(rest, slices=slices)
    np.negative(_times_lower_transposed(_times_lower(side, first, slices).T, second, slices).T, out=m[k:, :k])
    return m


def _small_inverse_root(s: Float) -> Float:
    n = len(s)
    both = np.concatenate([s, np.eye(n)], axis=1)  # elimination turns the left half into L^T and the right into L^-1
    for j in range(n):
        if not both[j, j] > 0:
            raise ValueError("the matrix is not positive definite")
        row = both[j, j:]
        row /= np.sqrt(row[0])
        if j + 1 < n:
            both[j + 1 :, j:] -= row[1 : n - j, None] * row
    return both[:, n:].copy()


def divide(top: Float, root: Float, *, slices: int = 2) -> Float:
    """top (m, n) @ s^-1, float64 (m, n), where root (n, n) = inverse_root(s)."""
    return _times_lower(_times_lower_transposed(top, root, slices), root, slices)


def _times_lower_transposed(a: Float, lower: Float, slices: int) -> Float:
    """a (m, n) @ lower^T: column j needs the entries up to j, so strips of columns leave the zeros out."""
    if slices == 2:
        return matmul(a, lower.T)
    (x, unit), (y, its), out = _integers(a, 1), _integers(lower, 1), np.empty(a.shape)
    for strip in _strips(len(lower)):
        out[:, strip] = _summed(x[:, : strip.stop], y[strip, : strip.stop].T)
    return _scaled(out, unit, its.T)


def _times_lower(a: Float, lower: Float, slices: int) -> Float:
    """a (m, n) @ lower: column j needs the entries from j on."""
    if slices == 2:
        return matmul(a, lower)
    (x, unit), (y, its), out = _integers(a, 1), _integers(lower, 0), np.empty(a.shape)
    for strip in _strips(len(lower)):
        out[:, strip] = _summed(x[:, strip.start :], y[strip.start :, strip])
    return _scaled(out, unit, its)


def _strips(n: int) -> list[slice]:
    count = max(1, min(8, n // 96))
    edges = [n * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def round_once(x: Float, dtype: str) -> NDArray[Any]:
    """x, float64 of any shape, as BF16, F16 or F32: to nearest even, rounded once and not by way of another width."""
    if dtype not in ("BF16", "F16"):
        return x.astype(DTYPES[dtype])
    # Rounding twice (64 -> 32 -> 16) can differ from rounding once. Rounding to odd at 32 bits first cannot:
    # the last bit then remembers that something was lost (Boldo and Melquiond, 2008).
    near = x.astype(np.float32)
    bits = near.view(np.uint32)
    toward_zero = bits - (np.abs(near.astype(np.float64)) > np.abs(x))
    odd = np.where(near == x, bits, toward_zero | 1).astype(np.uint32)
    return odd.view(np.float32).astype(DTYPES[dtype])

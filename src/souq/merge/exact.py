"""Linear algebra that gives the same bits on every machine, in every order of threads, with every BLAS.

BLAS libraries add in different orders, so their products differ in the last bits. Here every operand is first cut
into slices of small integers; the products of the slices are exact in float64, whatever the order of addition, and
what remains are element-wise IEEE operations in a written order (specs/merge_methods.md, section 11: the idea is
Ozaki, Ogita, Oishi, Rump, "Error-free transformations of matrix multiplication", 2012).

    >>> a = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> bool(np.allclose(matmul(a, a), a @ a, rtol=1e-12))
    True
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from souq.weights import DTYPES

Float = NDArray[np.float64]

_BITS = 21  # of each slice: 2 * 21 + log2(2048) = 53 bits, what a float64 holds exactly
_DEPTH = 2048  # the longest sum of products of slices that stays exact
_BLOCK = 64  # columns factored one by one before a product updates the rest


def _slices(x: Float) -> tuple[Float, Float, Float]:
    """Cut each row of x (m, k) into integers high and low and a power of two: x ~ (high + low 2^-21) unit."""
    _, exponent = np.frexp(np.max(np.abs(x), axis=1, initial=0.0))
    scaled = x * np.ldexp(1.0, _BITS - exponent)[:, None]  # by powers of two: exact
    high = np.rint(scaled)
    low = np.rint((scaled - high) * 2.0**_BITS)
    return high, low, np.ldexp(1.0, exponent - _BITS)


def matmul(a: Float, b: Float) -> Float:
    """a (m, k) @ b (k, n) in float64, to about 41 bits of each row's and column's largest entry; bits fixed."""
    total = _product(a[:, :_DEPTH], b[:_DEPTH])
    for start in range(_DEPTH, a.shape[1], _DEPTH):
        total += _product(a[:, start : start + _DEPTH], b[start : start + _DEPTH])
    return total


def _product(a: Float, b: Float) -> Float:
    a_high, a_low, a_unit = _slices(a)
    b_high, b_low, b_unit = _slices(b.T)
    total: Float = a_high @ b_low.T
    total += a_low @ b_high.T  # each below 2^52, so their sum is exact too
    total *= 2.0**-_BITS
    total += a_high @ b_high.T
    total *= a_unit[:, None]
    total *= b_unit[None, :]
    return total


def cholesky(s: Float) -> Float:
    """The lower L with L L^T = s (n, n), symmetric positive definite.

    Raises:
        ValueError: s is not positive definite.
    """
    left = np.tril(s)
    n = len(left)
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        _factor_columns(left, start, end)
        if end < n:
            panel = left[end:, start:end]
            left[end:, end:] -= matmul(panel, np.ascontiguousarray(panel.T))
    return np.tril(left)


def _factor_columns(left: Float, start: int, end: int) -> None:
    for j in range(start, end):
        if not left[j, j] > 0:
            raise ValueError("the matrix is not positive definite")
        left[j:, j] /= np.sqrt(left[j, j])
        left[j + 1 :, j + 1 : end] -= left[j + 1 :, j, None] * left[None, j + 1 : end, j]


def solve_cholesky(left: Float, b: Float) -> Float:
    """x (n, r) with (L L^T) x = b."""
    return _substitute(left, _substitute(left, b, lower=True), lower=False)


def _substitute(left: Float, b: Float, *, lower: bool) -> Float:
    x = b.copy()
    n = len(left)
    starts = range(0, n, _BLOCK) if lower else range((n - 1) // _BLOCK * _BLOCK, -1, -_BLOCK)
    for start in starts:
        end = min(start + _BLOCK, n)
        for j in range(start, end) if lower else range(end - 1, start - 1, -1):
            x[j] /= left[j, j]
            if lower:
                x[j + 1 : end] -= left[j + 1 : end, j, None] * x[None, j]
            else:
                x[start:j] -= left[j, start:j, None] * x[None, j]
        if lower and end < n:
            x[end:] -= matmul(np.ascontiguousarray(left[end:, start:end]), x[start:end])
        if not lower and start > 0:
            x[:start] -= matmul(np.ascontiguousarray(left[start:end, :start].T), x[start:end])
    return x


def round_once(x: Float, dtype: str) -> NDArray[Any]:
    """float64 to BF16, F16 or F32, to nearest even, rounded once and not by way of another width."""
    if dtype not in ("BF16", "F16"):
        return x.astype(DTYPES[dtype])
    # Rounding twice (64 -> 32 -> 16) can differ from rounding once. Rounding to odd at 32 bits first cannot:
    # the last bit then remembers that something was lost (Boldo and Melquiond, 2008).
    near = x.astype(np.float32)
    bits = near.view(np.uint32)
    toward_zero = bits - (np.abs(near.astype(np.float64)) > np.abs(x))
    odd = np.where(near == x, bits, toward_zero | 1).astype(np.uint32)
    return odd.view(np.float32).astype(DTYPES[dtype])

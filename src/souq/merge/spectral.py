"""Eigenvectors, singular vectors and polar factors with the same bits on every machine.

LAPACK's answers change with the library, the processor and the threads. These are built from element-wise IEEE
operations in a written order and from exact.matmul, whose bits are fixed. It knows matrices; it has never heard of
models, changes or methods, which are spectral_methods.py.

    >>> values, vectors = eigh(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> bool(np.allclose(values, [3, 1]) and np.allclose(vectors.T @ vectors, np.eye(2)))
    True
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from souq.merge.exact import Float, matmul

DROP = 1e-9  # a singular value below this share of the largest is taken for rounding

_NOTHING = 2.0**-52  # of the norm: an off-diagonal entry as small is taken for zero
_PATIENCE = 64  # sweeps for one eigenvalue; two are usual
_LAYER = 2.0**-12  # squared, and above matmul's 2^-41: what one Gram matrix tells apart

Rotation = tuple[int, float, float]  # rows i and i + 1, by cosine and sine


def eigh(s: Float) -> tuple[Float, Float]:
    """Eigenvalues (n,), falling, and eigenvectors (n, n), one a column, of a symmetric s (n, n).

    Householder's tridiagonal form, then QL with implicit shifts (Golub and Van Loan, Matrix Computations, 8.3). The
    largest entry of each vector, the first of equals, is positive. Errors are about 1e-15 n of the largest |value|.

    Raises:
        ValueError: s has an infinity or a NaN.
    """
    _refuse_unfinite(s)
    unit = np.ldexp(1.0, int(np.frexp(np.max(np.abs(s), initial=0.0))[1]) - 1)
    diagonal, beside, basis = _tridiagonal(s / unit)
    rows = np.ascontiguousarray(basis.T)
    _rotate(rows, _diagonalise(diagonal, beside))
    values = np.array(diagonal)
    order = np.argsort(-values, kind="stable")
    vectors = np.ascontiguousarray(rows[order].T)
    return values[order] * unit, vectors * signs(vectors)


def svd(x: Float, *, drop: float = DROP) -> tuple[Float, Float, Float]:
    """u (m, k), sigma (k,), falling, and v (n, k) with x ~ (u * sigma) @ v.T; k is the numerical rank of x (m, n).

    By the eigenvectors of the smaller Gram matrix. Squaring hides what is small, so the singular values are taken in
    layers: the large ones first, then those of what is left, down to `drop` of the largest. The largest entry of each
    column of u is positive. x is met to about max(drop, 1e-9) of its norm, u and v are orthonormal to about 1e-11.
    """
    if x.shape[0] < x.shape[1]:
        v, sigma, u = _layers(np.ascontiguousarray(x.T), drop)
    else:
        u, sigma, v = _layers(x, drop)
    order = np.argsort(-sigma, kind="stable")
    u, v = u[:, order], v[:, order]
    sign = signs(u)
    return u * sign, sigma[order], v * sign


def thin_svd(left: Float, right: Float, *, drop: float = DROP) -> tuple[Float, Float, Float]:
    """The svd of left (m, r) @ right (r, n), which is never built: u (m, k), sigma (k,), v (n, k)."""
    left, right = balanced(left, right)
    over, under = span(left), span(np.ascontiguousarray(right.T))
    u, sigma, v = svd(matmul(matmul(over.T, left), matmul(right, under)), drop=drop)
    u, v = matmul(over, u), matmul(under, v)
    sign = signs(u)
    return u * sign, sigma, v * sign


def span(x: Float) -> Float:
    """An orthonormal basis (m, k) of the columns of x (m, n), k the numerical rank; short columns count like long ones.

    It is the left singular vectors of x with its columns brought to one size.
    """
    return svd(np.ldexp(x, -_level(x)))[0]


def balanced(left: Float, right: Float) -> tuple[Float, Float]:
    """left (m, r) with its columns brought to one size by powers of two, and right (r, n) so that left @ right stays.

    Float64, of the same shapes; no bit of the product is lost.
    """
    level = _level(left)
    return np.ldexp(left, -level), np.ldexp(right, level[:, None])


def polar(x: Float, *, drop: float = DROP) -> Float:
    """The nearest matrix to x (m, n) with orthonormal columns, or rows: u @ v.T; zero where x is.

    Where x lacks rank the answer is a partial isometry: directions x does not have are not invented.
    """
    u, _, v = svd(x, drop=drop)
    return matmul(u, v.T)


def sums(x: Float) -> Float:
    """Sums of x (m, ...) down the first axis, float64 (...), by halves: a written order, where np.sum's is not."""
    while len(x) > 1:
        half = len(x) // 2
        paired = x[:half] + x[half : 2 * half]
        if len(x) % 2:
            paired[0] += x[-1]
        x = paired
    return x[0] if len(x) else np.zeros(x.shape[1:])


def total(x: Float) -> float:
    """The sum of all entries of x, of any shape, in a written order."""
    return float(sums(x.reshape(-1)))


def signs(x: Float) -> Float:
    """-1.0 for each column of x (m, n) whose largest entry, the first of equals, is negative, else 1.0: (n,)."""
    if not x.size:
        return np.ones(x.shape[1])
    largest = np.argmax(np.abs(x), axis=0)
    return np.where(x[largest, np.arange(x.shape[1])] < 0, -1.0, 1.0)


def _level(x: Float) -> NDArray[np.intc]:
    """The exponent of each column's largest entry."""
    exponent: NDArray[np.intc] = np.frexp(np.max(np.abs(x), axis=0, initial=0.0))[1]
    return exponent


def _refuse_unfinite(x: Float) -> None:
    if not np.isfinite(x).all():
        raise ValueError("the matrix is not finite")


def _layers(x: Float, drop: float) -> tuple[Float, Float, Float]:
    """u, sigma, v of x (m, n), m >= n, layer by layer; each layer is made orthogonal to the larger ones."""
    _refuse_unfinite(x)
    u, sigma, v = np.zeros((len(x), 0)), np.zeros(0), np.zeros((x.shape[1], 0))
    rest, floor = x, drop * drop * total(x * x)
    while v.shape[1] < x.shape[1] and total(rest * rest) > floor:
        values, vectors = eigh(matmul(np.ascontiguousarray(rest.T), rest))
        floor = floor if len(sigma) else drop * drop * values[0]
        kept = values > max(values[0] * _LAYER * _LAYER, floor)
        if not kept.any():
            break
        inputs = _orthonormal(vectors[:, kept], v)
        outputs = matmul(rest, inputs)
        size = np.sqrt(sums(outputs * outputs))
        u, v = _beside(u, _orthonormal(outputs / size, u)), _beside(v, inputs)
        sigma = np.concatenate([sigma, size])
        rest = rest - matmul(outputs, inputs.T)
    return u, sigma, v


def _orthonormal(x: Float, others: Float) -> Float:
    """Nearly orthonormal columns made so, and orthogonal to the others: Newton-Schulz, twice."""
    for _ in range(2):
        if others.shape[1]:
            x = x - matmul(others, matmul(others.T, x))
        x = 1.5 * x - 0.5 * matmul(x, matmul(x.T, x))
    return x


def _beside(a: Float, b: Float) -> Float:
    return np.concatenate([a, b], axis=1)


def _tridiagonal(s: Float) -> tuple[list[float], list[float], Float]:
    """s = basis @ t @ basis.T with t tridiagonal: its diagonal, what is beside it (and a last zero), the basis."""
    s, mirrors = s.copy(), []
    beside: list[float] = []
    for k in range(len(s) - 1):
        mirror, length = _mirror(s[k + 1 :, k])
        inside = s[k + 1 :, k + 1 :]
        moved = sums(inside * mirror[:, None])  # inside is symmetric: its rows for its columns
        moved -= total(moved * mirror) * mirror
        pairs = (2.0 * mirror)[:, None] * moved[None, :]
        inside -= pairs
        inside -= pairs.T
        mirrors.append(mirror)
        beside.append(length)
    return [float(x) for x in np.diag(s)], [*beside, 0.0][: len(s)], _product_of_mirrors(mirrors, len(s))


def _mirror(x: Float) -> tuple[Float, float]:
    """A unit v with (I - 2 v v^T) x = (length, 0, ..., 0); v is zero where x already is so."""
    if not x[1:].any():
        return np.zeros(len(x)), float(x[0])
    length = -math.copysign(math.sqrt(total(x * x)), x[0])
    v = x.copy()
    v[0] -= length
    size = math.sqrt(total(v * v))
    return (v / size, length) if size > 0 else (np.zeros(len(x)), 0.0)


def _product_of_mirrors(mirrors: Sequence[Float], n: int) -> Float:
    basis = np.eye(n)
    for mirror in reversed(mirrors):
        inside = basis[n - len(mirror) :, n - len(mirror) :]
        inside -= (2.0 * mirror)[:, None] * sums(inside * mirror[:, None])[None, :]
    return basis


def _diagonalise(diagonal: list[float], beside: list[float]) -> list[list[Rotation]]:
    """Turn a tridiagonal matrix into its eigenvalues, in place; the rotations that do it, in steps of disjoint ones.

    A rotation goes into the first step after all that touched its rows, so a step's rotations can be done at once and
    the result is that of doing them one by one.
    """
    steps: list[list[Rotation]] = []
    free = [0] * len(diagonal)
    nothing = _NOTHING * max((abs(d) + 2.0 * abs(e) for d, e in zip(diagonal, beside, strict=True)), default=0.0)
    for low in range(len(diagonal)):
        for _ in range(_PATIENCE):
            high = next(i for i in range(low, len(diagonal)) if abs(beside[i]) <= nothing)
            if high == low:
                break
            for rotation in _sweep(diagonal, beside, low, high):
                i = rotation[0]
                when = max(free[i], free[i + 1])
                free[i] = free[i + 1] = when + 1
                if when == len(steps):
                    steps.append([])
                steps[when].append(rotation)
        else:
            raise ArithmeticError("the eigenvalues did not settle")
    return steps


def _sweep(d: list[float], e: list[float], low: int, high: int) -> Iterator[Rotation]:
    """One QL sweep with Wilkinson's shift over rows low to high. Python's floats: one rounding to an operation."""
    g = (d[low + 1] - d[low]) / (2.0 * e[low])
    g = d[high] - d[low] + e[low] / (g + math.copysign(math.sqrt(g * g + 1.0), g))
    c = s = 1.0
    p = 0.0
    for i in range(high - 1, low - 1, -1):
        f, b = s * e[i], c * e[i]
        r = math.sqrt(f * f + g * g)
        e[i + 1] = r
        if r == 0.0:
            d[i + 1] -= p
            e[high] = 0.0
            return
        s, c = f / r, g / r
        g = d[i + 1] - p
        r = (d[i] - g) * s + 2.0 * c * b
        p = s * r
        d[i + 1] = g + p
        g = c * r - b
        yield i, c, s
    d[low] -= p
    e[low] = g
    e[high] = 0.0


def _rotate(rows: Float, steps: Sequence[Sequence[Rotation]]) -> None:
    """Apply the rotations to pairs of rows, in place."""
    for step in steps:
        table: NDArray[Any] = np.array(step)
        i, c, s = table[:, 0].astype(np.intp), table[:, 1, None], table[:, 2, None]
        upper, lower = rows[i], rows[i + 1]
        rows[i + 1] = s * upper + c * lower
        rows[i] = c * upper - s * lower

"""Merge methods that look at the directions of a change, not at its entries one by one.

Each answers with products left @ right whose sum is the merged change. Where every change is a LoRA, nothing as large
as the layer is built: the work is on bases of the factors. It knows changes to one layer; the arithmetic with fixed
bits is spectral.py, and names, files and people are strangers here.

Shapes: d_i is m x n, a LoRA's is left_i (m, r_i) @ right_i (r_i, n), ranks may differ and be 0; T changes, R the sum
of the r_i. In exact arithmetic every method is symmetric in the changes; in float64 the last bits follow their order,
so the caller sorts (fold.py does). Singular values below 1e-5 of the largest count as zero.

    >>> one = Change(np.array([[1.0], [0.0]]), np.array([[2.0, 0.0]]), None)
    >>> two = Change(np.array([[0.0], [1.0]]), np.array([[0.0, 3.0]]), None)
    >>> [merged] = tsv([one, two], None)
    >>> np.round(matmul(merged.left, merged.right), 9).tolist()  # nothing in common: nothing lost
    [[2.0, 0.0], [0.0, 3.0]]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from souq.errors import UsageError, nearest
from souq.merge.exact import Float, divide, inverse_root, matmul
from souq.merge.methods import Change, Sketch, merge_method
from souq.merge.spectral import balanced, polar, span, svd, thin_svd, total

_RANK = 1e-5  # KnOTS's cut, here relative to the largest singular value
_INNER = ("tsv", "iso-c", "ties", "mean")


@merge_method("tsv", matrices=True)
def tsv(changes: Sequence[Change], base: Sketch | None, *, scale: float = 1.0) -> list[Change]:
    """Task Singular Vectors, TSV-M (arXiv 2412.00081).

    With d_i = U_i S_i V_i^T, the top k = max(1, min(m, n) // T) of each, U = [U_1 .. U_T] (m, K) and V (n, K):
    D = scale polar(U) diag(S_1 .. S_T) polar(V)^T. Where directions repeat, polar is a partial isometry: a change sent
    in twice counts once.
    """
    share = max(1, min(changes[0].shape) // len(changes))
    parts = [_largest(change, share) for change in changes]
    u, sigma, v = (np.concatenate(side, axis=-1) for side in zip(*parts, strict=True))
    return [Change(polar(u, drop=_RANK) * (scale * sigma), polar(v, drop=_RANK).T, None)]


@merge_method("iso-c", matrices=True)
def iso_c(changes: Sequence[Change], base: Sketch | None, *, scale: float = 1.0) -> list[Change]:
    """Isotropic merging in the common subspace, Iso-C (arXiv 2502.04959).

    With sum_i d_i = U S V^T: D = scale mean(S) U V^T, the mean over the numerical rank only; over the whole spectrum
    of a LoRA it would give energy to directions nobody changed.
    """
    u, sigma, v = _svd(_sum(changes))
    return [Change(u * (scale * _average(sigma)), v.T, None)]


@merge_method("iso-cts", matrices=True)
def iso_cts(changes: Sequence[Change], base: Sketch | None, *, scale: float = 1.0, common: float = 0.8) -> list[Change]:
    """Isotropic merging in common and task-specific subspaces, Iso-CTS (arXiv 2502.04959).

    Of the numerical rank of sum_i d_i, the share `common` is its own top directions Uc, rounded so that the rest
    divides by T; the rest are the top directions of each d_i - Uc Uc^T d_i. With U, S, V all of these, task parts
    first: D = scale mean(S) polar(U) polar(V)^T.
    """
    u, sigma, v = _svd(_sum(changes))
    if not len(sigma):
        return [Change(u, v.T, None)]
    each = _share(len(sigma), len(changes), common)
    shared = len(sigma) - each * len(changes)
    parts = [_largest(_without(change, u[:, :shared]), each, least=_RANK * sigma[0]) for change in changes]
    parts.append((u[:, :shared], sigma[:shared], v[:, :shared]))
    u, sigma, v = (np.concatenate(side, axis=-1) for side in zip(*parts, strict=True))
    return [Change(polar(u, drop=_RANK) * (scale * _average(sigma)), polar(v, drop=_RANK).T, None)]


@merge_method("knots-ties", matrices=True)
def knots_ties(
    changes: Sequence[Change], base: Sketch | None, *, density: float = 0.2, scale: float = 1.0
) -> list[Change]:
    """TIES after aligning the changes in one basis, KnOTS (arXiv 2410.19735).

    With [d_1 | .. | d_T] = U S [V_1 .. V_T]^T (m, T n) and Z_i = S V_i^T (k, n): D = scale U ties(Z_1 .. Z_T).
    """
    u, aligned = _align(changes)
    return [Change(u * scale, _ties(aligned, density), None)]


@merge_method("core-space", matrices=True)
def core_space(
    changes: Sequence[Change], base: Sketch | None, *, inner: str = "tsv", scale: float = 1.0, density: float = 0.2
) -> list[Change]:
    """Merge by the inner method in the space the LoRAs span, Core Space (arXiv 2509.17786).

    With Q the left singular vectors of [left_1 .. left_T] (m, R) and P the right ones of the stacked rights (R, n):
    M_i = Q^T left_i right_i P^T (R, R), which loses nothing, and D = scale Q inner(M_1 .. M_T) P. Full changes span
    everything, so with one of them the inner method works on the changes as they are. `density` is for ties alone.
    """
    if (factors := _low_rank(changes)) is None:
        return _merge_core(changes, inner, scale, density)
    over = span(np.concatenate([left for left, _ in factors], axis=1))
    under = span(np.concatenate([right for _, right in factors]).T)
    cores = [Change(matmul(over.T, left), matmul(right, under), None) for left, right in factors]
    return [_lift(core, over, under) for core in _merge_core(cores, inner, scale, density)]


@merge_method("wudi", matrices=True)
def wudi(changes: Sequence[Change], base: Sketch | None, *, ridge: float = 0.01, pull: float = 1.0) -> list[Change]:
    """Each change where its own rows live, without data: the minimum of WUDI's loss (arXiv 2503.08099), held back.

    D = (sum_i d_i G_i + eps pull sum_i d_i) (sum_i G_i + eps I)^-1 with G_i = d_i^T d_i / |d_i|^2 (n, n). Changes to
    orthogonal inputs are summed, equal ones averaged. With S = sum_i G_i, eps = ridge |S|^2 / tr(S): the mean
    eigenvalue weighed by itself, the same with or without S's null space. LoRAs are solved in the span of their rights.
    """
    factors = _low_rank(changes)
    under = span(np.concatenate([right for _, right in factors]).T) if factors else None
    products = [(change.left, change.right) for change in changes] if factors is None else factors
    rows = [right if under is None else matmul(right, under) for _, right in products]
    unit = [_unit(left, row) for (left, _), row in zip(products, rows, strict=True)]
    s = matmul(np.concatenate([row for row, _ in unit]).T, np.concatenate([heavy for _, heavy in unit]))
    trace = total(np.diag(s))
    if not trace > 0:  # nobody changed anything
        return list(changes)
    eps = max(ridge, 1e-9) * total(s * s) / trace
    s[np.diag_indices(len(s))] += eps
    tops = [
        matmul(matmul(row, light.T), heavy) + eps * pull * row for row, (light, heavy) in zip(rows, unit, strict=True)
    ]
    solved = divide(np.concatenate(tops), inverse_root(s))
    solved = solved if under is None else matmul(solved, under.T)
    rights = np.split(solved, np.cumsum([len(top) for top in tops])[:-1])
    return [Change(left, right, None) for (left, _), right in zip(products, rights, strict=True)]


Triple = tuple[Float, Float, Float]  # u (m, k), sigma (k,), v (n, k)


def _low_rank(changes: Sequence[Change]) -> list[tuple[Float, Float]] | None:
    """The factors of all the changes, unless one of them has none.

    Balanced: how a LoRA splits its size between its factors must not crowd out the others' digits.
    """
    factors = [balanced(change.left, change.right) for change in changes if change.left is not None]
    return factors if len(factors) == len(changes) else None


def _sum(changes: Sequence[Change]) -> Change:
    """The sum as one change: LoRAs side by side are a LoRA."""
    if factors := _low_rank(changes):
        lefts, rights = zip(*factors, strict=True)
        return Change(np.concatenate(lefts, axis=1), np.concatenate(rights), None)
    summed = np.zeros(changes[0].shape)
    for change in changes:
        summed += change.whole()
    return Change(None, summed, None)


def _svd(change: Change) -> Triple:
    if change.left is None:
        return svd(change.right, drop=_RANK)
    return thin_svd(change.left, change.right, drop=_RANK)


def _largest(change: Change, count: int, *, least: float = 0.0) -> Triple:
    """The `count` largest singular values above `least`, and their vectors."""
    if not count:
        m, n = change.shape
        return np.zeros((m, 0)), np.zeros(0), np.zeros((n, 0))
    u, sigma, v = _svd(change)
    count = min(count, int(np.count_nonzero(sigma > least)))
    return u[:, :count], sigma[:count], v[:, :count]


def _without(change: Change, u: Float) -> Change:
    """d - u u^T d."""
    if change.left is None:
        return Change(None, change.right - matmul(u, matmul(u.T, change.right)), None)
    return Change(change.left - matmul(u, matmul(u.T, change.left)), change.right, None)


def _share(rank: int, tasks: int, common: float) -> int:
    """Directions for each task, when `common` of them all are shared."""
    return min(round((rank - int(rank * min(common, 1.0))) / tasks), rank // tasks)


def _average(x: Float) -> float:
    return total(x) / max(1, len(x))


def _align(changes: Sequence[Change]) -> tuple[Float, Iterator[Float]]:
    """U (m, k) of all changes side by side, and each one's coordinates Z_i (k, n) in it."""
    if (factors := _low_rank(changes)) is None:
        u, sigma, v = svd(np.concatenate([change.whole() for change in changes], axis=1), drop=_RANK)
        return u, ((sigma * block).T for block in np.split(v, len(changes)))
    over = span(np.concatenate([left for left, _ in factors], axis=1))
    unders = [span(right.T) for _, right in factors]
    cores = [
        matmul(matmul(over.T, left), matmul(right, under)) for (left, right), under in zip(factors, unders, strict=True)
    ]
    u, sigma, v = svd(np.concatenate(cores, axis=1), drop=_RANK)
    blocks = np.split(v, np.cumsum([under.shape[1] for under in unders])[:-1])
    coordinates = (matmul((sigma * block).T, under.T) for block, under in zip(blocks, unders, strict=True))
    return matmul(over, u), coordinates


def _ties(parts: Iterable[Float], density: float) -> Float:
    """Trim, elect a sign, average those who agree (arXiv 2306.01708), one part in memory at a time."""
    ups = downs = up_count = down_count = np.zeros(())
    for part in parts:
        kept = _trimmed(part, density)
        ups, up_count = ups + np.maximum(kept, 0.0), up_count + (kept > 0)
        downs, down_count = downs + np.minimum(kept, 0.0), down_count + (kept < 0)
    return np.where(ups + downs >= 0, ups / np.maximum(up_count, 1), downs / np.maximum(down_count, 1))


def _trimmed(x: Float, density: float) -> Float:
    """x with all but the share `density` of largest entries at zero; of equals the first stay."""
    count = min(int(density * x.size), x.size)
    if not count:
        return np.zeros_like(x)
    size = np.abs(x).reshape(-1)
    least = np.partition(size, -count)[-count]
    kept = size > least
    kept[np.flatnonzero(size == least)[: count - np.count_nonzero(kept)]] = True
    return np.where(kept.reshape(x.shape), x, 0.0)


def _merge_core(cores: Sequence[Change], inner: str, scale: float, density: float) -> list[Change]:
    match inner:
        case "tsv":
            return tsv(cores, None, scale=scale)
        case "iso-c":
            return iso_c(cores, None, scale=scale)
        case "ties":
            return [Change(None, scale * _ties(map(Change.whole, cores), density), None)]
        case "mean":
            return [Change(core.left, core.right * scale / len(cores), None) for core in cores]
    raise UsageError(f"core-space has no inner method {inner!r}{nearest(inner, _INNER)}")


def _lift(core: Change, over: Float, under: Float) -> Change:
    return Change(over if core.left is None else matmul(over, core.left), matmul(core.right, under.T), None)


def _unit(left: Float | None, rows: Float) -> tuple[Float, Float]:
    """light and heavy with light.T @ heavy = G_i: rows and left.T @ left @ rows, each over |left rows|."""
    heavy = rows if left is None else matmul(matmul(left.T, left), rows)
    square = total(rows * heavy)
    size = np.sqrt(square) if square > 0 else np.inf  # no change: G_i is zero
    return rows / size, heavy / size

"""Sketches of a change whose data are not at hand: guessed from the change itself, and from what the base reads.

What a matrix learned lies in the inputs it learned from: a step of gradient descent adds outer products of gradients
and inputs, so d^T d resembles their covariance, each input weighed by the square of its gradient (ACE-Merging, arXiv
2603.02945, estimates it so). Alone it knows no direction beside those, and the merge would be a sum; most of a guess is
therefore the base's own sketch on general text. Without any sketch a merge is the plain mean (decisions/merge.md).

    delta, tensors = with_guess(main, delta, tensors)
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from souq.build.deltas import with_sketch
from souq.merge.exact import Float
from souq.merge.fold import factors
from souq.merge.grow import VOCABULARY
from souq.merge.methods import Sketch
from souq.progress import Progress, quiet, tracked
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Array, Delta, Gram, Load, Tensors
from souq.weights.store import Stored

RANK = 64  # of the change's own part, at most; the base's stands beside it
OWN = 0.02  # of a guess that is the change's own: best on dev-all; more costs general text (decisions/merge.md)
_SEED = 0


def with_guess(main: Snapshot, delta: Delta, tensors: Tensors, progress: Progress = quiet) -> tuple[Delta, Tensors]:
    """A delta with a guessed sketch for each matrix it changes that the base's sketch knows, and its tensors."""
    if main.sketch is None:
        return delta, tensors
    known, base = main.sketch, Stored(main.base, main.repo.store)

    def load(name: str) -> Array:
        return tensors[name] if name in tensors else main.repo.store.get(name)

    fed = defaultdict[str, list[str]](list)
    for name in delta.parts:
        if name in known.inputs and not name.endswith(VOCABULARY):
            fed[known.inputs[name]].append(name)
    groups: dict[str, tuple[Array, Array, int]] = {}
    for group in tracked(sorted(fed), "guess sketches", progress):
        own = [_own(*factors(delta.parts[name], base[name], load)) for name in fed[group]]
        groups[group] = (*_mixed(own, _base_sketch(known.grams[group], load)), 1)
    return with_sketch(delta, tensors, groups, {name: group for group, names in fed.items() for name in names})


def _own(left: Float | None, right: Float) -> Float:
    """A factor (k, n) of d^T d with a mean diagonal of 1, of d = left @ right or of right alone, (m, n)."""
    if left is not None:
        values, vectors = np.linalg.eigh(left.T @ left)
        factor = (np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T) @ right
    else:  # the leading directions of a whole matrix (Halko, Martinsson, Tropp, arXiv 0909.4061)
        probe = np.random.default_rng(_SEED).standard_normal((right.shape[1], min(2 * RANK, *right.shape)))
        seen, _ = np.linalg.qr(right @ (right.T @ (right @ probe)))
        factor = seen.T @ right
    level = float(np.square(factor).sum()) / factor.shape[1]
    unit: Float = factor / np.sqrt(level) if level > 0 else factor
    return unit


def _base_sketch(gram: Gram, load: Load) -> Sketch:
    return Sketch(*(load(ref.digest).astype(np.float64) for ref in (gram.factor, gram.diag))).unit()


def _mixed(own: list[Float], base: Sketch) -> tuple[Array, Array]:
    """Both by their shares, every direction of the change kept, however small beside the base's largest.

    The factor is float16, what is left a float32 diagonal.
    """
    rows = np.concatenate([np.sqrt(OWN / len(own)) * each for each in own])
    if len(rows) > RANK:
        _, vectors = np.linalg.eigh(rows @ rows.T)
        rows = vectors[:, ::-1][:, :RANK].T @ rows
    top = np.concatenate([rows, np.sqrt(1 - OWN) * base.factor]).astype(np.float16)
    return top, ((1 - OWN) * base.diag).astype(np.float32)

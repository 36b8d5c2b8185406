"""How large a change of weights is, and how near two of them are, tensor by tensor; LoRAs without building m x n.

    near = compare(ours, theirs, base, load)
    near.exact, near.distance, near.cosine, near.worst

A part is a change to a tensor of the base, in the sense of merge/fold.py: left (m, r) and right (r, n), or the whole
difference. What the base does not have (rows, layers, experts) is compared number by number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from souq.merge.exact import Float
from souq.merge.fold import factors
from souq.progress import Progress, quiet
from souq.records import Record
from souq.weights.delta import Delta, Dense, Load, Lora, New, Part, Sparse, TensorRef

Factors = tuple[Float | None, Float]


class Apart(Record, frozen=True):
    """Two changes to one tensor: `distance` is ||d' - d|| / ||d||, of d as it was offered."""

    tensor: str
    same: bool  # to the digest
    distance: float
    cosine: float


@dataclass(frozen=True)
class Near:
    """How near one change, made again, comes to another."""

    parts: tuple[Apart, ...]
    distance: float
    cosine: float

    @property
    def exact(self) -> bool:
        return all(part.same for part in self.parts)

    @property
    def differ(self) -> int:
        return sum(not part.same for part in self.parts)

    @property
    def worst(self) -> Apart:
        """The tensor furthest off, measured by its own size: nothing hides in the norm of the others."""
        return max(self.parts, key=lambda part: (part.distance, not part.same))

    def within(self, share: float) -> bool:
        """Whether the whole, and every tensor of it, is that near."""
        return self.exact or (self.distance <= share and self.worst.distance <= share)


def compare(
    offered: Delta, again: Delta, base: Mapping[str, TensorRef], load: Load, progress: Progress = quiet
) -> Near:
    """How near `again` is to `offered`: two changes of one base, their tensors loaded by digest.

    What only one of them changes counts in full.
    """
    parts, sizes = [], np.zeros(3)  # ||d||^2, ||d'||^2, <d, d'>
    names = [*sorted({*offered.parts, *again.parts}), *sorted({*offered.new, *again.new})]
    for done, name in enumerate(names):
        progress("compare", done, len(names))
        one, two = (delta.parts.get(name) or delta.new.get(name) for delta in (offered, again))
        left = _change(name, one, base, load)
        right = left if one == two else _change(name, two, base, load)
        own = np.array([_inner(left, left), _inner(right, right), _inner(left, right)])
        parts.append(Apart(tensor=name, same=one == two, distance=_distance(own, one == two), cosine=_cosine(own)))
        sizes += own
    progress("compare", len(names), len(names))
    exact = all(part.same for part in parts)
    return Near(tuple(parts), _distance(sizes, exact), _cosine(sizes))


def moved(delta: Delta, base: Mapping[str, TensorRef], load: Load) -> float:
    """||d||^2 over all that a change moves from the base.

    What is new counts from the base's tensor it stands beside or from nothing, whichever is nearer: a new layer is
    mostly a copy of the one below, and a copy is no work.
    """
    total = 0.0
    for name, part in delta.parts.items():
        change = _change(name, part, base, load)
        total += _inner(change, change)
    for title, new in delta.new.items():
        value = load(new.value.digest).astype(np.float64)
        size, beside = float(np.vdot(value, value)), base.get(stands_beside(title))
        if beside is not None and beside.shape == value.shape:
            off = value - load(beside.digest).astype(np.float64)
            size = min(size, float(np.vdot(off, off)))
        total += size
    return total


def stands_beside(title: str) -> str:
    """The base's tensor that a new layer's or an expert's most likely began as; no tensor's name for rows and routers."""
    kind, _, name = title.partition(" ")
    place, _, inside = (*name.split(".", 2), "", "")[:3]
    if kind not in ("layer", "expert"):
        return ""
    layer = int(place) - (kind == "layer" and place != "0")
    return f"model.layers.{layer}.{'mlp.' if kind == 'expert' else ''}{inside}"


def _change(name: str, part: Part | New | None, base: Mapping[str, TensorRef], load: Load) -> Factors | None:
    match part:
        case None:
            return None
        case Lora():
            return factors(part, np.zeros(0), load)
        case Dense() | Sparse():
            return factors(part, load(base[name].digest).astype(np.float64), load)
        case _:
            return None, load(part.value.digest).astype(np.float64)


def _inner(one: Factors | None, two: Factors | None) -> float:
    """<d, d'>; <L R, L' R'> = sum((L^T L') * (R R'^T)), r x r' numbers."""
    if one is None or two is None:
        return 0.0
    (left, right), (left2, right2) = one, two
    if left is not None and left2 is not None:
        return float(np.sum((left.T @ left2) * (right @ right2.T)))
    if left is not None:
        return float(np.sum(left * (right2 @ right.T)))
    if left2 is not None:
        return float(np.sum(left2 * (right @ right2.T)))
    return float(np.vdot(right, right2)) if right.shape == right2.shape else 0.0


def _distance(sizes: Float, same: bool) -> float:
    """Told to about 1e-8: it is a difference of squares."""
    if same:
        return 0.0
    own, theirs, inner = map(float, sizes)
    if own <= 0:
        return math.inf if theirs > 0 else 0.0
    return math.sqrt(max(own + theirs - 2 * inner, 0.0) / own)


def _cosine(sizes: Float) -> float:
    own, theirs, inner = map(float, sizes)
    return min(max(inner / math.sqrt(own * theirs), -1.0), 1.0) if own > 0 and theirs > 0 else 0.0

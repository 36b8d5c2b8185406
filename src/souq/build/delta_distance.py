"""How large a change of weights is, and how near two of them are, tensor by tensor; LoRAs without building m x n.

    near = compare(ours, theirs, base, load)
    near.exact, near.distance, near.cosine, near.worst
    squared_length(ours, base, load)  # by which everybody's share of what moved is told

A part is a change to a tensor of the base, in the sense of merge/fold.py: left (m, r) and right (r, n), or the whole
difference. What the base does not have (rows, layers, experts) is compared number by number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from souq.merge.exact import Float, inner
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
        """Whether the distance of the whole, and of every tensor in it, is at most `share`."""
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
        first, second = (delta.parts.get(name) or delta.new.get(name) for delta in (offered, again))
        same = first == second
        left = _change(name, first, base, load) if first else None
        right = left if same else _change(name, second, base, load) if second else None
        own = np.array([_inner(left, left), _inner(right, right), _inner(left, right)])
        parts.append(Apart(tensor=name, same=same, distance=_distance(own, same), cosine=_cosine(own)))
        sizes += own
    progress("compare", len(names), len(names))
    exact = all(part.same for part in parts)
    return Near(tuple(parts), _distance(sizes, exact), _cosine(sizes))


def squared_length(delta: Delta, base: Mapping[str, TensorRef], load: Load) -> float:
    """||d||^2 over all that a change moves from the base, with the same bits on every machine.

    What is new counts from the base's tensor it stands beside or from nothing, whichever is nearer: a new layer is
    mostly a copy of the one below, and a copy is no work. Nothing else may say how much somebody moved.
    """
    changed = [_square(_change(name, part, base, load)) for name, part in sorted(delta.parts.items())]
    return math.fsum(changed + [_new_square(title, new, base, load) for title, new in sorted(delta.new.items())])


def _new_square(title: str, new: New, base: Mapping[str, TensorRef], load: Load) -> float:
    value = load(new.value.digest).astype(np.float64)
    beside = base.get(stands_beside(title))
    if beside is None or beside.shape != value.shape:
        return _square((None, value))
    return min(_square((None, value)), _square((None, value - load(beside.digest).astype(np.float64))))


def stands_beside(title: str) -> str:
    """The base's tensor that a new layer's or an expert's most likely began as; "" for rows and routers."""
    kind, _, name = title.partition(" ")
    place, _, inside = (*name.split(".", 2), "", "")[:3]
    if kind not in ("layer", "expert"):
        return ""
    layer = int(place) - (kind == "layer" and place != "0")
    return f"model.layers.{layer}.{'mlp.' if kind == 'expert' else ''}{inside}"


def _change(name: str, part: Part | New, base: Mapping[str, TensorRef], load: Load) -> Factors:
    match part:
        case Lora():
            return factors(part, np.zeros(0), load)
        case Dense() | Sparse():
            return factors(part, load(base[name].digest).astype(np.float64), load)
        case _:
            return None, load(part.value.digest).astype(np.float64)


def _inner(change: Factors | None, other: Factors | None) -> float:
    """<d, d'>; nothing where a tensor is changed by one of them only, or to another shape."""
    if change is None or other is None:
        return 0.0
    if change[0] is None and other[0] is None and change[1].shape != other[1].shape:
        return 0.0
    return inner(*change, *other)


def _square(change: Factors) -> float:
    return max(inner(*change, *change), 0.0)  # which rounding may put below nothing


def _distance(sizes: Float, same: bool) -> float:
    """Good to about 1e-8: it is a difference of squares."""
    if same:
        return 0.0
    own, theirs, both = map(float, sizes)
    if own <= 0:
        return math.inf if theirs > 0 else 0.0
    return math.sqrt(max(own + theirs - 2 * both, 0.0) / own)


def _cosine(sizes: Float) -> float:
    own, theirs, both = map(float, sizes)
    return min(max(both / math.sqrt(own * theirs), -1.0), 1.0) if own > 0 and theirs > 0 else 0.0

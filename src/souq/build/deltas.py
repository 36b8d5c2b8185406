"""Making deltas from PEFT adapters, and giving them sketches (fine-tuned folders are tuned.py's).

delta, tensors = from_adapter(open_adapter(path), main)
write_delta(Path("dates.delta"), delta, tensors)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from souq.build.replication import View, repeated
from souq.errors import Hostile, UsageError
from souq.model.adapter.fit import Change, Fitted, Pair, fit
from souq.model.adapter.modules import Adapter
from souq.model.config import settings_in
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import (
    Array,
    Delta,
    Dense,
    Gram,
    Layer,
    Lora,
    New,
    Part,
    Sparse,
    TensorRef,
    Tensors,
    dtype_name,
    tensor_digest,
)
from souq.weights.store import Stored

Groups = Mapping[str, tuple[Array, Array, int]]
"""Sketches: group -> (factor (k, n), diag (n,), tokens)."""


# A whole tensor would be stored as a difference of about a quarter of its size: positions and values must be smaller
# than that to be worth their trouble.
DENSE_SHARE = 0.25


class Bag:
    """Tensors by digest, as a delta is put together."""

    def __init__(self) -> None:
        self.tensors: Tensors = {}

    def add(self, array: Array) -> TensorRef:
        ref = TensorRef.of(array)
        self.tensors[ref.digest] = array
        return ref


@dataclass(frozen=True)
class OnBase:
    """An adapter fitted to main's base: what each tensor becomes, and where in the base it stands."""

    fitted: Fitted
    view: View

    @property
    def touched(self) -> list[str]:
        """The base's tensors that it changes or repeats."""
        return sorted({self.view.names[name] for name in (*self.fitted.low, *self.fitted.changed, *self.view.new)})


def fitted(adapter: Adapter, main: Snapshot) -> OnBase:
    """An adapter on main's base: what each of its tensors becomes.

    Raises:
        UsageError: it was trained on another model.
    """
    base, config = Stored(main.base, main.repo.store), settings_in(base_files(main))
    view = repeated(adapter.config.repeats, main.base)
    shapes = {name: main.base[own].shape for name, own in view.names.items()}
    return OnBase(fit(adapter, shapes, config, lambda name: base[view.names[name]]), view)


@dataclass
class Rounding:
    """How much of a change is lost where its tensors are rounded to the base's dtype."""

    lost: float = 0.0  # squares, summed over all tensors that moved
    moved: float = 0.0

    def add(self, exact: Array, kept: Array, old: Array) -> None:
        """One tensor, as it was computed, as it is kept, and the base's."""
        self.lost += float(np.square(kept.astype(np.float64) - exact).sum())
        self.moved += float(np.square(exact.astype(np.float64) - old.astype(np.float64)).sum())

    @property
    def share(self) -> float:
        """The lost part's norm over the change's."""
        return math.sqrt(self.lost / self.moved) if self.moved else 0.0


def from_adapter(
    adapter: Adapter | OnBase | Mapping[str, Pair], main: Snapshot, rounding: Rounding | None = None
) -> tuple[Delta, Tensors]:
    """An adapter as a delta: a LoRA's factors as their author made them, everything else as the tensor it makes.

    Such a tensor is computed in float32, as PEFT merges, and rounded once to the base's dtype; `rounding` is told.

    Raises:
        UsageError: it was trained on another model, or changes nothing.
        Hostile: a number that is not finite, or too large for the base's dtype.
    """
    if isinstance(adapter, Mapping):  # pairs by the base's own names
        placed = OnBase(Fitted(dict(adapter), {}), repeated((), main.base))
    else:
        placed = fitted(adapter, main) if isinstance(adapter, Adapter) else adapter
    bag, low, view = Bag(), placed.fitted.low, placed.view
    parts, new = dict[str, Part](), dict[str, New]()
    for name, (a, b, scale) in sorted(low.items()):
        if name not in view.new:
            parts[view.names[name]] = Lora(a=bag.add(a), b=bag.add(b), scale=float(scale))
    for name, (old, made) in _computed(placed, main, rounding or Rounding()):
        own = view.names[name]
        if name in view.new:
            new[view.new[name]] = Layer(value=bag.add(made))
        elif tensor_digest(made) != main.base[own].digest:
            parts[own] = smaller(bag, old, made)
    still = all(not b.any() or not a.any() or scale == 0 for a, b, scale in low.values())
    if still and not new and len(parts) == len(low):
        raise UsageError("the adapter changes nothing: every B A is zero", hint="was it saved before it was trained?")
    return Delta(main.base_digest, parts, new=new), bag.tensors


def _computed(placed: OnBase, main: Snapshot, rounding: Rounding) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """The tensors that are not kept as factors: the base's, and what becomes of it."""
    base, view = Stored(main.base, main.repo.store), placed.view
    repeated_layers = {name: Change(pair=placed.fitted.low.get(name)) for name in view.new}
    for name, change in sorted((repeated_layers | placed.fitted.changed).items()):
        old = base[view.names[name]]
        exact = change(old.astype(np.float32))
        made = rounded(exact, old.dtype, name)
        rounding.add(exact, made, old)
        yield name, (old, made)


def rounded(new: Array, dtype: np.dtype[Any], name: str) -> Array:
    """A tensor computed in float32, rounded once.

    Raises:
        Hostile: a number that is not finite, or too large for the dtype.
    """
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(new).astype(dtype)
    if not np.isfinite(made.astype(np.float32)).all():
        raise Hostile(f"{name} would hold numbers that are not finite in {dtype_name(dtype)}", hint="is it damaged?")
    return made


def smaller(bag: Bag, old: Array, new: Array) -> Part:
    """The numbers that changed with their positions, or all of them, whichever takes less room."""
    flat = f"u{new.dtype.itemsize}"  # compared as bits: NaN payloads and signed zeros count
    where = np.flatnonzero(new.reshape(-1).view(flat) != old.reshape(-1).view(flat))
    index = where.astype("<u4" if new.size < 1 << 32 else "<u8")
    if len(where) * (index.itemsize + new.itemsize) < DENSE_SHARE * new.nbytes:
        return Sparse(index=bag.add(index), value=bag.add(new.reshape(-1)[where]))
    return Dense(value=bag.add(new))


def with_sketch(delta: Delta, tensors: Tensors, groups: Groups, inputs: Mapping[str, str]) -> tuple[Delta, Tensors]:
    """The delta with the sketches its merge will ask for; `inputs` says which tensor reads which group.

    A delta that changes nothing keeps them all: that is the base's own voice.
    """
    bag = Bag()
    silent = not delta.parts and not delta.new
    wanted = {name: group for name, group in inputs.items() if name in delta.parts or silent}
    grams = {
        group: Gram(factor=bag.add(factor), diag=bag.add(diag), tokens=tokens)
        for group, (factor, diag, tokens) in groups.items()
        if group in wanted.values()
    }
    return replace(delta, grams=grams, inputs=wanted), tensors | bag.tensors

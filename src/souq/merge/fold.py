"""The fold: a base and a set of deltas make one model, the same bytes for everybody.

The contributions are a set: they are sorted by digest before anything is computed, so no order of merging can show.
A tensor nobody changed is the base's own.

    merged = Fold(base, {digest: delta}, load, method="covariance")
    merged["model.layers.0.mlp.up_proj.weight"]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from souq.errors import Hostile
from souq.merge import sums
from souq.merge.exact import Float, matmul, round_once
from souq.merge.grow import VOCABULARY
from souq.merge.methods import (
    MATRICES,
    METHODS,
    SUMS,
    Balanced,
    Change,
    Method,
    Sketch,
    balance,
    by_rows,
    check_settings,
    divided,
    mean,
    settings_of,
)
from souq.merge.sums import UNIT, Kept, Sums, Whole, gram_numbers, numbers
from souq.records import Digest
from souq.weights.delta import Array, Checkpoint, Delta, Dense, Gram, Load, Lora, Part, Sparse, dtype_name
from souq.weights.lockfile import format_delta


class Fold(Mapping[str, Array]):
    """The merged checkpoint, lazy: each tensor is computed when it is asked for.

    `deltas` join what was `kept` of an earlier fold, and those who `left` it are taken out again: the same bytes as
    all of them folded anew (merge/sums.py). `changed` names the tensors that are not the base's own.
    """

    def __init__(
        self,
        base: Checkpoint,
        deltas: Mapping[Digest, Delta],
        load: Load,
        *,
        method: str = "covariance",
        settings: Mapping[str, Any] | None = None,
        base_sketch: Delta | None = None,
        kept: Kept | None = None,
        left: Mapping[Digest, Delta] | None = None,
        weights: Mapping[Digest, float] | None = None,
    ) -> None:
        self._settings = settings_of(method) | dict(settings or {})
        check_settings(method, settings or {})
        self.load, self._base, self._sketch = load, base, base_sketch
        # By what they say, not by who signed them: the model is a function of base and deltas alone.
        self.deltas = dict(sorted(deltas.items(), key=lambda item: format_delta(item[1])))
        self.method, self._merge = method, METHODS[method]
        self._gram = lru_cache(maxsize=4 * (len(self.deltas) + 1))(self._read_gram)
        self.sums = None
        self._weights = {who: round(weight * UNIT) / UNIT for who, weight in (weights or {}).items()}
        if method in SUMS:
            hears = self._gram if SUMS[method] else None
            self.sums = Sums(kept or Kept(), self.deltas, left or {}, self._change_of, hears, weights, self._table)
        self._known = lru_cache(maxsize=2)(self._balanced)
        changed = self.sums.tallies if self.sums else {name for delta in self.deltas.values() for name in delta.parts}
        self.changed = tuple(sorted(changed))

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)

    def __getitem__(self, name: str) -> Array:
        if name not in self.changed:
            return self._base[name]
        if self.sums is not None:
            group = self.group(name)
            return self.settled(name, self.sums.top(name), self._known(group, name) if group else None)
        wide = self.base(name)
        for change in self.merged(name, list(self._changes(name, wide).values())):
            wide += change.right if change.left is None else matmul(change.left, change.right)
        return round_once(wide, dtype_name(self._base[name].dtype))

    # -- sums --------------------------------------------------------------------------------------------------------

    def group(self, name: str) -> tuple[int, ...] | str | None:
        """What the tensors that share one system of sketches have in common; None where a tensor needs none."""
        assert self.sums is not None
        found = self.sums.tallies[name]
        if not found.known:
            return None
        return (found.heard, found.alike, *(self._voice(name) or "").encode())

    def _balanced(self, group: object, name: str) -> Balanced:
        assert self.sums is not None
        return self.balanced(name, self.sums.gram(name))

    def balanced(self, name: str, gram: Whole) -> Balanced:
        """The system of sketches of a tensor (and of all of its group), ready to divide by."""
        assert self.sums is not None
        found, n = self.sums.tallies[name], round((2 * gram.size) ** 0.5 - 0.5)
        voice = self._voice(name)
        base = self._gram(self._sketch.grams[voice]) if self._sketch and voice else None
        return balance(gram_numbers(gram, n), found.alike / UNIT, base, **self._settings)

    def settled(self, name: str, top: Whole, balanced: Balanced | None) -> Array:
        """The merged tensor from its sums."""
        assert self.sums is not None
        base = self._base[name]
        if self._table(name):
            change = sums.by_rows(top)
        elif balanced is not None:
            change = divided(numbers(top), balanced)
        elif self.method == "task-arithmetic" and top.ndim == 2:
            change = numbers(top) * self._settings["scale"]
        else:
            change = numbers(top) / (self.sums.tallies[name].mass / UNIT)
        change += base.astype(np.float64)
        return round_once(change, dtype_name(base.dtype))

    def _table(self, name: str) -> bool:
        """Whether a tensor is merged row by row: embeddings and heads, by the methods for linear layers."""
        return self._merge in MATRICES and name.endswith(VOCABULARY)

    def _voice(self, name: str) -> str | None:
        return self._sketch.inputs.get(name) if self._sketch else None

    # -- contributions -----------------------------------------------------------------------------------------------

    def base(self, name: str) -> Float:
        """The tensor before any change, in float64."""
        return self._base[name].astype(np.float64)

    def changes(self, name: str) -> dict[Digest, Change]:
        """What each contribution that changes a tensor does to it."""
        return self._changes(name, self.base(name))

    def _changes(self, name: str, wide: Float) -> dict[Digest, Change]:
        return {
            who: replace(self._change(name, delta, wide), weight=self._weights.get(who, 1.0))
            for who, delta in self.deltas.items()
            if name in delta.parts
        }

    def merged(self, name: str, changes: Sequence[Change]) -> list[Change]:
        """What the method makes of some changes to a tensor; the answers add up to the merged change."""
        return self.asked(name, changes, self._merge, self._settings)

    def asked(self, name: str, changes: Sequence[Change], method: Method, settings: Mapping[str, Any]) -> list[Change]:
        """The same of any method."""
        if changes[0].right.ndim != 2:  # norms and biases: the mean over those who changed them (the spec's section 9)
            return mean(changes, None)
        if method in MATRICES and name.endswith(VOCABULARY):
            return by_rows(changes)
        voice = self._voice(name)
        base = self._gram(self._sketch.grams[voice]) if self._sketch and voice else None
        return method(changes, base, **settings)

    def _change_of(self, name: str, delta: Delta) -> Change:
        found = self._change(name, delta, self.base(name))
        return found if SUMS[self.method] else found.to(found.right)

    def _change(self, name: str, delta: Delta, wide: Float) -> Change:
        part, gram = delta.parts[name], delta.gram_of(name)
        left, right = factors(part, wide, self.load)
        fits = right.shape[-1:] == wide.shape[-1:] and (right if left is None else left).shape[:1] == wide.shape[:1]
        if not fits or (gram is not None and gram.diag.shape != wide.shape[-1:]):
            raise Hostile(f"the change to {name} does not have the shape of the base, {wide.shape}")
        return Change(left, right, self._gram(gram) if gram else None)

    def _read_gram(self, gram: Gram) -> Sketch:
        return Sketch(self.load(gram.factor.digest).astype(np.float64), self.load(gram.diag.digest).astype(np.float64))


def factors(part: Part, base: Float, load: Load) -> tuple[Float | None, Float]:
    """A part as left (m, r) and right (r, n), or None and the whole difference from the base, in float64."""
    match part:
        case Lora(a=a, b=b, scale=scale):
            return load(b.digest).astype(np.float64), load(a.digest).astype(np.float64) * scale
        case Dense(value=value):
            return None, load(value.digest).astype(np.float64) - base
        case Sparse(index=index, value=value):
            difference, where = np.zeros(base.size), load(index.digest)
            if len(where) and int(where.max()) >= base.size:
                raise Hostile("a sparse change points past the end of its tensor")
            if (
                where[1:] <= where[:-1]
            ).any():  # a position twice has two values, and which one counts is nobody's rule
                raise Hostile("a sparse change does not name its positions once each, in rising order")
            difference[where] = load(value.digest).astype(np.float64) - base.reshape(-1)[where]
            return None, difference.reshape(base.shape)

"""The fold: a base and a set of deltas make one model, the same bytes for everybody.

The contributions are a set: they are sorted by what they say before anything is computed, so no order of merging can
show. A tensor nobody changed is the base's own. A change d (m, n), with a sketch G (n, n) of the inputs it is for:

    covariance, mean,      d_1 G_1 + d_2 G_2 + ... = N (m, n) --+
    task arithmetic            G_1 +     G_2 + ... = S (n, n) --+--> finish -------------+
                                                                                         +--> base + D, rounded once
    any other method       d_1, d_2, ... -----> apply_method --> D = D_1 + D_2 + ... ----+

The sums are whole numbers on a grid (sums.py): who joins is added, who leaves is subtracted, and the bits are the same
as of all folded anew. Embeddings and heads are merged row by row, norms and biases by the mean.

    merged = Fold(base, {digest: delta}, load, method="covariance")
    merged["model.layers.0.mlp.up_proj.weight"]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from souq.errors import Hostile
from souq.merge import sums
from souq.merge.exact import Float, round_once
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
    mean,
    settings_of,
    solve,
    weight_of_base,
)
from souq.merge.sums import UNIT, Kept, Sums, Whole, gram_numbers, numbers
from souq.records import Digest
from souq.weights.delta import Array, Checkpoint, Delta, Dense, Gram, Load, Lora, Part, Sparse, dtype_name
from souq.weights.lockfile import format_delta

if TYPE_CHECKING:  # a doubter merges whole tensors
    from souq.merge.strip import Strip


class Fold(Mapping[str, Array]):
    """The merged checkpoint, lazy: each tensor is computed when it is asked for.

    `deltas` join what was `kept` of an earlier fold, and those who `left` it are taken out again: the same bytes as
    all of them folded anew (merge/sums.py); `member` finds the delta of one who was kept. `changed` names the tensors
    that are not the base's own.
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
        member: Callable[[Digest], Delta] | None = None,
    ) -> None:
        self._settings = settings_of(method) | dict(settings or {})
        check_settings(method, settings or {})
        self.load, self._base, self._sketch = load, base, base_sketch
        # One tensor a thread: every contribution to it and the last sum ask for it anew.
        self._stored: Callable[[str], Array] = lru_cache(maxsize=os.cpu_count() or 1)(base.__getitem__)
        # By what they say, not by who signed them: the model is a function of base and deltas alone.
        self.deltas = dict(sorted(deltas.items(), key=lambda item: format_delta(item[1])))
        self._find = member
        self.method, self._merge = method, METHODS[method]
        self._gram = lru_cache(maxsize=4 * (len(self.deltas) + 1))(self._read_gram)
        self.sums = None
        self._weights = {digest: round(weight * UNIT) / UNIT for digest, weight in (weights or {}).items()}
        if method in SUMS:
            sketch = self._gram if SUMS[method] else None
            self.sums = Sums(kept or Kept(), self.deltas, left or {}, self._change_of, sketch, weights, self._is_table)
        self._factors: Callable[[Part, Array], tuple[Float | None, Float]] = lambda part, wide: factors(
            part, wide, load
        )
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
            if self.is_alone(name):
                return self.alone(name)
            group = self.group(name)
            return self.finish(name, self.sums.top(name), self._known(group, name) if group else None)
        wide = self.base(name)
        for change in self.merged(name, list(self._changes(name, wide).values())):
            wide += change.whole()
        return round_once(wide, dtype_name(self._stored(name).dtype))

    # -- sums --------------------------------------------------------------------------------------------------------

    def group(self, name: str) -> tuple[int, int, int, str] | None:
        """What the tensors that share one system of sketches have in common; None where a tensor needs none."""
        assert self.sums is not None
        tally = self.sums.tallies[name]
        if not tally.known:
            return None
        return tally.sketch_set, tally.unsketched_weight, tally.count, self._input_of(name) or ""

    def _balanced(self, group: object, name: str) -> Balanced:
        assert self.sums is not None
        return self.balanced(name, self.sums.gram(name))

    def balanced(self, name: str, gram: Whole) -> Balanced:
        """The system of sketches of a tensor (and of all of its group), ready to divide by.

        `gram` is S, int64 (n (n + 1) / 2,), as `Sums.gram` gives it; the answer is float64, (n, n) and (n,).
        """
        assert self.sums is not None
        n = round((2 * gram.size) ** 0.5 - 0.5)
        unsketched, weight = self.sums.tallies[name].unsketched_weight / UNIT, self._weight_of_base(name)
        ridge = self._settings["ridge"]
        return balance(gram_numbers(gram, n), unsketched, self._base_sketch(name), base_weight=weight, ridge=ridge)

    def _weight_of_base(self, name: str) -> float:
        assert self.sums is not None
        settings = self._settings
        return weight_of_base(self.sums.tallies[name].count, settings["base_weight"], settings["base_share"])

    def is_alone(self, name: str) -> bool:
        """Whether one change is all that there is to a tensor, and the base is silent: it is kept to the last bit."""
        assert self.sums is not None
        is_solved = self.method == "covariance" and not self._is_table(name)
        return is_solved and self.sums.tallies[name].count == 1 and self._weight_of_base(name) == 0

    def alone(self, name: str) -> Array:
        """The merged tensor, of the base's shape and dtype, where `is_alone`."""
        assert self.sums is not None
        wide = self.base(name)
        wide += self._change(name, self._member(self.sums.only(name)), wide).whole()
        return round_once(wide, dtype_name(self._stored(name).dtype))

    def finish(self, name: str, top: Whole, balanced: Balanced | None) -> Array:
        """The merged tensor, (m, n) or (n,) in the base's dtype, from its sums.

        `top` is N, int64, as `Sums.top` gives it: of the tensor's shape, a table's (m, n + 1). `balanced` is the system
        of the tensor's group (`balanced`), None where nobody brought a sketch.
        """
        assert self.sums is not None
        base = self._stored(name)
        if self._is_table(name):
            change = sums.by_rows(top)
        elif balanced is not None:
            change = solve(numbers(top), balanced)
        elif self.method == "task-arithmetic" and top.ndim == 2:
            change = numbers(top) * self._settings["scale"]
        else:
            change = numbers(top) / (self.sums.tallies[name].mass / UNIT)
        change += base.astype(np.float64)
        return round_once(change, dtype_name(base.dtype))

    def _is_table(self, name: str) -> bool:
        """Whether a tensor is merged row by row: embeddings and heads, by the methods for linear layers."""
        return self._merge in MATRICES and name.endswith(VOCABULARY)

    def _input_of(self, name: str) -> str | None:
        """Which of the base's sketches is of the inputs of this tensor."""
        return self._sketch.inputs.get(name) if self._sketch else None

    def _base_sketch(self, name: str) -> Sketch | None:
        source = self._input_of(name)
        return self._gram(self._sketch.grams[source]) if self._sketch and source else None

    def _member(self, digest: Digest) -> Delta:
        if digest in self.deltas:
            return self.deltas[digest]
        assert self._find is not None, "a fold of what was kept must know how to find it"
        return self._find(digest)

    # -- contributions -----------------------------------------------------------------------------------------------

    def base(self, name: str) -> Float:
        """The tensor before any change, of its shape, in float64."""
        return self._stored(name).astype(np.float64)

    def changes(self, name: str) -> dict[Digest, Change]:
        """What each contribution that changes a tensor does to it."""
        return self._changes(name, self.base(name))

    def _changes(self, name: str, wide: Float) -> dict[Digest, Change]:
        return {
            digest: replace(self._change(name, delta, wide), weight=self._weights.get(digest, 1.0))
            for digest, delta in self.deltas.items()
            if name in delta.parts
        }

    def merged(self, name: str, changes: Sequence[Change]) -> list[Change]:
        """What the method makes of some changes to a tensor; the answers add up to the merged change."""
        return self.apply_method(name, changes, self._merge, self._settings)

    def apply_method(
        self, name: str, changes: Sequence[Change], method: Method, settings: Mapping[str, Any]
    ) -> list[Change]:
        """What a method, be it another than the fold's, makes of some changes to a tensor; the answers add up."""
        if changes[0].right.ndim != 2:  # norms and biases have no inputs: the mean over who changed them
            return mean(changes, None)
        if method in MATRICES and name.endswith(VOCABULARY):
            return by_rows(changes)
        return method(changes, self._base_sketch(name), **settings)

    def _change_of(self, name: str, delta: Delta) -> Change:
        change = self._change(name, delta, self._stored(name))
        return change if SUMS[self.method] else change.to(change.right)

    def _change(self, name: str, delta: Delta, base: Array) -> Change:
        part, gram = delta.parts[name], delta.gram_of(name)
        left, right = self._factors(part, base)
        fits = right.shape[-1:] == base.shape[-1:] and (right if left is None else left).shape[:1] == base.shape[:1]
        if not fits or (gram is not None and gram.diag.shape != base.shape[-1:]):
            raise Hostile(f"the change to {name} does not have the shape of the base, {base.shape}")
        return Change(left, right, self._gram(gram) if gram else None)

    def rows(self, base: Array, strip: Strip) -> Fold:
        """This fold for some rows of a tensor that is too large to hold, `base` of them; for methods that are sums.

        A row of a sum, and of what is made of it, asks for no other row: the bits are those of the whole. Nothing may
        have been kept of earlier folds.
        """
        view = copy(self)
        view._stored = lambda name: base
        view._factors = lambda part, wide: factors(part, wide, self.load, strip)
        if self.sums is not None:
            view.sums = copy(self.sums)
            view.sums.change = view._change_of
        return view

    def _read_gram(self, gram: Gram) -> Sketch:
        return Sketch(self.load(gram.factor.digest).astype(np.float64), self.load(gram.diag.digest).astype(np.float64))


Factors = tuple[Float | None, Float]


def factors(part: Part, base: Array, load: Load, strip: Strip | None = None) -> Factors:
    """A part as left (m, r) and right (r, n), or None and the difference from the base (m, n) or (n,); float64.

    With a `strip`, of its rows, as `base` is then.

    Raises:
        Hostile: a sparse change whose positions do not rise, or leave the tensor.
    """
    match part:
        case Lora(a=a, b=b, scale=scale):
            left = load(b.digest) if strip is None else strip.of(load(b.digest))
            return left.astype(np.float64), load(a.digest).astype(np.float64) * scale
        case Dense(value=value):
            new = load(value.digest) if strip is None else strip.read(value, strip.start, strip.stop)
            return None, new.astype(np.float64) - base.astype(np.float64, copy=False)
        case Sparse(index=index, value=value):
            difference, where, new = np.zeros(base.size), load(index.digest), load(value.digest)
            size = base.size if strip is None else base.size // len(base) * strip.height
            if len(where) and int(where.max()) >= size:
                raise Hostile("a sparse change points past the end of its tensor")
            if (where[1:] <= where[:-1]).any():  # a position named twice has two values
                raise Hostile("a sparse change does not name its positions once each, in rising order")
            if strip is not None:
                where, new = strip.flat(where, new, base.shape[1])
            difference[where] = new.astype(np.float64) - base.reshape(-1)[where].astype(np.float64)
            return None, difference.reshape(base.shape)

"""Tensors of a model, computed group by group: those that share one system of sketches solve it once.

It knows a fold and where its tensors go in the model; neither who asks for them nor what is done with them.

    merger = Merger(fold, grown, load, wanted)
    for group in merger.groups: dict(merger.tensors(group))
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path

from souq.build.cache import BuildCache
from souq.merge import Fold
from souq.merge.grow import Grown, Larger
from souq.merge.methods import Balanced
from souq.merge.sums import Whole
from souq.weights.delta import Array, Load


class Merger:
    """Those of the `wanted` tensors that contributions have changed; their sums are kept where a `cache` is given."""

    def __init__(
        self, fold: Fold, grown: Grown, load: Load, wanted: Collection[str], cache: BuildCache | None = None,
        sums: str = "",
    ) -> None:  # fmt: skip
        self.fold, self._grown, self._load = fold, grown, load
        self._cache, self._sums = cache, sums
        places = {own: set(wanted).intersection(names) for own, names in grown.places.items()}
        self.places = {own: sorted(places[own]) for own in sorted(places) if own in fold.changed and places[own]}
        """Tensors of the base that are merged, and the wanted ones that are made of each."""

    @cached_property
    def groups(self) -> list[list[str]]:
        """Tensors of the base, those together that share one system; the largest first, so that none is waited for."""
        groups: dict[object, list[str]] = {}
        for own in self.places:
            group = self.fold.group(own) if self.fold.sums else None
            groups.setdefault(own if group is None else group, []).append(own)
        return sorted(groups.values(), key=self._size, reverse=True)

    def first(self, group: Sequence[str]) -> str:
        """A tensor of the model by which a group is called: the base's own names may be those of others there."""
        return self.places[group[0]][0]

    def _size(self, group: Sequence[str]) -> int:
        return sum(math.prod(self._grown.layout[name][1]) for own in group for name in self.places[own])

    def tensors(self, group: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """The tensors of the model that are made of a group's, by name."""
        for own, array in self._merged(group):
            larger = Larger({own: array}, self._grown, self._load)
            yield from ((name, larger[name]) for name in self.places[own])

    def keeping(self, cache: BuildCache, sums: str) -> Merger:
        """The same, which keeps its sums."""
        other = copy(self)
        other._cache, other._sums = cache, sums
        return other

    def balanced(self, group: Sequence[str]) -> Balanced | None:
        """The system of sketches that a group shares; None where its tensors need none."""
        sums = self.fold.sums
        if sums is None or self.fold.group(group[0]) is None:
            return None
        gram = sums.gram(group[0])
        if self._cache:
            self._keep(self._cache.gram(sums.tallies[group[0]]), gram)
        return None if self.fold.is_alone(group[0]) else self.fold.balanced(group[0], gram)

    def _merged(self, group: Sequence[str]) -> Iterator[tuple[str, Array]]:
        sums = self.fold.sums
        if sums is None:
            yield from ((own, self.fold[own]) for own in group)
            return
        balanced = self.balanced(group)
        for own in group:
            top = sums.top(own)
            if self._cache:
                self._keep(self._cache.top(self._sums, own, sums.tallies[own]), top)
            yield own, self.fold.alone(own) if self.fold.is_alone(own) else self.fold.finish(own, top, balanced)

    def _keep(self, path: Path, array: Whole) -> None:
        try:
            assert self._cache is not None
            self._cache.keep(path, array)
        except OSError:
            return  # a full disk: the next build computes it again

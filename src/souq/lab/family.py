"""Models that differ in a few tensors, asked side by side: what is the same in them is in memory once, and what flows
out of the layers that are the same is computed once, whichever of them is asked, today or for the next pull request.

Tensors are compared by the digests in the models' locks. Where main and main with a change part, there the network is
taken apart (halves.py), a little below where that saves keeping states of many depths.

    family = Family(repo.cache, lambda: (before.lock, after.lock))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from souq.lab.score_cache import Conditions
from souq.records import Digest, digest_files, digest_of
from souq.weights.delta import Checkpoint, Lock

DEPTHS = 6  # places at which a network is taken apart: states of one layer serve all changes from there up
FORM = 1  # one more whenever states are kept otherwise


@dataclass
class Family:
    """Models of one kind, as they are loaded; `parting` has the locks of two, from where whose first difference up all
    are taken apart."""

    cache: Path
    parting: Callable[[], tuple[Lock, Lock]] | None = None
    _loaded: list[tuple[Digest, Lock, Any]] = field(default_factory=list)
    _states: dict[Digest, Any] = field(default_factory=dict)

    def lm(
        self, files: Mapping[str, bytes], weights: Checkpoint, lock: Lock, measure: Mapping[str, bytes] | None
    ) -> Any:
        """A model, which shares the tensors that are those of one before it."""
        from souq.lab import halves, lm

        name = digest_files(dict(files))
        made = None
        for other, theirs, loaded in self._loaded:
            if made is None and other == name and theirs.keys() == lock.keys():
                made = lm.twin(loaded, weights, {each for each in lock if lock[each] != theirs[each]})
                if made is not None:
                    halves.alike(loaded.net, made.net)
        made = made or lm.load(files, weights, measure=measure)
        self._loaded.append((name, lock, made))
        return made

    def below(self, lm: Any, files: Mapping[str, bytes], lock: Lock, under: Conditions) -> Any:
        """The states that flow into the layer where the two part, for a model; None where they share no layer."""
        from souq.lab.halves import layers_of
        from souq.lab.lower_states import LowerStates

        path, layers = layers_of(lm.net)
        step = max(1, -(-len(layers) // DEPTHS))
        depth = self._lowest(lm, path) // step * step if layers and self._apart else 0
        if not depth:
            return None
        upper = {lm.names[own] for own in lm.names if _layer(own, path) >= depth}
        lower = {name: ref.digest for name, ref in lock.items() if name not in upper}
        key = digest_of([FORM, under.engine, under.arithmetic, digest_files(dict(files)), depth, lower])
        return self._states.setdefault(key, LowerStates(self.cache / "lower", key, depth))

    @cached_property
    def _apart(self) -> frozenset[str]:
        """The names of the tensors that differ."""
        one_lock, other = self.parting() if self.parting is not None else ({}, {})
        return frozenset(name for name in {**one_lock, **other} if one_lock.get(name) != other.get(name))

    def _lowest(self, lm: Any, path: str) -> int:
        """The lowest layer that holds one of them; 0 where one stands in no layer."""
        places = [_layer(own, path) for own, stored in lm.names.items() if stored in self._apart]
        if self._apart - set(lm.names.values()):
            return 0
        return max(0, min(places, default=0))


def _layer(name: str, path: str) -> int:
    """In which layer of those at `path` a tensor of the network is; -1 for in none."""
    number = name.removeprefix(f"{path}.").partition(".")[0] if name.startswith(f"{path}.") else ""
    return int(number) if number.isdecimal() else -1

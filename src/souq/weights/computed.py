"""A checkpoint whose tensors are made when they are asked for.

halves = Computed({name: partial(half, weights, name) for name in weights})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from souq.weights.delta import Array


class Computed(Mapping[str, Array]):
    """Tensors by name, in the order given; none is kept."""

    def __init__(self, make: Mapping[str, Callable[[], Array]]) -> None:
        self._make = make

    def __getitem__(self, name: str) -> Array:
        return self._make[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)

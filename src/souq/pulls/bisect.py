"""Many changes, few tests: which of them pass together, which fail alone, which fail only with others.

Pure: a test is a function of a set of changes, and what is set aside is named, never guessed. What is accepted is
always a set that was itself tested, whatever the tests are like; fewer tests are run where few changes are bad.

    >>> settle([1, 2, 3, 4], lambda changes: 3 not in changes).accepted
    (1, 2, 4)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Passes = Callable[[Sequence[T]], bool]


@dataclass(frozen=True)
class Settled(Generic[T]):
    """What came of a batch, each part in the order of the queue."""

    accepted: tuple[T, ...]  # these were tested together and pass
    bad: tuple[T, ...]  # each fails alone
    apart: Mapping[T, tuple[T, ...]]  # passes alone, and fails together with these, which are accepted

    @property
    def whole(self) -> bool:
        return not self.bad and not self.apart


def settle(changes: Sequence[T], passes: Passes[T]) -> Settled[T]:
    """Test all together; where that fails, find who it is by halving, set them aside, and go on with the others.

    One test for a good batch; for each that is set aside about log2 n more. The first in the queue go before: of two
    that fail only together, the later one waits. `passes` is asked about sets in the order of the queue.
    """
    accepted: tuple[T, ...] = ()
    bad: list[T] = []
    apart: dict[T, tuple[T, ...]] = {}
    rest = tuple(changes)
    while rest and not passes((*accepted, *rest)):
        whole, known = (*accepted, *rest), len(accepted)
        first = _shortest(whole, known, passes)
        accepted, odd, rest = whole[: first - 1], whole[first - 1], whole[first:]
        if not accepted or not passes((odd,)):
            bad.append(odd)
        else:
            apart[odd] = _partners(accepted, odd, passes)
    return Settled((*accepted, *rest), tuple(bad), apart)


def _shortest(some: Sequence[T], passing: int, passes: Passes[T]) -> int:
    """The length of a beginning that fails while the one shorter by one passes; all of it is known to fail."""
    failing = len(some)
    while failing - passing > 1:
        middle = (passing + failing) // 2
        passing, failing = (middle, failing) if passes(tuple(some[:middle])) else (passing, middle)
    return failing


def _partners(others: tuple[T, ...], odd: T, passes: Passes[T]) -> tuple[T, ...]:
    """A smallest set of others with which it fails (Zeller and Hildebrandt 2002: none of them can be left out).

    Found from the end: with those found so far, the shortest beginning that still fails ends in one more of them.
    """
    partners: tuple[T, ...] = ()
    left = others
    while left and (not partners or passes((*partners, odd))):
        end = _shortest(left, 0, lambda some, partners=partners: passes((*some, *partners, odd)))  # type: ignore[misc]
        partners, left = (left[end - 1], *partners), left[: end - 1]
    return partners

"""Where work is done that falls into pieces: here, or by whoever has room; lab/cluster.py knows Ray.

A task is sent whole and once to each worker, a piece with each question; doing a piece twice gives the same answer, so
a worker may die. It may lie as well: what can be computed again is, of every sixteenth piece, here.

    for done in checked(cluster, task, pieces):
        pieces[done.piece], done.answer, done.worker
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from souq.errors import Hostile

P = TypeVar("P", contravariant=True)
R = TypeVar("R", covariant=True)
A = TypeVar("A")

SPOT = 16  # pieces, of which one is done here as well on average


class Task(Protocol[P, R]):
    """What is to be done with each piece; it can be pickled and is small."""

    @property
    def cores(self) -> int:
        """How many a worker takes for it; 0 for as many as its machine has."""

    def ready(self) -> Callable[[P], R]:
        """Read what every piece needs; called once by each worker."""


@dataclass(frozen=True)
class Done(Generic[A]):
    """One piece's answer, and who gave it."""

    piece: int
    answer: A
    worker: str


class Workers(Protocol):
    """Who does it."""

    @property
    def store(self) -> str:
        """The URL of a store, for those who do not see the folders of this machine; may be empty."""

    def map(self, task: Task[P, A], pieces: Sequence[P]) -> Iterator[Done[A]]:
        """Every piece's answer, each once, as they come."""


def checked(
    workers: Workers, task: Task[P, A], pieces: Sequence[P], same: Callable[[A, A], bool] = lambda a, b: bool(a == b)
) -> Iterator[Done[A]]:
    """Every piece's answer as it comes; some, which no worker can guess, are computed here and compared.

    Whoever lies about k pieces is found out with a probability of 1 - (15/16)^k.

    Raises:
        Hostile: an answer is not what this machine computes.
    """
    here: Callable[[Any], Any] | None = None
    for done in workers.map(task, pieces):
        if secrets.randbelow(SPOT) == 0:  # drawn when the answer is here
            here = here or task.ready()
            if not same(done.answer, here(pieces[done.piece])):
                raise Hostile(
                    f"{done.worker} answers otherwise than this machine does: a lie, a fault, or another arithmetic",
                    hint="leave that machine out, or compute here, without --on",
                )
        yield done

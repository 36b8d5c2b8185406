"""Pages that were made: each once however many ask for it, by a few threads, and as many kept as a bound allows.

A page is named by what it was made of, so what is kept is never wrong; it may be forgotten at any time. Who asks waits
a while and is then told to come again, while the page is made on. One repository never takes all the threads.

    kept = Pages()
    html = await kept.get("atlas/smol", (commit, "pulls"), make, patience=2.0)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

from souq.errors import SouqError

WORKERS, EACH = 4, 2  # threads; of them at most so many for one repository
WAITING = 64  # pages that wait to be made
MOST_BYTES = 64 << 20  # of pages kept
Outcome = Any  # what was made, or the SouqError that says why it cannot be
Job = tuple[Hashable, Callable[[], Any], "Future[Outcome]"]


class Busy(SouqError):
    """It is not made yet: come again."""


class Pages:
    """What was made, what is being made, and who makes it."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._made: OrderedDict[Hashable, tuple[Outcome, int]] = OrderedDict()
        self._left, self._lock = most, Lock()
        self._coming: dict[Hashable, Future[Outcome]] = {}
        self._waiting: dict[str, deque[Job]] = {}
        self._at_work: dict[str, int] = {}
        self._threads = ThreadPoolExecutor(WORKERS, "souq-pages")

    async def get(self, whose: str, key: Hashable, make: Callable[[], Any], *, patience: float) -> Any:
        """What `make` makes of a repository, or made when it was last asked under this key.

        Raises:
            Busy: it is not made within `patience` seconds, or too much waits to be made.
            SouqError: it cannot be made.
        """
        with self._lock:
            future = self._known(key) or self._coming.get(key) or self._begin(whose, key, make)
        done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=patience)
        if not done:
            raise Busy("it is being made")
        outcome = future.result()
        if isinstance(outcome, SouqError):
            raise outcome
        return outcome

    def _known(self, key: Hashable) -> Future[Outcome] | None:
        if key not in self._made:
            return None
        self._made.move_to_end(key)
        known: Future[Outcome] = Future()
        known.set_result(self._made[key][0])
        return known

    def _begin(self, whose: str, key: Hashable, make: Callable[[], Any]) -> Future[Outcome]:
        """Have it made, when a thread is free for this repository."""
        if len(self._coming) >= WAITING:
            raise Busy("too much waits to be made")
        self._coming[key] = future = Future[Outcome]()
        job = (key, make, future)
        if self._at_work.get(whose, 0) < EACH:
            self._start(whose, job)
        else:
            self._waiting.setdefault(whose, deque()).append(job)
        return future

    def _start(self, whose: str, job: Job) -> None:
        self._at_work[whose] = self._at_work.get(whose, 0) + 1
        self._threads.submit(self._make, whose, job)

    def _make(self, whose: str, job: Job) -> None:
        key, make, future = job
        try:
            outcome = make()
        except SouqError as error:  # what cannot be made is not tried again and again
            outcome = error
        except BaseException as error:  # a fault of ours: whoever asked is told, and nothing is kept
            self._end(whose, key)
            future.set_exception(error)
            return
        self._end(whose, key, (outcome, len(outcome) if isinstance(outcome, bytes) else 1_000))
        future.set_result(outcome)

    def _end(self, whose: str, key: Hashable, made: tuple[Outcome, int] | None = None) -> None:
        """One is made: keep it, forget what was not asked for longest, and begin the next."""
        with self._lock:
            self._coming.pop(key)
            self._at_work[whose] -= 1
            if made is not None:
                self._made[key] = made
                self._left -= made[1]
            while self._left < 0:
                self._left += self._made.popitem(last=False)[1][1]
            if waiting := self._waiting.get(whose):
                self._start(whose, waiting.popleft())
            elif not self._at_work[whose]:
                self._at_work.pop(whose)
                self._waiting.pop(whose, None)

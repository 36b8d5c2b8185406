"""Work that many ask for and that is done once, by a few threads: who asks waits a while, or comes again.

It goes on when nobody waits any more, and whoever asks meanwhile waits for the same. No thread waits with them, and
one repository never takes all the threads.

    once = Once("pages", workers=4, each=2, most=64)
    html = await once.get("atlas/smol", (commit, "pulls"), make, patience=2.0)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

from souq.errors import SouqError

Job = tuple[Hashable, Callable[[], Any], "Future[Any]"]


class Busy(SouqError):
    """It is not done yet: come again."""


class Once:
    """What is being done, what waits, and the threads that do it: at most `each` of them for one repository."""

    def __init__(self, name: str, *, workers: int, each: int, most: int) -> None:
        self._each, self._most, self._lock = each, most, Lock()
        self._coming: dict[Hashable, Future[Any]] = {}
        self._waiting: dict[str, deque[Job]] = {}
        self._at_work: dict[str, int] = {}
        self._threads = ThreadPoolExecutor(workers, f"souq-{name}")

    async def get(self, whose: str, key: Hashable, make: Callable[[], Any], *, patience: float) -> Any:
        """What `make` gives, called for repository `whose` unless it is at work under this key already.

        Raises:
            Busy: it is not done within `patience` seconds, or too much waits.
            Exception: whatever `make` raised.
        """
        with self._lock:
            future = self._coming.get(key) or self._begin(whose, key, make)
        mine = asyncio.wrap_future(future)
        mine.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # who left is told nothing
        done, _ = await asyncio.wait([mine], timeout=patience)
        if not done:
            raise Busy("it is being made")
        return mine.result()

    def _begin(self, whose: str, key: Hashable, make: Callable[[], Any]) -> Future[Any]:
        """Have it done, when a thread is free for this repository."""
        if len(self._coming) >= self._most:
            raise Busy("too much waits to be made")
        self._coming[key] = future = Future[Any]()
        job = (key, make, future)
        if self._at_work.get(whose, 0) < self._each:
            self._start(whose, job)
        else:
            self._waiting.setdefault(whose, deque()).append(job)
        return future

    def _start(self, whose: str, job: Job) -> None:
        self._at_work[whose] = self._at_work.get(whose, 0) + 1
        self._threads.submit(self._do, whose, job)

    def _do(self, whose: str, job: Job) -> None:
        key, make, future = job
        try:
            outcome = make()
        except BaseException as error:  # whoever asked is told, even of a fault of ours
            self._end(whose, key)
            future.set_exception(error)
            return
        self._end(whose, key)
        future.set_result(outcome)

    def _end(self, whose: str, key: Hashable) -> None:
        """Let the next one of this repository begin."""
        with self._lock:
            self._coming.pop(key)
            self._at_work[whose] -= 1
            if waiting := self._waiting.get(whose):
                self._start(whose, waiting.popleft())
            elif not self._at_work[whose]:
                self._at_work.pop(whose)
                self._waiting.pop(whose, None)

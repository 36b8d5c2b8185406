"""Plain repositories kept quick to read: what many small commits left loose is packed, by a worker with nothing to do.

Git itself decides whether there is enough to be worth it, and keeps for two weeks what no ref leads to: a commit that
is being made lies there before its ref. Who backs up a repository holds it, and then nobody packs it.

    Tidy(Shelf(data, catalog)).round()
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from souq.errors import SouqError
from souq.hub.plain.repository import Plain
from souq.hub.plain.shelf import KINDS, Shelf

EVERY = 60.0  # seconds between two looks at a repository


class Tidy:
    """Looks at one repository after another."""

    def __init__(self, shelf: Shelf, every: float = EVERY) -> None:
        self._shelf, self._every, self._next = shelf, every, 0.0
        self._waiting: Iterator[Plain] = iter(())

    def round(self) -> bool:
        """Look at the next repository, if it is time to; whether something was packed."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._every
        if (repository := next(self._waiting, None)) is None:
            self._waiting = self._all()
            return False
        with suppress(SouqError):  # a broken one holds up no other; the doctor names it
            return packed(repository)
        return False

    def _all(self) -> Iterator[Plain]:
        for kind in KINDS:
            for name in list(self._shelf.names(kind)):
                with suppress(SouqError):  # it may be gone by now
                    yield self._shelf.open(kind, name)


def packed(repository: Plain) -> bool:
    """Whether a repository had enough that was loose, and has it no more; False while somebody holds it."""
    handle = os.open(repository.git_dir, os.O_RDONLY)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = repository.loose()
            repository.pack()
            return repository.loose() < before
        return False
    finally:
        os.close(handle)

"""How things stood when they were last looked at: which repositories there are, and whether a ref of one has moved.

A disk is looked at once a second, by one thread, however many ask; meanwhile the others are told what was seen last.

    looks = Looks(catalog)
    look = await looks.of("atlas/smol")
    look.repo, look.stamp, look.known
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from starlette.concurrency import run_in_threadpool

from souq.hub.catalog import Catalog, Entry
from souq.hub.pages.facts import Known
from souq.hub.pages.stamp import stamp
from souq.repo.remote import Repo

FRESH = 1.0  # seconds for which it is believed
MOST = 200  # repositories of which something is remembered
T = TypeVar("T")


class Look(NamedTuple):
    """A repository, in which state it is, and what is known of it in that state."""

    repo: Repo
    stamp: str
    known: Known


class Looks:
    """What was seen last of a hub's folder and of each repository in it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen: OrderedDict[str, tuple[float, Look]] = OrderedDict()
        self._listed: tuple[float, list[Entry]] | None = None
        self._looking: set[str] = set()

    async def of(self, name: str) -> Look:
        """One repository.

        Raises:
            SouqError: there is none of that name, or it cannot be read.
        """
        before = self._seen.get(name)
        if before is not None and (name in self._looking or time.monotonic() - before[0] < FRESH):
            return before[1]
        look = await self._look(name, lambda: self._at(name, before and before[1]))
        self._seen[name] = time.monotonic(), look
        self._seen.move_to_end(name)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        return look

    def _at(self, name: str, before: Look | None) -> Look:
        repo = self._catalog.open(name)
        now = stamp(repo)
        same = before is not None and (before.repo.git_dir, before.stamp) == (repo.git_dir, now)
        return Look(repo, now, before.known if before is not None and same else Known())

    async def entries(self) -> list[Entry]:
        """Every repository by name, with what is wrong with it."""
        before = self._listed
        if before is not None and ("" in self._looking or time.monotonic() - before[0] < FRESH):
            return before[1]
        listed = await self._look("", self._catalog.entries)
        self._listed = time.monotonic(), listed
        return listed

    async def _look(self, name: str, look: Callable[[], T]) -> T:
        self._looking.add(name)
        try:
            return await run_in_threadpool(look)
        finally:
            self._looking.discard(name)

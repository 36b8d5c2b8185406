"""What a repository's pages were made of, in one word: another once a ref has moved.

Git writes a ref beside its place and moves it there, so the time of a folder says whether any ref in it has changed;
no ref is read. What a policy says may turn on the time too: a page is also of its minute.

    stamp(repo), minute()    # "5f0e…", 29371402
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from souq.repo.git import GitRepo

FRESH = 1.0  # seconds for which it is believed
MINUTE = 60.0
MOST_FOLDERS = 100_000
MOST_KNOWN = 200  # repositories of which something is remembered
T = TypeVar("T")


class Stamps(Generic[T]):
    """The stamps of many repositories, each looked for at most once a second, and what is known of each under it."""

    def __init__(self, fresh: Callable[[], T], most: int = MOST_KNOWN) -> None:
        self._fresh, self._most, self._lock = fresh, most, Lock()
        self._stamps: OrderedDict[Path, tuple[float, str, T]] = OrderedDict()

    def of(self, repo: GitRepo) -> tuple[str, T]:
        """A repository's stamp, as it was a second ago or is now, and what is known of it as it then was."""
        with self._lock:
            at, old, known = self._stamps.get(repo.git_dir, (-FRESH, "", None))
        if known is not None and time.monotonic() - at < FRESH:
            return old, known
        now = stamp(repo)
        with self._lock:
            kept = known if known is not None and now == old else self._fresh()
            self._stamps[repo.git_dir] = time.monotonic(), now, kept
            self._stamps.move_to_end(repo.git_dir)
            while len(self._stamps) > self._most:
                self._stamps.popitem(last=False)
        return now, kept


def stamp(repo: GitRepo) -> str:
    """What changes whenever the repository does."""
    hashed = hashlib.sha256()
    for count, line in enumerate(_times(repo.git_dir)):
        hashed.update(line.encode("utf-8", "surrogateescape"))
        if count > MOST_FOLDERS:
            break
    return hashed.hexdigest()


def minute() -> int:
    """Which one it is."""
    return int(time.time() // MINUTE)


def _times(git_dir: Path) -> Iterator[str]:
    """When each folder of refs, and the file of packed ones, was changed last."""
    for name in ("packed-refs", "config", "souq/cache/queue.json"):
        with suppress(OSError):
            facts = (git_dir / name).stat()
            yield f"{name} {facts.st_mtime_ns} {facts.st_ino}\n"
    for place, folders, _ in os.walk(git_dir / "refs"):
        folders.sort()
        with suppress(OSError):
            yield f"{place} {Path(place).stat().st_mtime_ns}\n"

"""What a repository's pages were made of, in one word: another once a ref has moved, and once a minute has passed.

Git writes a ref beside its place and moves it there, so the time of a folder says whether any ref in it has changed;
no ref is read. A minute, because what a policy says may turn on the time.

    stamp(repo)    # "5f0e…"
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from souq.repo.git import GitRepo

FRESH = 1.0  # seconds for which it is believed
MINUTE = 60.0
MOST_FOLDERS = 100_000


class Stamps:
    """The stamps of many repositories, each looked for at most once a second."""

    def __init__(self) -> None:
        self._known, self._lock = dict[Path, tuple[float, str]](), Lock()

    def of(self, repo: GitRepo) -> str:
        """A repository's stamp, as it was a second ago or is now."""
        known = self._known.get(repo.git_dir)
        if known is None or time.monotonic() - known[0] > FRESH:
            with self._lock:
                known = self._known[repo.git_dir] = time.monotonic(), stamp(repo)
        return known[1]


def stamp(repo: GitRepo) -> str:
    """What changes whenever the repository does."""
    hashed = hashlib.sha256(b"%d" % (time.time() // MINUTE))
    for count, line in enumerate(_times(repo.git_dir)):
        hashed.update(line.encode("utf-8", "surrogateescape"))
        if count > MOST_FOLDERS:
            break
    return hashed.hexdigest()


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

"""What a repository's pages were made of, in one word: another once a ref has moved.

Git writes a ref beside its place and moves it there, so the time of a folder says whether any ref in it has changed;
no ref is read. What a policy says may turn on the time too: a page is also of its minute.

    stamp(repo), minute()    # "5f0e…", 29371402
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from souq.repo.git import GitRepo

MINUTE = 60.0
MOST_FOLDERS = 100_000


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

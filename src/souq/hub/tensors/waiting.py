"""Objects on their way in: apart by account and repository until a ref that needs them is pushed, and seen by nobody.

One that is cut goes on where it was. Whole, it is unpacked part by part and its digest computed before it waits. How
much may wait is bounded, for an account and in all, and after a week it goes.

    uploads = Uploads(data / "incoming")
    with closing(uploads.begin("ada", waiting, name, size)) as part: part.write(data)
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from souq.errors import Corrupt, Hostile, NotFound, Refused, SouqError
from souq.pulls.pull import PullRequest
from souq.records import Digest
from souq.repo.git import MAIN
from souq.repo.remote import Repo
from souq.repo.snapshot import needed
from souq.weights.bucket import MAX_OBJECT
from souq.weights.by_parts import keep
from souq.weights.store import Store

WEEK = 7 * 86_400  # seconds that an object waits for its ref
MOST_WAITING, MOST_OBJECTS = 64 << 30, 20_000  # bytes and objects of one account
MOST_IN_ALL = 256 << 30  # bytes
ROOM = 1 << 30  # bytes of disk that are left to others
FRESH = 30.0  # seconds that a count is good for
MOST_HEADS = 100  # the newest pull requests, whose objects may come after them
AT_ONCE = 2  # objects whose digests are computed
_PART = re.compile(r"[0-9a-f]{64}\.(\d{1,15})")


class Busy(Refused):
    """Somebody sends it at this moment."""


@dataclass
class Waiting(Store):
    """What one account has brought for one repository, read beside what the repository has."""

    behind: Store

    def path(self, name: Digest) -> Path:
        """Where an object of this name lies, here or in the repository; or would, here.

        Raises:
            Hostile: not a digest.
        """
        mine, theirs = super().path(name), self.behind.path(name)
        return theirs if theirs.is_file() and not mine.is_file() else mine

    def hand_over(self, names: Iterable[Digest]) -> None:
        """Give the repository those of some objects that wait, what others are differences from first."""
        mine = set(self.digests())
        for name in self.closure(name for name in names if name in mine):
            if name in mine:
                self.behind.adopt(name, file := super().path(name))
                file.unlink(missing_ok=True)


class Part:
    """An object on its way in: what has come of it."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        """Have nothing open; another request may go on."""
        os.close(self._handle)

    def write(self, data: bytes) -> None:
        """Some more of it."""
        while data:
            data = data[os.write(self._handle, data) :]


class Uploads:
    """What waits, below a folder; of one process, and others see the same folder."""

    def __init__(self, incoming: Path) -> None:
        self._folder, self._lock, self._judges = incoming / "tensors", threading.Lock(), threading.Semaphore(AT_ONCE)
        self._bytes, self._objects, self._came, self._counted = Counter[str](), Counter[str](), 0, -FRESH

    def waiting(self, account: str, name: str, repo: Repo) -> Waiting:
        """What an account has brought for a repository."""
        return Waiting(self._of(account) / hashlib.sha256(name.encode()).hexdigest()[:32], repo.store)

    def _of(self, account: str) -> Path:
        return self._folder / account

    def begin(self, account: str, waiting: Waiting, name: Digest, total: int) -> Part:
        """A file for an object of so many bytes, or what came of it before; where its sender hangs up, that stays.

        Raises:
            Refused: too much waits already.
            Busy: it comes by another request.
        """
        path = waiting.root / "parts" / f"{name[3:]}.{total}"
        if not path.is_file():
            self._reserve(account, total)
            path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.chmod(0o644)  # whoever was killed before it got its name may have closed it already
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_file() and path.stat().st_ino == os.fstat(handle).st_ino:  # else it has become an object
                return Part(path, handle)
        os.close(handle)
        raise Busy("another request sends this object: ask again in a moment")

    def forget_parts(self, waiting: Waiting, name: Digest) -> None:
        """Remove what came of an object that is whole by now: whoever was killed as it got its name could not."""
        for path in (waiting.root / "parts").glob(f"{name[3:]}.*"):
            with suppress(OSError), path.open("rb") as file:  # BlockingIOError: another request brings it
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def finish(self, waiting: Waiting, name: Digest, part: Part) -> None:
        """Have what came whole as an object that waits.

        Raises:
            Corrupt: it is not what its name says; nothing of it is kept.
            NotFound: what it is a difference from is not here.
        """
        try:
            with self._judges:
                keep(waiting, name, part.path)
        except (Corrupt, Hostile, NotFound):
            part.path.unlink(missing_ok=True)
            raise

    def _reserve(self, account: str, size: int) -> None:
        """Room for an object that is about to come."""
        if size > MAX_OBJECT:
            raise Refused(f"at most {MAX_OBJECT:,} bytes in one object")
        with self._lock:
            fresh = self._counted + FRESH > time.monotonic()
            if not fresh or self._too_much(account, size):
                self._count()
            if why := self._too_much(account, size):
                raise Refused(why)
            self._bytes[account] += size
            self._objects[account] += 1
            self._came += size

    def _too_much(self, account: str, size: int) -> str:
        if self._bytes[account] + size > MOST_WAITING or self._objects[account] >= MOST_OBJECTS:
            most = f"{MOST_WAITING:,} bytes or {MOST_OBJECTS:,} objects"
            return f"{account} has {most} here that no pull request points at: push one, or wait a week"
        place = next(path for path in (self._folder, *self._folder.parents) if path.is_dir())
        if self._came + size > MOST_IN_ALL or shutil.disk_usage(place).free - size < ROOM:
            return "this hub has no room for more that no pull request points at: ask whoever runs it"
        return ""

    def _count(self) -> None:
        """Count what waits and is on its way, and remove what nobody came back for.

        What somebody only announced is counted against them, and takes no room from others.
        """
        self._bytes, self._objects, self._came, self._counted = Counter(), Counter(), 0, time.monotonic()
        before = time.time() - WEEK
        for path in self._folder.glob("*/*/*/**/*"):
            with suppress(OSError):
                facts = path.stat()
                if facts.st_mtime < before and path.is_file():
                    path.unlink()
                elif path.is_file():
                    account = path.relative_to(self._folder).parts[0]
                    match = _PART.fullmatch(path.name)
                    self._bytes[account] += int(match[1]) if match else facts.st_size
                    self._objects[account] += 1
                    self._came += facts.st_size


# -- what refs point at ------------------------------------------------------------------------------------------------


def pointed_at(repo: Repo, ref: str, commit: str) -> list[Digest]:
    """The tensors that a ref needs once it points at a commit; none where nobody can read it."""
    with suppress(SouqError):
        if ref == MAIN:
            return needed(repo, {"main": commit})
        if match := re.fullmatch(r"refs/souq/pr/(\d+)/head", ref):
            return [each.digest for each in PullRequest(repo, int(match[1]), {"head": commit}).offer.refs()]
    return []


class Pointed:
    """Whether a ref points at a tensor already: main, or the head of one of the newest pull requests."""

    def __init__(self) -> None:
        self._known = dict[tuple[Path, str], frozenset[Digest]]()

    def __call__(self, repo: Repo, name: Digest) -> bool:
        """Whether one does."""
        return any(name in self._names(repo, ref, commit) for ref, commit in self._refs(repo))

    def _refs(self, repo: Repo) -> list[tuple[str, str]]:
        heads = [(ref, oid) for ref, oid in repo.refs("refs/souq/pr/").items() if ref.endswith("/head")]
        heads.sort(key=lambda row: int(row[0].split("/")[3]) if row[0].split("/")[3].isdigit() else 0)
        return [(MAIN, repo.commit(MAIN)), *heads[-MOST_HEADS:]]

    def _names(self, repo: Repo, ref: str, commit: str) -> frozenset[Digest]:
        key = (repo.git_dir, commit)
        if key not in self._known:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[key] = frozenset(pointed_at(repo, ref, commit))
        return self._known[key]

"""The files of revisions, kept in a folder: each file once by its sha256, each revision by the list of its files.

A list is written when all its files are there, and never changes, as clients keep what they were told of a revision for
ever. Several processes may share the folder. What was asked for longest ago goes when there is too much; it can be made
again.

    contents = Contents(data / "contents", most=64 << 30)
    listing = contents.get(revision.id) or contents.add(revision.id, folder)
    contents.path(listing["config.json"])
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from filelock import FileLock

from souq.files import beside, replacing
from souq.hub.listing import File, Listing

MOST = 64 << 30  # bytes of revisions that a hub keeps
KEPT = 600  # seconds that a revision stays after it was asked for, where there is not twice too much
_CHUNK = 1 << 22


class Contents:
    """The files of revisions below a folder, at most `most` bytes of them."""

    def __init__(self, folder: Path, most: int) -> None:
        self._files, self._lists, self._most = folder / "files", folder / "revisions", most
        self._making = folder / "making"
        for each in (self._files, self._lists, self._making):
            each.mkdir(parents=True, exist_ok=True)
        self._known = dict[str, tuple[float, Listing]]()

    def get(self, revision: str) -> Listing | None:
        """The files of a revision, where it is here; it counts as asked for."""
        looked, listing = self._known.get(revision, (0.0, None))
        if listing is not None and time.monotonic() - looked < KEPT / 10:
            return listing
        self._known.pop(revision, None)
        with suppress(OSError, msgspec.MsgspecError):
            os.utime(note := self._lists / revision)
            listing = msgspec.json.decode(note.read_bytes(), type=dict[str, File])
            if len(self._known) > 1_000:
                self._known.clear()
            self._known[revision] = time.monotonic(), listing
            return listing
        return None

    def path(self, file: File) -> Path:
        """Where its bytes are."""
        return self._files / file.sha256

    def forget(self, revision: str) -> None:
        """A revision of which a file is gone is not here."""
        self._known.pop(revision, None)
        (self._lists / revision).unlink(missing_ok=True)

    @contextmanager
    def making(self, revision: str) -> Iterator[Path]:
        """An empty folder to make a revision in, which nobody else makes meanwhile; gone on leaving."""
        lock = self._making / f"{revision}.lock"
        with FileLock(lock), beside(self._making / revision) as scratch:
            (folder := scratch / "new").mkdir()
            yield folder
        lock.unlink(missing_ok=True)

    def add(self, revision: str, folder: Path) -> Listing:
        """Take the files of a folder, which are moved, as those of a revision."""
        listing = dict[str, File]()
        with FileLock(self._making / "lock"):
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                listing[path.relative_to(folder).as_posix()] = file = _named(path)
                path.replace(self._files / file.sha256)
            with replacing(self._lists / revision) as partial:
                partial.write_bytes(msgspec.json.encode(listing))
            self._make_room()
        return listing

    def _make_room(self) -> None:
        """Remove revisions, that of longest ago first, and files that none has.

        One that was asked for just now stays until there is twice too much; the newest stays.
        """
        notes = sorted((note for note in self._lists.iterdir() if len(note.name) == 40), key=_age, reverse=True)
        held = {note: self._sizes(note) for note in notes}
        for note in notes[:-1]:
            used = sum({name: size for files in held.values() for name, size in files.items()}.values())
            if used > (self._most if _age(note) > KEPT else 2 * self._most):
                note.unlink(missing_ok=True)
                del held[note]
        wanted = set().union(*held.values())
        for path in self._files.iterdir():
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def _sizes(self, note: Path) -> dict[str, int]:
        with suppress(OSError, msgspec.MsgspecError):
            files = msgspec.json.decode(note.read_bytes(), type=dict[str, File])
            return {file.sha256: file.size for file in files.values()}
        return {}


def _age(note: Path) -> float:
    """Seconds since it was asked for."""
    with suppress(OSError):
        return time.time() - note.stat().st_mtime
    return 0.0


def _named(path: Path) -> File:
    """A file by its names, read once."""
    size = path.stat().st_size
    by_content, by_git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            by_content.update(chunk)
            by_git.update(chunk)
    return File(size, by_content.hexdigest(), by_git.hexdigest())

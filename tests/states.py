"""A folder that many things happen to: what of it is otherwise than before, and how it becomes again what it was.

Neither costs more than a look at each name, and the bytes of what moved. That a file is the same is known by the time
of its last change, which nobody can set: `touch` sets another one.

    kept = Kept(Path("before"), Path("town"))    # a copy, with what `cp -a` keeps
    state = kept.state()                         # ... after something happened there
    state.seen_by({"hub.git", "mallory"})        # one word for all that differs there; "" where nothing does
    kept.restore()

Two states are one where every name has the same bytes and rights. What cannot matter is left out: when a file was
written, which number its inode has (git's index repeats both), and what a name is by chance.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

Facts = tuple[int, ...]

# Names by chance: of what is being made (files.py), of git's own halves, of a scratch folder, and a process's number.
_CHANCE = [
    (re.compile(r"\.([^/]{0,40})-[a-z0-9_]{8}\.part(?=/|$)"), r".\1-#.part"),
    (re.compile(r"tmp_(obj|pack|idx|rev|objdir-[a-z]+)[_-]\w{6}(?=/|$)"), r"tmp_\1_#"),
    (re.compile(r"\.souq-clock-[a-z0-9_]{8}$"), ".souq-clock-#"),
    (re.compile(r"^tmp/([^/]*?)[a-z0-9_]{8}(?=/|$)"), r"tmp/\1#"),
]


@dataclass(frozen=True)
class State:
    """What differs from before: for each name, what is there now."""

    rows: tuple[tuple[str, str], ...]

    def seen_by(self, tops: Collection[str] | None = None) -> str:
        """One word for it; with `tops`, for what is in these folders only."""
        seen = [row for row in self.rows if tops is None or row[0].partition("/")[0] in tops]
        return hashlib.sha256(repr(seen).encode()).hexdigest() if seen else ""

    @property
    def tops(self) -> set[str]:
        """The folders in which something differs."""
        return {path.partition("/")[0] for path, _ in self.rows}


class Kept:
    """A folder, and the one it is a copy of."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["cp", "-a", source, folder], check=True)
        self._was = dict(_walked(folder))
        self._bytes: dict[str, str] = {}  # of the source, where they were asked for

    def names(self) -> list[str]:
        """Every file and folder that is there now."""
        return [path for path, _ in _walked(self.folder)]

    def state(self) -> State:
        """What is there now and was not, or was otherwise."""
        now = dict(_walked(self.folder))
        moved = [path for path, facts in now.items() if facts != self._was.get(path)]
        rows = [(_plain(path), _told(self.folder / path, path)) for path in moved if not self._same(path, now[path])]
        rows += [(path, "gone") for path in self._was.keys() - now.keys()]
        return State(tuple(sorted(rows)))

    def _same(self, path: str, facts: Facts) -> bool:
        """Whether what was written anew, or touched, is what was there."""
        if (was := self._was.get(path)) is None:
            return False
        if stat.S_ISDIR(facts[0]) or was[0] != facts[0]:
            return was[0] == facts[0]
        if path not in self._bytes:
            self._bytes[path] = _told(self.source / path, path)
        return _told(self.folder / path, path) == self._bytes[path]

    def restore(self) -> None:
        """As it was: what is new goes, and what moved is copied again."""
        now = dict(_walked(self.folder))
        moved = {path for path, facts in now.items() if facts != self._was.get(path)}
        for path in sorted(moved, reverse=True):  # what is in a folder before the folder
            if not stat.S_ISDIR(now[path][0]):
                (self.folder / path).unlink()
            elif path not in self._was or not stat.S_ISDIR(self._was[path][0]):
                (self.folder / path).rmdir()
        again = moved & self._was.keys() | self._was.keys() - now.keys()
        for path in sorted(again):
            if stat.S_ISDIR(self._was[path][0]):
                (self.folder / path).mkdir(exist_ok=True)
            else:
                shutil.copy2(self.source / path, self.folder / path, follow_symlinks=False)
        above = {parent for path in moved | again if (parent := path.rpartition("/")[0]) in self._was}
        for path in sorted({path for path in again if stat.S_ISDIR(self._was[path][0])} | above, reverse=True):
            shutil.copystat(self.source / path, self.folder / path)
        for path in again | above:
            self._was[path] = _facts((self.folder / path).lstat())


def _walked(folder: Path, below: str = "") -> Iterator[tuple[str, Facts]]:
    """Every name in it, and what tells whether somebody touched it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            facts, path = _facts(entry.stat(follow_symlinks=False)), below + entry.name
            yield path, facts
            if stat.S_ISDIR(facts[0]):
                yield from _walked(Path(entry.path), f"{path}/")


def _facts(of: os.stat_result) -> Facts:
    if stat.S_ISDIR(of.st_mode):
        return of.st_mode, of.st_mtime_ns
    return of.st_mode, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns


def _plain(path: str) -> str:
    for chance, instead in _CHANCE:
        path = chance.sub(instead, path)
    return path


def _told(place: Path, path: str) -> str:
    """What lies there, in a few words: rights, how many names it has, and its bytes."""
    facts = place.lstat()
    if stat.S_ISDIR(facts.st_mode):
        return f"{facts.st_mode:o}"
    data = os.fsencode(place.readlink()) if stat.S_ISLNK(facts.st_mode) else place.read_bytes()
    data = _without_stamps(data) if path.endswith("/.git/index") else data
    return f"{facts.st_mode:o} {facts.st_nlink} {hashlib.sha256(data).hexdigest()}"


def _without_stamps(index: bytes) -> bytes:
    """Git's index without what it remembers of its files' times and inodes, and without its sum over those."""
    if index[:8] != b"DIRC\0\0\0\x02":
        return index
    rows, at = [], 12
    for _ in range(int.from_bytes(index[8:12])):
        end = index.index(b"\0", at + 62)
        rows.append(index[at + 40 : end])  # its name of the bytes, flags, path
        at += (end - at + 8) // 8 * 8
    return b"\n".join([*rows, index[at:-20]])

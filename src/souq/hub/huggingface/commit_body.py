"""The body of a commit as clients send it: lines of JSON, in some of which stands a whole file as base64.

It is read as it comes. A file goes to the disk piece by piece while its line is read, so that what is held in memory is
a line without its file, however large the file is.

    body = Body(scratch)
    for part in parts:
        body.feed(part)
    commit = body.end()
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from souq.errors import Hostile
from souq.hub.huggingface.revisions import COMMIT
from souq.hub.plain.large import SHA256
from souq.hub.plain.repository import Added, Change, Removed
from souq.records import spelled_out

MOST_FILE = 100 << 20  # bytes of a file that comes in a commit
MOST_BODY = 4 << 30  # bytes of a commit
MOST_CHANGES = 25_000
MOST_LINE = 256 << 10  # bytes of a line without its file
MOST_SUMMARY, MOST_DESCRIPTION = 500, 64 << 10  # characters
_LONG = 16 << 10  # bytes of base64 from which on it is not kept in its line
_STOP, _END = re.compile(rb'["\n]'), re.compile(rb'["\\\n]')
_CONTENT = re.compile(rb'"content"[ \t]*:[ \t]*"\Z')


class _Header(msgspec.Struct, frozen=True, tag_field="key", tag="header"):
    class Value(msgspec.Struct, frozen=True):
        summary: str
        description: str = ""
        parentCommit: str | None = None  # as it is sent

    value: Value


class _File(msgspec.Struct, frozen=True, tag_field="key", tag="file"):
    class Value(msgspec.Struct, frozen=True):
        path: str
        content: str
        encoding: str = "utf-8"

    value: Value


class _LargeFile(msgspec.Struct, frozen=True, tag_field="key", tag="lfsFile"):
    class Value(msgspec.Struct, frozen=True):
        path: str
        oid: str
        algo: str = "sha256"
        size: int | None = None

    value: Value


class _Path(msgspec.Struct, frozen=True):
    path: str


class _Gone(msgspec.Struct, frozen=True, tag_field="key", tag="deletedFile"):
    value: _Path


class _GoneFolder(msgspec.Struct, frozen=True, tag_field="key", tag="deletedFolder"):
    value: _Path


_Line = _Header | _File | _LargeFile | _Gone | _GoneFolder
_DECODER = msgspec.json.Decoder(_Line)


@dataclass
class Commit:
    """What somebody asks to be changed."""

    summary: str = ""
    description: str = ""
    parent: str = ""
    changes: list[Change] = field(default_factory=list)

    @property
    def message(self) -> str:
        """As git keeps it."""
        return f"{self.summary}\n\n{self.description}".strip() + "\n"


class _Spool:
    """A file that comes as base64, on its way to the disk."""

    def __init__(self, place: Path) -> None:
        self.place, self._file, self._hash = place, place.open("wb"), hashlib.sha256()
        self._rest, self.size = b"", 0

    def write(self, text: bytes) -> None:
        """Take some more of it."""
        text = self._rest + text
        whole = len(text) - len(text) % 4
        if b"=" in text[:whole]:  # what stands after it is none of it
            whole = min(whole, (text.index(b"=") // 4) * 4)
            if len(text) - whole > 4:
                raise Hostile("base64 goes on after its end")
        self._rest = text[whole:]
        self._put(text[:whole])

    def end(self) -> str:
        """Its sha256, now that there is no more of it."""
        self._put(self._rest)
        self._file.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Have nothing open."""
        self._file.close()

    def _put(self, text: bytes) -> None:
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise Hostile(f"not base64: {error}") from error
        self.size += len(data)
        if self.size > MOST_FILE:
            raise Hostile(f"a file of more than {MOST_FILE >> 20} MiB comes by LFS, not in a commit")
        self._hash.update(data)
        self._file.write(data)


class Body:
    """The body of a commit, on its way in."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._commit = scratch, Commit()
        self._line, self._start = bytearray(), -1  # where the text that is being read begins in it
        self._escaped, self._word = False, ""
        self._spool: _Spool | None = None
        self._spooled: tuple[_Spool, str] | None = None
        self._read, self._lines = 0, 0

    def feed(self, part: bytes) -> None:
        """Take some more of it.

        Raises:
            Hostile: it is no commit, or larger than one may be.
        """
        self._read += len(part)
        if self._read > MOST_BODY:
            raise Hostile(f"a commit of more than {MOST_BODY >> 30} GiB: commit in parts")
        at = 0
        while at < len(part):
            at = self._outside(part, at) if self._start < 0 else self._inside(part, at)
        if len(self._line) > MOST_LINE:
            raise Hostile(f"line {self._lines + 1} has more than {MOST_LINE:,} bytes beside its file")

    def end(self) -> Commit:
        """What it asks for.

        Raises:
            Hostile: it is no commit.
        """
        if self._start >= 0:
            raise Hostile("the body ends in the middle of a text")
        self._take_line()
        if not self._commit.summary:
            raise Hostile("a commit says in its first line what it does: summary")
        return self._commit

    def close(self) -> None:
        """Have nothing open."""
        if self._spool is not None:
            self._spool.close()

    def _outside(self, part: bytes, at: int) -> int:
        """Read on to the next text or the end of the line; where that is."""
        match = _STOP.search(part, at)
        end = match.start() if match else len(part)
        self._line += part[at:end]
        if match is None:
            return end
        if match[0] == b"\n":
            self._take_line()
        else:
            self._line += b'"'
            self._start = len(self._line)
        return end + 1

    def _inside(self, part: bytes, at: int) -> int:
        """Read on to the end of a text; where that is."""
        if self._escaped:
            self._line += part[at : at + 1]
            self._escaped = False
            return at + 1
        match = _END.search(part, at)
        end = match.start() if match else len(part)
        self._take_text(part[at:end])
        if match is None:
            return end
        if match[0] == b"\n" or (match[0] == b"\\" and self._spool is not None):
            raise Hostile(f"line {self._lines + 1} is not JSON, or its base64 is none")
        if match[0] == b"\\":
            self._line += b"\\"
            self._escaped = True
        else:
            self._end_text()
        return end + 1

    def _take_text(self, text: bytes) -> None:
        if self._spool is None:
            self._line += text
            if len(self._line) - self._start <= _LONG or not _CONTENT.search(self._line, 0, self._start):
                return
            if self._spooled is not None:
                raise Hostile(f"line {self._lines + 1} holds two files")
            text = bytes(self._line[self._start :])
            del self._line[self._start :]
            self._spool = self._new_spool()
        self._spool.write(text)

    def _end_text(self) -> None:
        if self._spool is not None:
            self._spooled = self._spool, self._spool.end()
            self._word, self._spool = secrets.token_hex(16), None
            self._line += self._word.encode()
        self._line += b'"'
        self._start = -1

    def _new_spool(self) -> _Spool:
        return _Spool(self._scratch / f"upload-{len(self._commit.changes)}")

    def _take_line(self) -> None:
        line, self._line = bytes(self._line), bytearray()
        self._lines += 1
        if not line.strip():
            return
        try:
            value = _DECODER.decode(line)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise Hostile(f"line {self._lines}: {error}") from error
        self._take(value)
        self._spooled = None

    def _take(self, value: _Line) -> None:
        if isinstance(value, _Header):
            self._take_header(value.value)
            return
        if not self._commit.summary:
            raise Hostile("the first line of a commit is its header")
        if len(self._commit.changes) >= MOST_CHANGES:
            raise Hostile(f"more than {MOST_CHANGES:,} changes: commit in parts")
        if isinstance(value, _File):
            self._commit.changes.append(self._added(value.value))
        elif isinstance(value, _LargeFile):
            self._commit.changes.append(_large(value.value))
        else:
            path = value.value.path.removesuffix("/")
            self._commit.changes.append(Removed(path, isinstance(value, _GoneFolder)))

    def _take_header(self, header: _Header.Value) -> None:
        if self._commit.summary or self._commit.changes:
            raise Hostile("a commit has one header")
        summary = spelled_out(" ".join(header.summary.split()))
        if not 0 < len(summary) <= MOST_SUMMARY or len(header.description) > MOST_DESCRIPTION:
            raise Hostile(f"a summary has 1 to {MOST_SUMMARY} characters, a description at most {MOST_DESCRIPTION:,}")
        self._commit.summary, self._commit.description = summary, spelled_out(header.description)
        self._commit.parent = header.parentCommit or ""
        if self._commit.parent and not COMMIT.fullmatch(self._commit.parent):  # it is a word of git's command line
            raise Hostile("a parentCommit has 40 digits")

    def _added(self, value: _File.Value) -> Added:
        if self._spooled is not None:
            spool, sha256 = self._spooled
            if value.content != self._word or value.encoding != "base64":
                raise Hostile(f"line {self._lines} holds a file that is not in base64")
            return Added(value.path, sha256, spool.size, spool.place)
        spool = self._new_spool()
        try:
            text = value.content.encode()
            spool.write(text if value.encoding == "base64" else base64.b64encode(text))
            return Added(value.path, spool.end(), spool.size, spool.place)
        except UnicodeEncodeError as error:
            raise Hostile(f"line {self._lines} is not Unicode") from error
        finally:
            with suppress(OSError):
                spool.close()


def _large(value: _LargeFile.Value) -> Added:
    if value.algo != "sha256" or not SHA256.fullmatch(value.oid):
        raise Hostile(f"{value.path[:200]!r} is not named by a sha256")
    return Added(value.path, value.oid, value.size if value.size is not None else -1)

"""Large files on their way in: announced by who may write, sent by whoever holds the word for it, hashed on arrival.

A word opens one file once, and is kept as a hash. What came waits for the commit that names it, at most a day; how much
may wait is bounded for each account.

    word = arrivals.announce(Announced("amira", sha256, size))
    arrivals.receive(word) ...
    arrivals.take(sha256, "amira", large)
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from souq.errors import Hostile, NotFound, Refused
from souq.files import beside, replacing
from souq.hub.plain.large import SHA256, Large
from souq.records import Record

DAY = 86_400  # seconds that a word is good for, and that a file waits for its commit
MOST_WAITING = 200 << 30  # bytes of one account, announced or here
MOST_WORDS = 2_000  # of one account
_CHUNK = 1 << 20


class Announced(Record, frozen=True):
    """A file that somebody says will come."""

    account: str
    sha256: str
    size: int
    part: int = 0  # bytes of a part, where it comes in parts

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.size // self.part) if self.part else 1


class Receiver:
    """A file that is being received: its bytes, counted and hashed."""

    def __init__(self, place: Path, most: int) -> None:
        self._file, self._hash, self._most, self.size = place.open("wb"), hashlib.sha256(), most, 0

    def feed(self, data: bytes) -> None:
        """Take some more.

        Raises:
            Hostile: it is longer than it was said to be.
        """
        self.size += len(data)
        if self.size > self._most:
            raise Hostile(f"it is longer than the {self._most:,} bytes that were announced")
        self._hash.update(data)
        self._file.write(data)

    def close(self) -> None:
        """Have nothing open."""
        self._file.close()

    @property
    def sha256(self) -> str:
        """Of what came."""
        return self._hash.hexdigest()


class Arrivals:
    """Large files on their way in, below a folder."""

    def __init__(self, folder: Path) -> None:
        self._words, self._ready, self._parts = folder / "words", folder / "ready", folder / "parts"

    def announce(self, what: Announced) -> str:
        """A word by which a file may come, once.

        Raises:
            Refused: the account has too much on its way.
        """
        self._forget_old()
        mine = [each for each in map(self._read, self._notes()) if each is not None and each.account == what.account]
        ready = sum(path.stat().st_size for path in (self._ready / what.account).glob("*"))
        if len(mine) >= MOST_WORDS or sum(each.size for each in mine) + ready + what.size > MOST_WAITING:
            raise Refused(f"{what.account} has {MOST_WAITING >> 30} GiB or {MOST_WORDS:,} files on their way already")
        word = secrets.token_urlsafe(32)
        with replacing(self._words / _hashed(word)) as partial:
            partial.write_bytes(msgspec.json.encode(what))
        return word

    def of(self, word: str) -> Announced:
        """What a word is for.

        Raises:
            NotFound: it opens nothing, or no longer.
        """
        if (what := self._read(self._words / _hashed(word))) is None:
            raise NotFound("this address takes a file once, for a day: ask for another")
        return what

    @contextmanager
    def receiving(self, word: str, part: int = 0) -> Iterator[Receiver]:
        """Receive a file, or a part of it by its number; it is here when the block ends without an error.

        Raises:
            NotFound: the word opens nothing.
            Hostile: it is not what was announced.
        """
        what = self.of(word)
        size = min(what.part, what.size - (part - 1) * what.part) if part else what.size
        if not 0 <= part <= what.parts or bool(part) != bool(what.part):
            raise NotFound("this address takes no such part")
        place = self._parts / _hashed(word) / str(part) if part else self._ready / what.account / what.sha256
        with beside(place) as scratch:
            receiver = Receiver(scratch / "new", size)
            try:
                yield receiver
            finally:
                receiver.close()
            _refuse_other(receiver, size, "" if part else what.sha256)
            (scratch / "new").replace(place)
        if not part:
            self._end(word)
        else:
            (place.with_suffix(".sha256")).write_text(receiver.sha256)

    def join(self, word: str, tags: list[str]) -> None:
        """Make a file of its parts, which are called by what was answered for each.

        Raises:
            NotFound: the word opens nothing.
            Hostile: a part did not come, or together they are not what was announced.
        """
        what, folder = self.of(word), self._parts / _hashed(word)
        numbers = range(1, what.parts + 1)
        if not what.part or tags != [_read_tag(folder / f"{number}.sha256") for number in numbers]:
            raise Hostile("not every part came as it was answered for: send those that are missing")
        place = self._ready / what.account / what.sha256
        with beside(place) as scratch:
            receiver = Receiver(scratch / "new", what.size)
            for number in numbers:
                with (folder / str(number)).open("rb") as file:
                    while data := file.read(_CHUNK):
                        receiver.feed(data)
            receiver.close()
            _refuse_other(receiver, what.size, what.sha256)
            (scratch / "new").replace(place)
        self._end(word)

    def size(self, sha256: str, account: str) -> int | None:
        """How large a file is that an account sent and that waits; None where there is none."""
        with suppress(OSError):
            return (self._ready / account / sha256).stat().st_size
        return None

    def take(self, sha256: str, account: str, large: Large) -> None:
        """Have a file that waits be kept."""
        with suppress(FileNotFoundError):  # another commit took it meanwhile
            large.take(self._ready / account / sha256, sha256)

    def _end(self, word: str) -> None:
        (self._words / _hashed(word)).unlink(missing_ok=True)
        shutil.rmtree(self._parts / _hashed(word), ignore_errors=True)

    def _notes(self) -> list[Path]:
        return [path for path in self._words.glob("*") if SHA256.fullmatch(path.name)]

    def _read(self, note: Path) -> Announced | None:
        with suppress(OSError, msgspec.MsgspecError):
            if time.time() - note.stat().st_mtime < DAY:
                return msgspec.json.decode(note.read_bytes(), type=Announced)
        return None

    def _forget_old(self) -> None:
        """Remove what nobody came back for."""
        for path in (*self._notes(), *self._ready.glob("*/*")):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > DAY:
                    path.unlink()
        words = {path.name for path in self._notes()}
        for folder in self._parts.glob("*"):
            if SHA256.fullmatch(folder.name) and folder.name not in words:
                shutil.rmtree(folder, ignore_errors=True)


def _hashed(word: str) -> str:
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).hexdigest()


def _read_tag(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""


def _refuse_other(receiver: Receiver, size: int, sha256: str) -> None:
    if receiver.size != size or (sha256 and receiver.sha256 != sha256):
        raise Hostile(f"{receiver.size:,} bytes came that are not the {size:,} announced: send them again")

"""Tensors by digest at a souq hub: what a git remote behind http has beside its history.

Its address is the remote's, with /souq/store behind it. An object comes and goes in ranges: cut, it goes on where it
was. What arrives gets its name once its digest was computed on this side. No redirect is followed, so a token goes to
the hub that was named and nowhere else; to read, none is sent.

    there = hub_at("https://hub.example/atlas/smol", access)   # None where that is no souq hub
    there.copy(store, names)
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from souq.errors import Corrupt, NotFound, Refused, SouqError
from souq.records import Digest, Record, spelled_out
from souq.weights.bucket import PATIENCE, SLOWEST, SMALL, Bucket
from souq.weights.store import Store

PLACE, FORM = "souq/store", "souq objects 1"
PIECE = 32 << 20  # bytes that are sent at once: what a proxy may keep to itself before it passes them on
TRIES = 6  # without a byte more, before it is given up
QUESTIONS = 3  # how often the same is asked on a line that breaks
BUSY, LONGEST_WAIT = 60, 60  # how often a hub may say "later", and the most seconds of each
OFFSET = "Upload-Offset"
AGAIN = "run the same again: it goes on"
_CHUNK = 1 << 20


class Still(urllib.request.HTTPRedirectHandler):
    """What is asked for lies where it was said to: whoever points elsewhere is told no."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Nothing more is asked."""


_OPENER = urllib.request.build_opener(Still)


class Away(NotFound):
    """The hub does not answer, or no longer: another try may do."""


class _Store(Record, frozen=True):
    """What a hub says of its store."""

    store: str


class Access(Protocol):
    """Who asks, where that must be said."""

    def authorization(self) -> str: ...

    def reject(self) -> None: ...


def hub_at(remote: str, access: Access) -> Hub | None:
    """The store of a repository whose git address this is, without a user's name; None where no souq hub answers.

    Raises:
        NotFound: nobody answers at all.
    """
    hub = Hub(f"{remote.rstrip('/')}/{PLACE}", access)
    with hub.asked("GET", "") as reply:
        if reply.status == 200:
            with suppress(msgspec.MsgspecError):
                return hub if msgspec.json.decode(reply.read(_CHUNK), type=_Store).store == FORM else None
    return None


@dataclass(frozen=True)
class Hub(Bucket):
    """A repository's objects at a hub."""

    access: Access = field(repr=False)

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be sent there: the hub says who may."""
        return False

    @property
    def takes_marks(self) -> bool:
        """Whether who writes can say so there: a hub sweeps nothing that a ref is to name."""
        return False

    def _connect(self) -> None:
        """Each question has a connection of its own."""

    def size(self, name: Digest) -> int | None:
        """Bytes of an object there; None where there is none.

        Raises:
            NotFound: nobody answers.
        """
        with self.asked("HEAD", self._below(name)) as reply:
            if reply.status == 404:
                return None
            self._refuse(reply, 200)
            return _number(reply.headers.get("Content-Length"))

    def _below(self, name: Digest) -> str:
        return self.path(name).removeprefix(self.url)

    # -- down ----------------------------------------------------------------------------------------------------------

    def _bring(self, name: Digest, other: Store, depth: int = 0) -> None:
        self._bring_file(name, other, depth)

    def _load(self, name: Digest, part: Path) -> None:
        """What a file lacks of an object, of which nothing is believed yet."""
        size = self._size_of(name)
        ends, tried = time.monotonic() + PATIENCE + size / SLOWEST, 0
        while (there := part.stat().st_size) != size:
            if there > size:
                os.truncate(part, 0)
            with self._going_on(tried, ends):
                self._load_on(name, part, size, ends)
            tried = 0 if part.stat().st_size > there else tried + 1

    def _load_on(self, name: Digest, part: Path, size: int, ends: float) -> None:
        there = part.stat().st_size
        with self.asked("GET", self._below(name), headers={"Range": f"bytes={there}-"}) as reply:
            if reply.status == 200:
                os.truncate(part, there := 0)
            elif reply.headers.get("Content-Range") != f"bytes {there}-{size - 1}/{size}":
                self._refuse(reply, 206)
                raise self._damaged(f"{name} came in another range than it was asked for")
            with part.open("ab") as file:
                while there < size and time.monotonic() < ends and (data := self._read_from(reply, size - there)):
                    there += file.write(data)

    def _read_from(self, reply: Any, most: int) -> bytes:
        try:
            return bytes(reply.read(min(_CHUNK, most)))
        except (OSError, HTTPException) as error:
            raise self._away(error) from error

    @contextmanager
    def _going_on(self, tried: int, ends: float) -> Iterator[None]:
        """A line that breaks is tried again, as long as something comes by it."""
        if tried > TRIES or time.monotonic() > ends:
            raise self._away(TimeoutError("too little came in too long a time"))
        time.sleep(0.1 * (2**tried - 1))
        try:
            yield
        except Away:
            if tried == TRIES:
                raise

    # -- up ------------------------------------------------------------------------------------------------------------

    def _write(self, name: Digest, data: bytes) -> None:
        """Send an object, or what the hub lacks of it."""
        ends, tried = time.monotonic() + 10 * PATIENCE + len(data) / SLOWEST, 0
        began_at = there = self._offset(name, len(data)) if len(data) > SMALL else 0
        while there < len(data):
            before = there
            with self._going_on(tried, ends):
                there = self._offset(name, len(data)) if tried else there
                there = self._send_on(name, data, there, began_at)
            tried = 0 if there > before else tried + 1
            began_at = min(began_at, there)

    def _send_on(self, name: Digest, data: bytes, there: int, began_at: int) -> int:
        """Send the next piece; how much is there now."""
        stop = min(there + PIECE, len(data))
        span = f"bytes {there}-{stop - 1}/{len(data)}"
        with self._put(name, memoryview(data)[there:stop], span) as reply:
            if reply.status == 422 and began_at:  # what lay there was of another day
                return 0
            return self._reached(name, reply, len(data))

    def _offset(self, name: Digest, total: int) -> int:
        """How much of an object of ours the hub has."""
        with self._put(name, b"", f"bytes */{total}") as reply:
            return self._reached(name, reply, total)

    def _reached(self, name: Digest, reply: Any, total: int) -> int:
        if reply.status in (200, 201):
            return total
        if reply.status in (202, 409) and reply.headers.get(OFFSET):
            return min(_number(reply.headers[OFFSET]), total)
        if reply.status == 422:
            raise Corrupt(f"{self.url} does not take {name}: {_message(reply)}", hint="`souq fsck` looks at it here")
        self._refuse(reply, 200)
        return total

    @contextmanager
    def _put(self, name: Digest, data: bytes | memoryview, span: str) -> Iterator[Any]:
        token = self.access.authorization()
        headers = {"Content-Range": span, "Content-Type": "application/octet-stream"}
        headers |= {"Authorization": token} if token else {}
        for _ in range(BUSY):
            with self.asked("PUT", self._below(name), data, headers) as reply:
                if reply.status not in (429, 503):
                    yield reply
                    return
                wait = min(_number(reply.headers.get("Retry-After")), LONGEST_WAIT)
            time.sleep(max(wait, 1))
        raise NotFound(f"{self.url} is too busy", hint=AGAIN)

    # -- both ----------------------------------------------------------------------------------------------------------

    def range(self, name: Digest, begin: int, end: int) -> bytes:
        """Bytes of an object, of which nothing is believed yet; fewer where it ends before.

        Raises:
            NotFound: it is not there, or nobody answers.
        """
        with self.asked("GET", self._below(name), headers={"Range": f"bytes={begin}-{end - 1}"}) as reply:
            if reply.status == 404:
                raise self._absent(name)
            self._refuse(reply, 206)
            return bytes(reply.read(end - begin))

    @contextmanager
    def asked(
        self, method: str, below: str, data: bytes | memoryview | None = None, headers: Mapping[str, str] = {}
    ) -> Iterator[Any]:
        """What the hub answers, whatever its status."""
        own = {"User-Agent": "souq", "Accept-Encoding": "identity", **headers}
        request = urllib.request.Request(f"{self.url}{below}", data, own, method=method)  # noqa: S310  http and https
        with self._opened(request, PATIENCE if data is None else 5 * PATIENCE) as reply:
            yield reply

    def _opened(self, request: urllib.request.Request, patience: float) -> Any:
        """Asked again where the line breaks: a part that had come by then is known by where it begins."""
        for tried in range(QUESTIONS):
            time.sleep(tried * 0.2)
            try:
                return _OPENER.open(request, timeout=patience)
            except urllib.error.HTTPError as answer:
                return answer
            except (OSError, HTTPException) as error:
                broken: Exception = error
        raise self._away(broken) from broken

    def _refuse(self, reply: Any, wanted: int) -> None:
        """Say in words what an answer is that was not wanted."""
        if reply.status == wanted:
            return
        if reply.status == 401:
            self.access.reject()
        if reply.status in (401, 403):
            hint = "a token that may write is git's password: from a credential helper, or in the remote's URL"
            raise Refused(f"{self.url} does not take it from us: {_message(reply)}", hint=hint)
        raise SouqError(f"{self.url} answered {reply.status}: {_message(reply)}", hint=AGAIN)

    def _away(self, error: Exception) -> Away:
        why = f"{type(error).__name__}: {str(error)[:300]}"
        return Away(f"{self.url} cannot be reached: {why}", hint=f"check the address; {AGAIN}")


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


def _message(reply: Any) -> str:
    return spelled_out(reply.headers.get("X-Error-Message") or reply.reason or "")[:300]

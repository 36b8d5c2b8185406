"""Tensors by digest at a URL: the store that is no folder of this machine (S3, GCS, Azure; https to read from).

The layout is the store's, objects/ab/cdef…. What is here knows URLs and how much to ask for at once; it decodes
nothing: what arrives gets its name from the store on this side, once that has computed its digest.

    bucket = open_remote("s3://models/smol")
    bucket.copy(store, names)     # down: only what is missing, decoded, digest computed, then named
    store.copy(bucket, names)     # up: only what is missing, bases first

Credentials come from the environment, as the libraries behind fsspec take them, and never from a file of a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from souq.errors import Corrupt, Hostile, Missing, NotFound, SouqError, UsageError
from souq.progress import Progress, quiet
from souq.records import Digest, is_digest
from souq.weights.arriving import held
from souq.weights.by_parts import base_in, keep, refuse_damaged
from souq.weights.codec import header_of
from souq.weights.multipart import Upload, checksums
from souq.weights.place import LIBRARIES
from souq.weights.store import Store

READ_ONLY = {"https"}
NOT_THERE = {403, 404, 410}  # a bucket behind https that may not be listed answers 403
MAX_OBJECT = 8 << 30  # bytes; more than the largest tensor of any model of today
PATIENCE, SLOWEST = 60.0, 20_000  # seconds for an object to arrive, and a second more for so many bytes of it
MAX_HEAD = 1 << 20  # bytes in which a header must end for its base to be asked for
AT_ONCE = 8
SMALL = 8 << 20  # bytes; larger ones travel one by one and in parts, so that memory holds a few of these
RANGE, RANGES = 8 << 20, 4  # bytes that are asked for at once, and how many such are under way
DEPTH = 2  # a difference's base may be a difference where another repository wrote it


def open_remote(url: str) -> Store | Bucket:
    """The store at a checked URL; a folder is a folder, with all that a folder promises."""
    protocol, _, rest = url.partition("://")
    return Store(Path(unquote(rest))) if protocol == "file" else Bucket(url)


@dataclass(frozen=True)
class Bucket:
    """Objects below a URL."""

    url: str

    @property
    def protocol(self) -> str:
        return self.url.partition("://")[0]

    @cached_property
    def files(self) -> Any:
        """What its library gives for a file system.

        Raises:
            Missing: the library is not installed.
        """
        library = LIBRARIES[self.protocol]
        try:
            import fsspec

            return fsspec.filesystem(self.protocol, use_listings_cache=False)
        except ImportError as error:
            raise Missing(f"{library} is not installed", hint="run `pip install 'souq[remote]'`") from error

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be sent there."""
        return self.protocol in READ_ONLY

    @property
    def takes_marks(self) -> bool:
        """Whether who writes can say so there, to whoever sweeps (leases.py)."""
        return not self.is_read_only

    def _connect(self) -> None:
        """Once, and not by each of the hands."""
        self.files  # noqa: B018

    def path(self, name: Digest) -> str:
        """Where an object of this name lies, or would.

        Raises:
            Hostile: not a digest, so nothing that could be a path.
        """
        if not is_digest(name):
            raise Hostile(f"not a digest: {name[:80]!r}")
        return f"{self.url}/objects/{name[3:5]}/{name[5:]}"

    def size(self, name: Digest) -> int | None:
        """Bytes of an object there; None where there is none.

        Raises:
            ConnectionError: the server does not answer.
        """
        with self.asked_for():
            try:
                info = self.files.info(self.path(name))
            except FileNotFoundError as error:
                # fsspec says this of a web server that does not answer, too
                if self.protocol == "https" and getattr(error.__cause__, "status", 0) not in NOT_THERE:
                    raise ConnectionError(error.__cause__) from error
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def __contains__(self, name: Digest) -> bool:
        return self.size(name) is not None

    # -- down ----------------------------------------------------------------------------------------------------------

    def copy(self, other: Store, names: Iterable[Digest], progress: Progress = quiet, *, strict: bool = True) -> int:
        """Bring what `other` lacks of these, bases first; each is checked before it gets its name. Returns how many.

        What is not there stays away where this is not `strict`.

        Raises:
            NotFound: one of them is not there.
            Corrupt: one of them is damaged there; nothing of it was kept.
        """
        wanted = [name for name in dict.fromkeys(names) if name not in other]
        sizes = self.sizes(wanted)
        if strict and (absent := next((name for name in wanted if name not in sizes), None)):
            raise self._absent(absent)
        _travel(sizes, lambda name: self._bring(name, other), "bring bytes", progress)
        return len(sizes)

    def _bring_file(self, name: Digest, other: Store, depth: int = 0) -> None:
        with held(other.arriving / name[3:]) as part:
            if name in other:  # another fetch brought it while we waited
                part.unlink()
                return
            began_at = part.stat().st_size
            self._load(name, part)
            try:
                self._take(name, part, other, depth)
            except Corrupt:
                part.unlink(missing_ok=True)
                if not began_at:
                    raise
            else:
                return
        self._bring_file(name, other, depth)  # anew: what lay here may have been of another day

    def _take(self, name: Digest, part: Path, other: Store, depth: int) -> None:
        with self._named(name):
            base = base_in(part)
            self._bring_base(base, other, depth)
            if base and other.header(base).base:  # it is kept otherwise here than there
                other.take(name, part.read_bytes())
                part.unlink()
            else:
                keep(other, name, part)

    def _load(self, name: Digest, part: Path) -> None:
        """What a file lacks of an object, of which nothing is believed yet; as much of it stays as came."""
        size = self._size_of(name)
        with part.open("ab") as file, ThreadPoolExecutor(RANGES, thread_name_prefix="souq-ranges") as hands:
            if file.tell() > size:
                file.truncate(0)
            for at in range(file.tell(), size, RANGES * RANGE):
                ends = [(begin, min(begin + RANGE, size)) for begin in range(at, min(at + RANGES * RANGE, size), RANGE)]
                for (begin, end), data in zip(ends, hands.map(lambda each: self.range(name, *each), ends), strict=True):
                    if len(data) != end - begin:
                        raise self._damaged(f"{name} ends {end - begin - len(data):,} bytes early")
                    file.write(data)

    def _bring(self, name: Digest, other: Store, depth: int = 0) -> None:
        if (size := self.size(name)) is not None and size > SMALL:
            self._bring_file(name, other, depth)
            return
        data = self._read(name)
        with self._named(name):
            self._bring_base(header_of(data).base, other, depth)
            other.take(name, data)

    def _bring_base(self, base: str, other: Store, depth: int) -> None:
        if base and base not in other:
            if depth == DEPTH:
                raise Hostile("it is a difference from a difference from a difference")
            self._bring(base, other, depth + 1)

    @contextmanager
    def _named(self, name: Digest) -> Iterator[None]:
        """What turns out to be damaged, by its name and where it lies."""
        try:
            yield
        except Hostile as error:
            raise self._damaged(f"{name} is damaged: {error}") from error
        except Corrupt as error:
            # the base may be what is damaged: it is named where it was taken
            raise self._damaged(str(error)) from error

    def _damaged(self, because: str) -> Corrupt:
        where = f", at {self.url}"
        hint = "whoever keeps it removes the object there, and whoever has the tensor runs `souq push`"
        return Corrupt(because if because.endswith(where) else because + where, hint=hint)

    def _absent(self, name: Digest) -> NotFound:
        return NotFound(f"no tensor {name} at {self.url}", hint="whoever has it runs `souq push`")

    def _size_of(self, name: Digest) -> int:
        if (size := self.size(name)) is None:
            raise self._absent(name)
        if size > MAX_OBJECT:
            raise self._damaged(f"{name} has {size:,} bytes; the most is {MAX_OBJECT:,}")
        return size

    def _read(self, name: Digest) -> bytes:
        """A whole object, of which nothing is believed yet."""
        size = self._size_of(name)
        # A library's own timeout counts from byte to byte, and a byte a second never ends.
        ends = {"timeout": PATIENCE + size / SLOWEST} if getattr(self.files, "async_impl", False) else {}
        with self.asked_for():
            return bytes(self.files.cat_file(self.path(name), **ends))

    def range(self, name: Digest, begin: int, end: int) -> bytes:
        """Bytes of an object, of which nothing is believed yet; fewer where it ends before.

        Raises:
            NotFound: it is not there, or nobody answers.
        """
        ends = {"timeout": PATIENCE + (end - begin) / SLOWEST} if getattr(self.files, "async_impl", False) else {}
        with self.asked_for():
            try:
                return bytes(self.files.cat_file(self.path(name), start=begin, end=end, **ends))
            except FileNotFoundError as error:
                raise self._absent(name) from error

    # -- up ------------------------------------------------------------------------------------------------------------

    def receive(self, source: Store, names: Sequence[Digest], progress: Progress = quiet) -> int:
        """Send what is not there yet, what others are differences from first; the other side of `Store.copy`.

        Raises:
            UsageError: it lacks some, and can only be read.
        """
        there = set(self.sizes(names))
        closure = source.closure(name for name in names if name not in there)
        there |= set(self.sizes(sorted(set(closure) - set(names))))
        bases = {name: source.header(name).base for name in closure if name not in there}
        if bases and self.is_read_only:
            raise UsageError(
                f"{self.url} can only be read, and it lacks {len(bases)} of these tensors",
                hint="name where you may write: `git config souq.store s3://bucket/folder`",
            )
        unfit = {base for base in set(bases.values()) - bases.keys() if base and self._is_difference(base)}
        for wave in (False, True):
            sizes = {name: source.size(name) for name, base in bases.items() if bool(base) == wave}
            _travel(sizes, lambda name: self._send(name, source, alone=bases[name] in unfit), "send bytes", progress)
        return len(bases)

    def _send(self, name: Digest, source: Store, *, alone: bool) -> None:
        if self.protocol != "s3" or alone or source.size(name) <= SMALL:
            self._write(name, source.parcel(name, alone=alone))
            return
        file, note = source.path(name), source.root / "sending" / name[3:]
        sums = checksums(file)
        refuse_damaged(source, name)
        with self.asked_for():
            Upload(self.files, self.path(name), file, note).send(sums)
        if (size := self.size(name)) != source.size(name):
            raise SouqError(f"{name} did not arrive whole at {self.url}: {size} of {source.size(name):,} bytes")

    def _write(self, name: Digest, data: bytes) -> None:
        """Whole or not at all: these services name an object once all its bytes have come."""
        with self.asked_for():
            self.files.pipe_file(self.path(name), data)
        if (size := self.size(name)) != len(data):
            raise SouqError(f"{name} did not arrive whole at {self.url}: {size} of {len(data):,} bytes")

    def _is_difference(self, name: Digest) -> bool:
        with self._named(name):
            return bool(header_of(self.beginning(name)).base)

    def beginning(self, name: Digest) -> bytes:
        """As much of an object as holds its header."""
        return self.range(name, 0, MAX_HEAD)

    # -- both ----------------------------------------------------------------------------------------------------------

    def sizes(self, names: Sequence[Digest]) -> dict[Digest, int]:
        """The sizes in bytes of those of some objects that the bucket holds; asked for side by side."""
        if not names:
            return {}
        self._connect()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="souq-bucket") as hands:
            sizes = zip(names, hands.map(self.size, names), strict=True)
            return {name: size for name, size in sizes if size is not None}

    @contextmanager
    def asked_for(self) -> Iterator[None]:
        """What goes wrong on the way, in the words of an error that says what to do; it is never a program's trace.

        Raises:
            NotFound: it went wrong.
        """
        try:
            yield
        except SouqError:
            raise
        except Exception as error:  # each service's library raises its own
            hint = "credentials and endpoints come from the environment, such as AWS_ACCESS_KEY_ID: see docs/forges.md"
            why = f"{type(error).__name__}: {str(error)[:300]}"
            raise NotFound(f"{self.url} cannot be reached: {why}", hint=hint) from error


def _travel(sizes: dict[Digest, int], work: Callable[[Digest], None], label: str, progress: Progress) -> None:
    """Small ones side by side, large ones alone; the first that fails stops the rest."""
    small = [name for name, size in sizes.items() if size <= SMALL]
    total, sent = sum(sizes.values()), 0
    if not sizes:
        return
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="souq-bucket") as hands:
        for name, _ in zip(small, hands.map(work, small), strict=True):
            sent += sizes[name]
            progress(label, sent, total)
    for name in sizes.keys() - set(small):
        work(name)
        sent += sizes[name]
        progress(label, sent, total)

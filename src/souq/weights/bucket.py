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
from souq.weights.codec import header_of
from souq.weights.place import LIBRARIES
from souq.weights.store import Store

READ_ONLY = {"https"}
NOT_THERE = {403, 404, 410}  # a bucket behind https that may not be listed answers 403
MAX_OBJECT = 8 << 30  # bytes; more than the largest tensor of any model of today
PATIENCE, SLOWEST = 60.0, 20_000  # seconds for an object to arrive, and a second more for so many bytes of it
MAX_HEAD = 1 << 20  # bytes in which a header must end for its base to be asked for
AT_ONCE = 8
SMALL = 4 << 20  # bytes; larger ones travel one by one, so that memory holds one of them
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
    def _files(self) -> Any:
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

    def _connect(self) -> None:
        """Once, and not by each of the hands."""
        self._files  # noqa: B018

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
        with self._asked():
            try:
                info = self._files.info(self.path(name))
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

    def _bring(self, name: Digest, other: Store, depth: int = 0) -> None:
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

    def _read(self, name: Digest) -> bytes:
        """A whole object, of which nothing is believed yet."""
        size = self.size(name)
        if size is None:
            raise self._absent(name)
        if size > MAX_OBJECT:
            raise self._damaged(f"{name} has {size:,} bytes; the most is {MAX_OBJECT:,}")
        # A library's own timeout counts from byte to byte, and a byte a second never ends.
        ends = {"timeout": PATIENCE + size / SLOWEST} if getattr(self._files, "async_impl", False) else {}
        with self._asked():
            return bytes(self._files.cat_file(self.path(name), **ends))

    def range(self, name: Digest, begin: int, end: int) -> bytes:
        """Bytes of an object, of which nothing is believed yet; fewer where it ends before.

        Raises:
            NotFound: it is not there, or nobody answers.
        """
        ends = {"timeout": PATIENCE + (end - begin) / SLOWEST} if getattr(self._files, "async_impl", False) else {}
        with self._asked():
            try:
                return bytes(self._files.cat_file(self.path(name), start=begin, end=end, **ends))
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
            _travel(
                sizes,
                lambda name: self._write(name, source.parcel(name, alone=bases[name] in unfit)),
                "send bytes",
                progress,
            )
        return len(bases)

    def _write(self, name: Digest, data: bytes) -> None:
        """Whole or not at all: these services name an object once all its bytes have come."""
        with self._asked():
            self._files.pipe_file(self.path(name), data)
        if (size := self.size(name)) != len(data):
            raise SouqError(f"{name} did not arrive whole at {self.url}: {size} of {len(data):,} bytes")

    def _is_difference(self, name: Digest) -> bool:
        with self._named(name):
            return bool(header_of(self._beginning(name)).base)

    def _beginning(self, name: Digest) -> bytes:
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
    def _asked(self) -> Iterator[None]:
        """What goes wrong on the way, in the words of an error that says what to do; it is never a program's trace."""
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

"""Bytes by digest: tensors encoded small, written once and whole, and checked whenever they are read.

A tensor's name is its digest (weights.tensor_digest), never how it is encoded, so packing again touches no history.
Objects are immutable: a crash leaves a hidden `.part` folder, never a bad object under a real name.

    store = Store(Path(".git/souq"))
    name = store.put(np.ones(3, "f4"))
    store.get(name)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import zstandard

from souq.errors import Corrupt, Hostile, NotFound
from souq.files import beside, flush
from souq.progress import Progress, quiet
from souq.records import Digest, is_digest
from souq.weights.codec import (
    MAGIC,
    Header,
    as_words,
    decode,
    encode,
    object_bytes,
    parse_object,
    pool,
    read_header,
    refuse_unbounded,
    storable,
)
from souq.weights.delta import Array, Lock, TensorRef, dtype_name, tensor_digest

_UNREADABLE = (Hostile, ValueError, zstandard.ZstdError)


class Receiver(Protocol):
    """Where a store's objects can be sent: another folder, or a bucket."""

    def receive(self, source: Store, names: Sequence[Digest], progress: Progress = quiet) -> int: ...


@dataclass
class Store:
    """Objects in a folder: objects/ab/cdef…"""

    root: Path

    @cached_property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def arriving(self) -> Path:
        """Where what comes in ranges lies until it is whole."""
        return self.root / "arriving"

    def path(self, name: Digest) -> Path:
        """Where an object of this name lies, or would.

        Raises:
            Hostile: not a digest, so nothing that could be a path.
        """
        if not is_digest(name):
            raise Hostile(f"not a digest: {name[:80]!r}")
        return self.objects / name[3:5] / name[5:]

    def __contains__(self, name: Digest) -> bool:
        return self.path(name).is_file()

    def digests(self) -> Iterator[Digest]:
        """Every object here."""
        for path in sorted(self.objects.glob("??/*")):
            if is_digest(name := f"b3:{path.parent.name}{path.name}"):
                yield name

    def size(self, name: Digest) -> int:
        """Bytes on disk."""
        return self.path(name).stat().st_size

    def put(self, array: Array, *, base: Digest | None = None) -> Digest:
        """Keep a tensor; with `base`, as the exact difference from that tensor where this is smaller.

        Raises:
            NotFound: the base is not here.
            UsageError: an array of a dtype safetensors has no name for.
        """
        array = storable(array)
        name = tensor_digest(array)
        if self.freshen(name):
            return name
        words = as_words(array)
        header, payload = encode(words, dtype_name(array.dtype), array.shape, *self._base_of(array, base))
        data = object_bytes(header, payload)
        if not np.array_equal(as_words(decode(*parse_object(data), self._base(header))), words):
            raise Corrupt(f"{name} does not come back as it went in", hint="this is a fault of souq: please report it")
        self._write(name, data)
        return name

    def _base_of(self, array: Array, base: Digest | None) -> tuple[Digest, Array] | tuple[None, None]:
        if base is None:
            return None, None
        header = self.header(base)
        alike = header.shape == array.shape and header.dtype == dtype_name(array.dtype) and not header.base
        return (base, as_words(self.get(base))) if alike else (None, None)

    def freshen(self, name: Digest) -> bool:
        """Whether it is here; if so it is new again to gc, which might otherwise sweep what was just put."""
        path = self.path(name)
        if not path.is_file():
            return False
        with suppress(OSError):
            os.utime(path)
        return True

    def get(self, name: Digest) -> Array:
        """A tensor, its digest computed again.

        Raises:
            NotFound: not here, or the tensor it is a difference from is not.
            Corrupt: the object is damaged, or the tensor it is a difference from is.
        """
        header, payload = self._read(name)
        return self._checked(name, header, payload)

    def _checked(self, name: Digest, header: Header, payload: memoryview) -> Array:
        try:
            array = decode(header, payload, self._base(header))
        except (Hostile, zstandard.ZstdError) as error:
            raise damaged(name, str(error)) from error
        if tensor_digest(array) == name:
            return array
        if header.base:
            self.get(header.base)  # where the fault is the base's, it is the base that is named
        raise damaged(name, "its bytes have another digest")

    def _base(self, header: Header) -> Array | None:
        """The tensor a difference is from, as words. It may not be a difference itself: no chains, no cycles."""
        if not header.base:
            return None
        base = self.header(header.base)
        if base.base:
            raise Hostile(f"its base {header.base} is itself a difference: one step is all there may be")
        if (base.dtype, base.shape) != (header.dtype, header.shape):
            raise Hostile(f"its base {header.base} has another shape")
        theirs, payload = self._read(header.base)
        try:
            return as_words(decode(theirs, payload, None))
        except (Hostile, zstandard.ZstdError) as error:
            raise damaged(header.base, str(error)) from error

    def _read(self, name: Digest) -> tuple[Header, memoryview]:
        """An object's header and payload, the payload only as long as the header says and the file is."""
        with self._opened(name) as file:
            header, start = read_header(file.read(len(MAGIC) + 8), file.read)
            size = os.fstat(file.fileno()).st_size
            refuse_unbounded(header, size - start)
            return header, memoryview(file.read(header.length))

    def header(self, name: Digest) -> Header:
        """How an object is encoded, without reading its payload.

        Raises:
            NotFound: not here.
            Corrupt: not a header.
        """
        with self._opened(name) as file:
            return read_header(file.read(len(MAGIC) + 8), file.read)[0]

    @contextmanager
    def _opened(self, name: Digest) -> Iterator[BinaryIO]:
        path = self.path(name)
        try:
            if path.exists() and not path.is_file():
                raise Hostile("it is no file")  # a pipe would be waited for
            with path.open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise NotFound(f"no tensor {name}", hint="run `souq fetch` to get it from the remote") from error
        except (Hostile, OSError) as error:
            raise damaged(name, str(error)) from error

    def spec(self, name: Digest) -> TensorRef:
        """What a stored tensor is."""
        header = self.header(name)
        return TensorRef(dtype=header.dtype, shape=header.shape, digest=name)

    def closure(self, names: Iterable[Digest]) -> list[Digest]:
        """Some tensors by digest, and the tensors they are kept as differences from; those come first."""
        bases = {name: self.header(name).base for name in dict.fromkeys(names)}
        return list(
            dict.fromkeys([base for base in bases.values() if base] + sorted(bases, key=lambda n: bool(bases[n])))
        )

    def copy(self, other: Receiver, names: Iterable[Digest], progress: Progress = quiet, *, strict: bool = True) -> int:
        """Send what `other` lacks of these, bases first; each is checked before it gets its name. Returns how many.

        What is not here either stays away where this is not `strict`.

        Raises:
            NotFound: one of them is not here either.
            Corrupt: one of them is damaged here.
        """
        asked = [name for name in dict.fromkeys(names) if strict or name in self]
        return other.receive(self, asked, progress)

    def receive(self, source: Store, names: Sequence[Digest], progress: Progress = quiet) -> int:
        """Take from another folder what is not here yet; the other side of `copy`."""
        wanted = [name for name in names if not self.freshen(name)]
        missing = [name for name in source.closure(wanted) if not self.freshen(name)]
        total, sent = sum(map(source.size, missing)), 0
        for name in missing:
            progress("send bytes", sent, total)
            base = source.header(name).base
            # what is dense there may be a difference here
            self._write(name, source.parcel(name, alone=bool(base and self.header(base).base)))
            sent += source.size(name)
        progress("send bytes", total, total)
        return len(missing)

    def parcel(self, name: Digest, *, alone: bool = False) -> bytes:
        """An object as it is sent: the bytes that were checked, read once; `alone` as a difference from nothing."""
        header, payload = self._read(name)
        array = self._checked(name, header, payload)
        if alone and header.base:
            header, payload = parse_object(
                object_bytes(*encode(as_words(array), header.dtype, header.shape, None, None))
            )
        return object_bytes(header, [payload])

    def take(self, name: Digest, data: bytes) -> None:
        """Keep an object that comes from elsewhere; it is decoded and its digest computed before it gets the name.

        Raises:
            NotFound: the tensor it is a difference from is not here yet.
            Corrupt: it is not what its name says.
        """
        try:
            header, payload = parse_object(data)
            array = decode(header, payload, self._alike(header))
        except (Hostile, zstandard.ZstdError) as error:
            raise Corrupt(f"{name} is damaged: {error}", hint="ask whoever sent it to send it again") from error
        if tensor_digest(array) != name:
            raise Corrupt(f"{name} is damaged: its bytes have another digest", hint="do not trust where it came from")
        self._write(name, self._standing(header, array, data))

    def adopt(self, name: Digest, file: Path) -> None:
        """Have a file, in which an object was checked, as the object of this name; the file stays where it is."""
        with beside(self.path(name).parent) as scratch:
            part = scratch / "object"
            try:
                part.hardlink_to(file)
            except OSError:  # another disk, or one without hard links
                shutil.copyfile(file, part)
            self._place(name, part)

    def _alike(self, header: Header) -> Array | None:
        """The tensor here that an object from elsewhere is a difference from, as words, however it is kept here."""
        if not header.base:
            return None
        held = self.get(header.base)
        if (dtype_name(held.dtype), held.shape) != (header.dtype, header.shape):
            raise Hostile(f"its base {header.base} has another shape")
        return as_words(held)

    def _standing(self, header: Header, array: Array, data: bytes) -> bytes:
        """The object as it may stand here: a difference only from what is none itself."""
        if header.base and self.header(header.base).base:
            return object_bytes(*encode(as_words(array), header.dtype, header.shape, None, None))
        return data

    def _write(self, name: Digest, data: bytes) -> None:
        with beside(self.path(name).parent) as scratch:
            (part := scratch / "object").write_bytes(data)
            self._place(name, part)

    def _place(self, name: Digest, part: Path) -> None:
        """Whole or not at all: a temporary file, fsync, link, fsync of the folder. What is there already stays."""
        path = self.path(name)
        flush(part)
        part.chmod(0o444)
        if fresh := not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
        _publish(part, path)
        flush(path.parent)
        if fresh:
            flush(self.objects)

    def fsck(self, progress: Progress = quiet) -> list[str]:
        """Read and decode everything; a line for each damaged object."""
        names, wrong = list(self.digests()), []
        for done, name in enumerate(names):
            progress("fsck", done, len(names))
            try:
                self.get(name)
            except (Corrupt, NotFound, Hostile, OSError) as error:
                problem = str(error)
                wrong.append(problem if problem.startswith(name) else f"{name} cannot be read: {problem}")
        progress("fsck", len(names), len(names))
        return wrong


def damaged(name: Digest, because: str) -> Corrupt:
    """What to say of an object here that is not what its name says."""
    return Corrupt(f"{name} is damaged: {because}", hint="remove it and run `souq fetch`")


def _publish(part: Path, path: Path) -> None:
    # A link never replaces: an object others are differences from stays as it is encoded.
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        part.replace(path)


os.register_at_fork(after_in_child=pool.cache_clear)  # a child has the pool but none of its threads


class Stored(Mapping[str, Array]):
    """The checkpoint a lock describes, read tensor by tensor from a store that checks every digest."""

    def __init__(self, lock: Lock, store: Store) -> None:
        self._lock, self._store = lock, store

    def __getitem__(self, name: str) -> Array:
        return self._store.get(self._lock[name].digest)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lock)

    def __len__(self) -> int:
        return len(self._lock)

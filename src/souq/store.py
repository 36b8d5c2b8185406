"""Bytes by digest: tensors encoded small, written once and whole, and checked whenever they are read.

A tensor's name is its digest (weights.tensor_digest), never how it is encoded, so packing again touches no history.
Objects are immutable: a crash leaves a `.part` file, never a bad object under a real name.

    store = Store(Path(".git/souq"))
    name = store.put(np.ones(3, "f4"))
    store.get(name)
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import zstandard
from blake3 import blake3
from numpy.typing import NDArray

from souq.errors import Corrupt, Hostile, NotFound, UsageError
from souq.progress import Progress, quiet
from souq.records import Digest, Record, canonical, is_digest
from souq.weights import DTYPES, MAX_ELEMENTS, Array, TensorRef, dtype_name, tensor_digest

MAGIC = b"souq obj 1\n"
MAX_HEADER = 16 << 20
BLOCK = 1 << 20  # numbers encoded at once: enough to compress well, small enough to share out
PART = ".part"
THREADS = max(1, min(8, os.cpu_count() or 1))
# A zstd frame of fifty bytes may honestly say it holds a mebibyte, and a header may list any number of them. So what an
# object unpacks to is bounded by what had to be sent; the few constant tensors beyond that are kept raw.
MAX_RATIO = 16
ALWAYS_ROOM = 64 << 20  # bytes
Planes = NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


class Header(Record, frozen=True, forbid_unknown_fields=True):
    """What stands before the payload: how it is encoded, and every block's compressed length, plane by plane."""

    codec: str  # raw | planes | sub
    dtype: str
    shape: tuple[int, ...]
    base: str = ""  # the tensor `sub` is a difference from
    blocks: tuple[tuple[int, ...], ...] = ()
    check: str = ""  # blake3 of the payload: damage is found even where nothing would decode to a wrong tensor

    @property
    def size(self) -> int:
        """How many numbers."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        return self.size * DTYPES[self.dtype].itemsize

    @property
    def length(self) -> int:
        """Bytes of the payload."""
        return sum(map(sum, self.blocks))


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
        array = _plain(array)
        name = tensor_digest(array)
        if self._freshen(name):
            return name
        words = _unsigned(array)
        header, payload = _encode(words, dtype_name(array.dtype), array.shape, *self._base_of(array, base))
        data = _object(header, payload)
        if not np.array_equal(_unsigned(_decode(*_parse(data), self._base(header))), words):
            raise Corrupt(f"{name} does not come back as it went in", hint="this is a fault of souq: please report it")
        self._write(name, data)
        return name

    def _base_of(self, array: Array, base: Digest | None) -> tuple[Digest, Array] | tuple[None, None]:
        if base is None:
            return None, None
        header = self.header(base)
        alike = header.shape == array.shape and header.dtype == dtype_name(array.dtype) and not header.base
        return (base, _unsigned(self.get(base))) if alike else (None, None)

    def _freshen(self, name: Digest) -> bool:
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
            array = _decode(header, payload, self._base(header))
        except (Hostile, zstandard.ZstdError) as error:
            raise _damaged(name, str(error)) from error
        if tensor_digest(array) == name:
            return array
        if header.base:
            self.get(header.base)  # where the fault is the base's, it is the base that is named
        raise _damaged(name, "its bytes have another digest")

    def _base(self, header: Header) -> Array | None:
        """The tensor a difference is from, as words. It may not be a difference itself: no chains, no cycles."""
        if not header.base:
            return None
        found = self.header(header.base)
        if found.base:
            raise Hostile(f"its base {header.base} is itself a difference: one step is all there may be")
        if (found.dtype, found.shape) != (header.dtype, header.shape):
            raise Hostile(f"its base {header.base} has another shape")
        theirs, payload = self._read(header.base)
        try:
            return _unsigned(_decode(theirs, payload, None))
        except (Hostile, zstandard.ZstdError) as error:
            raise _damaged(header.base, str(error)) from error

    def _read(self, name: Digest) -> tuple[Header, memoryview]:
        """An object's header and payload, the payload only as long as the header says and the file is."""
        path = self.path(name)
        try:
            with path.open("rb") as file:
                header, start = _header(file.read(len(MAGIC) + 8), file.read)
                size = os.fstat(file.fileno()).st_size
                _bounded(header, size - start)
                return header, memoryview(file.read(header.length))
        except FileNotFoundError as error:
            raise NotFound(f"no tensor {name}", hint="run `souq fetch` to get it from the remote") from error
        except (Hostile, OSError) as error:
            raise _damaged(name, str(error)) from error

    def header(self, name: Digest) -> Header:
        """How an object is encoded, without reading its payload.

        Raises:
            NotFound: not here.
            Corrupt: not a header.
        """
        path = self.path(name)
        try:
            with path.open("rb") as file:
                return _header(file.read(len(MAGIC) + 8), file.read)[0]
        except FileNotFoundError as error:
            raise NotFound(f"no tensor {name}", hint="run `souq fetch` to get it from the remote") from error
        except (Hostile, OSError) as error:
            raise _damaged(name, str(error)) from error

    def spec(self, name: Digest) -> TensorRef:
        """What a stored tensor is."""
        header = self.header(name)
        return TensorRef(dtype=header.dtype, shape=header.shape, digest=name)

    def closure(self, names: Iterable[Digest]) -> list[Digest]:
        """These and the bases they are differences from, bases first."""
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
        wanted = [name for name in names if not self._freshen(name)]
        missing = [name for name in source.closure(wanted) if not self._freshen(name)]
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
            header, payload = _parse(_object(*_encode(_unsigned(array), header.dtype, header.shape, None, None)))
        return _object(header, [payload])

    def take(self, name: Digest, data: bytes) -> None:
        """Keep an object that comes from elsewhere; it is decoded and its digest computed before it gets the name.

        Raises:
            NotFound: the tensor it is a difference from is not here yet.
            Corrupt: it is not what its name says.
        """
        try:
            header, payload = _parse(data)
            array = _decode(header, payload, self._alike(header))
        except (Hostile, zstandard.ZstdError) as error:
            raise Corrupt(f"{name} is damaged: {error}", hint="ask whoever sent it to send it again") from error
        if tensor_digest(array) != name:
            raise Corrupt(f"{name} is damaged: its bytes have another digest", hint="do not trust where it came from")
        self._write(name, self._standing(header, array, data))

    def _alike(self, header: Header) -> Array | None:
        """The tensor here that an object from elsewhere is a difference from, as words, however it is kept here."""
        if not header.base:
            return None
        held = self.get(header.base)
        if (dtype_name(held.dtype), held.shape) != (header.dtype, header.shape):
            raise Hostile(f"its base {header.base} has another shape")
        return _unsigned(held)

    def _standing(self, header: Header, array: Array, data: bytes) -> bytes:
        """The object as it may stand here: a difference only from what is none itself."""
        if header.base and self.header(header.base).base:
            return _object(*_encode(_unsigned(array), header.dtype, header.shape, None, None))
        return data

    def _write(self, name: Digest, data: bytes) -> None:
        """Whole or not at all: a temporary file, fsync, link, fsync of the folder. What is there already stays."""
        path = self.path(name)
        fresh = not path.parent.is_dir()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=PART, delete=False) as file:
            part = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                part.chmod(0o444)
                _publish(part, path)
            finally:
                part.unlink(missing_ok=True)
        _sync(path.parent)
        if fresh:
            _sync(self.objects)

    def fsck(self, progress: Progress = quiet) -> list[str]:
        """Read and decode everything; a line for each damaged object."""
        names, wrong = list(self.digests()), []
        for done, name in enumerate(names):
            progress("fsck", done, len(names))
            try:
                self.get(name)
            except (Corrupt, NotFound, Hostile, OSError) as error:
                said = str(error)
                wrong.append(said if said.startswith(name) else f"{name} cannot be read: {said}")
        progress("fsck", len(names), len(names))
        return wrong

    def gc(self, keep: Iterable[Digest], *, grace: float = 14 * 86_400.0, now: float | None = None) -> list[Digest]:
        """Remove what nothing points at, and leftovers of crashes, once older than `grace` seconds."""
        kept = set(self.closure(name for name in set(keep) if name in self))
        before = (time.time() if now is None else now) - grace
        gone = [name for name in self.digests() if name not in kept and self.path(name).stat().st_mtime < before]
        for name in gone:
            self.path(name).unlink()
        for path in self.objects.glob(f"??/*{PART}"):
            if path.stat().st_mtime < before:
                path.unlink()
        return gone


def _damaged(name: Digest, because: str) -> Corrupt:
    return Corrupt(f"{name} is damaged: {because}", hint="remove it and run `souq fetch`")


def _publish(part: Path, path: Path) -> None:
    # A link never replaces: an object others are differences from stays as it is encoded.
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        part.replace(path)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- encoding: unsigned views only, so that no bit of a float is ever interpreted --------------------------------------


def _plain(array: Array) -> Array:
    """The same numbers, C order and little-endian; a scalar stays a scalar."""
    array = np.asarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype not in DTYPES.values():
        raise UsageError(f"safetensors has no name for dtype {array.dtype}", hint=f"use one of {', '.join(DTYPES)}")
    return np.ascontiguousarray(array).reshape(array.shape)


def _encode(
    words: Array, dtype: str, shape: tuple[int, ...], base: Digest | None, held: Array | None
) -> tuple[Header, list[bytes]]:
    """The smallest of the codecs that apply, judged on a sample. words, held: (size,) unsigned."""
    if held is not None and _sample_size(words, held) >= _sample_size(words, None):
        base, held = None, None
    codec = "planes" if held is None else "sub"
    packed = _pack(words, held)
    length = sum(len(block) for plane in packed for block in plane)
    if length >= words.nbytes or (held is None and words.nbytes > _room(length)):
        codec, base, packed = "raw", None, [[words.tobytes()]]
    payload = [block for plane in packed for block in plane]
    return Header(
        codec=codec, dtype=dtype, shape=shape, base=base or "",
        blocks=tuple(tuple(map(len, plane)) for plane in packed), check=_check(payload),
    ), payload  # fmt: skip


def _check(payload: Iterable[bytes | memoryview]) -> str:
    hasher = blake3()
    for block in payload:
        hasher.update(block)
    return hasher.hexdigest()


def _object(header: Header, payload: Sequence[bytes | memoryview]) -> bytes:
    text = canonical(header)
    return b"".join([MAGIC, len(text).to_bytes(8, "little"), text, *payload])


def header_of(data: bytes) -> Header:
    """The header at the beginning of an object's bytes.

    Raises:
        Hostile: not a header.
    """
    start = len(MAGIC) + 8
    return _header(data[:start], lambda length: data[start : start + length])[0]


def _parse(data: bytes) -> tuple[Header, memoryview]:
    rest = memoryview(data)[len(MAGIC) + 8 :]
    header, start = _header(data[: len(MAGIC) + 8], lambda n: bytes(rest[:n]))
    return header, memoryview(data)[start:]


def _decode(header: Header, payload: memoryview, held: Array | None) -> Array:
    """The tensor of an object; strict, and bounded by what its payload can hold.

    Raises:
        Hostile: not an object.
    """
    _bounded(header, len(payload))
    if _check([payload]) != header.check:
        raise Hostile("its payload does not match its checksum")
    dtype = DTYPES[header.dtype]
    words = np.empty(header.size, f"<u{dtype.itemsize}")
    if header.codec == "raw":
        words[:] = np.frombuffer(payload, words.dtype)
    else:
        _unpack(header, payload, held, words)
    return words.view(dtype).reshape(header.shape)


def _header(head: bytes, read: Callable[[int], bytes]) -> tuple[Header, int]:
    """A header and where the payload begins."""
    length = int.from_bytes(head[len(MAGIC) :], "little")
    if not head.startswith(MAGIC) or len(head) != len(MAGIC) + 8 or length > MAX_HEADER:
        raise Hostile("not a souq object")
    text = read(length)
    try:
        header = msgspec.json.decode(text, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Hostile(f"its header cannot be read: {error}") from error
    lengths = [length for plane in header.blocks for length in plane]
    if canonical(header) != text or header.dtype not in DTYPES or header.codec not in ("raw", "planes", "sub"):
        raise Hostile("its header is not one souq writes")
    if not _possible(header.shape) or any(not 0 <= n <= MAX_ELEMENTS for n in lengths):
        raise Hostile("its header claims an impossible size")
    if (header.codec == "sub") != bool(header.base) or (header.base and not is_digest(header.base)):
        raise Hostile("its header names a base it has no use for, or none")
    return header, len(head) + length


def _possible(shape: tuple[int, ...]) -> bool:
    """Numpy refuses some shapes even where a zero makes them empty, so every other dimension counts."""
    return (
        len(shape) <= 8
        and all(0 <= dim <= MAX_ELEMENTS for dim in shape)
        and int(np.prod([max(dim, 1) for dim in shape], dtype=object)) <= MAX_ELEMENTS
    )


def _room(length: int) -> int:
    return max(ALWAYS_ROOM, MAX_RATIO * length)


def _bounded(header: Header, length: int) -> None:
    """Before anything is allocated: the payload is as long as said, and what it claims to hold is in proportion."""
    if header.length != length:
        raise Hostile(f"its blocks hold {header.length:,} bytes and its payload {length:,}")
    if header.codec == "raw":
        if header.blocks != ((header.nbytes,),):
            raise Hostile("its length is not that of its shape")
        return
    each, width = -(-header.size // BLOCK), DTYPES[header.dtype].itemsize
    if len(header.blocks) != width or any(len(plane) != each for plane in header.blocks) or length >= header.nbytes:
        raise Hostile("its blocks are not those of its shape")
    # A difference is bounded by its base, which is as large and was sent whole.
    if header.codec == "planes" and header.nbytes > _room(length):
        raise Hostile(f"{length:,} bytes that claim to unpack to {header.nbytes:,}: a bomb")


def _unsigned(array: Array) -> Array:
    return array.reshape(-1).view(f"<u{array.dtype.itemsize}")


def _fold(words: Array, held: Array | None) -> Array:
    return _rotate(words) if held is None else _zigzag(words - held)


def _unfold(words: Array, held: Array | None) -> Array:
    return _unrotate(words) if held is None else _unzigzag(words) + held


def _rotate(words: Array) -> Array:
    """The sign to the low end, so that a float's exponent fills whole bytes."""
    bits = words.dtype.itemsize * 8
    rotated: Array = (words << words.dtype.type(1)) | (words >> words.dtype.type(bits - 1))
    return rotated


def _unrotate(words: Array) -> Array:
    bits = words.dtype.itemsize * 8
    rotated: Array = (words >> words.dtype.type(1)) | (words << words.dtype.type(bits - 1))
    return rotated


def _zigzag(difference: Array) -> Array:
    """Small differences of either sign to small words (wrapping)."""
    one, bits = difference.dtype.type(1), difference.dtype.itemsize * 8
    sign = (difference >> difference.dtype.type(bits - 1)) & one
    folded: Array = (difference << one) ^ (np.zeros_like(difference) - sign)
    return folded


def _unzigzag(words: Array) -> Array:
    one = words.dtype.type(1)
    unfolded: Array = (words >> one) ^ (np.zeros_like(words) - (words & one))
    return unfolded


def _planes(words: Array) -> list[Planes]:
    table = words.view(np.uint8).reshape(-1, words.dtype.itemsize)
    return [np.ascontiguousarray(table[:, i]) for i in range(table.shape[1])]


def _sample_size(words: Array, held: Array | None) -> int:
    """About how large it becomes: eight pieces of it, compressed."""
    piece = max(1, min(len(words) // 8, 1 << 14))
    starts = np.linspace(0, max(len(words) - piece, 0), 8).astype(int)
    pieces = [_fold(words[i : i + piece], None if held is None else held[i : i + piece]) for i in starts]
    return sum(len(_squeeze(plane)) for plane in _planes(np.concatenate(pieces)))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="souq-store")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has the pool but none of its threads


def _each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """In order, on the pool where there is enough to share."""
    return list(map(work, items)) if len(items) < 2 else list(_pool().map(work, items))


def _pack(words: Array, held: Array | None) -> list[list[bytes]]:
    """Compressed blocks, plane by plane."""

    def one(start: int) -> list[bytes]:
        part = slice(start, start + BLOCK)
        return [_squeeze(plane) for plane in _planes(_fold(words[part], None if held is None else held[part]))]

    blocks = _each(one, range(0, len(words), BLOCK))
    return [[block[i] for block in blocks] for i in range(words.dtype.itemsize)]


def _unpack(header: Header, payload: memoryview, held: Array | None, out: Array) -> None:
    ends = np.cumsum([length for plane in header.blocks for length in plane], dtype=np.int64)
    spans = [payload[end - length : end] for end, length in zip(ends, _flat(header.blocks), strict=True)]
    each, width = len(header.blocks[0]), len(header.blocks)

    def one(number: int) -> None:
        part = slice(number * BLOCK, min((number + 1) * BLOCK, len(out)))
        table = np.empty((part.stop - part.start, width), np.uint8)
        for i in range(width):
            table[:, i] = _inflate(spans[i * each + number], len(table))
        words = table.reshape(-1).view(out.dtype)
        out[part] = _unfold(words, None if held is None else held[part])

    _each(one, range(each))


def _flat(blocks: tuple[tuple[int, ...], ...]) -> list[int]:
    return [length for plane in blocks for length in plane]


class _Zstd(threading.local):
    """Contexts are costly to make and not to be shared between threads."""

    def __init__(self) -> None:
        # A fast strategy for bytes whose value is an exponent or noise (specs/store.md, section 2).
        parameters = zstandard.ZstdCompressionParameters(
            strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, window_log=17, target_length=0
        )
        self.fast = zstandard.ZstdCompressor(compression_params=parameters)
        self.thorough = zstandard.ZstdCompressor(level=3)
        self.opener = zstandard.ZstdDecompressor(max_window_size=1 << 21)


_zstd = _Zstd()


def _squeeze(block: Planes) -> bytes:
    best = _zstd.fast.compress(block.data)
    if len(best) >= len(block) // 4:
        return best
    # Runs (a plane that is nearly all zero) are what long matches are for.
    return min(best, _zstd.thorough.compress(block.data), key=len)


def _inflate(packed: memoryview, size: int) -> Planes:
    # The frame's own claim is read before anything is allocated: a bomb is refused, not opened.
    if zstandard.frame_content_size(packed) != size:
        raise Hostile("a block does not have the size of its place")
    data: Any = _zstd.opener.decompress(packed, max_output_size=size, allow_extra_data=False)
    if len(data) != size:
        raise Hostile("a block is shorter than its place")
    return np.frombuffer(data, np.uint8)

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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zstandard
from blake3 import blake3
from numpy.typing import NDArray

from souq.errors import Corrupt, Hostile, NotFound
from souq.progress import Progress, quiet
from souq.records import Digest, Record, canonical, is_digest
from souq.weights import DTYPES, MAX_ELEMENTS, Array, TensorRef, dtype_name, tensor_digest

MAGIC = b"souq obj 1\n"
MAX_HEADER = 16 << 20
BLOCK = 1 << 20  # bytes of a plane compressed at once: enough to compress well, small enough to share out
PART = ".part"
THREADS = max(1, min(8, os.cpu_count() or 1))
_LEVEL = 1
Planes = NDArray[np.uint8]


class Header(Record, frozen=True, forbid_unknown_fields=True):
    """What stands before the payload: how it is encoded, and every block's compressed length, plane by plane."""

    codec: str  # raw | planes | sub
    dtype: str
    shape: tuple[int, ...]
    base: str = ""  # the tensor `sub` is a difference from
    blocks: tuple[tuple[int, ...], ...] = ()
    check: str = ""  # blake3 of the payload: damage is found even where nothing would decode to a wrong tensor


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
        """
        array = np.ascontiguousarray(array)
        name = tensor_digest(array)
        if name in self:
            return name
        data = _encode(array, *self._base_of(array, base))
        if tensor_digest(_decode(data, self._depth_one)) != name:
            raise Corrupt(f"{name} does not come back as it went in", hint="this is a fault of souq: please report it")
        self._write(name, data)
        return name

    def _base_of(self, array: Array, base: Digest | None) -> tuple[Digest, Array] | tuple[None, None]:
        if base is None:
            return None, None
        held = self.get(base)
        alike = held.shape == array.shape and held.dtype == array.dtype and array.dtype.itemsize in (1, 2, 4, 8)
        return (base, held) if alike and not self.header(base).base else (None, None)

    def get(self, name: Digest) -> Array:
        """A tensor, its digest computed again.

        Raises:
            NotFound: not here.
            Corrupt: the object is damaged.
        """
        array = self._read(name, self._depth_one)
        if tensor_digest(array) != name:
            raise Corrupt(f"{name} is damaged: its bytes have another digest", hint="remove it and run `souq fetch`")
        return array

    def _depth_one(self, name: Digest) -> Array:
        """A base, which may not have a base itself: no chains, no cycles."""
        return self._read(name, _no_base)

    def _read(self, name: Digest, base: Callable[[Digest], Array]) -> Array:
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"no tensor {name}", hint="run `souq fetch` to get it from the remote") from error
        try:
            return _decode(data, base)
        except (Hostile, zstandard.ZstdError) as error:
            raise Corrupt(f"{name} is damaged: {error}", hint="remove it and run `souq fetch`") from error

    def header(self, name: Digest) -> Header:
        """How an object is encoded, without reading its payload."""
        try:
            with self.path(name).open("rb") as file:
                return _header(file.read(len(MAGIC) + 8), file.read)[0]
        except FileNotFoundError as error:
            raise NotFound(f"no tensor {name}", hint="run `souq fetch`") from error

    def spec(self, name: Digest) -> TensorRef:
        """What a stored tensor is."""
        header = self.header(name)
        return TensorRef(dtype=header.dtype, shape=header.shape, digest=name)

    def closure(self, names: Iterable[Digest]) -> list[Digest]:
        """These and the bases they are differences from, bases first."""
        wanted: dict[Digest, None] = {}
        for name in names:
            if base := self.header(name).base:
                wanted.setdefault(base)
            wanted.setdefault(name)
        bases = [name for name in wanted if not self.header(name).base]
        return bases + [name for name in wanted if self.header(name).base]

    def copy(self, other: Store, names: Iterable[Digest], progress: Progress = quiet) -> int:
        """Send what `other` lacks of these, bases first; each is checked before it gets its name. Returns how many.

        Raises:
            NotFound: one of them is not here either.
            Corrupt: one of them is damaged here.
        """
        missing = [
            name for name in self.closure(n for n in dict.fromkeys(names) if n not in other) if name not in other
        ]
        total, sent = sum(map(self.size, missing)), 0
        for name in missing:
            progress("send bytes", sent, total)
            self.get(name)
            other._write(name, self.path(name).read_bytes())
            sent += self.size(name)
        progress("send bytes", total, total)
        return len(missing)

    def _write(self, name: Digest, data: bytes) -> None:
        """Whole or not at all: a temporary file, fsync, rename, fsync of the folder."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=PART, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o444)
                Path(file.name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(file.name).unlink(missing_ok=True)
                raise
        _sync(path.parent)

    def fsck(self, progress: Progress = quiet) -> list[str]:
        """Read and decode everything; a line for each damaged object."""
        names, wrong = list(self.digests()), []
        for done, name in enumerate(names):
            progress("fsck", done, len(names))
            try:
                self.get(name)
            except (Corrupt, NotFound, Hostile) as error:
                wrong.append(str(error))
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


def _no_base(name: Digest) -> Array:
    raise Hostile(f"a base with a base, {name[:15]}…: one step is all there may be")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- encoding: unsigned views only, so that no bit of a float is ever interpreted --------------------------------------


def _encode(array: Array, base: Digest | None, held: Array | None) -> bytes:
    """The smallest of the codecs that apply, judged on a sample."""
    plain = _unsigned(array)
    found = [("planes", _rotate(plain), "")]
    if base is not None and held is not None:
        found.append(("sub", _zigzag(plain - _unsigned(held)), base))
    codec, words, base_name = min(found, key=lambda item: _sample_size(item[1]))
    planes = _planes(words)
    packed = [_compress(plane) for plane in planes]
    if sum(len(block) for plane in packed for block in plane) >= array.nbytes:
        codec, packed, base_name = "raw", [[plain.tobytes()]], ""
    payload = b"".join(block for plane in packed for block in plane)
    header = Header(
        codec=codec, dtype=dtype_name(array.dtype), shape=array.shape, base=base_name,
        blocks=tuple(tuple(map(len, plane)) for plane in packed), check=blake3(payload).hexdigest(),
    )  # fmt: skip
    text = canonical(header)
    return MAGIC + len(text).to_bytes(8, "little") + text + payload


def _decode(data: bytes, base: Callable[[Digest], Array]) -> Array:
    """The tensor of an object's bytes; strict, and bounded by what its header may claim.

    Raises:
        Hostile: not an object.
    """
    rest = memoryview(data)[len(MAGIC) + 8 :]
    header, used = _header(data[: len(MAGIC) + 8], lambda n: bytes(rest[:n]))
    payload = rest[used:]
    if blake3(payload).hexdigest() != header.check:
        raise Hostile("its payload does not match its checksum")
    dtype, size = DTYPES[header.dtype], int(np.prod(header.shape, dtype=object))
    if sum(length for plane in header.blocks for length in plane) != len(payload):
        raise Hostile("its blocks do not add up to its length")
    if header.codec == "raw":
        if len(payload) != size * dtype.itemsize:
            raise Hostile("its length is not that of its shape")
        return np.frombuffer(bytes(payload), dtype).reshape(header.shape)
    words = _join(_decompress(header, payload, size), size, dtype.itemsize)
    if header.codec == "sub":
        held = base(header.base)
        if held.shape != header.shape or held.dtype != dtype:
            raise Hostile("its base has another shape")
        plain = _unzigzag(words) + _unsigned(held)
    else:
        plain = _unrotate(words)
    return plain.view(dtype).reshape(header.shape)


def _header(head: bytes, read: Callable[[int], bytes]) -> tuple[Header, int]:
    length = int.from_bytes(head[len(MAGIC) :], "little")
    if not head.startswith(MAGIC) or len(head) != len(MAGIC) + 8 or length > MAX_HEADER:
        raise Hostile("not a souq object")
    text = read(length)
    try:
        header = msgspec.json.decode(text, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Hostile(f"its header cannot be read: {error}") from error
    bounded = len(header.shape) <= 8 and all(0 <= dim <= MAX_ELEMENTS for dim in header.shape)
    lengths = [length for plane in header.blocks for length in plane]
    if canonical(header) != text or header.dtype not in DTYPES or header.codec not in ("raw", "planes", "sub"):
        raise Hostile("its header is not one souq writes")
    if not bounded or int(np.prod(header.shape, dtype=object)) > MAX_ELEMENTS or any(n < 0 for n in lengths):
        raise Hostile("its header claims an impossible size")
    if (header.codec == "sub") != bool(header.base):
        raise Hostile("its header names a base it has no use for, or none")
    return header, length


def _unsigned(array: Array) -> Array:
    return array.reshape(-1).view(f"<u{array.dtype.itemsize}")


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


def _join(planes: Sequence[Planes], size: int, width: int) -> Array:
    table = np.empty((size, width), np.uint8)
    for i, plane in enumerate(planes):
        table[:, i] = plane
    return table.reshape(-1).view(f"<u{width}")


def _sample_size(words: Array) -> int:
    """About how large it becomes: eight pieces of it, compressed."""
    piece = max(1, min(len(words) // 8, 1 << 14))
    starts = np.linspace(0, max(len(words) - piece, 0), 8).astype(int)
    sample = np.concatenate([words[start : start + piece] for start in starts])
    return sum(len(block) for plane in _planes(sample) for block in _compress(plane))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS)


def _compress(plane: Planes) -> list[bytes]:
    """Blocks of zstd, in order; a fast strategy for bytes whose value is an exponent or noise (specs/store.md)."""
    blocks = [plane[i : i + BLOCK] for i in range(0, len(plane), BLOCK)]
    squeeze = _squeeze if len(blocks) < 2 else None
    return [squeeze(block) for block in blocks] if squeeze else list(_pool().map(_squeeze, blocks))


def _squeeze(block: Planes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, window_log=17, target_length=0
    )
    best = zstandard.ZstdCompressor(compression_params=parameters).compress(block.data)
    # Runs (a plane that is nearly all zero) are what long matches are for.
    return (
        min(best, zstandard.ZstdCompressor(level=3).compress(block.data), key=len)
        if len(best) < len(block) // 4
        else best
    )


def _decompress(header: Header, payload: memoryview, size: int) -> list[Planes]:
    width = DTYPES[header.dtype].itemsize
    if len(header.blocks) != width or any(len(plane) != -(-size // BLOCK) for plane in header.blocks):
        raise Hostile("its blocks are not those of its shape")
    jobs, at = [], 0
    for plane in header.blocks:
        for number, length in enumerate(plane):
            jobs.append((payload[at : at + length], min(BLOCK, size - number * BLOCK)))
            at += length
    done = list(_pool().map(_inflate, jobs)) if len(jobs) > 2 else list(map(_inflate, jobs))
    each = len(header.blocks[0])
    return [np.concatenate([*done[i * each : (i + 1) * each], np.zeros(0, np.uint8)]) for i in range(width)]


def _inflate(job: tuple[memoryview, int]) -> Planes:
    packed, size = job
    # The frame's own claim is read before anything is allocated: a bomb is refused, not opened.
    if zstandard.frame_content_size(packed) != size:
        raise Hostile("a block does not have the size of its place")
    data: Any = zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    if len(data) != size:
        raise Hostile("a block is shorter than its place")
    return np.frombuffer(data, np.uint8)

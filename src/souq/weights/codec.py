"""How the store packs a tensor into an object: raw, byte planes, or byte planes of a difference from another tensor.

It knows arrays and bytes, and no folder, bucket or digest of a tensor: those are store.py and bucket.py. What comes
from outside is bounded before anything is allocated.

    header, payload = parse(obj)            # obj: the bytes of an object
    decode(header, payload, None)           # the array, exactly as it was
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec
import numpy as np
import zstandard
from blake3 import blake3
from numpy.typing import NDArray

from souq.errors import Hostile, UsageError
from souq.records import Digest, Record, canonical, is_digest
from souq.weights.delta import DTYPES, MAX_ELEMENTS, Array

MAGIC = b"souq obj 1\n"
MAX_HEADER = 16 << 20
BLOCK = 1 << 20  # numbers encoded at once: enough to compress well, small enough to share out
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


# -- encoding: unsigned views only, so that no bit of a float is ever interpreted --------------------------------------


def storable(array: Array) -> Array:
    """The same numbers, C order and little-endian; a scalar stays a scalar.

    Raises:
        UsageError: a dtype that safetensors has no name for.
    """
    array = np.asarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype not in DTYPES.values():
        raise UsageError(f"safetensors has no name for dtype {array.dtype}", hint=f"use one of {', '.join(DTYPES)}")
    return np.ascontiguousarray(array).reshape(array.shape)


def encode(
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


def object_bytes(header: Header, payload: Sequence[bytes | memoryview]) -> bytes:
    """An object as it is stored and sent: magic, the header's length, the header as canonical JSON, the blocks."""
    text = canonical(header)
    return b"".join([MAGIC, len(text).to_bytes(8, "little"), text, *payload])


def header_of(data: bytes) -> Header:
    """The header at the beginning of an object's bytes.

    Raises:
        Hostile: not a header.
    """
    start = len(MAGIC) + 8
    return read_header(data[:start], lambda length: data[start : start + length])[0]


def parse_object(data: bytes) -> tuple[Header, memoryview]:
    """An object's header and its payload, not yet decoded.

    Raises:
        Hostile: not an object.
    """
    rest = memoryview(data)[len(MAGIC) + 8 :]
    header, start = read_header(data[: len(MAGIC) + 8], lambda n: bytes(rest[:n]))
    return header, memoryview(data)[start:]


class Payload(Protocol):
    """Bytes that are read part by part."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


class InFile:
    """The payload of an object in an open file, read where it lies."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start = file.fileno(), start
        self._length = os.fstat(self._file).st_size - start

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        return os.pread(self._file, stop - start, self._start + start)


def object_in(file: BinaryIO) -> tuple[Header, InFile]:
    """The header of an object in an open file, and its payload, which stays there.

    Raises:
        Hostile: not an object.
    """
    header, start = read_header(file.read(len(MAGIC) + 8), file.read)
    return header, InFile(file, start)


def in_parts(header: Header, payload: Payload, held: Iterable[Array] | None, *, twice: bool = True) -> Iterator[Array]:
    """The words of an object, flat, a block at a time: what `decode` gives, and never all of it in memory.

    `held` are those of the tensor that it is a difference from. Strict and bounded as `decode` is. The payload is read
    `twice`, its checksum first, unless nobody keeps the object and the tensor's own digest is compared at the end.

    Raises:
        Hostile: not an object.
    """
    refuse_unbounded(header, len(payload))
    if twice and _check(payload[at : at + BLOCK] for at in range(0, len(payload), BLOCK)) != header.check:
        raise Hostile("its payload does not match its checksum")
    each = range(-(-header.size // BLOCK))
    if header.codec == "raw":
        width = DTYPES[header.dtype].itemsize
        span = BLOCK * width
        return (np.frombuffer(payload[at * span : (at + 1) * span], f"<u{width}") for at in each)
    if max(_flat(header.blocks), default=0) > 2 * BLOCK:
        raise Hostile("a block is larger than what it holds")
    packed = _Blocks(header, payload)
    if held is None:
        return (_unfold(packed[at], None) for at in each)
    return (_unfold(packed[at], words) for at, words in zip(each, held, strict=True))


def decode(header: Header, payload: memoryview, held: Array | None) -> Array:
    """The tensor of an object; strict, and bounded by what its payload can hold.

    Raises:
        Hostile: not an object.
    """
    refuse_unbounded(header, len(payload))
    if _check([payload]) != header.check:
        raise Hostile("its payload does not match its checksum")
    dtype = DTYPES[header.dtype]
    words = np.empty(header.size, f"<u{dtype.itemsize}")
    if header.codec == "raw":
        words[:] = np.frombuffer(payload, words.dtype)
    else:
        _unpack(header, payload, held, words)
    return words.view(dtype).reshape(header.shape)


def read_header(head: bytes, read: Callable[[int], bytes]) -> tuple[Header, int]:
    """A header, and where in the object its payload begins; `read` gives the bytes after `head`.

    Raises:
        Hostile: not a header that souq writes.
    """
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


def refuse_unbounded(header: Header, length: int) -> None:
    """Before anything is allocated: the payload is as long as said, and what it claims to hold is in proportion.

    Raises:
        Hostile: it is not.
    """
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


def as_words(array: Array) -> Array:
    """The bits of an array, flat: (size,) of the unsigned integer as wide as its dtype."""
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
    unit, bits = difference.dtype.type(1), difference.dtype.itemsize * 8
    sign = (difference >> difference.dtype.type(bits - 1)) & unit
    folded: Array = (difference << unit) ^ (np.zeros_like(difference) - sign)
    return folded


def _unzigzag(words: Array) -> Array:
    unit = words.dtype.type(1)
    unfolded: Array = (words >> unit) ^ (np.zeros_like(words) - (words & unit))
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
def pool() -> ThreadPoolExecutor:
    """The threads that pack and unpack: one pool a process."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="souq-store")


def _each(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """In order, on the pool where there is enough to share."""
    return list(map(work, items)) if len(items) < 2 else list(pool().map(work, items))


def _pack(words: Array, held: Array | None) -> list[list[bytes]]:
    """Compressed blocks, plane by plane."""

    def packed(start: int) -> list[bytes]:
        part = slice(start, start + BLOCK)
        return [_squeeze(plane) for plane in _planes(_fold(words[part], None if held is None else held[part]))]

    blocks = _each(packed, range(0, len(words), BLOCK))
    return [[block[i] for block in blocks] for i in range(words.dtype.itemsize)]


def _unpack(header: Header, payload: memoryview, held: Array | None, out: Array) -> None:
    packed = _Blocks(header, payload)

    def unpack_block(number: int) -> None:
        part = slice(number * BLOCK, min((number + 1) * BLOCK, len(out)))
        out[part] = _unfold(packed[number], None if held is None else held[part])

    _each(unpack_block, range(len(header.blocks[0])))


class _Blocks:
    """The blocks of an object, unpacked, their words still folded."""

    def __init__(self, header: Header, payload: Payload) -> None:
        self._size, self._payload, self._width = header.size, payload, len(header.blocks)
        self._each, self._lengths = len(header.blocks[0]), _flat(header.blocks)
        self._ends = np.cumsum(self._lengths, dtype=np.int64).tolist()

    def __getitem__(self, number: int) -> Array:
        table = np.empty((min(BLOCK, self._size - number * BLOCK), self._width), np.uint8)
        for i in range(self._width):
            at = i * self._each + number
            span = self._payload[self._ends[at] - self._lengths[at] : self._ends[at]]
            table[:, i] = _inflate(span, len(table))
        return table.reshape(-1).view(f"<u{self._width}")


def _flat(blocks: tuple[tuple[int, ...], ...]) -> list[int]:
    return [length for plane in blocks for length in plane]


class _Zstd(threading.local):
    """Contexts are costly to make and not to be shared between threads."""

    def __init__(self) -> None:
        # A fast strategy for bytes whose value is an exponent or noise: longer matches than these are not there.
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


def _inflate(packed: bytes | memoryview, size: int) -> Planes:
    # The frame's own claim is read before anything is allocated: a bomb is refused, not opened.
    if zstandard.frame_content_size(packed) != size:
        raise Hostile("a block does not have the size of its place")
    data: Any = _zstd.opener.decompress(packed, max_output_size=size, allow_extra_data=False)
    if len(data) != size:
        raise Hostile("a block is shorter than its place")
    return np.frombuffer(data, np.uint8)

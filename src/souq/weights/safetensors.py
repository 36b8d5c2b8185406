"""safetensors files, read strictly and written canonically.

The format is an eight-byte header length, a JSON header, and the tensors' bytes
(https://github.com/huggingface/safetensors). Files from outside are hostile: nothing is allocated before it is bounded,
and whatever two readers could understand differently is refused. What is written has one spelling.

    write_tensors(path, {"w": np.zeros(2, "f4")}, {"format": "pt"})
    open_tensors(path)["w"]
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from souq.errors import Hostile, NotFound
from souq.files import beside
from souq.records import read_json
from souq.weights.delta import DTYPES, Array, dtype_name, is_tensor_name

MAX_HEADER = 32 << 20
MAX_TENSORS = 100_000
MAX_RANK = 8
MAX_METADATA = 32 << 20
MAX_WORDS = 5 * MAX_TENSORS  # keys, lists and tables in a header: Python's objects are ten times their text
_ALIGN = 8
Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""What a file will hold: name -> dtype, shape."""


@dataclass(frozen=True)
class Spec:
    """Where a tensor lies: dtype, shape, and the byte range after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile(Mapping[str, Array]):
    """The tensors of one file, each read from disk when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata, self.specs, self.start = _read_header(path)  # start: where the tensors' bytes begin

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process it is its path, never its bytes."""
        return open_tensors, (self.path,)

    @cached_property
    def _bytes(self) -> Any:
        return np.memmap(self.path, dtype=np.uint8, mode="r") if self.path.stat().st_size else np.zeros(0, np.uint8)

    def __getitem__(self, name: str) -> Array:
        spec = self.specs[name]
        part = self._bytes[self.start + spec.begin : self.start + spec.end]
        return np.frombuffer(part.tobytes(), DTYPES[spec.dtype]).reshape(spec.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)


def open_tensors(path: Path) -> TensorFile:
    """A safetensors file, its header checked whole.

    Raises:
        NotFound: no such file.
        Hostile: anything the format does not allow, or allows and two readers could read differently.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="check the path")
    try:
        return TensorFile(path)
    except Hostile as error:
        raise Hostile(f"{path}: {error}", hint="if a download broke off, get the file again") from error


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Spec], int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise Hostile(f"not safetensors: {size} bytes, too short for a header")
        length = int.from_bytes(head, "little")
        if length > MAX_HEADER or 8 + length > size:
            raise Hostile(f"not safetensors: a header of {length:,} bytes in a file of {size:,}")
        header = _json(file.read(length))
    metadata = _metadata(header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise Hostile(f"{len(header):,} tensors; the most is {MAX_TENSORS:,}")
    specs = {name: _spec(name, value) for name, value in header.items()}
    _gapless(specs, size - 8 - length)
    return metadata, dict(sorted(specs.items())), 8 + length


def _json(data: bytes) -> dict[str, Any]:
    if not data.startswith(b"{"):
        raise Hostile("not safetensors: the header does not begin with {")
    if max(data.count(b'":'), data.count(b"[") + data.count(b"{")) > MAX_WORDS:
        raise Hostile(f"a header of more than {MAX_WORDS:,} keys or lists, for at most {MAX_TENSORS:,} tensors")
    try:
        header = read_json(data)
    except Hostile as error:
        raise Hostile(
            f"the header is {error}" if str(error).startswith("not ") else f"in the header, {error}"
        ) from error
    if not isinstance(header, dict):
        raise Hostile("the header is not a JSON object")
    return header


def _metadata(value: Any) -> dict[str, str]:
    texts = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if not texts or sum(map(len, value.values())) > MAX_METADATA:
        raise Hostile("__metadata__ is not a small table of texts")
    return dict(value)


def _spec(name: str, value: Any) -> Spec:
    if not is_tensor_name(name):
        raise Hostile(f"{name[:80]!r} is not a tensor's name")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise Hostile(f"{name}: dtype, shape and data_offsets are expected, and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Hostile(f"{name}: dtype {str(dtype)[:20]!r} is not one of {', '.join(DTYPES)}")
    if not _wholes(shape, MAX_RANK) or not _wholes(offsets, 2) or len(offsets) != 2:
        raise Hostile(f"{name}: a shape or an offset is not a list of whole numbers from 0 up")
    size = DTYPES[dtype].itemsize
    for dim in shape:
        size *= dim
    if offsets[1] - offsets[0] != size:
        raise Hostile(
            f"{name}: {offsets[1] - offsets[0]:,} bytes for a {dtype} of shape {tuple(shape)}, which has {size:,}"
        )
    return Spec(dtype, tuple(shape), offsets[0], offsets[1])


def _wholes(value: Any, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(item) is int and 0 <= item < 1 << 48 for item in value)
    )


def _gapless(specs: Mapping[str, Spec], size: int) -> None:
    """Every byte belongs to exactly one tensor; an empty tensor may not stand inside another."""
    at = 0
    for name, spec in sorted(specs.items(), key=lambda item: (item[1].begin, item[1].end)):
        if spec.begin != at:
            raise Hostile(
                f"{name} begins at {spec.begin:,}, not at {at:,}: {'a hole' if spec.begin > at else 'an overlap'}"
            )
        at = spec.end
    if at != size:
        raise Hostile(f"the tensors end at {at:,} and the file at {size:,}")


def write_tensors(
    path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None, *, layout: Layout | None = None
) -> None:
    """A safetensors file with sorted names and one spelling, under its real name only when it is whole.

    `layout` lets a lazy mapping be written tensor by tensor, each computed once.
    """
    shapes = layout or {name: (dtype_name(tensors[name].dtype), tensors[name].shape) for name in tensors}
    with TensorWriter(path, {name: shapes[name] for name in tensors}, metadata) as writer:
        for name in sorted(tensors):
            writer.put(name, tensors[name])


class TensorWriter:
    """Writes a safetensors file, its tensors put in any order and from any thread; there only once all of them came."""

    def __init__(self, path: Path, layout: Layout, metadata: Mapping[str, str] | None = None) -> None:
        if wrong := [name for name in sorted(layout) if not is_tensor_name(name)]:
            raise Hostile(f"{wrong[0][:80]!r} is not a tensor's name")
        self._path, self._layout, self._missing = path, layout, set(layout)
        head, begins = layout_bytes(layout, metadata or {})
        self._at = {name: len(head) + begin for name, begin in begins.items()}
        self._left = ExitStack()
        self._part = self._left.enter_context(beside(path)) / path.name
        self._file = self._left.enter_context(self._part.open("wb"))
        self._file.write(head)
        self._file.flush()

    def put(self, name: str, array: Array) -> None:
        """Write one tensor where it belongs.

        Raises:
            Hostile: it is not of the dtype and shape that the layout says.
        """
        dtype, shape = self._layout[name]
        if (dtype_name(array.dtype), array.shape) != (dtype, tuple(shape)):
            raise Hostile(f"{name} is not the {dtype} of shape {shape} it was said to be")
        with self.filling(name) as write:
            write(np.ascontiguousarray(array).reshape(-1))

    @contextmanager
    def filling(self, name: str) -> Iterator[Callable[[Array], None]]:
        """Write one tensor where it belongs, flat, part by part.

        Raises:
            Hostile: the parts are not as long as the layout says.
        """
        dtype, shape = self._layout[name]
        at, end = self._at[name], self._at[name] + math.prod(shape) * DTYPES[dtype].itemsize

        def write(part: Array) -> None:
            nonlocal at
            data = part.view(np.uint8).data
            if at + len(data) > end:
                raise Hostile(f"{name} is longer than it was said to be")
            while len(data):
                written = os.pwrite(self._file.fileno(), data, at)
                data, at = data[written:], at + written

        yield write
        if at != end:
            raise Hostile(f"{name} is shorter than it was said to be")
        self._missing.discard(name)

    def copy(self, name: str, file: TensorFile) -> None:
        """A tensor as it stands in another file, its bytes moved by the kernel.

        Raises:
            Hostile: the other file's tensor is not of the layout's dtype and shape, or the file is cut short.
        """
        spec, at = file.specs[name], self._at[name]
        if (spec.dtype, spec.shape) != (self._layout[name][0], tuple(self._layout[name][1])):
            raise Hostile(f"{name} in {file.path} is not the tensor it was said to be")
        with file.path.open("rb") as source:
            begin, left = file.start + spec.begin, spec.end - spec.begin
            while left:
                moved = os.copy_file_range(source.fileno(), self._file.fileno(), left, begin, at)
                if not moved:
                    raise Hostile(f"{file.path} ends before its last tensor")
                begin, at, left = begin + moved, at + moved, left - moved
        self._missing.discard(name)

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._left:
            if kind is None:
                if self._missing:
                    raise ValueError(f"nobody wrote {min(self._missing)}")
                os.fsync(self._file.fileno())
                self._part.chmod(0o644)
                self._part.replace(self._path)


def layout_bytes(layout: Layout, metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """A file's header, and where each tensor's bytes begin after it: for those who write in any order."""
    ordered = {name: layout[name] for name in sorted(layout)}
    begins, at = {}, 0
    for name, (dtype, shape) in ordered.items():
        begins[name] = at
        at += math.prod(shape) * DTYPES[dtype].itemsize
    return _header_bytes(ordered, metadata), begins


def _header_bytes(shapes: Layout, metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name, (dtype, shape) in shapes.items():
        end = at + math.prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGN)
    return len(text).to_bytes(8, "little") + text

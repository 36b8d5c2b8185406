"""Tensors by name, and what changes them.

A checkpoint is a mapping from tensor name to array. A Delta turns one checkpoint into another. This file knows tensors;
it has never heard of text, git, disks or people.

    >>> ref = TensorRef.of(np.zeros(2, "f4"))
    >>> ref.shape, ref.nbytes
    ((2,), 8)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from souq.records import Digest, Record

Array = NDArray[Any]
Checkpoint = Mapping[str, Array]
Load = Callable[[Digest], Array]
"""From a digest to its tensor, wherever it is kept."""


class _Dtypes(Mapping[str, np.dtype[Any]]):
    """numpy's dtypes by safetensors' names; bfloat16's library takes half a second, and is loaded when it is asked."""

    def __getitem__(self, name: str) -> np.dtype[Any]:
        return _bfloat16() if name == BF16 else _PLAIN[name]

    def __contains__(self, name: object) -> bool:
        return name == BF16 or name in _PLAIN

    def __iter__(self) -> Iterator[str]:
        return iter((BF16, *_PLAIN))

    def __len__(self) -> int:
        return 1 + len(_PLAIN)


@cache
def _bfloat16() -> np.dtype[Any]:
    import ml_dtypes

    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


BF16 = "BF16"
_PLAIN: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _PLAIN.items()}
DTYPES: Mapping[str, np.dtype[Any]] = _Dtypes()
MAX_ELEMENTS = 1 << 36


def dtype_name(dtype: np.dtype[Any]) -> str:
    """safetensors' name of a numpy dtype.

    Raises:
        KeyError: it has none.
    """
    little = dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype
    return BF16 if little not in _NAMES and little == DTYPES[BF16] else _NAMES[little]


def tensor_digest(array: Array) -> Digest:
    """The digest of what a tensor is: dtype, shape and little-endian bytes; never of how it is stored."""
    data = np.ascontiguousarray(array)
    if data.dtype.byteorder == ">":
        data = data.astype(data.dtype.newbyteorder("<"))
    return digest_of_parts(dtype_name(data.dtype), array.shape, [data.reshape(-1)])


def digest_of_parts(dtype: str, shape: Sequence[int], parts: Iterable[Array]) -> Digest:
    """The digest of a tensor whose numbers come one flat part after the other, little-endian."""
    hasher = blake3(f"souq tensor 1\n{dtype} {'x'.join(map(str, shape))}\n".encode())
    for part in parts:
        hasher.update(part.view(np.uint8).data)
    return "b3:" + hasher.hexdigest()


class TensorRef(Record, frozen=True):
    """A tensor by what it is. Its text is `BF16 576x576 b3:…`."""

    dtype: str
    shape: tuple[int, ...]
    digest: Digest

    @classmethod
    def of(cls, array: Array) -> TensorRef:
        return cls(dtype=dtype_name(array.dtype), shape=array.shape, digest=tensor_digest(array))

    @property
    def size(self) -> int:
        """How many numbers."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        return self.size * DTYPES[self.dtype].itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'} {self.digest}"


Lock = dict[str, TensorRef]
"""A checkpoint written down: every tensor's name, dtype, shape and digest."""


class Lora(Record, frozen=True):
    """A low-rank change: d = scale * b @ a, with a (r, n) and b (m, r), kept as its author made it."""

    a: TensorRef
    b: TensorRef
    scale: float
    kind = "lora"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.b.shape[0], self.a.shape[1])


class Dense(Record, frozen=True):
    """The whole new tensor; the store keeps it as the exact difference from the base."""

    value: TensorRef
    kind = "dense"


class Sparse(Record, frozen=True):
    """New values (k,) at flat positions index (k,); every other number is the base's."""

    index: TensorRef
    value: TensorRef
    kind = "sparse"


Part = Lora | Dense | Sparse


class Rows(Record, frozen=True):
    """New tokens: value (tokens, n) stands behind the base's own rows of an embedding or a head; some are `special`."""

    tokens: tuple[str, ...]
    special: tuple[str, ...]
    value: TensorRef
    kind = "rows"


class Layer(Record, frozen=True):
    """A tensor of a new layer; `16.0.mlp.up_proj.weight` is of the first that goes before the base's layer 16."""

    value: TensorRef
    kind = "layer"


class Expert(Record, frozen=True):
    """A tensor of a new expert beside a layer's feed-forward one; `16.0.up_proj.weight` is of the first in layer 16."""

    value: TensorRef
    kind = "expert"


class Router(Record, frozen=True):
    """The row (n,) of an expert's router, `16.0`: how much of it a token gets, against 0 for the base's own."""

    value: TensorRef
    kind = "router"


New = Rows | Layer | Expert | Router


class Gram(Record, frozen=True):
    """What one layer's inputs looked like: G ~ factor.T @ factor + diag, the mean of x x^T over `tokens`.

    factor (k, n), diag (n,) > 0. A summary of activations, never the data: RegMean (arXiv:2212.09849) with
    the Gram matrix kept as low rank plus diagonal.
    """

    factor: TensorRef
    diag: TensorRef
    tokens: int
    kind = "gram"


@dataclass(frozen=True)
class Delta:
    """Turns the checkpoint whose lock digest is `base` into another; tensors are named by digest and loaded by need."""

    base: Digest
    parts: dict[str, Part]
    grams: dict[str, Gram] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)  # tensor name -> the gram of what flows into it
    new: dict[str, New] = field(default_factory=dict)  # what the base does not have, by kind and name

    def refs(self) -> Iterator[TensorRef]:
        """Every tensor the delta is made of."""
        for part in (*self.parts.values(), *self.grams.values(), *self.new.values()):
            yield from refs_of(part)

    def touches(self) -> list[str]:
        """The tensors this changes, and those whose place its additions share: what a policy's scopes look at."""
        return sorted({*self.parts, *(_stands(title) for title in self.new)})

    def sketched(self, by: Delta) -> Delta:
        """The same change with the sketches of another delta in place of its own."""
        return replace(self, grams=by.grams, inputs=by.inputs)

    def gram_of(self, name: str) -> Gram | None:
        return self.grams.get(self.inputs.get(name, ""))


def refs_of(part: Part | Gram | New) -> list[TensorRef]:
    """The tensors one stanza of a delta is made of."""
    return [value for key in part.__struct_fields__ if isinstance(value := getattr(part, key), TensorRef)]


def _stands(title: str) -> str:
    kind, _, name = title.partition(" ")
    if kind == "rows":
        return name
    layer, _, *inside = name.split(".", 2)
    return f"model.layers.{layer}.{'' if kind == 'layer' else 'mlp.'}{inside[0] if inside else 'router'}"


_TENSOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,255}")


def is_tensor_name(name: str) -> bool:
    """Letters, digits, `_ . -`, at most 256, no `..`: what every framework writes, and nothing a path could abuse."""
    return _TENSOR_NAME.fullmatch(name) is not None and ".." not in name


Tensors = dict[Digest, Array]

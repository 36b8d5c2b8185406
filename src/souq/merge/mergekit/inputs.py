"""A model to merge, as tensors that can be read at any place: from its files, or computed as they are read.

What is computed is a LoRA laid over its base (`model+lora`), and rows put into another vocabulary (vocabulary.py). Both
are float32 and are rounded for the first time with the merge. Files are opened for each read, so a thousand models
hold no handles. Knows files and one model; has never heard of merge methods.

    model = Model(ModelRef("./base", lora=ModelRef("./adapter")))
    model.numbers("model.norm.weight", 0, 576)
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from souq.errors import Hostile, UsageError
from souq.merge.exact import matmul
from souq.merge.mergekit.config import ModelRef
from souq.merge.mergekit.layers import depth_of
from souq.model.adapter.fit import fit
from souq.model.adapter.peft import read_adapter
from souq.model.source import Sharded, Source, open_source
from souq.weights.delta import DTYPES, Array
from souq.weights.safetensors import TensorFile

F32 = NDArray[np.float32]
_PEEK = 4096  # bytes of each tensor that a model is known by


class Computed(Protocol):
    """A tensor that is nowhere in a file: float32, any run of its elements on request."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def numbers(self, begin: int, count: int) -> F32: ...


class Model:
    """A checkpoint's tensors, stored or computed.

    Raises:
        UsageError: not safetensors, or an adapter that does not fit its base.
        Hostile: a file breaks its format.
    """

    def __init__(self, ref: ModelRef, folder: Path | None = None) -> None:
        self.ref = ref
        self.source: Source = open_source(str(folder or ref.path), ref.revision)
        self.config: dict[str, Any] = json.loads(self.source.files["config.json"])
        if ref.override_architecture:
            self.config["architectures"] = [ref.override_architecture]
        weights = self.source.weights
        if not isinstance(weights, TensorFile | Sharded):
            raise UsageError(f"{ref} is not a folder of safetensors", hint="`souq export` writes one")
        files = weights.files if isinstance(weights, Sharded) else [weights]
        self._where: dict[str, TensorFile] = {name: file for file in files for name in file}
        self._computed: dict[str, Computed] = {}
        self._shapes = {name: (file.specs[name].dtype, file.specs[name].shape) for name, file in self._where.items()}
        self._like: dict[str, str] = {}
        self._adapter = b""
        if ref.lora:
            self._lay_over(ref.lora)

    @property
    def layers(self) -> int:
        return depth_of(self.config)

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of every tensor, as it is read."""
        return self._shapes

    def stored(self, name: str) -> str:
        """The dtype its author keeps a tensor in: what a merge is written in when nothing else is asked."""
        name = self._like.get(name, name)
        return self._where[name].specs[name].dtype if name in self._where else "F32"

    @cached_property
    def fingerprint(self) -> bytes:
        """A digest of what the model holds: each stored tensor's name, dtype, shape and first bytes; its adapter."""
        hasher = blake3()
        for name in sorted(self._where):
            spec = self._where[name].specs[name]
            hasher.update(f"{name} {spec.dtype} {spec.shape}\n".encode())
            first = np.empty(min(_PEEK, spec.end - spec.begin), np.uint8)
            self._pread(name, 0, first)
            hasher.update(first.data)
        hasher.update(self._adapter)
        return hasher.digest()

    def compute(self, name: str, tensor: Computed, *, like: str) -> None:
        """From now on the model has this tensor too, made of the one called `like`."""
        self._computed[name], self._like[name] = tensor, like
        self._shapes[name] = ("F32", tensor.shape)

    def numbers(self, name: str, begin: int, count: int) -> F32:
        """Elements begin .. begin + count of a tensor, as float32 (count,)."""
        if name in self._computed:
            return self._computed[name].numbers(begin, count)
        return self._stored_numbers(name, begin, count)

    def _stored_numbers(self, name: str, begin: int, count: int) -> F32:
        dtype = DTYPES[self.stored(name)]
        numbers = np.empty(count, dtype)
        self._pread(name, begin * dtype.itemsize, numbers)
        return numbers.astype(np.float32)

    def read_into(self, name: str, begin: int, into: Array) -> None:
        """Fill a contiguous array of any shape and dtype with a tensor's bytes from byte `begin` on."""
        if name in self._computed:
            into.reshape(-1).view(np.float32)[:] = self._computed[name].numbers(begin // 4, into.nbytes // 4)
        else:
            self._pread(name, begin, into)

    def _pread(self, name: str, begin: int, into: Array) -> None:
        file = self._where[name]
        data = memoryview(into.view(np.uint8).reshape(-1).data)
        at = file.start + file.specs[name].begin + begin
        handle = os.open(file.path, os.O_RDONLY)
        try:
            while data:
                got = os.preadv(handle, [data], at)
                if got <= 0:
                    raise Hostile(f"{file.path} ends before {name} does", hint="if a download broke off, get it again")
                data, at = data[got:], at + got
        finally:
            os.close(handle)

    def _lay_over(self, lora: ModelRef) -> None:
        shapes, adapter = (
            {name: shape for name, (_, shape) in self._shapes.items()},
            read_adapter(lora.path, lora.revision),
        )
        if adapter.config.repeats:
            raise UsageError(
                f"{lora} repeats layers of its base (layer_replication)",
                hint="merge it with PEFT, save the model, and name that folder",
            )
        fitted = fit(adapter, shapes, self.config, self._whole, base=self.source.name)
        hasher = blake3()
        for name in sorted([*fitted.low, *fitted.changed]):
            made: Computed
            if name in fitted.low:
                a, b, scale = fitted.low[name]
                made = LowRank(self, name, b, a, scale)
                hasher.update(f"{name} {a.dtype} {a.shape} {b.dtype} {scale.hex()}\n".encode())
                hasher.update(np.ascontiguousarray(a).view(np.uint8).data)
                hasher.update(np.ascontiguousarray(b).view(np.uint8).data)
            else:
                made = Whole(fitted.changed[name](self._whole(name).astype(np.float32)))
                hasher.update(f"{name} whole\n".encode())
                hasher.update(made.values.view(np.uint8).data)
            self._computed[name] = made
            self._shapes[name] = ("F32", made.shape)
        self._adapter = hasher.digest()

    def _whole(self, name: str) -> Array:
        """A stored tensor, whole, as its author keeps it."""
        spec = self._where[name].specs[name]
        array = np.empty(spec.shape, DTYPES[spec.dtype])
        self._pread(name, 0, array)
        return array


@dataclass(frozen=True)
class LowRank:
    """A stored matrix W (m, n) plus scale b (m, r) @ a (r, n), row by row with fixed bits, rounded once to float32."""

    model: Model
    name: str
    b: Array
    a: Array
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.b), self.a.shape[1]

    def numbers(self, begin: int, count: int) -> F32:
        width = max(self.shape[1], 1)
        first, last = begin // width, -(-(begin + count) // width)
        # Each row of a product is scaled by itself (exact.py), so which rows are asked for together cannot show.
        rows = matmul(self.b[first:last].astype(np.float64), self.a.astype(np.float64) * self.scale)
        change = rows.reshape(-1)[begin - first * width :][:count]
        change += self.model._stored_numbers(self.name, begin, count)
        return change.astype(np.float32)


@dataclass(frozen=True)
class Whole:
    """A tensor that is in memory."""

    values: F32

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def numbers(self, begin: int, count: int) -> F32:
        return self.values.reshape(-1)[begin : begin + count]

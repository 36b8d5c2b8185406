"""Stored tensors laid out flat beside a build, for as long as rows of them are asked for.

with Laid(supply, folder) as laid:
    laid.rows(ref, 0, 64)
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from souq.errors import Hostile
from souq.files import beside
from souq.weights.delta import DTYPES, Array, TensorRef
from souq.weights.supply import Supply


class Laid:
    """The tensors that were asked about, each read once from the supply and compared."""

    def __init__(self, supply: Supply, folder: Path) -> None:
        self._supply, self._folder, self._left = supply, folder, ExitStack()
        self._files: dict[TensorRef, Path] = {}

    def __enter__(self) -> Laid:
        self._scratch = self._left.enter_context(beside(self._folder / "laid"))
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def rows(self, ref: TensorRef, start: int, stop: int) -> Array:
        """Some rows of a matrix.

        Raises:
            Hostile: it is none, or has not as many.
        """
        if len(ref.shape) != 2 or stop > ref.shape[0]:
            raise Hostile(f"a change of shape {ref.shape} to a matrix of {stop:,} rows or more")
        dtype, width = DTYPES[ref.dtype], ref.shape[1]
        offset = start * width * dtype.itemsize
        flat = np.fromfile(self._file(ref), dtype, (stop - start) * width, offset=offset)
        return flat.reshape(stop - start, width)

    def _file(self, ref: TensorRef) -> Path:
        if ref not in self._files:
            path = self._scratch / str(len(self._files))
            with path.open("wb") as file:
                self._supply.read(ref, lambda words: file.write(words.data))
            self._files[ref] = path
        return self._files[ref]

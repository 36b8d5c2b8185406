"""What flows into a layer, kept on the disk: models that are the same below that layer read it instead of computing it.

A state is a token's, after all the tokens before it; it goes by the digest of those tokens. A folder of states goes by
all that they hang on: the tensors below the layer, the files around the weights, versions and arithmetic. What a file
says it is of, and the digest of what it holds, are compared before a number of it is used: what is damaged, or another
model's, is removed and computed again. It can all be made again.

    states = LowerStates(repo.cache / "lower", digest_of([...]), depth=20)
    states.add(row, below)
    states.of(row)          # the same numbers, of any row whose tokens and beginnings were seen
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from blake3 import blake3

from souq.errors import SouqError
from souq.lab.packing import PackedRow
from souq.records import Digest
from souq.weights.delta import Array
from souq.weights.safetensors import open_tensors, write_tensors

MOST = 1 << 30  # bytes that one model's lower half may take; what is beyond is computed each time
FOLDERS = 4  # lower halves that are kept, the newest
NAME = 16  # bytes


@dataclass
class LowerStates:
    """The states that flow into the layer `depth` of every model whose lower half goes by `key`."""

    place: Path
    key: Digest
    depth: int
    _new: dict[bytes, Array] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.place / self.key.removeprefix("b3:")[:32]

    def knows(self, tokens: Sequence[int]) -> bool:
        """Whether there is a state at each of a text's tokens."""
        return all(name in self._kept for name in _names(tokens, range(-1, len(tokens) - 1)))

    def of(self, row: PackedRow) -> Array | None:
        """(n, D): the states at a row's nodes; None where one is not known."""
        names = list(_names(row.tokens, row.parents))
        if not names or any(name not in self._kept for name in names):
            return None
        return np.stack([self._kept[name] for name in names])

    def add(self, row: PackedRow, states: Array) -> None:
        """Keep the states at a row's nodes; they are on the disk after `flush`."""
        for name, state in zip(_names(row.tokens, row.parents), states, strict=True):
            if name not in self._kept:
                self._kept[name] = self._new[name] = state

    def flush(self) -> None:
        """Write what is new into one file, as long as there is room."""
        new, size = self._new, sum(state.nbytes for state in self._new.values())
        self._new = {}
        if new and size + sum(path.stat().st_size for path in self._files()) <= MOST:
            names = np.frombuffer(b"".join(new), np.uint8).reshape(-1, NAME)
            held = {"names": names, "states": np.stack([*new.values()])}
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{blake3(names.tobytes()).hexdigest()[:32]}.safetensors"
            write_tensors(path, held, {"of": self.key, "holds": self._digest(held["names"], held["states"])})
            _tidy(self.place)

    @cached_property
    def _kept(self) -> dict[bytes, Array]:
        with suppress(OSError):
            os.utime(self.folder)  # the newest are kept
        return {name: state for path in self._files() for name, state in self._read(path)}

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors")) if self.folder.is_dir() else []

    def _read(self, path: Path) -> Iterable[tuple[bytes, Array]]:
        """A file's states, if it is whole and of this lower half; else it goes."""
        try:
            file = open_tensors(path)
            names, states = file["names"], file["states"]
            claims = (file.metadata.get("of"), file.metadata.get("holds"))
            right = claims == (self.key, self._digest(names, states)) and names.shape == (len(states), NAME)
        except (SouqError, OSError, KeyError, ValueError):
            right = False
        if not right:
            path.unlink(missing_ok=True)
            return ()
        return zip(map(bytes, names), states, strict=True)

    def _digest(self, names: Array, states: Array) -> str:
        """Of what a file holds, and of whose it is."""
        head = f"{self.key} {names.shape} {states.shape} {states.dtype}".encode()
        return blake3(head + names.tobytes() + states.tobytes()).hexdigest()


def _names(tokens: Sequence[int], parents: Iterable[int]) -> Iterator[bytes]:
    """Each node's name: a digest of its token and of all before it."""
    names: list[bytes] = []
    for token, parent in zip(tokens, parents, strict=True):
        before = names[parent] if parent >= 0 else b""
        names.append(blake2b(before + token.to_bytes(8, "little"), digest_size=NAME).digest())
        yield names[-1]


def _tidy(place: Path) -> None:
    """Throw away the lower halves that were used longest ago."""
    folders = sorted((path for path in place.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)

"""What a build will read, write, compute and hold, before a tensor of it is read; and how it keeps within a limit.

It knows shapes, dtypes and how many change a tensor, and has measured what merging one takes. A tensor whose merge does
not fit is merged in strips of rows; where not even a row fits, that is said at once.

    ahead = plan(pieces, limit=8 * 10**9)
    ahead.peak, ahead.lacking, ahead.needs
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from souq.budget import resident
from souq.records import Record

# Bytes a number, measured (decisions/scale.md): what merging a tensor of so many holds at once, with all its copies.
A_SUM, SOLVED, EACH, ANY, STACKED = 50, 64, 9, 64, 12
SYSTEM = 42  # and of a system of sketches (n, n), a number of it
STREAM = 96 << 20  # bytes that reading a tensor in parts holds
START = 96 << 20  # that a build holds beside the tensors: libraries' buffers, locks, what an allocator keeps
ROWS = 64  # at least, of a strip: fewer take longer than they save

How = Literal["copied", "read", "merged", "merged by rows"]


@dataclass(frozen=True)
class Piece:
    """One tensor of the model, or a group that shares a system of sketches: how large, and how it comes to be."""

    name: str
    how: Literal["copied", "read", "merged"]
    shapes: tuple[tuple[int, ...], ...] = ()
    system: int = 0  # the n of its system of sketches
    changes: int = 0  # of the tensor that most contributions change
    sums: bool = True  # whether its method needs no more of a row than that row
    ranks: int = 0  # of all changes together
    grown: bool = False  # made larger by what contributions add: it is put together whole


@dataclass(frozen=True)
class Step:
    """How a piece is made: the bytes it holds meanwhile, and the rows of its strips, 0 for all at once."""

    piece: Piece
    need: int
    rows: int = 0

    @property
    def how(self) -> How:
        return "merged by rows" if self.rows else self.piece.how


class Plan(Record, frozen=True):
    """What a build will do, in bytes and operations; `lacking` says why it cannot, if it cannot."""

    limit: int  # bytes; 0 without one
    peak: int
    needs: int  # the least limit that would do
    reads: int
    fetches: int  # of them, by network
    writes: int
    scratch: int
    operations: int
    tensors: dict[How, int]
    rows: dict[str, int]  # of the strips of each tensor that is merged by rows
    lacking: str = ""


def steps(pieces: Iterable[Piece], limit: int, held: int) -> list[Step]:
    """How each piece is made within so many bytes, of which `held` are taken already; the largest first."""
    room = limit - held if limit else 0
    return sorted((_step(piece, room) for piece in pieces), key=lambda step: -step.need)


def _step(piece: Piece, room: int) -> Step:
    if piece.how != "merged":
        return Step(piece, STREAM if piece.how == "read" else 0)
    whole = max(_need(piece, shape, shape[0] if shape else 1) for shape in piece.shapes)
    if not room or whole <= room or not _divides(piece):
        return Step(piece, whole)
    rows = min(_rows_within(piece, shape, room) for shape in piece.shapes)
    return Step(piece, max(_need(piece, shape, rows) for shape in piece.shapes), rows)


def _divides(piece: Piece) -> bool:
    return piece.sums and not piece.grown and all(len(shape) == 2 for shape in piece.shapes)


def _need(piece: Piece, shape: Sequence[int], rows: int) -> int:
    """Bytes that merging so many rows of a tensor holds."""
    width = 1
    for dim in shape[1:]:
        width *= dim
    each = (SOLVED if piece.system else A_SUM) if piece.sums else ANY + EACH * piece.changes
    each = each if piece.changes else STACKED
    factors = 16 * (width + (shape[0] if shape else 1)) * piece.ranks
    system = SYSTEM * piece.system**2
    return max(system, 8 * piece.system**2 + each * rows * width) + factors


def _rows_within(piece: Piece, shape: Sequence[int], room: int) -> int:
    """The rows of a strip: half of the room, so that two are merged at once where the machine has two cores."""
    none, one = _need(piece, shape, 0), _need(piece, shape, 1)
    free = room // min(2, os.cpu_count() or 1) - none
    return max(min(ROWS, shape[0]), min(shape[0], free // max(one - none, 1)))


def least(pieces: Iterable[Piece], held: int) -> int:
    """The least limit within which all of them can be made."""
    needs = [STREAM]
    for piece in (piece for piece in pieces if piece.how == "merged"):
        rows = [min(ROWS, shape[0]) if _divides(piece) else (shape[0] if shape else 1) for shape in piece.shapes]
        needs += [_need(piece, shape, some) for shape, some in zip(piece.shapes, rows, strict=True)]
    return held + max(needs)


def peak(made: Sequence[Step], held: int) -> int:
    """The most that is held at once: the largest pieces, as many as there are cores; no more than a limit lets in."""
    return held + sum(step.need for step in made[: os.cpu_count() or 1])


def operations(pieces: Iterable[Piece]) -> int:
    """Floating-point operations of the products and the systems; what is read, rounded and hashed is not in them."""
    count = 0
    for piece in (piece for piece in pieces if piece.how == "merged"):
        n = piece.system
        for shape in piece.shapes:
            size = 1
            for dim in shape:
                size *= dim
            count += 6 * size * max(piece.ranks, 1) + (2 * size * n if n else 0)
        count += n**3 + 2 * n * n * 64 * piece.changes if n else 0
    return count


def held_now() -> int:
    """Bytes that this process holds before a build begins, and what it holds beside its tensors."""
    return int(resident() * (1 << 20)) + START


class Room:
    """So many bytes of memory, shared by who says beforehand what they need; more than all of it is had alone."""

    def __init__(self, size: int) -> None:
        self._free, self._inside, self._turn = size, 0, threading.Condition()
        self._bounded = size > 0

    @contextmanager
    def of(self, need: int) -> Iterator[None]:
        """Wait until so much is free."""
        with self._turn:
            while self._bounded and self._inside and need > self._free:
                self._turn.wait()
            self._free, self._inside = self._free - need, self._inside + 1
        try:
            yield
        finally:
            with self._turn:
                self._free, self._inside = self._free + need, self._inside - 1
                self._turn.notify_all()

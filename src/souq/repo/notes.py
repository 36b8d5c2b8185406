"""What was once read of git's objects, which never change: a file in the clone's cache, a line for each object.

It can all be read again, so nothing is lost with the file, and nothing that lands is judged by it.

    notes = Notes(repo.cache / "offers.jsonl", Summary)
    notes.get(oid)               # None: nobody has read it yet
    notes.add({oid: summary})
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from souq import checked_lines

MOST = 128 << 20  # bytes of such a file; one that is larger is begun again
T = TypeVar("T")


class Notes(Generic[T]):
    """Values by git's name of the object that each was read of."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path, self._kind = path, kind

    @cached_property
    def _lines(self) -> dict[str, bytes]:
        with suppress(OSError):
            if self._path.stat().st_size <= MOST:
                rows = (body.partition(b" ") for body in checked_lines.bodies(self._path))
                return {oid.decode("ascii", "replace"): value for oid, _, value in rows}
            self._path.unlink()
        return {}

    def get(self, oid: str) -> T | None:
        """What is noted of an object; None where nothing is."""
        with suppress(msgspec.MsgspecError, KeyError):
            return msgspec.json.decode(self._lines[oid], type=self._kind)
        return None

    def add(self, values: Mapping[str, T]) -> None:
        """Note something of some objects; where nothing can be written it is known to this process alone."""
        lines = {oid: msgspec.json.encode(value) for oid, value in values.items()}
        self._lines.update(lines)
        with suppress(OSError):
            if lines:
                checked_lines.append(self._path, (oid.encode() + b" " + value for oid, value in lines.items()))

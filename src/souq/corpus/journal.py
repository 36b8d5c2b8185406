"""What was answered so far, on disk: a finished batch is a line, whole or cut away, so kill -9 loses the batch under way alone.

with Journal(Path("corpus/journal.jsonl")) as journal:
    journal.keep({key: ["Asia", "stop", 2, 14]})
journal.held[key]
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from souq.records import Digest, canonical


class Journal:
    """Values by key. What it held is read when it is opened; a last line that a crash cut off is cut away."""

    def __init__(self, path: Path) -> None:
        self.held: dict[Digest, Any] = {}
        self._read(path)
        self._file = path.open("ab")

    def keep(self, found: Mapping[Digest, Any]) -> None:
        """One line, on disk before this returns.

        Raises:
            OSError: a full disk; what stood there before is whole.
        """
        self._file.write(canonical(dict(found)) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.held |= found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        self._file.close()

    def _read(self, path: Path) -> None:
        if not path.is_file():
            return
        whole = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                self.held |= json.loads(line)
        os.truncate(path, whole)

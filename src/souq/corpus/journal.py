"""What was answered so far, on disk: a finished batch is a line, whole or cut away, so kill -9 loses the batch under way alone.

One run at a time: two would ask everything twice, and each would publish without what the other made.

with Journal(Path("corpus/journal.jsonl")) as journal:
    journal.keep({key: ["Asia", "stop", 2, 14]})
journal.held[key]
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from souq.errors import Hostile, UsageError
from souq.records import Digest, canonical


class Journal:
    """Values by key, each of one kind. What it held is read when it is opened; a last line that a crash cut off is cut away.

    Raises:
        UsageError: another run has it open.
        Hostile: a line that souq would not have written.
    """

    def __init__(self, path: Path, kind: Any = Any) -> None:
        self.held: dict[Digest, Any] = {}
        self._file = path.open("ab+")
        try:
            self._alone(path)
            self._read(path, msgspec.json.Decoder(dict[Digest, kind]))
        except BaseException:
            self._file.close()
            raise

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

    def _alone(self, path: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another run is writing {path}", hint="wait until it ends, and type the same again") from error  # fmt: skip
        except OSError:  # a file system without locks
            pass

    def _read(self, path: Path, decoder: msgspec.json.Decoder[dict[Digest, Any]]) -> None:
        whole = 0
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            try:
                self.held |= decoder.decode(line)
            except (ValueError, RecursionError) as error:
                raise Hostile(f"{path}, line {number}: {error}", hint="take the line out: what it held is asked again") from error  # fmt: skip
        self._file.truncate(whole)

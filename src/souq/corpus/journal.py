"""What was answered so far, on disk: a finished batch is a line, whole or cut away, so kill -9 loses one batch at most.

One run at a time: two would ask everything twice, and each would publish without what the other made.

with Journal(Path("corpus/journal.jsonl")) as journal:
    answers = answered({key: "Where is Pune?"}, ask, journal)   # again: nothing is asked, the journal has it
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from filelock import FileLock, Timeout

from souq.errors import Hostile, UsageError
from souq.records import Digest, canonical

Question = TypeVar("Question")


class Journal:
    """Values by key, each of one kind, read when it is opened; a last line that a crash cut off is cut away.

    Raises:
        UsageError: another run has it open.
        Hostile: a line that souq would not have written.
    """

    def __init__(self, path: Path, kind: Any = Any) -> None:
        self.held: dict[Digest, Any] = {}
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        self._file = path.open("ab+")
        try:
            self._alone(path)
            self._read(path, msgspec.json.Decoder(dict[Digest, kind]))
        except BaseException:
            self._close()
            raise

    def keep(self, values: Mapping[Digest, Any]) -> None:
        """One line, on disk before this returns.

        Raises:
            OSError: a full disk; what stood there before is whole.
        """
        self._file.write(canonical(dict(values)) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.held |= values

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def _close(self) -> None:
        self._file.close()
        self._lock.release()

    def _alone(self, path: Path) -> None:
        try:
            self._lock.acquire()
        except Timeout as error:
            hint = "wait until it ends, and type the same again"
            raise UsageError(f"another run is writing {path}", hint=hint) from error
        except NotImplementedError:  # filelock's word for a file system without locks
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
                hint = "take the line out: what it held is asked again"
                raise Hostile(f"{path}, line {number}: {error}", hint=hint) from error
        self._file.truncate(whole)


def answered(
    questions: Mapping[Digest, Question],
    ask: Callable[[list[Question]], Iterable[list[tuple[int, Any]]]],
    journal: Journal | None = None,
) -> dict[Digest, Any]:
    """Every question's answer by its key: what the journal holds is not asked again.

    `ask` answers the others, in batches of (number of the question, answer); each is kept before the next begins.
    """
    held = journal.held if journal is not None else {}
    answers = {key: held[key] for key in questions if key in held}
    left = [key for key in questions if key not in answers]
    for batch in ask([questions[key] for key in left]):
        values = {left[i]: value for i, value in batch}
        if journal is not None:
            journal.keep(values)
        answers |= values
    return answers

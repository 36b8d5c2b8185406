"""Training rows: JSONL in TRL's dataset formats, read strictly, with neither torch nor a tokenizer.

>>> parse_rows(b'{"text": "hello", "id": 7}', where="x.jsonl")
[{'text': 'hello'}]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from souq.errors import NotFound, UsageError
from souq.records import Digest, Record, digest_of, json_lines, read_json

Rows = list[dict[str, Any]]


class Turn(Record, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


class _Row(Record, frozen=True):
    messages: tuple[Turn, ...] = ()
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        if not self.messages and None in (self.prompt, self.completion) and self.text is None:
            raise ValueError("none of `messages`, `prompt` and `completion`, or `text`")


def read_rows(path: Path) -> Rows:
    """Training rows: JSONL in TRL's formats (`messages`, `prompt` and `completion`, or `text`), without other keys.

    Raises:
        NotFound: no such file.
        UsageError: a line that is no row.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="name a JSONL file of rows in TRL's formats")
    return parse_rows(path.read_bytes(), where=str(path))


def parse_rows(data: bytes, *, where: str) -> Rows:
    """Training rows, as `read_rows` has them, of JSONL that is read from `where`.

    Raises:
        UsageError: a line that is no row.
    """
    rows = []
    for number, line in json_lines(data):
        try:
            row = msgspec.json.decode(line, type=_Row)
        except (ValueError, RecursionError) as error:  # msgspec's errors and bad UTF-8 are ValueErrors
            raise UsageError(f"{where}, line {number}: {error}", hint='for example {"messages": [...]}') from error
        rows.append({key: value for key, value in msgspec.to_builtins(row).items() if value is not None})
    return rows


def json_rows(files: Mapping[str, bytes]) -> Iterator[Any]:
    """Every line of these JSONL files as JSON, whether it is a row or not.

    Raises:
        Hostile: a line that two readers would read differently.
    """
    return (read_json(line) for data in files.values() for _, line in json_lines(data))


def rows_digest(rows: Sequence[Mapping[str, Any]]) -> Digest:
    """The name of what is trained on: the rows in their order, whatever file or spelling they came in."""
    return digest_of([dict(row) for row in rows])

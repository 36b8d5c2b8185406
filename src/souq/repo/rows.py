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
from souq.records import Digest, Record, digest_of, json_lines, read_json, spelled_out
from souq.text import encoding_of, plain_utf8

Rows = list[dict[str, Any]]


class Turn(Record, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


Text = str | tuple[Turn, ...] | None
EXAMPLE = 'for example {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'


class _Row(Record, frozen=True):
    messages: tuple[Turn, ...] = ()
    prompt: Text = None
    completion: Text = None
    text: str | None = None
    label: Any = None

    def __post_init__(self) -> None:
        pair = self.prompt is not None and self.completion is not None
        if not self.messages and not pair and self.text is None:
            raise ValueError("none of `messages`, `prompt` and `completion`, or `text`")
        if self.label is False and pair:
            raise ValueError("`label` is false: a completion that is not wanted would be learned")
        if type(self.prompt) is not type(self.completion) and pair:
            raise ValueError("`prompt` and `completion` are both texts, or both lists of turns")
        if isinstance(self.completion, tuple) and pair and [turn.role for turn in self.completion] != ["assistant"]:
            raise ValueError("`completion` is one turn of the assistant: the last answer is what is learned")
        if self.messages and all(turn.role != "assistant" for turn in self.messages):
            roles = ", ".join(
                dict.fromkeys(" ".join(spelled_out(turn.role[:20]).split()) for turn in self.messages[:9])
            )
            raise ValueError(f"nothing to learn: no turn is the `assistant`'s, there are {roles}")

    @property
    def fields(self) -> dict[str, Any]:
        """What of it is trained on; a pair of lists of turns is one conversation."""
        turns = self.messages
        if not turns and isinstance(self.prompt, tuple) and isinstance(self.completion, tuple):
            turns = self.prompt + self.completion
        texts = {key: value for key in ("prompt", "completion", "text") if isinstance(value := getattr(self, key), str)}
        return ({"messages": msgspec.to_builtins(turns)} if turns else {}) | texts


# The keys of formats that others train on and souq does not, and what to do with them.
FOREIGN = (
    ({"chosen", "rejected"}, "a pair of preferences: write the chosen answer as `completion` beside `prompt`"),
    ({"conversations"}, "ShareGPT's form: call it `messages`, `from` `role` and `value` `content`, a human a `user`"),
    ({"completions", "labels"}, "steps that are rated one by one: souq learns whole answers"),
    ({"instruction", "output"}, "Alpaca's form: write instruction and input as `prompt`, the output as `completion`"),
    ({"question", "answer"}, "a question and its answer: call them `prompt` and `completion`"),
)
# What people have rows in that is no JSONL, by how it begins, and how to make JSONL of it.
CONTAINERS = (
    (b"[", "one JSON list", "`jq -c '.[]' {} > rows.jsonl` makes them"),
    (b"PAR1", "Parquet", "`duckdb -c \"COPY (FROM '{}') TO 'rows.jsonl'\"` makes them"),
    (b"\x1f\x8b", "compressed", "`gunzip -c {} > rows.jsonl` makes them"),
)
SHOWN = 5  # lines that are named


def read_rows(path: Path) -> Rows:
    """Training rows: JSONL in TRL's formats (`messages`, `prompt` and `completion`, or `text`), without other keys.

    Raises:
        NotFound: no such file.
        UsageError: lines that are no rows.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="name a JSONL file of rows in TRL's formats")
    data = path.read_bytes()
    for beginning, kind, way in CONTAINERS:
        if data.lstrip()[: len(beginning)] == beginning:
            raise UsageError(f"{path} is {kind}: rows are JSONL, one a line", hint=way.format(path))
    return parse_rows(plain_utf8(data, str(path)), where=str(path))


def parse_rows(data: bytes, *, where: str) -> Rows:
    """Training rows, as `read_rows` has them, of JSONL that is read from `where`.

    Raises:
        UsageError: lines that are no rows, all of them.
    """
    rows, wrong = [], list[tuple[int, str]]()
    for number, line in json_lines(data):
        try:
            rows.append(msgspec.json.decode(line, type=_Row).fields)
        except (ValueError, RecursionError) as error:  # msgspec's errors and bad UTF-8 are ValueErrors
            wrong.append((number, _foreign(line) or _plainly(str(error))))
    if wrong:
        lines = "; ".join(f"line {number}: {because}" for number, because in wrong[:SHOWN])
        more = f"; and {len(wrong) - SHOWN:,} more lines" if len(wrong) > SHOWN else ""
        raise UsageError(f"{where}, {lines}{more}", hint=EXAMPLE)
    return rows


def _plainly(problem: str) -> str:
    """With what to do, where a turn's content is no text."""
    if "content" not in problem:
        return problem
    parts, nothing = "; write the text of its parts", "; calls of tools are not learned"
    return problem + (parts if "got `array`" in problem else nothing if "got `null`" in problem else "")


def _foreign(line: bytes) -> str:
    """Which known format a line is in that is not trained on here; nothing where it is in none."""
    try:
        row = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return "begins with a byte order mark: save it as UTF-8 without one" if encoding_of(line)[1] else ""
    keys = row.keys() if isinstance(row, dict) else set()
    return next((because for those, because in FOREIGN if those <= keys and not {"messages", "text"} & keys), "")


def conversation(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The turns of a row as somebody wrote it, in `messages` or as a pair of lists of turns; none where it has none."""
    parts = [row.get("messages")] if row.get("messages") else [row.get("prompt"), row.get("completion")]
    return [turn for part in parts if isinstance(part, list) for turn in part if isinstance(turn, dict)]


def answered(turns: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """A conversation up to its last answer; what a user says after it teaches nobody to answer."""
    last = max((i for i, turn in enumerate(turns) if turn.get("role") == "assistant"), default=-1)
    return turns[: last + 1]


def rows_of(files: Mapping[str, bytes]) -> Rows:
    """The training rows of some JSONL files by path, in the order of their paths; others are left out.

    Raises:
        UsageError: lines that are no rows.
    """
    parts = [(path, data) for path, data in sorted(files.items()) if path.endswith(".jsonl")]
    return [row for path, data in parts for row in parse_rows(data, where=path)]


def json_rows(files: Mapping[str, bytes]) -> Iterator[Any]:
    """Every line of these JSONL files as JSON, whether it is a row or not.

    Raises:
        Hostile: a line that two readers would read differently.
    """
    return (read_json(line) for data in files.values() for _, line in json_lines(data))


def rows_digest(rows: Sequence[Mapping[str, Any]]) -> Digest:
    """The name of what is trained on: the rows in their order, whatever file or spelling they came in."""
    return digest_of([dict(row) for row in rows])

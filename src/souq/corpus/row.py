"""A row of a corpus: what was said, and everything that shaped it.

A row's id is the digest of its messages alone: the same words have the same id in every dump, whoever said them.
Nothing here depends on when or in which order rows were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Literal

import msgspec

from souq.errors import UsageError
from souq.lab.chat import Message
from souq.licences.table import table, ways
from souq.records import Digest, Record, digest_of

Origin = Literal["real", "synthetic", "mixed"]


class Passed(Record, frozen=True):
    """What one filter or judge said of a row."""

    name: str
    version: str
    kept: bool
    score: float | None = None
    because: str = ""


class Row(Record, frozen=True):
    """One row. What does not apply is empty: a real row has no teacher, no prompt and no sampling."""

    id: Digest
    messages: tuple[Message, ...]
    licence: str  # an SPDX expression, computed from the teacher's and the source's
    origin: Origin
    depth: int  # 0 for real text; 1 + the greatest of its parents' otherwise
    real_fraction: float  # of its words, how many people wrote: 1 for real rows
    parents: tuple[Digest, ...] = ()
    domain: str = ""
    language: str = "en"
    source: str = ""  # the seed's: where people can look it up
    source_licence: str = ""
    document: Digest | Literal[""] = ""  # of the seed document or question
    teacher: Digest | Literal[""] = ""  # what the model builds to
    tokenizer: Digest | Literal[""] = ""
    engine: str = ""
    prompt: str = ""  # the prompt's name in the recipe
    prompt_digest: Digest | Literal[""] = ""
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 0
    sample: int = 0
    seed: str = ""  # a whole number: Parquet's readers disagree about unsigned 64 bits
    finish: str = ""
    tokens: int = 0  # of the answer, in the teacher's tokenizer
    filters: tuple[Passed, ...] = ()
    judge: str = ""  # digest of the judge's prompt and its measured error, where one judged
    duplicate_of: str = ""  # the id of the row kept in its place
    rejected: str = ""  # why it is not kept; empty for kept rows


def row_id(messages: tuple[Message, ...]) -> Digest:
    """What a row is called: the digest of its messages."""
    return digest_of([{"role": m.role, "content": m.content} for m in messages])


def to_dict(row: Row) -> dict[str, Any]:
    """Every field, in the order above, defaults too: as Parquet wants it."""
    fields = {name: msgspec.to_builtins(getattr(row, name)) for name in row.__struct_fields__}
    return fields | {"filters": [msgspec.structs.asdict(passed) for passed in row.filters]}


def joint(licences: Sequence[str]) -> str:
    """What binds whoever uses all of it: both terms, each once.

    Raises:
        UsageError: one that is no SPDX expression.
    """
    return _joint(tuple(sorted({name for name in licences if name})))


@lru_cache  # of every row
def _joint(licences: tuple[str, ...]) -> str:
    # Each alone first: `MIT) OR (GPL-3.0-only` between brackets would read as a choice.
    parsed = _names().parse(" AND ".join(f"({_alone(name)})" for name in licences))
    return str(parsed.simplify()) if parsed is not None else ""


def _alone(name: str) -> str:
    try:
        ways(name)
        return str(_names().parse(name).simplify())
    except Exception as error:  # the parser answers some nonsense with whatever error lay at hand
        hint = "write it as SPDX does: CC-BY-4.0, or MIT AND CC0-1.0"
        raise UsageError(f"{name!r:.200} is no licence", hint=hint) from error


@cache
def _names() -> Any:
    """Spelt as the table does, where they differ in capitals alone; the library's own list takes 0.25 s to read."""
    from license_expression import Licensing

    return Licensing([licence.id for licence in table()])

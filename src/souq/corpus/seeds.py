"""What a corpus grows from: questions, people's answers, fields, documents, taxonomies, trees of qna.yaml, corpora.

Everything is read strictly and bounded; a document of ten megabytes on one line becomes pieces like any other.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

from souq.corpus import qna
from souq.corpus.dump import read_rows
from souq.corpus.recipe import Seeds
from souq.corpus.row import Row, joint, row_id
from souq.errors import Hostile, NotFound, UsageError
from souq.evals import checkers
from souq.records import Digest, Record, canonical, digest, read_json
from souq.text import decoded, encoding_of, units

MOST = 1_000_000  # seeds
MAX_FILE = 512 << 20  # bytes
MAX_PIECE = 20_000  # characters: words may be as long as a file
BELOW, DEEP = ">", 32  # between a topic and what is below it, as Google's product taxonomy has it; levels
DOCUMENTS = {".txt", ".md", ".rst", ".text", ".markdown"}
KINDS = ", ".join(sorted(DOCUMENTS))
SHOWN = 5  # files that are named
log = logging.getLogger(__name__)
_FIELD = re.compile(r"\{(\w+)\}")


class Question(Record, frozen=True, forbid_unknown_fields=True):
    """A line of `questions` or `answers`."""

    prompt: str
    source: str = ""
    licence: str = ""
    checker: str = ""
    expected: str = ""


@dataclass(frozen=True)
class Seed:
    """Texts by name, and where they come from; `answer` is people's, if they gave one, `document` what it is about."""

    fields: Mapping[str, str]
    source: str
    licence: str
    digest: Digest
    checker: str = ""
    expected: str = ""
    answer: str = ""
    document: str = field(default="", repr=False)


def read_seeds(source: Seeds, base: Path) -> list[Seed]:
    """All seeds of one source; paths are seen from `base`.

    Raises:
        NotFound: nothing is there.
        UsageError: a line that is no seed, a licence nobody says.
    """
    path = base / Path(source.path).expanduser()
    if not path.exists():
        raise NotFound(f"no seeds at {path}", hint="paths in a recipe are seen from where it lies")
    reader = {
        "questions": _questions, "answers": _answers, "fields": _fields, "documents": _documents, "taxonomy": _topics,
        "qna": _tree,
    }[source.kind]  # fmt: skip
    seeds = list(islice(reader(path, source), MOST + 1))
    if len(seeds) > MOST:
        raise UsageError(f"{path} holds more than {MOST:,} seeds")
    if not seeds:
        raise UsageError(f"{path} holds no seeds of kind {source.kind!r}")
    if silent := next((seed for seed in seeds if not seed.licence), None):
        line = "its line, or into " if source.kind in ("questions", "answers") else ""
        raise UsageError(
            f"{path}: nobody says under which licence {dict(silent.fields)!r:.80} is",
            hint=f"write `licence` into {line}its [[seeds]] in a recipe",
        )
    for licence in {seed.licence for seed in seeds}:
        joint((licence,))
    return seeds


def published(source: Seeds, base: Path) -> list[Row]:
    """The kept rows of another corpus, as they are: words, ancestry, licence, filters.

    Raises:
        NotFound: no corpus, or no such edition.
        Hostile: a row that souq would not have written.
        UsageError: no rows, too many, or a licence that is none.
    """
    path = base / Path(source.path).expanduser()
    rows = list[Row]()
    for number, fields in enumerate(read_rows(path, source.dump), 1):
        try:
            row = msgspec.convert(fields, Row)
        except msgspec.ValidationError as error:
            raise Hostile(f"{path}, row {number}: {error}") from error
        if _odd(row):
            raise Hostile(f"{path}, row {number}: its id, its depth, its licence or its turns are not what souq writes")
        joint((row.licence,))
        rows.append(row)
    if not rows or len(rows) > MOST:
        raise UsageError(f"{path} holds {len(rows):,} rows", hint=f"from 1 to {MOST:,}, of an edition that is there")
    return rows


def _odd(row: Row) -> bool:
    """Whether souq would not have kept it so: what follows counts on it."""
    counts = (row.depth, row.top_k, row.max_tokens, row.sample, row.tokens)
    return (
        row.id != row_id(row.messages)
        or [turn.role for turn in row.messages][-2:] != ["user", "assistant"]
        or (row.origin == "real") != (row.depth == 0)
        or not 0 <= row.real_fraction <= 1
        or not all(0 <= count < 1 << 31 for count in counts)
        or not all(rule.kept for rule in row.filters)
        or bool(row.rejected)
        or not row.licence
    )


def filled(template: str, seed: Seed, name: str) -> str:
    """The template of prompt `name` with a seed's fields in their places; other braces stay.

    Raises:
        UsageError: a field the seed does not have.
    """

    def put(hole: re.Match[str]) -> str:
        if hole[1] not in seed.fields:
            has = f"a seed of {seed.source!r} has {', '.join(seed.fields)}"
            raise UsageError(f"prompt {name!r} asks for {{{hole[1]}}}, and {has}")
        return seed.fields[hole[1]]

    return _FIELD.sub(put, template)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    _vet_size(path, MAX_FILE)
    with path.open("rb") as file:
        encoding, mark = encoding_of(file.read(4))
        file.seek(mark if encoding == "utf-8" else 0)
        lines = file if encoding == "utf-8" else decoded(file.read(), str(path)).encode().splitlines()
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{path}, line {number}", line


def _read(path: Path) -> Iterator[tuple[str, Question]]:
    for where, line in _lines(path):
        try:
            asked = msgspec.json.decode(line, type=Question)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UsageError(f"{where}: {error}") from error
        yield where, asked


def _questions(path: Path, source: Seeds) -> Iterator[Seed]:
    for where, asked in _read(path):
        if asked.checker:
            try:
                checkers.vet(asked.checker, asked.expected)
            except UsageError as error:
                raise UsageError(f"{where}: {error}", hint=error.hint) from error
        yield _seed({"prompt": asked.prompt}, source, asked, checker=asked.checker, expected=asked.expected)


def _answers(path: Path, source: Seeds) -> Iterator[Seed]:
    for where, asked in _read(path):
        if not asked.expected:
            raise UsageError(f"{where}: an answer that people wrote is in `expected`")
        yield _seed({"prompt": asked.prompt}, source, asked, answer=asked.expected)


def _seed(
    fields: dict[str, str], source: Seeds, asked: Question, *, checker: str = "", expected: str = "", answer: str = ""
) -> Seed:
    """A seed of a line that may say for itself where it comes from and under which licence."""
    where, licence = asked.source or source.source, asked.licence or source.licence
    return Seed(fields, where, licence, digest(canonical(fields)), checker, expected, answer)


def _fields(path: Path, source: Seeds) -> Iterator[Seed]:
    for where, line in _lines(path):
        try:
            fields = read_json(line)
        except Hostile as error:
            raise Hostile(f"{where}: {error}") from error
        if not isinstance(fields, dict) or not fields or not all(isinstance(text, str) for text in fields.values()):
            raise UsageError(f"{where}: a line of fields is an object of texts")
        yield Seed(fields, source.source, source.licence, digest(canonical(fields)))


def _documents(path: Path, source: Seeds) -> Iterator[Seed]:
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file, path)]
    inside = [file for file in files if file.suffix.lower() in DOCUMENTS]
    if others := [file.relative_to(path).as_posix() for file in files if file not in set(inside)]:
        shown = ", ".join(others[:SHOWN]) + (" …" if len(others) > SHOWN else "")
        log.warning("%s: %d files are none of %s, left out: %s", path, len(others), KINDS, shown)
    for file in inside if path.is_dir() else [path]:
        data = _whole(file, MAX_FILE)
        for piece in pieces(decoded(data, str(file)), source.words):
            where = source.source or file.name
            yield Seed({"document": piece}, where, source.licence, digest(data), document=piece)


def _hidden(file: Path, folder: Path) -> bool:
    """What an editor or git keeps beside documents is nobody's document."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _whole(path: Path, most: int) -> bytes:
    _vet_size(path, most)
    return path.read_bytes()


def _vet_size(path: Path, most: int) -> None:
    """Neither a pipe, which never ends, nor more than is read of its kind."""
    if not path.is_file() or path.stat().st_size > most:
        raise UsageError(f"{path} is no file of at most {most:,} bytes")


def pieces(text: str, size: int) -> Iterator[str]:
    """Runs of about `size` words; a piece ends at a paragraph's end where one is near.

    Where a script sets no words apart, its characters are counted.
    """
    held: list[tuple[str, bool]] = []
    for paragraph in re.split(r"\n\s*\n", text):
        split = units(paragraph)
        if held and len(held) + len(split) > size:
            yield from _cut(held, size)
            held = []
        held += split
    yield from _cut(held, size)


def _cut(split: list[tuple[str, bool]], size: int) -> Iterator[str]:
    for start in range(0, len(split), size):
        piece = "".join(f" {part}" if apart else part for part, apart in split[start : start + size]).strip()
        yield from (piece[i : i + MAX_PIECE] for i in range(0, len(piece), MAX_PIECE))


def _topics(path: Path, source: Seeds) -> Iterator[Seed]:
    """Leaves alone: what has topics below it is spoken of through them."""
    topics = set[tuple[str, ...]]()
    for where, line in _lines(path):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{where} is not UTF-8") from error
        if text.startswith("#"):
            continue
        names = tuple(name.strip() for name in text[:MAX_PIECE].split(BELOW))
        if not all(names) or len(names) > DEEP or len(text) > MAX_PIECE:
            hint = f"write Science {BELOW} Physics {BELOW} Optics, at most {DEEP} deep"
            raise UsageError(f"{where}: {text!r:.80} is no topic", hint=hint)
        topics.add(names)
        if len(topics) > MOST:
            raise UsageError(f"{path} holds more than {MOST:,} topics")
    broader = {names[:i] for names in topics for i in range(1, len(names))}
    for names in sorted(topics - broader):
        path_of_names, parent = f" {BELOW} ".join(names), names[-2] if names[1:] else ""
        fields = {"topic": names[-1], "path": path_of_names, "root": names[0], "parent": parent}
        yield Seed(fields, source.source, source.licence, digest(canonical(fields)))


def _tree(path: Path, source: Seeds) -> Iterator[Seed]:
    files, misnamed = qna.files_in(path)
    for file in misnamed:
        log.warning("%s: %s", file, qna.MISNAMED)
    for file in files:
        name = str(file.relative_to(path))
        node = qna.read(_whole(file, qna.MAX_BYTES), name)
        terms = file.with_name("attribution.txt")
        licence = qna.attribution(_whole(terms, qna.MAX_BYTES), str(terms)) if terms.is_file() else source.licence
        for example in node.examples:
            for asked, answer in example.asked():
                fields, about = {"prompt": asked}, example.context
                yield Seed(fields, name, licence, digest(asked.encode()), answer=answer, document=about)

"""The European index's fourteen dimensions (Liesenfeld and Dingemanse, FAccT 2024), and tables of ratings by them.

Open counts 1, partial 0.5, closed 0; a model's score is the plain sum. A cell that is missing is unknown: it counts 0,
and it is said. The later index has other dimensions and takes the mean, so scores of the two cannot be compared, and
every table carries its rubric's name. Tables are outsiders' files: bounded, and refused with the line.

    >>> table = read_ratings(b"model;dimension;rating\\nA;opencode;open\\nA;paper;partial\\n", "t.csv")
    >>> table.rated[0].score, len(table.rated[0].unknown)
    (1.5, 12)
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import yaml

from souq.audit.sheet import HINT, sheet_of
from souq.errors import Hostile, SouqError, UsageError, nearest
from souq.records import Record, refuse_control
from souq.text import decoded
from souq.yaml_text import Place, compose

RUBRIC = "european-index-14 2024-04-19"
GROUPS = {
    "availability": ("opencode", "llmdata", "llmweights", "rldata", "rlweights", "license"),
    "documentation": ("code", "architecture", "preprint", "paper", "modelcard", "datasheet"),
    "access": ("package", "api"),
}
DIMENSIONS = tuple(name for names in GROUPS.values() for name in names)
Rating = Literal["open", "partial", "closed"]
Value = Rating | Literal["unknown"]
POINTS: dict[Rating, float] = {"open": 1.0, "partial": 0.5, "closed": 0.0}
MAX_HEAD = 1 << 20  # characters of its first line
MAX_BYTES, MAX_LINES, MAX_NAME, MAX_DEPTH = 8 << 20, 200_000, 200, 4
_ALSO: dict[str, Rating] = {
    "open": "open", "1": "open", "1.0": "open", "✔": "open", "✔︎": "open", "yes": "open",
    "partial": "partial", "0.5": "partial", ".5": "partial", "~": "partial",
    "closed": "closed", "0": "closed", "0.0": "closed", "✘": "closed", "no": "closed",
}  # fmt: skip
_UNKNOWN = ("", "na", "n/a", "unknown", "?", "-")
_SPELLINGS = {"licence": "license", "licenses": "license", "open code": "opencode", "model card": "modelcard"}
_MODEL, _RATING = ("model", "system", "project", "name"), ("rating", "class", "value")
_DIMENSION = ("dimension", "criterion")


class Line(NamedTuple):
    """A row of a table and the line it begins on."""

    number: int
    cells: Mapping[str, str]


class Rated(Record, frozen=True):
    """A model and what it is rated; a dimension without a rating is unknown."""

    model: str
    ratings: dict[str, Rating]

    @property
    def score(self) -> float:
        return sum(POINTS[rating] for rating in self.ratings.values())

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(name for name in DIMENSIONS if name not in self.ratings)


class Ratings(Record, frozen=True):
    """A table in the index's order: score falling, then name rising, capitals before small letters."""

    rated: tuple[Rated, ...]
    rubric: str = RUBRIC

    def counts(self) -> dict[str, int]:
        """How many cells there are of each rating, and how many are unknown."""
        counts: dict[str, int] = {
            name: sum(value == name for r in self.rated for value in r.ratings.values()) for name in POINTS
        }
        return {**counts, "unknown": sum(len(r.unknown) for r in self.rated)}


class Comparison(Record, frozen=True):
    """How a table stands to published scores: how many are the same, and each line that is not."""

    published: int
    same: int
    in_order: bool
    different: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.in_order and not self.different


def rating(text: str) -> Rating | None:
    """What a cell says; None where it says that nobody knows.

    Raises:
        Hostile: no rating.
    """
    word = text.strip().lower()
    if word not in _ALSO and word not in _UNKNOWN:
        raise Hostile(f"{text[:40]!r} is no rating{nearest(word, POINTS)}", hint="write open, partial or closed")
    return _ALSO.get(word)


def read_ratings(data: bytes, where: str) -> Ratings:
    """A table of ratings, CSV or YAML: a cell a row (model, dimension, rating), or a model a row.

    Raises:
        Hostile: too large, no such table, or a cell that is none; the line is named.
    """
    models: dict[str, dict[str, Rating | None]] = {}
    for line in lines_of(data, where):
        try:
            for model, dimension, text in _cells(line.cells):
                row = models.setdefault(model, {})
                if dimension in row:
                    raise Hostile(f"{dimension} of {model} is rated twice")
                if dimension:
                    row[dimension] = rating(text)
        except SouqError as error:
            raise Hostile(f"{where}, line {line.number}: {error}", hint=error.hint) from error
    rated = [Rated(model=name, ratings={d: r for d, r in row.items() if r}) for name, row in models.items()]
    return Ratings(rated=tuple(sorted(rated, key=lambda model: (-model.score, model.model))))


def _cells(cells: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(model, dimension, text) of a row of either shape; a model without any cell is still a model."""
    model = one_of(cells, _MODEL)
    if not model or len(model) > MAX_NAME:
        raise Hostile(f"a model's name has 1 to {MAX_NAME} characters")
    if any(name in cells for name in _DIMENSION):
        yield model, dimension_of(one_of(cells, _DIMENSION)), one_of(cells, _RATING)
        return
    yield model, "", ""
    named = {_SPELLINGS.get(name, name): text for name, text in cells.items()}
    if not named.keys() & set(DIMENSIONS):
        raise Hostile("no dimension of the index stands here", hint=f"columns are model and {', '.join(DIMENSIONS)}")
    yield from ((model, name, named[name]) for name in DIMENSIONS if name in named)


def dimension_of(text: str) -> str:
    """The dimension that a text names.

    Raises:
        Hostile: none of the fourteen.
    """
    word = text.strip().lower()
    if (word := _SPELLINGS.get(word, word)) not in DIMENSIONS:
        raise Hostile(f"{text[:40]!r} is no dimension of {RUBRIC}{nearest(word, DIMENSIONS)}")
    return word


def one_of(cells: Mapping[str, str], names: Sequence[str]) -> str:
    """The first of these columns that is there."""
    return next((cells[name].strip() for name in names if name in cells), "")


def compare(ratings: Ratings, data: bytes, where: str) -> Comparison:
    """Against published scores: columns model and published_score (or score), in the published order or with a rank.

    Raises:
        Hostile: no such table; the line is named.
    """
    lines = lines_of(data, where)
    published = {one_of(line.cells, _MODEL): _number(line, ("published_score", "score"), where) for line in lines}
    if all(line.cells.get("rank", "").strip() for line in lines):
        lines = sorted(lines, key=lambda line: _number(line, ("rank",), where))
    ours = {model.model: model.score for model in ratings.rated}
    different = [
        f"{name}: {ours.get(name, 'not in the table')}, published {score}"
        for name, score in published.items()
        if ours.get(name) != score
    ]
    different += [f"{name}: {ours[name]}, not published" for name in ours if name not in published]
    order = [one_of(line.cells, _MODEL) for line in lines]
    return Comparison(
        published=len(published), same=sum(ours.get(name) == score for name, score in published.items()),
        in_order=order == [model.model for model in ratings.rated], different=tuple(different),
    )  # fmt: skip


def _number(line: Line, names: Sequence[str], where: str) -> float:
    try:
        return float(one_of(line.cells, names))
    except ValueError as error:
        raise Hostile(f"{where}, line {line.number}: no number in {names[0]}") from error


# -- tables ------------------------------------------------------------------------------------------------------------


def lines_of(data: bytes, where: str) -> list[Line]:
    """The rows of somebody's table: YAML by the file's name, else CSV with whichever delimiter its header has most of.

    Raises:
        Hostile: too large, not UTF-8, no header, a row of other length; the line is named.
    """
    if len(data) > MAX_BYTES:
        raise Hostile(f"{where}: {len(data):,} bytes of table; the most is {MAX_BYTES:,}")
    try:
        text = decoded(data, where)
    except UsageError as error:
        raise Hostile(str(error), hint=HINT) from error
    is_yaml = where.lower().endswith((".yaml", ".yml"))
    lines = list(_of_yaml(text, where) if is_yaml else _of_csv(text, where))
    if not lines:
        raise Hostile(f"{where}: a table without rows", hint="begin with a line of columns")
    return lines


def _of_csv(text: str, where: str) -> Iterator[Line]:
    if not text.strip():
        return
    sheet, number = sheet_of(text[:MAX_HEAD].encode(), where), 1
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=sheet.delimiter, strict=True)
    try:
        for _ in range(sheet.above):
            next(rows)
        columns = [name.strip().lower() for name in next(rows, [])]
        if len(set(columns)) < len(columns):
            raise Hostile(f"{where}, line 1: a column stands twice")
        number = rows.line_num + 1
        for row in rows:
            if len(row) > len(columns):
                raise Hostile(f"{where}, line {number}: {len(row)} cells below {len(columns)} columns")
            refuse_control(row, where=f"{where}, line {number}")
            if number > MAX_LINES:
                raise Hostile(f"{where}, line {number}: {MAX_LINES:,} is the most")
            if row:
                yield Line(number, dict(zip(columns, row + [""] * len(columns), strict=False)))
            number = rows.line_num + 1
    except csv.Error as error:
        raise Hostile(f"{where}, line {number}: not CSV: {error}") from error


def _of_yaml(text: str, where: str) -> Iterator[Line]:
    """Models by name, or a list of them; a rating is a word, or a table with a `class`."""
    try:
        root = compose(text, where, depth=MAX_DEPTH, nodes=MAX_BYTES)
        if root is None:
            return
        if isinstance(root.node, yaml.SequenceNode):
            yield from (Line(cells.line, _of_mapping(cells)) for cells in map(root.at, root.node.value))
        else:
            yield from (Line(n.line, {"model": str(n.node.value), **_of_mapping(cells)}) for n, cells in root.pairs())
    except UsageError as error:
        raise Hostile(f"not one YAML document of ratings: {error}") from error


def _of_mapping(cells: Place) -> dict[str, str]:
    """One model's cells; a key twice is refused, since readers disagree on which counts."""
    words: dict[str, str] = {}
    for name, value in cells.pairs():
        inner = value.pairs() if isinstance(value.node, yaml.MappingNode) else []
        node = next((part.node for key, part in inner if key.node.value == "class"), value.node)
        key = name.node.value.lower() if isinstance(name.node, yaml.ScalarNode) else ""
        if not key or key in words or not isinstance(node, yaml.ScalarNode):
            raise name.wrong("one word for each key, and a key once")
        words[key] = node.value
    refuse_control(words, where=f"{cells.file}, line {cells.line}")
    return words

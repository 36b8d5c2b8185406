"""Who takes the models of a hub: how many nobody downloads, how much the first hundredth gets, and Gini's number.

It knows tables of downloads and nothing of any hub: CSV, JSONL or Parquet of one row a model. A row whose count is
empty, negative or no number is left out and told, never taken for a zero: whether a model was downloaded is the
question. Osborne, Ding and Kirk (arXiv 2405.13058) found over 70% without downloads and 1% with 99%.

    found = adoption(read_table(Path("models.csv")), by="year")
    found.whole.never, found.whole.top_1, found.whole.gini
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from souq.audit.chart import Curve, chart
from souq.errors import Hostile, Missing, NotFound, UsageError, nearest
from souq.records import Record, spelled_out

Role = Literal["downloads", "id", "author", "created"]
KNOWN: Mapping[Role, tuple[str, ...]] = {
    "downloads": ("downloads", "download_count", "downloads_last_month", "downloads_30d", "downloads_all_time", "downloadsAllTime"),
    "id": ("id", "model_id", "modelId", "repo_id", "model", "name"),
    "author": ("author", "organisation", "organization", "org", "owner", "namespace"),
    "created": ("created_at", "createdAt", "created", "creation_date"),
}  # fmt: skip
MAX_FILE = 4 << 30  # bytes
MAX_ROWS = 20_000_000  # the hub has a few million models
MAX_LINE = 1 << 20  # bytes of one JSON row
NOTE = "a `downloads` column of the Hugging Face hub counts about the last 30 days, not a lifetime"
UNKNOWN = "unknown"
_YEAR = re.compile(r"\s*([12][0-9]{3})(?![0-9])")
FAULTS = ("empty", "negative", "not a number", "repeated", "unreadable")

Counts = NDArray[np.float64]


class Shares(Record, frozen=True):
    """How one group of models shares its downloads; every share is of 1."""

    name: str
    models: int
    downloads: float
    never: float  # of the models, without a download
    top_1: float  # of the downloads, to the first hundredth of the models (rounded up)
    top_10: float
    gini: float  # 0: all alike; towards 1: one has it all


class Adoption(Record, frozen=True):
    """A table's answer. `faults` counts the rows left out, by why; `columns` says what was read as what."""

    whole: Shares
    groups: tuple[Shares, ...]  # the largest by downloads, or the years in order
    grouped: int  # groups there are
    columns: dict[str, str]
    rows: int
    faults: dict[str, int]
    note: str


@dataclass(frozen=True)
class Labels:
    """A name for each model: which (models,) points into `names`."""

    names: tuple[str, ...]
    which: NDArray[np.int64]


@dataclass(frozen=True)
class Downloads:
    """A table, read: `counts` (models,) in the order of the file, whose model each is and when it was made."""

    counts: Counts
    authors: Labels
    years: Labels
    columns: dict[str, str]
    rows: int
    faults: dict[str, int]


def adoption(table: Downloads, *, by: Literal["year", "organisation", ""] = "", most: int = 20) -> Adoption:
    """The table as a whole, and its `most` largest groups.

    Raises:
        UsageError: no row with a count.
    """
    if not len(table.counts):
        raise UsageError("no row has a number of downloads", hint=f"the columns were read as {table.columns}")
    labels = {"year": table.years, "organisation": table.authors}.get(by)
    groups, grouped = _groups(table.counts, labels, most, by == "year") if labels else ((), 0)
    return Adoption(
        whole=shares("all", table.counts), groups=groups, grouped=grouped, columns=table.columns, rows=table.rows,
        faults=table.faults, note=NOTE,
    )  # fmt: skip


def shares(name: str, counts: Counts) -> Shares:
    """Of counts (models,), at least one of them."""
    ranked = np.sort(counts)[::-1]
    return Shares(
        name=name, models=len(ranked), downloads=float(ranked.sum()), never=float(np.mean(ranked == 0)),
        top_1=_top(ranked, 100), top_10=_top(ranked, 10), gini=gini(ranked),
    )  # fmt: skip


def gini(counts: Counts) -> float:
    """Half the mean difference between two models, over the mean: 2 sum(i x_i) / (n sum(x)) - (n + 1) / n, x ascending.

    0 where nobody was downloaded at all: all are alike.
    """
    ranked, n = np.sort(counts), len(counts)
    total = float(ranked.sum())
    return float(2 * np.dot(np.arange(1, n + 1), ranked) / (n * total) - (n + 1) / n) if total else 0.0


def lorenz(counts: Counts, points: int = 400) -> tuple[Counts, Counts]:
    """x, the share of models from the least downloaded up; y, the share of downloads they have together."""
    ranked = np.sort(counts)
    whole = np.concatenate([[0.0], np.cumsum(ranked)])
    at = np.unique(np.linspace(0, len(ranked), points + 1).astype(int))
    return at / len(ranked), whole[at] / (whole[-1] or 1.0)


def picture(table: Downloads) -> str:
    """Lorenz's curve as an SVG, beside the line of equal shares."""
    x, y = lorenz(table.counts)
    found = shares("all", table.counts)
    curves = [
        Curve(name="every model alike", x=(0.0, 1.0), y=(0.0, 1.0)),
        Curve(name=f"{found.models:,} models: Gini {found.gini:.3f}", x=tuple(map(float, x)), y=tuple(map(float, y))),
    ]
    return chart(curves, across="share of models, least downloaded first", up="share of downloads")


def _top(ranked: Counts, part: int) -> float:
    total = float(ranked.sum())
    return float(ranked[: math.ceil(len(ranked) / part)].sum()) / total if total else 0.0


def _groups(counts: Counts, labels: Labels, most: int, in_order: bool) -> tuple[tuple[Shares, ...], int]:
    totals = np.bincount(labels.which, weights=counts, minlength=len(labels.names))
    sizes = np.bincount(labels.which, minlength=len(labels.names))
    there = [k for k in range(len(sizes)) if sizes[k]]
    there.sort(key=lambda k: (labels.names[k],) if in_order else (-totals[k], labels.names[k]))
    told = [shares(labels.names[k], counts[labels.which == k]) for k in there[:most]]
    return tuple(told), len(there)


def read_table(path: Path, names: Mapping[Role, str] | None = None) -> Downloads:
    """A table of downloads; columns by the names given, else by those known.

    Raises:
        NotFound: no such file.
        UsageError: a kind of file that is not read, no column of downloads, a column that is not there.
        Hostile: larger than any hub, or not what its name says.
        Missing: pyarrow is not installed (CSV and Parquet).
    """
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="name a .csv, .jsonl or .parquet with a row a model")
    if path.stat().st_size > MAX_FILE:
        raise Hostile(f"{path}: {path.stat().st_size:,} bytes; the most is {MAX_FILE:,}")
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: {path.suffix or 'no ending'} is not read", hint=f"known are {', '.join(readers)}")
    columns, texts, unreadable = readers[path.suffix.lower()](path, names or {})
    return _cleaned(columns, texts, unreadable)


def chosen(there: list[str], names: Mapping[Role, str], where: str) -> dict[Role, str]:
    """Which column is what.

    Raises:
        UsageError: a named column that is not there, or none that is known to count downloads.
    """
    found: dict[Role, str] = {}
    for role, known in KNOWN.items():
        if (told := names.get(role)) is not None and told not in there:
            raise UsageError(f"{where}: no column {told!r}{nearest(told, there)}", hint=f"there are {_some(there)}")
        if (column := told or next((name for name in known if name in there), None)) is not None:
            found[role] = column
    if "downloads" not in found:
        raise UsageError(f"{where}: no column of downloads", hint=f"name it with --downloads; there are {_some(there)}")
    return found


def _some(there: list[str]) -> str:
    return spelled_out(", ".join(name[:40] for name in there[:20])) or "none"


Columns = tuple[dict[Role, str], dict[Role, Any], int]
"""What is read as what, each role's texts as an Arrow array, and the rows that could not be read at all."""


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise Missing("pyarrow is not installed", hint='run `pip install "souq[audit]"`') from error
    return pyarrow


def _csv(path: Path, names: Mapping[Role, str]) -> Columns:
    arrow = _arrow()
    from pyarrow import csv

    skipped = 0

    def skip(_row: Any) -> str:
        nonlocal skipped
        skipped += 1
        return "skip"

    parse = csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True, invalid_row_handler=skip)  # fmt: skip
    read = csv.ReadOptions(use_threads=False, block_size=16 << 20)  # so that a row of another length is counted once
    try:
        # an open file: by its name pyarrow would unpack whatever is packed in it
        with path.open("rb") as file:
            there = csv.open_csv(file, read_options=read, parse_options=parse).schema.names
        skipped = 0
        found = _once(chosen(there, names, str(path)), there, str(path))
        wanted = list(dict.fromkeys(found.values()))
        convert = csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, arrow.string()), strings_can_be_null=False)  # fmt: skip
        with path.open("rb") as file:
            reader = csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)
            table = arrow.Table.from_batches(_bounded(reader, path), reader.schema)
    except arrow.ArrowInvalid as error:
        raise Hostile(f"{path}: not CSV: {spelled_out(str(error)[:200])}") from error
    return found, {role: table[column].combine_chunks() for role, column in found.items()}, skipped


def _bounded(batches: Iterable[Any], path: Path) -> Iterator[Any]:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if rows > MAX_ROWS:
            raise Hostile(f"{path}: more than {MAX_ROWS:,} rows")
        yield batch


def _once(found: dict[Role, str], there: list[str], where: str) -> dict[Role, str]:
    if twice := next((column for column in found.values() if there.count(column) > 1), None):
        raise Hostile(f"{where}: two columns are called {twice!r}: readers disagree on which one counts")
    return found


def _parquet(path: Path, names: Mapping[Role, str]) -> Columns:
    arrow = _arrow()
    from pyarrow import parquet

    try:
        with path.open("rb") as raw:
            there = parquet.ParquetFile(raw)
            if there.metadata.num_rows > MAX_ROWS:
                raise Hostile(f"{path}: {there.metadata.num_rows:,} rows; the most is {MAX_ROWS:,}")
            schema = there.schema_arrow
            found = _once(chosen(schema.names, names, str(path)), schema.names, str(path))
            wanted = list(dict.fromkeys(found.values()))
            if odd := next((name for name in wanted if not _plain(schema.field(name).type)), None):
                raise Hostile(f"{path}: {odd} is a column of {schema.field(odd).type}, not of numbers or words")
            words = [name for name in wanted if _wordy(schema.field(name).type)]
            raw.seek(0)
            table = parquet.ParquetFile(raw, read_dictionary=words).read(columns=wanted, use_threads=False)
            texts = {role: _texts(table[column]) for role, column in found.items()}
    except (arrow.ArrowException, OSError) as error:
        raise Hostile(f"{path}: not Parquet: {spelled_out(str(error)[:200])}") from error
    return found, texts, 0


def _wordy(kind: Any) -> bool:
    types = _arrow().types
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary, types.is_binary_view)  # fmt: skip
    return any(test(kind) for test in tests)


def _plain(kind: Any) -> bool:
    """Whether a column may be read at all: a list or a block of bytes in each row has no bound."""
    types = _arrow().types
    inner = kind.value_type if types.is_dictionary(kind) else kind
    tests = (_wordy, types.is_integer, types.is_floating, types.is_decimal, types.is_temporal, types.is_boolean, types.is_null)  # fmt: skip
    return any(test(inner) for test in tests)


def _texts(column: Any) -> Any:
    """A column as texts, a dictionary's still by number: one long text a million times is one text."""
    arrow = _arrow()
    whole = column.combine_chunks()
    if arrow.types.is_dictionary(whole.type) or arrow.types.is_string(whole.type):
        return whole
    if arrow.types.is_floating(whole.type):  # as people write whole numbers, not 1e+07
        return arrow.array([_text(value) for value in whole.to_pylist()], arrow.string())
    return whole.cast(arrow.string())


def _jsonl(path: Path, names: Mapping[Role, str]) -> Columns:
    arrow = _arrow()
    rows, unreadable, there = list[dict[str, Any]](), 0, dict[str, None]()
    known = {name for names_of in KNOWN.values() for name in names_of} | set(names.values())
    decoder = msgspec.json.Decoder(dict[str, Any])
    with path.open("rb") as file:
        while line := _line(file, path):
            try:
                row = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                unreadable += bool(line.strip())
                continue
            there |= dict.fromkeys(row) if len(there) < 1_000 else {}
            rows.append({name: row[name] for name in known & row.keys()})
            if len(rows) > MAX_ROWS:
                raise Hostile(f"{path}: more than {MAX_ROWS:,} rows")
    found = chosen(list(there), names, str(path))
    texts = {role: arrow.array([_text(row.get(name)) for row in rows], arrow.string()) for role, name in found.items()}
    return found, texts, unreadable


def _line(file: IO[bytes], path: Path) -> bytes:
    line = file.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise Hostile(f"{path}: a row of more than {MAX_LINE:,} bytes")
    return line


def _text(value: Any) -> str | None:
    if isinstance(value, float) and value == value and abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return None if value is None else str(value)


def _cleaned(columns: dict[Role, str], texts: dict[Role, Any], unreadable: int) -> Downloads:
    """Rows sorted into good ones and faults; a model named again is left out, so that no share counts it twice."""
    values, good, empty, below = _numbers(texts["downloads"])
    again = _repeated(texts.get("id"), good)
    kept = good & ~again
    faults = (empty, below, ~(good | empty | below), again)
    return Downloads(
        counts=values[kept], authors=_authors(texts, kept), years=_years(texts.get("created"), kept),
        columns={role: spelled_out(name[:80]) for role, name in columns.items()}, rows=len(good) + unreadable,
        faults=dict(zip(FAULTS, (*(int(fault.sum()) for fault in faults), unreadable), strict=True)),
    )  # fmt: skip


def _numbers(column: Any) -> tuple[Counts, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Each row's count, and whether it is one, is empty, is negative; each different text is looked at once."""
    import pyarrow.compute as pc

    codes, words = _encoded(column)
    words = pc.utf8_trim_whitespace(words)
    good = pc.match_substring_regex(words, r"^\d{1,15}(\.0{0,9})?$")
    numbers = pc.cast(pc.if_else(good, words, "0"), "float64")
    told = (numbers, good, pc.equal(words, ""), pc.match_substring_regex(words, r"^-\d+(\.\d*)?$"))
    # one more at the end for -1, a row without a text: no number, and empty
    value, fine, empty, below = (np.append(one.to_numpy(zero_copy_only=False), last)[codes] for one, last in zip(told, (0, False, True, False), strict=True))  # fmt: skip
    return value.astype(np.float64), fine.astype(bool), empty.astype(bool), below.astype(bool)


def _encoded(column: Any) -> tuple[NDArray[np.int64], Any]:
    """Each row's text by number, -1 where there is none, and the texts, each once."""
    import pyarrow.compute as pc

    encoded = column if hasattr(column, "dictionary") else column.dictionary_encode()
    return pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64), pc.fill_null(encoded.dictionary.cast("string"), "")  # fmt: skip


def _repeated(ids: Any, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Good rows whose model a good row before them has named; a row without a name is nobody's again."""
    again = np.zeros(len(good), bool)
    if ids is None:
        return again
    codes = _codes(ids)[0]
    at = np.flatnonzero(good & (codes >= 0))
    first = np.unique(codes[at], return_index=True)[1]
    again[at] = True
    again[at[first]] = False
    return again


def _codes(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Each row's word by number, -1 where there is none, and the words."""
    codes, texts = _encoded(column)
    words = texts.to_pylist()
    empty = np.array([not word.strip() for word in words] or [True])
    return np.where((codes >= 0) & empty[codes], -1, codes), words


def _authors(texts: dict[Role, Any], kept: NDArray[np.bool_]) -> Labels:
    """The author's column, else what stands before the slash of the model's name."""
    words, codes = list[str](), np.full(len(kept), -1)
    for role in ("author", "id"):
        if role in texts:
            found, told = _codes(texts[role])
            codes = np.where((codes < 0) & (found >= 0), found + len(words), codes)
            words += told if role == "author" else [one.partition("/")[0] if "/" in one else UNKNOWN for one in told]
    return _labels(words, codes[kept])


def _years(created: Any, kept: NDArray[np.bool_]) -> Labels:
    if created is None:
        return _labels([], np.full(int(kept.sum()), -1))
    codes, words = _codes(created)
    return _labels([found[1] if (found := _YEAR.match(word)) else UNKNOWN for word in words], codes[kept])


def _labels(words: list[str], codes: NDArray[np.int64]) -> Labels:
    """Words that are the same become one name; -1 is unknown."""
    names: dict[str, int] = {}
    numbers = np.array([names.setdefault(word[:80], len(names)) for word in [*words, UNKNOWN]])
    return Labels(tuple(map(spelled_out, names)), numbers[codes])

"""Who takes the models of a hub: how many nobody downloads, how much the first hundredth gets, and Gini's number.

It knows tables of downloads and nothing of any hub: CSV, JSONL or Parquet of one row a model. A row whose count is
empty, negative or no number is left out and told, never taken for a zero: whether a model was downloaded is the
question. Osborne, Ding and Kirk (arXiv 2405.13058) found over 70% without downloads and 1% with 99%.

    answer = adoption(read_table(Path("models.csv")), by="year")
    answer.whole.never, answer.whole.top_1, answer.whole.gini
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from souq.audit.sheet import plain, sheet_of
from souq.chart import Curve, line_chart
from souq.errors import Hostile, NotFound, UsageError, nearest
from souq.optional import needs
from souq.records import Record, spelled_out

Role = Literal["downloads", "id", "author", "created"]
KNOWN: Mapping[Role, tuple[str, ...]] = {
    "downloads": (
        "downloads", "download_count", "downloads_last_month", "downloads_30d", "downloads_all_time",
        "downloadsAllTime",
    ),
    "id": ("id", "model_id", "modelId", "repo_id", "model", "name"),
    "author": ("author", "organisation", "organization", "org", "owner", "namespace"),
    "created": ("created_at", "createdAt", "created", "creation_date"),
}  # fmt: skip
MAX_FILE = 4 << 30  # bytes
MAX_ROWS = 20_000_000  # the hub has a few million models
MAX_LINE = 1 << 20  # bytes of one row of CSV or JSON
MAX_TEXT = 1_024  # bytes of a text: more than MAX_NAME characters, and each is written out for every row that has it
MAX_NAME = 200  # characters of a text that count: no hub has longer names
MEMORY, DISK = "256MB", "32GB"  # the most that DuckDB takes
NOTE = "a `downloads` column of the Hugging Face hub counts about the last 30 days, not a lifetime"
ROUNDED = "; {:,} counts stand there rounded, as 4.5M, and are taken as written"
UNKNOWN = "unknown"
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
    rounded: int = 0  # counts that stand there as 4.5M or 4.5E+06


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
        faults=table.faults, note=f"{NOTE}{ROUNDED.format(table.rounded) if table.rounded else ''}",
    )  # fmt: skip


def shares(name: str, counts: Counts) -> Shares:
    """How models share their downloads; `counts` is (models,) float64, at least one."""
    ranked = np.sort(counts)[::-1]
    return Shares(
        name=name, models=len(ranked), downloads=float(ranked.sum()), never=float(np.mean(ranked == 0)),
        top_1=_top(ranked, 100), top_10=_top(ranked, 10), gini=gini(ranked),
    )  # fmt: skip


def gini(counts: Counts) -> float:
    """Gini's coefficient of counts (models,) float64: half the mean difference between two models, over the mean.

    With x ascending, 2 sum(i x_i) / (n sum(x)) - (n + 1) / n (https://mathworld.wolfram.com/GiniCoefficient.html); 0
    where nobody was downloaded at all: all are alike.
    """
    ranked, n = np.sort(counts), len(counts)
    total = float(ranked.sum())
    return float(2 * np.dot(np.arange(1, n + 1), ranked) / (n * total) - (n + 1) / n) if total else 0.0


def lorenz(counts: Counts, points: int = 400) -> tuple[Counts, Counts]:
    """Lorenz's curve of counts (models,) float64, as x and y, both (at most points + 1,) float64.

    x is the share of models from the least downloaded up; y is the share of downloads they have together.
    """
    ranked = np.sort(counts)
    whole = np.concatenate([[0.0], np.cumsum(ranked)])
    at = np.unique(np.linspace(0, len(ranked), points + 1).astype(int))
    return at / len(ranked), whole[at] / (whole[-1] or 1.0)


def picture(table: Downloads) -> str:
    """Lorenz's curve as an SVG, beside the line of equal shares."""
    x, y = lorenz(table.counts)
    whole = shares("all", table.counts)
    curves = [
        Curve(name="every model alike", x=(0.0, 1.0), y=(0.0, 1.0)),
        Curve(name=f"{whole.models:,} models: Gini {whole.gini:.3f}", x=tuple(map(float, x)), y=tuple(map(float, y))),
    ]
    return line_chart(curves, across="share of models, least downloaded first", up="share of downloads")


def _top(ranked: Counts, part: int) -> float:
    total = float(ranked.sum())
    return float(ranked[: math.ceil(len(ranked) / part)].sum()) / total if total else 0.0


def _groups(counts: Counts, labels: Labels, most: int, in_order: bool) -> tuple[tuple[Shares, ...], int]:
    totals = np.bincount(labels.which, weights=counts, minlength=len(labels.names))
    sizes = np.bincount(labels.which, minlength=len(labels.names))
    there = [k for k in range(len(sizes)) if sizes[k]]
    there.sort(key=lambda k: (labels.names[k],) if in_order else (-totals[k], labels.names[k]))
    return tuple(shares(labels.names[k], counts[labels.which == k]) for k in there[:most]), len(there)


def read_table(path: Path, names: Mapping[Role, str] | None = None) -> Downloads:
    """A table of downloads; columns by the names given, else by those known.

    Raises:
        NotFound: no such file.
        UsageError: a kind of file that is not read, no column of downloads, a column that is not there.
        Hostile: larger than any hub, or not what its name says.
        Missing: duckdb is not installed.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="name a .csv, .jsonl or .parquet with a row a model")
    if path.stat().st_size > MAX_FILE:
        raise Hostile(f"{path}: {path.stat().st_size:,} bytes; the most is {MAX_FILE:,}")
    if (suffix := path.suffix.lower()) not in READERS:
        raise UsageError(f"{path}: {suffix or 'no ending'} is not read", hint=f"known are {', '.join(READERS)}")
    kind, read = READERS[suffix]
    with _database() as (database, errors):
        try:
            columns, unreadable = read(database, path, names or {})
            return _cleaned(database, columns, unreadable)
        except errors as error:
            raise Hostile(f"{path}: not {kind}: {spelled_out(str(error)[:200])}") from error


@contextmanager
def _database() -> Iterator[tuple[Any, type[Exception]]]:
    """An empty database in bounded memory, which goes on in a folder of its own on the disk; and what it raises."""
    with needs("duckdb", "audit"):
        import duckdb
    with TemporaryDirectory(prefix="souq-stats-") as folder:
        limits = {"memory_limit": MEMORY, "threads": 2, "temp_directory": folder, "max_temp_directory_size": DISK}
        with duckdb.connect(config=limits) as database:
            yield database, duckdb.Error


def chosen(there: Sequence[str], names: Mapping[Role, str], where: Path) -> dict[Role, str]:
    """Which column is what.

    Raises:
        UsageError: a named column that is not there, or none that is known to count downloads.
        Hostile: a column that is wanted stands there twice.
    """
    columns: dict[Role, str] = {}
    for role, known in KNOWN.items():
        if (name := names.get(role)) is not None and name not in there:
            raise UsageError(f"{where}: no column {name!r}{nearest(name, there)}", hint=f"there are {_some(there)}")
        if (column := name or _called(known, there)) is not None:
            columns[role] = column
    if "downloads" not in columns:
        raise UsageError(f"{where}: no column of downloads", hint=f"name it with --downloads; there are {_some(there)}")
    if twice := next((column for column in columns.values() if there.count(column) > 1), None):
        raise Hostile(f"{where}: two columns are called {twice!r}: readers disagree on which one counts")
    return columns


def _called(known: Sequence[str], there: Sequence[str]) -> str | None:
    """The first of the known names that stands there, as it is or in other capitals and blanks: `Downloads`."""
    alike = {column.strip().casefold().replace(" ", "_"): column for column in reversed(there)}
    exact = next((name for name in known if name in there), None)
    return exact or next((alike[name.casefold()] for name in known if name.casefold() in alike), None)


def _some(there: Sequence[str]) -> str:
    return spelled_out(", ".join(name[:40] for name in there[:20])) or "none"


# -- three kinds of files, each into one table of texts ----------------------------------------------------------------


def _csv(database: Any, path: Path, names: Mapping[Role, str]) -> tuple[dict[Role, str], int]:
    with path.open("rb") as file:
        sheet = sheet_of(file.read(MAX_LINE), str(path))
    columns = chosen(sheet.columns, names, path)
    fields = {f"c{i}": "VARCHAR" for i in range(len(sheet.columns))}
    with plain(path, sheet.above) as text:
        source = f"""read_csv({_file(text)}, auto_detect = false, header = true, columns = {fields},
            delim = {_quoted(sheet.delimiter)}, quote = '"', escape = '"', compression = 'none',
            max_line_size = {MAX_LINE}, store_rejects = true, rejects_limit = 0)"""
        _fill(database, {role: f"c{sheet.columns.index(column)}" for role, column in columns.items()}, source, path)
    broken = "SELECT line, error_message FROM reject_errors WHERE error_type NOT LIKE '%COLUMNS' ORDER BY line LIMIT 1"
    for line, why in database.execute(broken).fetchall():
        raise Hostile(f"{path}: not CSV: line {line}: {why}")
    return columns, _answer(database, "SELECT count(DISTINCT line) FROM reject_errors")[0]


def _jsonl(database: Any, path: Path, names: Mapping[Role, str]) -> tuple[dict[Role, str], int]:
    with plain(path) as text:
        return _json_objects(database, text, path, names)


def _json_objects(database: Any, text: Path, path: Path, names: Mapping[Role, str]) -> tuple[dict[Role, str], int]:
    database.execute(f"""CREATE VIEW lines AS SELECT json, coalesce(json_type(json) = 'OBJECT', false) AS good
        FROM read_ndjson_objects({_file(text)}, ignore_errors = true, compression = 'uncompressed')""")
    longest, unreadable = _answer(database, "SELECT max(strlen(json)), count(*) FILTER (NOT good) FROM lines")
    if (longest or 0) > MAX_LINE:
        raise Hostile(f"{path}: a row of more than {MAX_LINE:,} bytes")
    known = [*names.values(), *(name for each in KNOWN.values() for name in each)]
    keys = "SELECT DISTINCT unnest(json_keys(json)) AS key FROM lines WHERE good ORDER BY key NOT IN ?, key LIMIT 1000"
    columns = chosen([key for (key,) in database.execute(keys, [known]).fetchall()], names, path)
    pointers = {role: "/" + name.replace("~", "~0").replace("/", "~1") for role, name in columns.items()}
    values = {role: f"json_extract_string(json, {_quoted(pointer)})" for role, pointer in pointers.items()}
    _fill(database, values, "lines WHERE good", path)
    return columns, unreadable


def _parquet(database: Any, path: Path, names: Mapping[Role, str]) -> tuple[dict[Role, str], int]:
    source = f"read_parquet({_file(path)}, binary_as_string = true, hive_partitioning = false)"
    fields = list(_fields(database, path))
    # DuckDB's own names, by place: it renames what differs in capitals alone
    called = [name for name, *_ in database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    columns = chosen([name for name, _ in fields], names, path)
    at = {role: [name for name, _ in fields].index(column) for role, column in columns.items()}
    for name, refused in (fields[i] for i in at.values()):
        if refused:
            raise Hostile(f"{path}: {name} is a column of {refused}, not of numbers or words")
    texts = {role: f'"{called[i].replace(chr(34), chr(34) * 2)}"::VARCHAR' for role, i in at.items()}
    lengths = _answer(database, f"SELECT {', '.join(f'max(strlen({text}))' for text in texts.values())} FROM {source}")
    for name, longest in zip(columns.values(), lengths, strict=True):
        if (longest or 0) > MAX_TEXT:  # one text in a dictionary of kilobytes would be written out for every row
            raise Hostile(f"{path}: a text of {longest:,} bytes in {name}; the most is {MAX_TEXT:,}")
    _fill(database, texts, source, path)
    return columns, 0


def _fields(database: Any, path: Path) -> Iterator[tuple[str, str]]:
    """Each column of a Parquet file, and why it is not read: a list or a block of bytes has no bound in a row."""
    schema = f"""SELECT name, coalesce(num_children, 0), CASE
            WHEN num_children > 0 OR repetition_type = 'REPEATED' THEN 'several parts'
            WHEN type = 'FIXED_LEN_BYTE_ARRAY' AND duckdb_type = 'BLOB' THEN 'blocks of bytes' ELSE '' END
        FROM parquet_schema({_file(path)})"""
    below = 0  # fields still to come that are parts of the column before
    for name, children, refused in database.execute(schema).fetchall()[1:]:
        if not below:
            yield name, refused
        below += children - bool(below)


# What fills the table `texts` from a file; it returns what was read as what, and how many rows could not be read.
Reader = Callable[[Any, Path, Mapping[Role, str]], tuple[dict[Role, str], int]]
READERS: Mapping[str, tuple[str, Reader]] = {
    ".csv": ("CSV", _csv), ".tsv": ("CSV", _csv), ".jsonl": ("JSONL", _jsonl), ".ndjson": ("JSONL", _jsonl),
    ".parquet": ("Parquet", _parquet),
}  # fmt: skip


def _fill(database: Any, values: Mapping[Role, str], source: str, path: Path) -> None:
    """The table `texts`: a row a model in the order of the file, "" where a row has nothing, long texts cut."""
    texts = [f"coalesce(left({values.get(role, 'NULL')}, {MAX_NAME}), '') AS {role}" for role in KNOWN]
    database.execute(f"CREATE TABLE texts AS SELECT {', '.join(texts)} FROM {source} LIMIT {MAX_ROWS + 1}")
    if _answer(database, "SELECT count(*) FROM texts")[0] > MAX_ROWS:
        raise Hostile(f"{path}: more than {MAX_ROWS:,} rows")


def _file(path: Path) -> str:
    """A file's name in SQL: neither a pattern nor an address."""
    return _quoted(escape(str(path.absolute())))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _answer(database: Any, sql: str) -> tuple[Any, ...]:
    """The only row of an answer."""
    (row,) = database.execute(sql).fetchall()
    return tuple(row)


# -- texts into numbers ------------------------------------------------------------------------------------------------

# Spreadsheets and R write a count as 4,500,000, 4.500.000, 4 500 000, 4.5M or 4.5E+06; 1.234 is a thousand and more
# only where the whole column is written so.
_COUNTED = r"""
    CREATE MACRO bare(t) AS regexp_replace(t, '^[\s\p{Z}]+|[\s\p{Z}]+$', '', 'g');
    CREATE MACRO blank(t) AS regexp_full_match(bare(t), '(?i)(|n\.?/?a\.?|nan|null|none|-+|\x{2013})');
    CREATE MACRO digits(t) AS try_cast(regexp_replace(t, '[^0-9]', '', 'g') AS DOUBLE);
    CREATE MACRO times(t) AS CASE WHEN t ILIKE '%k' THEN 1e3 WHEN t ILIKE '%m' THEN 1e6 ELSE 1e9 END;
    CREATE MACRO rounded(t) AS
        regexp_full_match(t, '(?i)[0-9]{1,6}([.,][0-9]{1,3})?[\s\p{Z}]?[kmb]|[0-9](\.[0-9]{1,15})?e\+?[0-9]{1,2}');
    CREATE MACRO pointed(t) AS regexp_full_match(t, '[0-9]{1,3}(\.[0-9]{3}){1,4}(,0{0,9})?');
    CREATE MACRO count_of(t, points) AS CASE
        WHEN pointed(t) AND (points OR t LIKE '%.%.%') THEN digits(split_part(t, ',', 1))
        WHEN regexp_full_match(t, '[0-9]{1,15}(\.0{0,9})?') THEN digits(split_part(t, '.', 1))
        WHEN regexp_full_match(t, '[0-9]{1,3}(,[0-9]{3}){1,4}(\.0{0,9})?|[0-9]{1,2}(,[0-9]{2}){1,5},[0-9]{3}')
            THEN digits(split_part(t, '.', 1))
        WHEN regexp_full_match(t, '[0-9]{1,3}([\p{Z}''\x{2019}_][0-9]{3}){1,4}([.,]0{0,9})?')
            THEN digits(regexp_extract(t, '^[^.,]+'))
        WHEN regexp_full_match(t, '[0-9]{1,15},0{0,2}') THEN digits(split_part(t, ',', 1))
        WHEN rounded(t) AND t ILIKE '%e%' THEN nullif(least(try_cast(t AS DOUBLE), 1e15), 1e15)
        WHEN rounded(t)
            THEN round(try_cast(replace(regexp_extract(t, '^[0-9.,]+'), ',', '.') AS DOUBLE) * times(t))
        END;
    CREATE MACRO negative(t) AS regexp_full_match(bare(t), '(?i)[-\x{2212}][0-9][0-9.,\p{Z}]*(k|m|b|e\+?[0-9]+)?');
    CREATE TABLE counted AS WITH told AS (SELECT rowid AS line, bare(downloads) AS told FROM texts), column_ AS (
        SELECT count_if(pointed(told) AND NOT regexp_full_match(told, '[0-9]+\.0*')) > 0
            AND count_if(regexp_full_match(told, '[0-9]+\.[0-9]*') AND NOT pointed(told)) = 0 AS points FROM told)
        SELECT line, count_of(told, points) AS count, rounded(told) AS rounded FROM told, column_;
    SELECT count(*), count(count), count_if(count IS NULL AND blank(downloads)),
        count_if(count IS NULL AND negative(downloads)), count_if(count IS NOT NULL AND rounded)
    FROM texts JOIN counted ON texts.rowid = counted.line
"""
_MODELS = r"""
    CREATE MACRO nothing(t) AS regexp_full_match(t, '[\s\p{Z}]*');
    CREATE TABLE models AS
        SELECT line, count,
            left(CASE WHEN NOT nothing(author) THEN author WHEN contains(id, '/') THEN split_part(id, '/', 1)
                ELSE $unknown END, 80) AS author,
            coalesce(nullif(regexp_extract(created, '^\s*([12][0-9]{3})([^0-9]|$)', 1), ''), $unknown) AS year
        FROM texts JOIN counted ON texts.rowid = counted.line WHERE count IS NOT NULL
        QUALIFY nothing(id) OR row_number() OVER (PARTITION BY id ORDER BY line) = 1
"""
_LABELLED = """
    CREATE TYPE authors AS ENUM (SELECT DISTINCT author FROM models);
    CREATE TYPE years AS ENUM (SELECT DISTINCT year FROM models);
    SELECT count, enum_code(author::authors) AS author, enum_code(year::years) AS year FROM models ORDER BY line
"""


def _cleaned(database: Any, columns: dict[Role, str], unreadable: int) -> Downloads:
    """Rows sorted into good ones and faults; a model named again is left out, so that no share counts it twice."""
    rows, good, empty, negative, rounded = (count or 0 for count in _answer(database, _COUNTED))  # NULL of no row
    database.execute(_MODELS, {"unknown": UNKNOWN})
    models = {name: np.asarray(values) for name, values in database.execute(_LABELLED).fetchnumpy().items()}
    authors, years = _answer(database, "SELECT enum_range(NULL::authors), enum_range(NULL::years)")
    faults = (empty, negative, rows - good - empty - negative, good - len(models["count"]), unreadable)
    return Downloads(
        counts=models["count"],
        authors=Labels(tuple(map(spelled_out, authors)), models["author"].astype(np.int64)),
        years=Labels(tuple(map(spelled_out, years)), models["year"].astype(np.int64)),
        columns={role: spelled_out(name[:80]) for role, name in columns.items()},
        rows=rows + unreadable,
        faults=dict(zip(FAULTS, faults, strict=True)),
        rounded=rounded,
    )

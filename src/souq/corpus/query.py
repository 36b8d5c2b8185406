"""SQL over a corpus, on a disk or in a bucket, through DuckDB, which reads the columns and row groups that
a question needs, but takes small files whole.

    SELECT domain, depth, count(*), sum(tokens) FROM rows WHERE subset = 'kept' GROUP BY ALL

Three views: `rows` (everything, by dump and subset), `index` (scalars alone), `kept`.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape
from threading import Timer
from typing import Any

from souq.budget import SECONDS, Budget
from souq.errors import NotFound, UsageError
from souq.optional import needs

MOST = 100_000  # rows of an answer
MAX_BYTES, PART = 256 << 20, 128  # letters of all its rows; rows that are fetched at once
VIEWS = "the views are rows, kept and index"


def query(corpus: str, sql: str, most: int = MOST) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows. `corpus` is a folder, or a URL that fsspec opens (s3://bucket/corpus).

    Raises:
        Missing: DuckDB is not installed, or fsspec for a URL.
        NotFound: no corpus there.
        UsageError: what DuckDB says of the SQL, or an answer of more than `most` rows.
    """
    with needs("duckdb", "corpus"):
        import duckdb
    connection = duckdb.connect()
    root = corpus.rstrip("/")
    if "://" in corpus:
        connection.register_filesystem(_remote(corpus.partition("://")[0]))
    else:
        root = escape(root)
    try:
        for view, folder in (("rows", root), ("index", f"{root}/index")):
            files = f"{folder}/dump=*/subset=*/*.parquet"
            connection.read_parquet(files, hive_partitioning=True).create_view(view)
        connection.execute("CREATE VIEW kept AS SELECT * FROM \"rows\" WHERE subset = 'kept'")
    except duckdb.Error as error:
        because = str(error).splitlines()[0][:200]
        raise NotFound(f"no corpus at {corpus}: {because}", hint="make one with `souq corpus make`") from error
    budget = Budget(60, 4_096).raised()
    connection.execute(f"SET memory_limit = '{budget.megabytes or 1 << 20:.0f}MB'")
    bell = Timer(budget.seconds or 1e6, connection.interrupt)  # DuckDB hears no signal of Python's
    bell.start()
    try:
        answer: Any = connection.execute(sql)
        if answer is None:
            raise UsageError("no SQL", hint=VIEWS)
        columns: Sequence[Any] = answer.description or ()
        return [str(column[0]) for column in columns], _bounded(answer, most)
    except duckdb.InterruptException as error:
        hint = f"ask for less, or write `{SECONDS}={budget.seconds * 10:.0f}` before the command"
        raise UsageError(f"the question has taken its {budget.seconds:.0f} seconds", hint=hint) from error
    except duckdb.Error as error:
        raise UsageError(f"{str(error).strip()[:500]}", hint=VIEWS) from error
    finally:
        bell.cancel()


def _bounded(answer: Any, most: int) -> list[tuple[Any, ...]]:
    """The rows of an answer, where they are not too many and not too long."""
    rows, size = list[tuple[Any, ...]](), 0
    while part := answer.fetchmany(PART):
        rows += part
        size += sum(len(value) for row in part for value in row if isinstance(value, str | bytes))
        if len(rows) > most or size > MAX_BYTES:
            what = f"{most:,} rows" if len(rows) > most else f"{MAX_BYTES >> 20} MB"
            raise UsageError(f"an answer of more than {what}", hint="write LIMIT, or count")
    return rows


def _remote(scheme: str) -> Any:
    with needs("fsspec", "remote"):
        import fsspec
    exactly = {"default_cache_type": "none"} if scheme == "s3" else {}  # else s3fs reads fifty megabytes ahead
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, **exactly)
    except (ValueError, ImportError) as error:  # no such scheme; its package is not there
        raise UsageError(f"nothing here opens {scheme}:// ({error})", hint="s3://BUCKET/CORPUS, or a folder") from error

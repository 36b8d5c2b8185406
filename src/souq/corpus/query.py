"""SQL over a corpus, on a disk or in a bucket, through DuckDB, which reads the columns and row groups that
a question needs, but takes small files whole.

    SELECT domain, depth, count(*), sum(tokens) FROM rows WHERE subset = 'kept' GROUP BY ALL

Three views: `rows` (everything, by dump and subset), `index` (scalars alone), `kept`.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape
from typing import Any

from souq.errors import NotFound, UsageError
from souq.optional import needs

MOST = 100_000  # rows of an answer
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
    try:
        answer: Any = connection.execute(sql)
        if answer is None:
            raise UsageError("no SQL", hint=VIEWS)
        columns: Sequence[Any] = answer.description or ()
        rows = answer.fetchmany(most + 1)
    except duckdb.Error as error:
        raise UsageError(f"{str(error).strip()[:500]}", hint=VIEWS) from error
    if len(rows) > most:
        raise UsageError(f"an answer of more than {most:,} rows", hint="write LIMIT, or count")
    return [str(column[0]) for column in columns], rows


def _remote(scheme: str) -> Any:
    with needs("fsspec", "remote"):
        import fsspec
    exactly = {"default_cache_type": "none"} if scheme == "s3" else {}  # else s3fs reads fifty megabytes ahead
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, **exactly)
    except (ValueError, ImportError) as error:  # no such scheme; its package is not there
        raise UsageError(f"nothing here opens {scheme}:// ({error})", hint="s3://BUCKET/CORPUS, or a folder") from error

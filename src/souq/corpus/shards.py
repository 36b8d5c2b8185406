"""Rows as Parquet files: shards of so many, each with its part of the index. Editions are dump.py's business.

A file depends on its rows alone, and is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from souq.corpus.row import Row, to_dict
from souq.errors import Hostile
from souq.files import replacing
from souq.optional import needs
from souq.records import Record, digest

SHARD = 100_000  # rows
GROUP = 10_000  # rows of a row group: what a reader over a network fetches at least
INDEXED = (
    "id", "domain", "language", "origin", "depth", "real_fraction", "tokens", "source", "licence", "prompt", "engine",
    "finish", "rejected",
)  # fmt: skip


class FileInfo(Record, frozen=True):
    """What a manifest says of a file."""

    rows: int
    digest: str


def write_shards(rows: Sequence[Row], out: Path, folder: str) -> dict[str, FileInfo]:
    """Write rows into out/FOLDER/part-*.parquet, and what can be counted of them into out/index/FOLDER.

    No rows are one file, too.

    Raises:
        Missing: pyarrow is not installed.
    """
    written = dict[str, FileInfo]()
    for number, start in enumerate(range(0, len(rows), SHARD) or range(1)):
        written |= _write_shard(rows[start : start + SHARD], out, f"{folder}/part-{number:05}.parquet")
    return written


def read_shard(path: Path) -> list[dict[str, Any]]:
    """The rows of one shard.

    Raises:
        Hostile: no Parquet, or more rows than souq puts into a file.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows > SHARD:
            raise Hostile(f"{path} holds {file.metadata.num_rows:,} rows; souq puts at most {SHARD:,} into a file")
        rows: list[dict[str, Any]] = file.read().to_pylist()
    except (arrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise Hostile(f"{path} is no Parquet that souq writes: {str(error)[:200]}") from error
    return rows


def _write_shard(rows: Sequence[Row], out: Path, path: str) -> dict[str, FileInfo]:
    with needs("pyarrow", "corpus"):
        import pyarrow as arrow
    whole = arrow.Table.from_pylist([to_dict(row) for row in rows], schema=_schema(arrow))
    index = whole.select(list(INDEXED))
    index = index.append_column("file", arrow.array([path] * len(rows), arrow.string()))
    index = index.append_column("row_group", arrow.array([i // GROUP for i in range(len(rows))], arrow.int32()))
    index = index.append_column("row", arrow.array([i % GROUP for i in range(len(rows))], arrow.int32()))
    return {name: _write_table(table, out / name) for name, table in ((path, whole), (f"index/{path}", index))}


def _write_table(table: Any, path: Path) -> FileInfo:
    import pyarrow.parquet as parquet

    with replacing(path) as partial:
        parquet.write_table(table, partial, compression="zstd", row_group_size=GROUP)
        return FileInfo(rows=table.num_rows, digest=digest(partial.read_bytes()))


def _schema(arrow: Any) -> Any:
    """row.py's fields, in its order."""
    text, number = arrow.string(), arrow.float64()
    passed = {"name": text, "version": text, "kept": arrow.bool_(), "score": number, "because": text}
    kinds = {
        "messages": arrow.list_(arrow.struct([("role", text), ("content", text)])),
        "filters": arrow.list_(arrow.struct(list(passed.items()))),
        "parents": arrow.list_(text),
        **dict.fromkeys(("depth", "top_k", "max_tokens", "sample", "tokens"), arrow.int32()),
        **dict.fromkeys(("real_fraction", "temperature", "top_p", "min_p"), arrow.float32()),
    }
    return arrow.schema([(name, kinds.get(name, text)) for name in Row.__struct_fields__])

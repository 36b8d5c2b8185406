"""A stranger's question to a corpus, answered by a process of its own that can read the corpus and do nothing else.

DuckDB opens files and writes them by SQL. Here it opens none: it is handed the corpus's columns, runs one SELECT, and
takes no setting; the process may write no file, and ends after some seconds, whatever it is asked.

    ask(Path("cities"), "SELECT domain, count(*) FROM kept GROUP BY ALL").rows
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from souq.corpus.query import VIEWS
from souq.errors import SouqError, UsageError
from souq.optional import needs
from souq.records import Record

MOST_SQL, MOST_CELL, MOST_ROWS = 4_000, 500, 100  # characters, characters, rows
MOST_BYTES = 1 << 20  # of an answer
SECONDS, MEGABYTES, THREADS = 10, 512, 1
_ADDRESSES = 8 << 30  # bytes; what a process may name is far more than what it holds


class Answer(Record, frozen=True):
    """A table, every cell as text; `more` where there were more rows than are shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: bool = False
    problem: str = ""


def ask(folder: Path, sql: str, *, seconds: int = SECONDS) -> Answer:
    """What a corpus says to one SELECT.

    Raises:
        UsageError: it is no question that is answered here, or it takes too much; the message says why.
    """
    if len(sql) > MOST_SQL:
        raise UsageError(f"a question has at most {MOST_SQL:,} characters")
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    words = [sys.executable, "-m", "souq.corpus.guarded", str(seconds)]
    try:
        done = subprocess.run(
            words, input=sql.encode("utf-8", "replace"), capture_output=True, cwd=folder, env=env,
            timeout=2 * seconds + 5, check=False,
        )  # fmt: skip
        answer = msgspec.json.decode(done.stdout, type=Answer)
    except (subprocess.TimeoutExpired, msgspec.MsgspecError):
        raise UsageError(f"the question takes more than its {seconds} seconds, or than {MEGABYTES} MB") from None
    if answer.problem:
        raise UsageError(answer.problem, hint=VIEWS)
    return answer


def _hold(seconds: int) -> None:
    """Have this process write no file, and end before it takes more than it may."""
    limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_AS: _ADDRESSES, resource.RLIMIT_FSIZE: 0}
    for what, most in (limits | {resource.RLIMIT_CORE: 0}).items():
        resource.setrlimit(what, (most, most))


def answer_of(sql: str) -> Answer:
    """What the corpus in the working directory says; its own reason, where that is no."""
    try:
        with needs("duckdb", "corpus"), needs("pyarrow", "corpus"):
            import duckdb
            import pyarrow  # noqa: F401
        connection = _guarded(duckdb)
        try:
            statements = connection.extract_statements(sql)
            if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
                return Answer((), (), problem="one SELECT is answered here, and nothing else")
            table = connection.execute(statements[0])
            rows = table.fetchmany(MOST_ROWS + 1)
            return _shown([str(column[0]) for column in table.description], rows)
        except (duckdb.Error, ValueError, MemoryError) as error:
            return Answer((), (), problem=str(error).strip()[:500] or "it takes more memory than it may")
    except SouqError as error:
        return Answer((), (), problem=str(error))


def _guarded(duckdb: Any) -> Any:
    """A connection that is handed the corpus by Arrow, opens no file itself, and takes no other setting."""
    settings = {"threads": THREADS, "memory_limit": f"{MEGABYTES}MB", "temp_directory": "", "secret_directory": ""}
    never = ("autoinstall_known_extensions", "autoload_known_extensions", "python_enable_replacements")
    connection = duckdb.connect(config=settings | dict.fromkeys(never, False))
    for view, folder in (("rows", "."), ("index", "index")):
        connection.register(view, _dataset(Path(folder)))
    connection.execute("CREATE VIEW kept AS SELECT * FROM \"rows\" WHERE subset = 'kept'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _dataset(folder: Path) -> Any:
    """The shards below a folder, with the edition and the subset that their folders are called by."""
    import pyarrow as pa
    from pyarrow import dataset

    pa.set_cpu_count(THREADS)
    names = pa.schema([("dump", pa.string()), ("subset", pa.string())])
    files = sorted(str(path) for path in folder.glob("dump=*/subset=*/*.parquet") if path.is_file())
    return dataset.dataset(files, format="parquet", partitioning=dataset.partitioning(names, flavor="hive"))


def _shown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Answer:
    """As much of a table as is sent."""
    shown, size = list[tuple[str, ...]](), 0
    for row in rows[:MOST_ROWS]:
        cells = tuple(_cut("" if value is None else str(value)) for value in row)
        size += sum(map(len, cells))
        if size > MOST_BYTES:
            break
        shown.append(cells)
    return Answer(tuple(map(_cut, columns)), tuple(shown), len(shown) < len(rows))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CELL else f"{text[: MOST_CELL - 1]}…"


if __name__ == "__main__":
    question = sys.stdin.buffer.read(4 * MOST_SQL).decode("utf-8", "replace")
    _hold(int(sys.argv[1]))
    sys.stdout.write(json.dumps(msgspec.to_builtins(answer_of(question)), ensure_ascii=True) + "\n")

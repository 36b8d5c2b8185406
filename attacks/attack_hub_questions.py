"""A stranger's SQL to a corpus on a hub: it reads no other file, writes none, and learns nothing of the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from urllib.parse import quote

import pytest

SECRET = "nobody-may-read-this"
OUTSIDE = "../../secret.csv"
READS = (
    "SELECT * FROM read_csv('{outside}')", "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM '{outside}'",
    "SELECT * FROM read_blob('{outside}')", "SELECT * FROM read_json('{outside}')", "SELECT * FROM glob('/*')", "SELECT * FROM glob('**')",
    "SELECT * FROM read_text('/proc/self/environ')", "SELECT * FROM read_parquet('dump=*/subset=*/*.parquet')",
    "SELECT * FROM read_text('manifest.json')", "SELECT getenv('HOME')", "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()", "SELECT * FROM which_secret('s3://x', 's3')", "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM read_csv('https://example.org/x.csv')", "SELECT * FROM question", "SELECT * FROM sql", "SELECT * FROM connection",
)  # fmt: skip
WRITES = (
    "COPY (SELECT 1) TO 'x.csv'", "COPY kept TO '{outside}'", "EXPORT DATABASE 'x'", "ATTACH 'x.db'", "CREATE TABLE x AS SELECT 1",
    "INSTALL httpfs", "LOAD httpfs", "SET threads = 64", "SET enable_external_access = true", "RESET lock_configuration",
    "PRAGMA enable_profiling", "CALL pragma_version()", "SELECT 1; COPY (SELECT 1) TO 'x.csv'", "WITH a AS (DELETE FROM kept RETURNING *) SELECT 1",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'", "SELECT * FROM query('COPY (SELECT 1) TO ''x.csv''')", "DROP VIEW kept", "VACUUM", "CHECKPOINT",
    "PREPARE x AS COPY (SELECT 1) TO 'x.csv'", "EXECUTE x", "CREATE MACRO kept() AS 1", "", ";", "\x00",
)  # fmt: skip


@pytest.fixture
def kept(library):
    """The corpus with a secret beside it, and every file there is."""
    site, corpus = library
    (corpus.parent.parent / "secret.csv").write_text(f"a\n{SECRET}\n")
    return site, corpus.parent.parent, sorted(corpus.parent.parent.rglob("*"))


# As the hub has it done, but all in one process: each is answered by a connection of its own.
ASKS = """
import json, sys
from souq.corpus import guarded
questions = json.load(sys.stdin)
guarded._hold(60)
print(json.dumps([[*answer.columns, *(cell for row in answer.rows for cell in row), answer.problem]
    for answer in map(guarded.answer_of, questions)]))
"""


def test_nothing_but_the_corpus_is_read_and_nothing_is_written(kept):
    """Forty-five questions; each has an answer or a reason; no file is new, and no folder of the machine is named."""
    _, shelf, files = kept
    questions = [question.format(outside=OUTSIDE) for question in (*READS, *WRITES)]
    done = subprocess.run(
        [sys.executable, "-c", ASKS], input=json.dumps(questions), capture_output=True, text=True, check=True,
        cwd=shelf / "atlas" / "cities",
    )  # fmt: skip
    for question, words in zip(questions, json.loads(done.stdout), strict=True):
        text = "\n".join(words)
        assert SECRET not in text, question
        assert "root:" not in text, question
        assert str(shelf) not in text, question
    answers = dict(zip(questions, json.loads(done.stdout), strict=True))
    assert all(answers[question.format(outside=OUTSIDE)][-1] for question in WRITES), "each is refused with a reason"
    assert sorted(shelf.rglob("*")) == files


@pytest.mark.parametrize("question", [READS[0], WRITES[0], WRITES[-2], "SELECT 1 --" + "x" * 9_000])
def test_on_the_page_too(kept, question):
    site, _, _ = kept
    sql = quote(question.format(outside=OUTSIDE).encode("utf-8", "surrogatepass"))
    reply = site.ask(f"/datasets/atlas/cities?sql={sql}")

    assert reply.status == 200
    assert SECRET not in reply.body.decode()
    assert b'role="alert"' in reply.body


def test_markup_in_a_question_and_in_its_answer_is_text(kept):
    site, *_ = kept
    question = quote("""SELECT '<img src=x onerror=alert(1)>' AS "<b>x</b>" """)
    reply = site.ask(f"/datasets/atlas/cities?sql={question}")

    assert reply.status == 200
    assert b"<img" not in reply.body
    assert b"<b>x" not in reply.body

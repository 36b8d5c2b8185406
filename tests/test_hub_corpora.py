"""A corpus's page: what it holds, some rows, and a question whose answer has a link; the question can do nothing else."""

from __future__ import annotations

import html
from urllib.parse import quote

import pytest

from souq.corpus import guarded
from souq.errors import UsageError

NAME = "atlas/cities"


def page(site, sql=""):
    reply = site.ask(f"/datasets/{NAME}?sql={quote(sql)}" if sql else f"/datasets/{NAME}")
    assert reply.status == 200
    return html.unescape(reply.body.decode())


def test_a_corpus_is_shown_with_rows_of_it(library):
    """What it holds by edition, who wrote it, how to load it, some rows, its datasheet, and the digits that name it."""
    site, _ = library
    text = page(site)

    assert f"load_dataset('{NAME}'" in text
    assert site.ask(f"/api/datasets/{NAME}").json["sha"] in text
    assert "generations from people" in text
    assert f'href="/datasets/{NAME}"' in site.ask("/").body.decode()


def test_a_question_has_an_answer_that_can_be_linked_to(library):
    site, _ = library
    text = page(site, "SELECT count(*) AS how_many, 'so & so' AS words FROM kept")

    assert "how_many" in text
    assert "so & so" in text
    assert "SELECT count(*)" in text, "the question stands in its box"


def test_what_is_wrong_with_a_question_is_said(library):
    site, _ = library

    assert "no_such_column" in page(site, "SELECT no_such_column FROM kept")
    assert "one SELECT" in page(site, "DROP VIEW kept")
    assert "at most" in page(site, "SELECT 1 --" + "x" * 5_000)


def test_its_answer_is_bounded_and_says_so(library):
    _, corpus = library
    answer = guarded.ask(corpus, "SELECT repeat('x', 10000) AS long, * FROM range(1000)")

    assert (len(answer.rows), answer.more) == (guarded.MOST_ROWS, True)
    assert len(answer.rows[0][0]) == guarded.MOST_CELL


def test_a_corpus_that_is_none_has_no_page(library):
    site, _ = library

    assert site.ask("/datasets/atlas/nothing").status == 404
    assert site.ask("/datasets/..%2f..%2fetc").status == 404


def test_the_same_question_is_answered_once(library, monkeypatch):
    site, _ = library
    calls = []
    monkeypatch.setattr(
        "souq.hub.pages.corpora.ask", lambda folder, sql: calls.append(sql) or guarded.Answer(("n",), (("1",),))
    )
    for _ in range(3):
        page(site, "SELECT 41 + 1")

    assert calls.count("SELECT 41 + 1") == 1


def test_who_asks_too_much_is_told(library):
    _, corpus = library

    with pytest.raises(UsageError, match="its 1 seconds"):
        guarded.ask(corpus, "SELECT count(*) FROM range(1000000000) a, range(100000) b", seconds=1)
    with pytest.raises(UsageError, match=r"(?i)memory|MB"):
        guarded.ask(corpus, "SELECT list(i) FROM range(400000000) t(i)")

"""A corpus's page: what it holds, what its datasheet says, some rows, and a question in SQL whose answer has a link.

GET /datasets/atlas/cities?sql=SELECT+count(*)+FROM+kept

A question is a stranger's: it is answered by a process that can do nothing else (corpus/guarded.py), one at a time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from souq.corpus.dump import manifest
from souq.corpus.guarded import MOST_SQL, Answer, ask
from souq.errors import NotFound, SouqError
from souq.hub.addresses import register
from souq.hub.headers import POLICY_OF_FORMS
from souq.hub.huggingface.asked import hub_of
from souq.hub.huggingface.corpora import CARD, MANIFEST, Corpus, corpora, corpus
from souq.hub.once import Busy
from souq.hub.pages import plain
from souq.hub.pages.answers import Made, answer_with, placeless, shared, sorry
from souq.hub.pages.cache import Pages
from souq.hub.pages.facts import Facts, short
from souq.hub.pages.render import hub_page

PATIENCE, THINKING = 4.0, 15.0  # seconds for what it holds, and for a question
WAITING = 16  # questions
FEW, MOST_EDITIONS = 5, 50
MOST_CARD, MOST_MANIFEST = 64 << 10, 64 << 20  # bytes that are read of a datasheet, and of a manifest
SAMPLE = f"SELECT * FROM kept LIMIT {FEW}"  # noqa: S608
EXAMPLE = "SELECT domain, depth, count(*), sum(tokens) FROM kept GROUP BY ALL ORDER BY ALL"


def routes() -> list[BaseRoute]:
    """Where a corpus's page is."""
    register()
    return [Route("/datasets/{repo:repo}", page)]


async def page(request: Request) -> Response:
    """One corpus; with `sql`, what it says to that."""
    name, sql = request.path_params["repo"], request.query_params.get("sql", "").strip()
    if (shown := await run_in_threadpool(plain.front, request, "datasets", name)) is not None:
        return shown
    try:
        held = await run_in_threadpool(_corpus, request)
        digits = await run_in_threadpool(lambda: held.id)
        facts = await _kept(request).get(held.name, (digits, "holds"), partial(_facts, held), patience=PATIENCE)
    except SouqError as error:
        return sorry(error)
    facts = facts | await _reply(request, held, digits, sql[: MOST_SQL + 1])
    return answer_with(request, Made.of(hub_page("corpus", facts)), policy=POLICY_OF_FORMS)


def _corpus(request: Request) -> Corpus:
    hub = hub_of(request)
    held = corpus(hub.catalog, hub.exports.contents, request.path_params["repo"])
    if (held.folder / MANIFEST).stat().st_size > MOST_MANIFEST:
        raise NotFound("its manifest is too long to be shown")
    return held


def _facts(held: Corpus) -> Facts:
    """What it holds, and its first rows."""
    listed = manifest(held.folder)
    editions = [_edition(name, facts) for name, facts in sorted(listed["dumps"].items(), reverse=True)]
    with (held.folder / CARD).open("rb") as file:
        card = file.read(MOST_CARD).decode("utf-8", "replace")
    text = card.removeprefix("---\n").partition("\n---\n")[2] if card.startswith("---\n") else card
    facts: Facts = {"name": held.name, "editions": editions[:MOST_EDITIONS], "more": len(editions)}
    facts |= {"card": text.strip(), "sample": None, "quiet": "", "example": EXAMPLE}
    try:
        return facts | {"sample": ask(held.folder, SAMPLE)}
    except SouqError as error:  # DuckDB is not installed, or the shards are not what they were
        return facts | {"quiet": placeless(str(error))}


def _edition(name: str, facts: dict[str, Any]) -> Facts:
    return {
        "name": short(name, 100), "title": short(facts["title"], 200), "licence": short(facts["licence"], 200),
        "teacher": facts["teacher"][:80], "rows": facts["rows"], "tokens": facts.get("tokens", 0),
        "new": facts.get("new", 0), "dropped": facts.get("dropped", 0), "deepest": facts.get("deepest", 0),
    }  # fmt: skip


async def _reply(request: Request, held: Corpus, digits: str, sql: str) -> Facts:
    """What the corpus says to a question: an answer, or why there is none."""
    questions = shared(request, "questions", lambda: Pages(workers=1, each=1, waiting=WAITING))
    facts: Facts = {"digits": digits, "asked": sql, "answer": None, "problem": ""}
    if not sql:
        return facts
    try:
        answer: Answer = await questions.get(
            held.name, (digits, sql), partial(ask, held.folder, sql), patience=THINKING
        )
        return facts | {"answer": answer}
    except Busy:
        return facts | {"problem": "others ask too: ask again in a moment"}
    except SouqError as error:
        return facts | {"problem": placeless(str(error))}


def _kept(request: Request) -> Pages:
    return shared(request, "pages", Pages)


def names(request: Request) -> list[str]:
    """The corpora of a hub, by name."""
    hub = hub_of(request)
    return sorted(held.name for held in corpora(hub.catalog, hub.exports.contents))

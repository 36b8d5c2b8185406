"""Where each page of a hub is, and how it is answered: from what was made before, without waiting on any git.

A page is made by a thread, of a repository as it is then, and kept by that; a request asks only whether a ref has
moved. What takes long is answered with 503 and made on, so one repository never holds up the others.

    GET /                                      the models
    GET /atlas/smol                            one of them
    GET /atlas/smol/pulls?state=open&page=2    and so on: PAGES
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from souq.errors import NotFound, SouqError
from souq.hub.addresses import register
from souq.hub.catalog import Catalog, Entry, is_name
from souq.hub.database import Away
from souq.hub.once import Busy
from souq.hub.pages import corpora, plain
from souq.hub.pages.answers import Made, answer_with, placeless, shared, sorry
from souq.hub.pages.cache import Pages
from souq.hub.pages.facts import Facts, Shown
from souq.hub.pages.feeds import feed
from souq.hub.pages.looks import Looks
from souq.hub.pages.render import STATIC, HubLinks, hub_page, page, static
from souq.hub.pages.stamp import minute
from souq.hub.reports.store import Report
from souq.records import is_digest
from souq.repo.remote import Repo

PATIENCE = 4.0  # seconds for a page
GLANCE = 1.5  # and for the models of a list, together
DRAWING = 30.0  # and for a picture
PER_LIST, MOST_COUNTED = 50, 500  # models
Answer = Callable[[Request], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """Where each page is."""
    register()
    within: dict[str, Answer] = {
        "/pulls/{number:number}/{digest}/change.svg": picture,
        "/pulls/{number:number}/{digest}": pull,
        "/pulls/{number:number}": pull,
        "/pulls": pulls,
        "/feed/{kind}.atom": atom,
        "/releases/{version}": release,
        "/queue": _of("queue", Shown.queue),
        "/releases": _of("releases", Shown.release_list),
        "/bugs": bugs,
        "/governance": _of("governance", Shown.governance),
        "/contributors": _of("contributors", Shown.contributors),
        "/openness": _of("openness", Shown.openness),
    }
    return [
        *plain.routes(), *corpora.routes(),
        Route("/", index), Route("/stats", stats), Route("/static/{name}", file),
        *(Route(f"/{{name:path}}{path}", answer) for path, answer in within.items()),
        Route("/{name:path}", front),
    ]  # fmt: skip


# -- one repository ----------------------------------------------------------------------------------------------------


def _of(template: str, facts: Callable[[Shown], Facts]) -> Answer:
    """The answer with one page of the repository that the address names."""

    async def answer(request: Request) -> Response:
        return await _page(request, template, facts)

    return answer


async def front(request: Request) -> Response:
    """A model's own page."""
    name = request.path_params["name"]
    if name.endswith("/") and is_name(name.rstrip("/")):
        return RedirectResponse(f"/{name.rstrip('/')}", 308)
    if (shown := await run_in_threadpool(plain.front, request, "models", name)) is not None:
        return shown
    return await _page(request, "front", Shown.front)


async def pulls(request: Request) -> Response:
    """Pull requests in one state."""
    state, number = request.query_params.get("state", "open"), _number(request)
    return await _page(request, "pulls", lambda shown: shown.pulls(state, number), state[:20], number)


async def pull(request: Request) -> Response:
    """One pull request; under a digest, only while that is what it offers."""
    number, digest = request.path_params["number"], request.path_params.get("digest", "")
    if digest and not is_digest(digest):
        return sorry(NotFound("no such page of a pull request"))

    def facts(shown: Shown) -> Facts:
        if digest:
            _refuse_other(shown, number, digest)
        return shown.pull(number)

    return await _page(request, "pull", facts, number, digest)


def _refuse_other(shown: Shown, number: int, digest: str) -> None:
    with suppress(SouqError):
        if shown.pull_request(number).digest == digest:
            return
    raise NotFound(f"#{number} does not offer this, or offers something else by now")


async def bugs(request: Request) -> Response:
    """Bugs, and what was reported and nobody has signed; the first are shown while the accounts cannot be asked."""
    reported: tuple[Report, ...] = ()
    if is_name(name := request.path_params["name"]):
        with suppress(Away):
            reported = await run_in_threadpool(request.app.state.reports.listed, name)
    return await _page(request, "bugs", lambda shown: shown.bug_list(reported), reported)


async def release(request: Request) -> Response:
    """One release."""
    version = request.path_params["version"]
    return await _page(request, "release", lambda shown: shown.release(version), version[:100])


async def picture(request: Request) -> Response:
    """What a pull request moves, while it offers what has this digest and its tensors are here."""
    number, digest = request.path_params["number"], request.path_params["digest"]

    def drawn(repo: Repo) -> Made:
        shown = Shown(repo)
        _refuse_other(shown, number, digest)
        if not (svg := shown.picture(number)):
            raise NotFound("it changes no layer, or too large a model to be drawn here")
        return Made.of(svg)

    try:
        if not is_digest(digest):
            raise NotFound("no such page of a pull request")
        repo, stamp, _ = await _looks(request).of(request.path_params["name"])
        key = (repo.git_dir, stamp, "picture", number, digest)  # tensors come before the ref that names them
        svg = await _kept(request).get(str(repo.git_dir), key, partial(drawn, repo), patience=DRAWING)
    except SouqError as error:
        return sorry(error)
    return answer_with(request, svg, "image/svg+xml", cache="max-age=3600")


async def atom(request: Request) -> Response:
    """What is new, for programs."""
    kind, name = request.path_params["kind"], request.path_params["name"]
    url = getattr(request.app.state, "url", "")  # else links are relative, to wherever the feed came from
    try:
        repo, stamp, known = await _looks(request).of(name)

        def made() -> Made:
            return Made.of(feed(Shown(repo, known), kind, url, name))

        key = (repo.git_dir, stamp, "feed", kind[:20], name)
        xml = await _kept(request).get(str(repo.git_dir), key, made, patience=PATIENCE)
    except SouqError as error:
        return sorry(error)
    return answer_with(request, xml, "application/atom+xml")


async def _page(request: Request, template: str, facts: Callable[[Shown], Facts], *which: object) -> Response:
    """One page of a repository, kept by what it was made of; `which` says which of that template."""
    name = request.path_params["name"]
    try:
        repo, stamp, known = await _looks(request).of(name)

        def make() -> Made:
            shown = Shown(repo, known)
            to = HubLinks(name)
            return Made.of(page(template, facts(shown), of=shown, name=name, to=to, address=_address(request)))

        html = await _kept(request).get(
            str(repo.git_dir), (repo.git_dir, stamp, minute(), name, template, *which), make, patience=PATIENCE
        )
    except SouqError as error:
        return sorry(error, HubLinks(name)("front") if is_name(name) else "")
    return answer_with(request, html)


# -- the hub itself ----------------------------------------------------------------------------------------------------


async def index(request: Request) -> Response:
    """The models; one that cannot be read, or not yet, is listed all the same."""
    entries = await _looks(request).entries()
    pages, number = max(1, -(-len(entries) // PER_LIST)), _number(request)
    if number > pages:
        return sorry(NotFound("no such page of models"))
    shown = entries[(number - 1) * PER_LIST : number * PER_LIST]
    cards = await asyncio.gather(*(_card(request, entry) for entry in shown))
    folder = str(_catalog(request).root)
    facts = {"cards": cards, "total": len(entries), "page": number, "pages": pages, "folder": folder}
    facts["corpora"] = await run_in_threadpool(corpora.names, request) if number == 1 else []
    last = shared(request, "last_index", dict[int, tuple[Facts, Made]])
    if number not in last or last[number][0] != facts:
        last[number] = facts, Made.of(hub_page("index", facts))
    return answer_with(request, last[number][1])


async def _card(request: Request, entry: Entry) -> tuple[str, str, Facts | None, str]:
    """A repository in a list: its name, its address, what there is to say of it, and what is wrong with it."""
    href = HubLinks(entry.name)("front")
    if entry.problem:
        return entry.name, "", None, placeless(entry.problem)
    try:
        repo, stamp, known = await _looks(request).of(entry.name)
        key = (repo.git_dir, stamp, "card")
        card = await _kept(request).get(str(repo.git_dir), key, lambda: Shown(repo, known).card(), patience=GLANCE)
    except Busy:
        return entry.name, href, None, ""
    except SouqError as error:
        return entry.name, "", None, placeless(str(error))
    return entry.name, href, card, ""


async def stats(request: Request) -> Response:
    """How much there is on this hub."""
    entries = await _looks(request).entries()
    listed = await asyncio.gather(*(_card(request, entry) for entry in entries[:MOST_COUNTED]))
    cards = [card for _, _, card, _ in listed if card is not None]
    words = {
        "open": "pull requests open", "merged": "pull requests merged", "bugs": "bugs open", "releases": "releases",
        "people": "people who brought something, in each model",
    }  # fmt: skip
    figures = [("models", len(entries)), *((text, sum(card[key] for card in cards)) for key, text in words.items())]
    return answer_with(request, Made.of(hub_page("stats", {"figures": figures, "unread": len(entries) - len(cards)})))


async def file(request: Request) -> Response:
    """What pages need beside them."""
    name = request.path_params["name"]
    if name not in STATIC:
        return sorry(NotFound("no such file"))
    return answer_with(request, Made.of(static(name)), STATIC[name], cache="max-age=86400")


# -- what is asked -----------------------------------------------------------------------------------------------------


def _number(request: Request) -> int:
    """Which page of a list is asked for; the first, where that is no number."""
    digits = request.query_params.get("page", "1")
    return max(1, int(digits)) if digits.isascii() and digits.isdigit() and len(digits) < 7 else 1


def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog
    return catalog


def _kept(request: Request) -> Pages:
    return shared(request, "pages", Pages)


def _looks(request: Request) -> Looks:
    return shared(request, "looks", lambda: Looks(_catalog(request)))


def _address(request: Request) -> str:
    """This page's address where the hub was told its own; who asks may name any host, so theirs is not taken."""
    url = getattr(request.app.state, "url", "")
    return f"{url}{request.url.path}" if url else ""

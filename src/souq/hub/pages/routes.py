"""Where each page of a hub is, and how it is answered: from what was made before, without waiting on any git.

A page is made by a thread, of a repository as it is then, and kept by that; a request asks only whether a ref has
moved. What takes long is answered with 503 and made on, so one repository never holds up the others.

    GET /                                      the models
    GET /atlas/smol                            one of them
    GET /atlas/smol/pulls?state=open&page=2    and so on: PAGES
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from souq.errors import NotFound, SouqError
from souq.hub.addresses import register
from souq.hub.catalog import Catalog, Entry, is_name
from souq.hub.once import Busy
from souq.hub.pages.cache import Pages
from souq.hub.pages.facts import Facts, Shown
from souq.hub.pages.looks import Looks
from souq.hub.pages.render import STATIC, HubLinks, hub_page, page, static
from souq.hub.pages.stamp import minute
from souq.records import is_digest
from souq.repo.remote import Repo

PATIENCE = 4.0  # seconds for a page
GLANCE = 1.5  # and for the models of a list, together
DRAWING = 30.0  # and for a picture
PER_LIST, MOST_COUNTED = 50, 500  # models
# Stricter than what every answer of a hub has: no page needs a script, and none sends anything.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
T = TypeVar("T")
Answer = Callable[[Request], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """Where each page is."""
    register()
    within: dict[str, Answer] = {
        "/pulls/{number:number}/{digest}/change.svg": picture,
        "/pulls/{number:number}/{digest}": pull,
        "/pulls/{number:number}": pull,
        "/pulls": pulls,
        "/discussions/{number:number}": discussion,
        "/releases/{version}": release,
        "/queue": _of("queue", Shown.queue),
        "/releases": _of("releases", Shown.release_list),
        "/bugs": _of("bugs", Shown.bug_list),
        "/governance": _of("governance", Shown.governance),
        "/contributors": _of("contributors", Shown.contributors),
        "/openness": _of("openness", Shown.openness),
    }
    return [
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
    return await _page(request, "front", Shown.front)


async def pulls(request: Request) -> Response:
    """Pull requests in one state."""
    state, number = request.query_params.get("state", "open"), _number(request)
    return await _page(request, "pulls", lambda shown: shown.pulls(state, number), state[:20], number)


async def pull(request: Request) -> Response:
    """One pull request; under a digest, only while that is what it offers."""
    number, digest = request.path_params["number"], request.path_params.get("digest", "")
    if digest and not is_digest(digest):
        return _sorry(NotFound("no such page of a pull request"))

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


async def discussion(request: Request) -> Response:
    """Where Hugging Face's clients say that a pull request is."""
    name, number = request.path_params["name"], request.path_params["number"]
    return RedirectResponse(HubLinks(name)("pull", number) if is_name(name) else "/", 307)


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
        return _sorry(error)
    return _answer(request, svg, "image/svg+xml", cache="max-age=3600")


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
        return _sorry(error, HubLinks(name)("front") if is_name(name) else "")
    return _answer(request, html)


# -- the hub itself ----------------------------------------------------------------------------------------------------


async def index(request: Request) -> Response:
    """The models; one that cannot be read, or not yet, is listed all the same."""
    entries = await _looks(request).entries()
    pages, number = max(1, -(-len(entries) // PER_LIST)), _number(request)
    if number > pages:
        return _sorry(NotFound("no such page of models"))
    shown = entries[(number - 1) * PER_LIST : number * PER_LIST]
    cards = await asyncio.gather(*(_card(request, entry) for entry in shown))
    folder = str(_catalog(request).root)
    facts = {"cards": cards, "total": len(entries), "page": number, "pages": pages, "folder": folder}
    last = _state(request, "last_index", dict[int, tuple[Facts, Made]])
    if number not in last or last[number][0] != facts:
        last[number] = facts, Made.of(hub_page("index", facts))
    return _answer(request, last[number][1])


async def _card(request: Request, entry: Entry) -> tuple[str, str, Facts | None, str]:
    """A repository in a list: its name, its address, what there is to say of it, and what is wrong with it."""
    href = HubLinks(entry.name)("front")
    if entry.problem:
        return entry.name, "", None, _placeless(entry.problem)
    try:
        repo, stamp, known = await _looks(request).of(entry.name)
        key = (repo.git_dir, stamp, "card")
        card = await _kept(request).get(str(repo.git_dir), key, lambda: Shown(repo, known).card(), patience=GLANCE)
    except Busy:
        return entry.name, href, None, ""
    except SouqError as error:
        return entry.name, "", None, _placeless(str(error))
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
    return _answer(request, Made.of(hub_page("stats", {"figures": figures, "unread": len(entries) - len(cards)})))


async def file(request: Request) -> Response:
    """What pages need beside them."""
    name = request.path_params["name"]
    if name not in STATIC:
        return _sorry(NotFound("no such file"))
    return _answer(request, Made.of(static(name)), STATIC[name], cache="max-age=86400")


# -- answers -----------------------------------------------------------------------------------------------------------


class Made(bytes):
    """A page as it is sent, with the tag by which a browser knows it."""

    tag: str

    @classmethod
    def of(cls, page: str | bytes) -> Made:
        made = cls(page.encode() if isinstance(page, str) else page)
        made.tag = f'"{hashlib.sha256(made).hexdigest()[:32]}"'
        return made


def _answer(request: Request, made: Made, kind: str = "text/html", *, cache: str = "no-cache") -> Response:
    """A page, or that the browser has it."""
    headers = {"etag": made.tag, "cache-control": cache, "content-security-policy": POLICY}
    if made.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(made, media_type=kind, headers=headers)


def _sorry(error: SouqError, back: str = "") -> Response:
    """Why there is no page, and where to go on."""
    title, status, headers = "This cannot be read", 409, dict[str, str]()
    if isinstance(error, Busy):
        title, status, headers = "In a moment", 503, {"retry-after": "3", "refresh": "3"}
    elif isinstance(error, NotFound):
        title, status = "There is no such page", 404
    because = (
        f"The repository is being read: this page comes by itself ({error})."
        if status == 503
        else _placeless(str(error))
    )
    facts = {"title": title, "because": because, "next": back or "/", "words": "go back" if back else "the models"}
    return Response(
        hub_page("no", facts),
        status,
        headers | {"cache-control": "no-store", "content-security-policy": POLICY},
        "text/html",
    )


def _placeless(text: str) -> str:
    """A message without the folders of this machine in it; the last name of each path stays."""
    return re.sub(r"(?<![\w.:/])/(?:[^/\s]+/)+", "", text)


def _number(request: Request) -> int:
    """Which page of a list is asked for; the first, where that is no number."""
    digits = request.query_params.get("page", "1")
    return max(1, int(digits)) if digits.isascii() and digits.isdigit() and len(digits) < 7 else 1


def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog
    return catalog


def _kept(request: Request) -> Pages:
    return _state(request, "pages", Pages)


def _looks(request: Request) -> Looks:
    return _state(request, "looks", lambda: Looks(_catalog(request)))


def _state(request: Request, name: str, make: Callable[[], T]) -> T:
    """What an application has once, made when it is first asked for; requests are answered by one thread."""
    if not hasattr(request.app.state, name):
        setattr(request.app.state, name, make())
    kept: T = getattr(request.app.state, name)
    return kept


def _address(request: Request) -> str:
    """This page's address where the hub was told its own; who asks may name any host, so theirs is not taken."""
    url = getattr(request.app.state, "url", "")
    return f"{url}{request.url.path}" if url else ""

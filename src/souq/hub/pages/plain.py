"""Pages of plain repositories, and of what people say on this hub: files and card, drafts, pull requests, discussions.

GET /ada/notes, /datasets/ada/rows, /ada/notes/discussions, /atlas/smol/discussions/1000001

All of it is signed by nobody, and says so. What is open to a governed model is git's, and stands among its own pages.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from souq.errors import NotFound, SouqError
from souq.hub.addresses import register
from souq.hub.catalog import is_name
from souq.hub.discussions.store import OWN, About, Happened, Talk
from souq.hub.huggingface.asked import hub_of
from souq.hub.huggingface.offers import COMMAND, Place, place_of
from souq.hub.pages.answers import Made, answer_with, sorry
from souq.hub.pages.facts import Facts, short
from souq.hub.pages.render import HubLinks, hub_page
from souq.hub.plain.repository import Plain
from souq.hub.plain.shelf import Kind
from souq.repo.git import MAIN

MOST_FILES, MOST_TALKS, MOST_SAYINGS = 500, 100, 200
MOST_CARD = 64 << 10  # bytes that are shown
CARD = "README.md"


def routes() -> list[BaseRoute]:
    """Where what is said on a hub is; the pages of plain repositories stand where those of others do."""
    register()
    return [
        Route("/datasets/{repo:repo}/discussions/{number:number}", _of_kind("datasets", discussion)),
        Route("/datasets/{repo:repo}/discussions", _of_kind("datasets", discussions)),
        Route("/{repo:repo}/discussions/{number:number}", _of_kind("models", discussion)),
        Route("/{repo:repo}/discussions", _of_kind("models", discussions)),
    ]


def _of_kind(kind: Kind, facts: Callable[[Request, Kind], Response]) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        try:
            return await run_in_threadpool(facts, request, kind)
        except SouqError as error:
            return sorry(error)

    return answer


def front(request: Request, kind: Kind, name: str) -> Response | None:
    """The page of a plain repository; None where there is none of that name."""
    try:
        repository = hub_of(request).shelf.open(kind, name)
    except NotFound:
        return None
    commit = repository.commit(MAIN)
    listing = repository.listing(commit)
    files = [(short(path, 300), file.size) for path, file in listing.items()]
    card = ""
    if CARD in listing and listing[CARD].size <= MOST_CARD:
        card = repository.place(listing[CARD]).read_bytes().decode("utf-8", "replace")
    place = place_of(request, About(kind, name), repository)
    facts: Facts = {
        "name": name, "kind": kind, "commit": commit, "card": card, "talks": _talks(place)[:MOST_TALKS],
        "files": files[:MOST_FILES], "more": len(files) - MOST_FILES, "home": _home(kind, name),
        "bytes": sum(size for _, size in files),
    }  # fmt: skip
    return answer_with(request, Made.of(hub_page("plain", facts)))


def discussions(request: Request, kind: Kind) -> Response:
    """What is said and offered here about one repository.

    Raises:
        NotFound: there is no such repository.
    """
    place = _place(request, kind)
    facts = {"name": place.about.name, "home": _home(kind, place.about.name), "governed": place.is_draft}
    return answer_with(request, Made.of(hub_page("talks", facts | {"talks": _talks(place)[:MOST_TALKS]})))


def discussion(request: Request, kind: Kind) -> Response:
    """One of them; a pull request of git's has its own page.

    Raises:
        NotFound: there is none.
    """
    place, number = _place(request, kind), request.path_params["number"]
    name = place.about.name
    if place.is_draft and number < OWN:
        return RedirectResponse(HubLinks(name)("pull", number), 307)
    talk = place.discussions.get(place.about, number)
    if not place.is_there(talk):
        raise NotFound("no such discussion")
    happened = place.discussions.sayings(place.about, number)
    home = _home(kind, name)
    url = getattr(request.app.state, "url", "") or f"{request.url.scheme}://{request.url.netloc}"
    facts = {
        "name": name, "home": home, "talk": talk, "draft": place.is_draft and talk.is_pull,
        "files": _files(place, talk),
        "happened": [_shown(each) for each in happened[-MOST_SAYINGS:]], "earlier": len(happened) - MOST_SAYINGS,
        "command": COMMAND.format(f"{url}{home}/discussions/{number}"),
    }  # fmt: skip
    return answer_with(request, Made.of(hub_page("talk", facts)))


def _place(request: Request, kind: Kind) -> Place:
    name, hub = request.path_params["repo"], hub_of(request)
    if not is_name(name):
        raise NotFound("no such repository")
    plain: Plain | None = None
    try:
        plain = hub.shelf.open(kind, name)
    except NotFound:
        if kind == "datasets":
            raise
        hub.catalog.open(name)
    return place_of(request, About(kind, name), plain)


def _talks(place: Place) -> list[Talk]:
    return [talk for talk in place.discussions.every(place.about) if place.is_there(talk)]


def _files(place: Place, talk: Talk) -> list[str]:
    """The files that a pull request changes, by name; those of a draft are its author's to see."""
    if place.is_draft or not talk.is_pull or (head := place.ref(talk.number)) is None:
        return []
    listing, before = place.repository.listing(head), place.repository.listing(place.repository.commit(MAIN))
    changed = [path for path in {**before, **listing} if before.get(path) != listing.get(path)]
    return [short(path, 300) for path in sorted(changed)[:MOST_FILES]]


def _shown(each: Happened) -> Facts:
    """What happened, in words."""
    words = each.data
    match each.type:
        case "comment" if words["hidden"]:
            text, is_comment = "(hidden)", True
        case "comment":
            text, is_comment = words["history"][-1]["text"] if words["history"] else "", True
        case "status-change":
            text, is_comment = f"is {words['status']}", False
        case "title-change":
            text, is_comment = f"is called {words['to']}", False
        case "commit":
            text, is_comment = f"brought {words.get('subject', '')}", False
        case _:
            text, is_comment = each.type, False
    return {"by": each.author, "at": each.at, "text": short(str(text)), "is_comment": is_comment}


def _home(kind: Kind, name: str) -> str:
    return f"/datasets/{name}" if kind == "datasets" else f"/{name}"

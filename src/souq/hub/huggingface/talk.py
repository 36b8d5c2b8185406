"""What people say on a hub, and do to what they offer: begin, answer, rename, close, merge.

What is said here is signed by nobody. It decides nothing about a model that is governed, and is never a vote.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import NotFound, Refused, SouqError, UsageError
from souq.hub.accounts.callers import Caller, may_write, needs
from souq.hub.discussions.store import OWN, About, Discussions, Happened, Talk
from souq.hub.huggingface import offers
from souq.hub.huggingface.asked import kind_of, source_of
from souq.hub.huggingface.bodies import json_of
from souq.hub.huggingface.corpora import Corpus
from souq.hub.huggingface.models import Model
from souq.hub.huggingface.offers import COMMAND, Place
from souq.hub.huggingface.plain import PlainSource
from souq.hub.huggingface.repositories import address
from souq.hub.huggingface.sources import Row, utc
from souq.hub.plain.repository import Stale
from souq.hub.problems import Problem
from souq.notebook.pull_request import PullRequest
from souq.pulls import pull as pulls
from souq.pulls.overview import gathered
from souq.repo.git import MAIN

MAX_DIFF = 1 << 20  # characters
MOST_BODY = 512 << 10  # bytes
SIGNED_BY_NOBODY = "said on this hub, signed by nobody"
T = TypeVar("T")
_COMMENT = re.compile(r"c([1-9]\d{0,17})")


@dataclass(frozen=True)
class Room:
    """A discussion that somebody wants to change."""

    caller: Caller
    source: Model | PlainSource
    place: Place
    number: int

    @property
    def about(self) -> About:
        """Of what repository."""
        return self.place.about

    @property
    def is_theirs(self) -> bool:
        """Whether the repository is the caller's."""
        return may_write(self.caller, self.about.name.partition("/")[0])


async def place_in(request: Request) -> tuple[Model | PlainSource, Place]:
    """Whose discussions a request is about.

    Raises:
        Problem: nobody talks about what is there.
    """
    source, about = await source_of(request), About(kind_of(request), request.path_params["repo"])
    if isinstance(source, PlainSource):
        return source, offers.place_of(request, about, source.repository)
    if isinstance(source, Corpus):
        raise Problem(501, "NotImplemented", "this corpus is a release's: talk about the model that wrote it")
    return source, offers.place_of(request, about, None)


async def _room(request: Request) -> Room:
    caller, (source, place) = await needs(request, "write"), await place_in(request)
    return Room(caller, source, place, request.path_params["number"])


# -- shown -------------------------------------------------------------------------------------------------------------


def row(place: Place, talk: Talk) -> Row:
    """A discussion as a list has it."""
    kind = {"models": "model", "datasets": "dataset"}[place.about.kind]
    return {
        "num": talk.number, "title": talk.title, "status": talk.status, "isPullRequest": talk.is_pull,
        "createdAt": utc(talk.made), "author": _author(talk.author), "repo": {"name": place.about.name, "type": kind},
    }  # fmt: skip


def whole(place: Place, talk: Talk, *, diff: bool, url: str) -> Row:
    """A discussion, with what happened in it."""
    known = row(place, talk) | {"events": events(place, talk.number)}
    if talk.is_pull:
        known |= {"changes": {"base": MAIN} | ({"mergeCommitId": talk.merged} if talk.merged else {})}
        head = place.ref(talk.number) if diff and not place.is_draft else None
        known |= {"filesWithConflicts": [], "diff": _diff(place, head) if head is not None else ""}
    if place.is_draft and talk.is_pull:
        known["souq"] = {"draft": True, "command": COMMAND.format(url), "note": SIGNED_BY_NOBODY}
    return known


def events(place: Place, number: int) -> list[Row]:
    """What happened in a discussion, or was said here about a pull request of git's."""
    return [_event(saying) for saying in place.discussions.sayings(place.about, number)]


def _diff(place: Place, head: str) -> str:
    main = place.repository.commit(MAIN)
    since = place.repository.merge_base(main, head) or main
    return place.repository.patch(since, head)[:MAX_DIFF]


def _author(name: str) -> Row:
    return {"name": name, "type": "user"}


def _event(saying: Happened) -> Row:
    data = _comment(saying.data) if saying.type == "comment" else saying.data
    return {
        "id": f"c{saying.id}", "type": saying.type, "createdAt": utc(saying.at),
        "author": _author(saying.author), "data": data,
    }  # fmt: skip


def _comment(data: dict[str, Any]) -> Row:
    history = [_state(words) for words in data["history"]] or [_state({"text": "", "at": "", "by": data.get("by", "")})]
    if data["hidden"]:
        history = [_state({"text": "This comment has been hidden", "at": "", "by": data.get("by", "")})]
    known = {"edited": data["edited"], "hidden": data["hidden"], "latest": history[-1], "history": history}
    return known | {"note": SIGNED_BY_NOBODY}


def _state(words: dict[str, str]) -> Row:
    text = words["text"]
    return {"raw": text, "html": html.escape(text), "updatedAt": utc(words["at"]), "author": _author(words["by"])}


# -- changed -----------------------------------------------------------------------------------------------------------


class _New(msgspec.Struct, frozen=True):
    title: str
    description: str = ""
    pullRequest: bool = False  # as it is sent


async def begin(request: Request) -> Response:
    """A new discussion, or a pull request without files yet."""
    caller, (_, place) = await needs(request, "write"), await place_in(request)
    new = await json_of(request, _New, MOST_BODY)

    def made() -> int:
        if new.pullRequest:
            return offers.open_(place, caller.name, new.title, new.description, place.repository.commit(MAIN))
        return place.discussions.begin(place.about, caller.name, new.title, new.description, first=place.first)

    number = await _done(made)
    url = f"{address(request, kind_of(request), place.about.name)}/discussions/{number}"
    return JSONResponse({"num": number, "pullRequest": new.pullRequest, "url": url})


class _Words(msgspec.Struct, frozen=True):
    comment: str = ""
    content: str = ""
    title: str = ""
    status: str = ""


_Maybe = cast("type[_Words | None]", _Words | None)


async def comment(request: Request) -> Response:
    """Say something."""
    room, words = await _room(request), await json_of(request, _Words, MOST_BODY)

    def made() -> Happened:
        _refuse_absent(room)
        return room.place.discussions.comment(room.about, room.number, room.caller.name, words.comment)

    return JSONResponse({"newMessage": _event(await _done(made))})


async def edit(request: Request) -> Response:
    """Say something else instead."""
    room, words, id_ = await _room(request), await json_of(request, _Words, MOST_BODY), _id(request)
    change, name = room.place.discussions.edit, room.caller.name
    saying = await _done(lambda: change(room.about, room.number, id_, name, words.content))
    return JSONResponse({"updatedComment": _event(saying)})


async def hide(request: Request) -> Response:
    """Show something no more: what they said themselves, or in their repository."""
    room, id_ = await _room(request), _id(request)

    def made() -> Happened:
        sayings = room.place.discussions.sayings(room.about, room.number)
        saying = next((each for each in sayings if each.id == id_ and each.type == "comment"), None)
        if saying is None or (saying.author != room.caller.name and not room.is_theirs):
            raise NotFound("no such comment of yours")
        return room.place.discussions.hide(room.about, room.number, id_, room.caller.name)

    return JSONResponse({"updatedComment": _event(await _done(made))})


async def title(request: Request) -> Response:
    """Call it otherwise."""
    room, words = await _room(request), await json_of(request, _Words, MOST_BODY)
    saying = await _done(lambda: _changed(room).rename(room.about, room.number, room.caller.name, words.title))
    return JSONResponse({"newTitle": _event(saying)})


async def status(request: Request) -> Response:
    """Close it, or open it again."""
    room, words = await _room(request), await json_of(request, _Words, MOST_BODY)

    def made() -> Happened:
        discussions = _changed(room)
        if words.status not in ("open", "closed"):
            raise UsageError("it is opened or closed; `merge` is another question")
        if words.comment:
            discussions.comment(room.about, room.number, room.caller.name, words.comment)
        return discussions.set_status(room.about, room.number, room.caller.name, _state_of(room, words.status))

    saying = await _done(made)
    return JSONResponse({"newStatus": _event(saying)})


def _state_of(room: Room, wanted: str) -> str:
    """A draft of a governed model is never open, and holds no files once it is closed."""
    talk = room.place.discussions.get(room.about, room.number)
    if not (room.place.is_draft and talk.is_pull):
        return wanted
    if wanted == "closed":
        offers.close(room.place, room.number)
        return "closed"
    if room.place.ref(room.number) is None:
        raise UsageError("a draft that was closed holds no files any more: make another")
    return "draft"


async def merge(request: Request) -> Response:
    """Have main be as somebody offers: by the owner of a plain repository, and by nobody else."""
    room, words = await _room(request), await json_of(request, _Maybe, MOST_BODY)
    if isinstance(room.source, Model):
        raise Problem(403, "", await run_in_threadpool(_governed, room))
    if not room.is_theirs:
        raise Problem(403, "", f"{room.about.name} is not {room.caller.name}'s: its owner merges")

    def made() -> str:
        if words is not None and words.comment:
            room.place.discussions.comment(room.about, room.number, room.caller.name, words.comment)
        return _merged(room)

    return JSONResponse({"mergeCommitId": await _done(made)})


def _merged(room: Room) -> str:
    talk, repository = room.place.discussions.get(room.about, room.number), room.place.repository
    head = room.place.ref(room.number)
    if not talk.is_pull or head is None or talk.status not in ("open", "draft"):
        raise UsageError("there is nothing to merge, or not any more")
    while True:
        main = repository.commit(MAIN)
        commit = repository.merged(head, room.caller.name, f"Merge pull request {room.number}: {talk.title}\n")
        if commit == main or repository.move(MAIN, commit, main):
            break
    room.place.discussions.set_status(room.about, room.number, room.caller.name, "merged", commit)
    return commit


def _governed(room: Room) -> str:
    """What stands in the way of a merge, and who is to type what."""
    if room.number >= OWN:
        return "a draft is not merged: its author makes it a pull request with `souq pr create`, and people vote on it"
    line = room.source.line if isinstance(room.source, Model) else None
    assert line is not None
    pull = PullRequest(line.repo, line.main, pulls.get(line.repo, room.number))
    missing = "; ".join(gathered(pull.missing, room.number)) or "nothing"
    return f"no hub decides, signed votes and checks do: `souq pr merge {room.number}` in a clone. Missing: {missing}"


def _changed(room: Room) -> Discussions:
    """The discussions, for who may change this one.

    Raises:
        Problem: they may not.
    """
    if room.place.is_draft and room.number < OWN:
        raise Problem(403, "", f"#{room.number} is signed by its author: `souq pr close {room.number}` in a clone")
    talk = room.place.discussions.get(room.about, room.number)
    if talk.author != room.caller.name and not room.is_theirs:
        raise Problem(403, "", f"{talk.author} began this, and {room.caller.name} may answer")
    return room.place.discussions


def _refuse_absent(room: Room) -> None:
    """Nobody talks about what is not there: neither a number of git's, nor of the hub's."""
    if isinstance(room.source, Model) and room.number < OWN:
        pulls.get(room.source.line.repo, room.number)
    elif not room.place.is_there(room.place.discussions.get(room.about, room.number)):
        raise NotFound(f"no discussion {room.number}")


def _id(request: Request) -> int:
    if (match := _COMMENT.fullmatch(request.path_params["comment"])) is None:
        raise Problem(404, "EntryNotFound", "no such comment")
    return int(match[1])


async def _done(ask: Callable[[], T]) -> T:
    """What came of it, or why not."""
    try:
        return await run_in_threadpool(ask)
    except NotFound as error:
        raise Problem(404, "EntryNotFound", str(error)) from error
    except UsageError as error:
        raise Problem(400, "BadRequest", str(error)) from error
    except Stale as error:
        raise Problem(409, "BadRequest", str(error)) from error
    except Refused as error:
        raise Problem(429, "", str(error)) from error
    except SouqError as error:
        raise Problem(403, "", str(error)) from error

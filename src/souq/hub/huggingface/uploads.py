"""Uploads: what is to come, how it comes, and the commit that holds it, which is there whole or not at all."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import Hostile, NotFound, SouqError, UsageError
from souq.files import beside
from souq.hub.accounts.callers import Caller, may_write, needs
from souq.hub.discussions.store import OWN
from souq.hub.huggingface.asked import hub_of, kind_of
from souq.hub.huggingface.bodies import json_of, parts
from souq.hub.huggingface.commit_body import MOST_BODY, MOST_FILE, Body, Commit
from souq.hub.huggingface.corpora import MAX_HEAD
from souq.hub.huggingface.offers import COMMAND, Place, came, offered, refuse_large
from souq.hub.huggingface.paging import is_true
from souq.hub.huggingface.plain import CARD
from souq.hub.huggingface.repositories import address
from souq.hub.huggingface.sources import Row, Source
from souq.hub.huggingface.talk import place_in
from souq.hub.plain.arrivals import Arrivals
from souq.hub.plain.repository import Added, Change, Plain, Stale
from souq.hub.problems import Problem
from souq.repo.git import MAIN
from souq.yaml_text import compose

MOST_ASKED = 1_000  # files of one question; clients ask for 256
MOST_QUESTION = 4 << 20  # bytes
GOVERNED = (
    "{} is governed: what main is, its people decide together. Offer your change: `create_pr=True` makes a draft of"
    " it here, `souq pr create` a pull request that can be voted on"
)
NO_XET = (
    "this hub does not speak Xet, and files over {} MiB come by LFS: set HF_HUB_DISABLE_XET=1 beside HF_ENDPOINT,"
    " or push with git"
)
_PULL = re.compile(r"refs/pr/([1-9]\d{0,8})")


# -- where to ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Whose files are to be changed, and by whom: a ref, or a pull request that is made of it."""

    caller: Caller
    place: Place
    ref: str
    offers: bool
    arrivals: Arrivals

    @property
    def name(self) -> str:
        """Of the repository."""
        return self.place.about.name

    @property
    def repository(self) -> Plain:
        """Where the files go."""
        return self.place.repository

    @property
    def number(self) -> int:
        """Of the pull request whose ref it is; 0 where it is a branch."""
        return int(match[1]) if (match := _PULL.fullmatch(self.ref)) else 0

    def sizes(self, sha256: str) -> list[int]:
        """The sizes of a large file, here or waiting for its commit: one, or none."""
        sizes = (self.repository.large.size(sha256), self.arrivals.size(sha256, self.caller.name))
        return [size for size in sizes if size is not None]


async def target_of(request: Request, *, announces: bool = False) -> Target:
    """What a request wants to change; one that only announces a large file does not say yet whether as a pull request.

    Raises:
        Problem: it may not be changed, or not by them.
    """
    caller, (source, place) = await needs(request, "write"), await place_in(request)
    rev, offers_it = request.path_params.get("rev", "main"), announces or is_true(request, "create_pr")
    ref = rev if rev.startswith("refs/") else f"refs/heads/{rev}"
    target = Target(caller, place, ref, offers_it, hub_of(request).arrivals)
    await run_in_threadpool(_refuse_others, target, source)
    return target


def _refuse_others(target: Target, source: Source) -> None:
    name, caller = target.name, target.caller
    if (number := target.number) and not target.offers:
        _refuse_closed(target, number)
    elif target.place.is_draft and not (target.offers and target.ref == MAIN):
        raise Problem(403, "", GOVERNED.format(name))
    elif not target.offers and not may_write(caller, name.partition("/")[0]):
        raise Problem(403, "", f"{name} is not {caller.name}'s: `create_pr=True` offers your change to its owner")
    if target.repository.ref(target.ref) is None or not target.ref.startswith(("refs/heads/", "refs/pr/")):
        raise Problem(404, "RevisionNotFound", f"no branch {target.ref[:80]!r} in {name}")


def _refuse_closed(target: Target, number: int) -> None:
    """Who may add to a pull request: its author, and the owner of a plain repository."""
    if target.place.is_draft and number < OWN:
        raise Problem(403, "", GOVERNED.format(target.name))
    try:
        talk = target.place.discussions.get(target.place.about, number)
    except NotFound as error:
        raise Problem(404, "RevisionNotFound", str(error)) from error
    owns = may_write(target.caller, target.name.partition("/")[0]) and not target.place.is_draft
    if talk.author != target.caller.name and not owns:
        raise Problem(403, "", f"pull request {number} is {talk.author}'s")
    if talk.status not in ("open", "draft"):
        raise Problem(403, "", f"pull request {number} is {talk.status}")


# -- what is to come ---------------------------------------------------------------------------------------------------


class _Announced(msgspec.Struct, frozen=True):
    path: str
    size: int = 0


class _Question(msgspec.Struct, frozen=True):
    files: list[_Announced]


async def preupload(request: Request) -> Response:
    """How each file is to be sent, and what is there under its name."""
    target, question = await target_of(request), await json_of(request, _Question, MOST_QUESTION)
    if len(question.files) > MOST_ASKED:
        raise Problem(413, "BadRequest", f"more than {MOST_ASKED:,} files: ask in parts")
    rows = await run_in_threadpool(_answers, target, question.files)
    # Clients that go by Xet show what no_xet says to nobody, and this to everybody.
    large = any(row["uploadMode"] == "lfs" for row in rows)
    warning = {"X-HF-Warning": f"Large files; {NO_XET.format(MOST_FILE >> 20)}"} if large else {}
    return JSONResponse({"files": rows}, headers=warning)


def _answers(target: Target, files: list[_Announced]) -> list[Row]:
    listing = target.repository.listing(target.repository.commit(target.ref))
    rows = []
    for each in files:
        mode = "regular" if each.size <= MOST_FILE else "lfs"
        row: Row = {"path": each.path, "uploadMode": mode, "shouldIgnore": False}
        if (file := listing.get(each.path)) is not None:
            by_git = target.repository.large.git_name(file.sha256) if file.by_pointer else file.oid
            row["oid"] = by_git if mode == "regular" else file.sha256
        rows.append(row)
    return rows


async def no_xet(request: Request) -> Response:
    """Clients that would go by Xet are told how not to.

    Raises:
        Problem: always.
    """
    raise Problem(501, "NotImplemented", NO_XET.format(MOST_FILE >> 20))


class _Card(msgspec.Struct, frozen=True):
    content: str
    repoType: str = "model"  # as it is sent


async def validate_yaml(request: Request) -> Response:
    """What is wrong with a card, before it is sent."""
    question = await json_of(request, _Card, MOST_QUESTION)
    errors = [{"message": why} for why in await run_in_threadpool(_wrong_with_card, question.content)]
    return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)


def _wrong_with_card(text: str) -> list[str]:
    """Why nobody could read what stands in YAML before a card."""
    text = text.replace("\r\n", "\n")
    head, end, _ = text.removeprefix("---\n").partition("\n---")
    if not text.startswith("---\n"):
        return []
    if not end:
        return ["the card begins with `---` and no second `---` ends its YAML"]
    if len(head.encode("utf-8", "replace")) > MAX_HEAD:
        return [f"the card's YAML has more than {MAX_HEAD:,} bytes"]
    try:
        value = compose(head, CARD, depth=8, nodes=10_000).value
    except (SouqError, ValueError) as error:
        return [str(error)]
    return [] if isinstance(value, dict) else ["the card's YAML is no table: `key: value`, line by line"]


# -- the commit --------------------------------------------------------------------------------------------------------


async def commit(request: Request) -> Response:
    """Change files, by one commit, or offer to."""
    target = await target_of(request)
    with beside(hub_of(request).incoming / "commit") as scratch:
        wanted = await _received(request, scratch)
        oid, number = await run_in_threadpool(_committed, target, wanted)
    where = address(request, kind_of(request), target.name)
    answer = {"success": True, "commitOid": oid, "commitUrl": f"{where}/commit/{oid}", "hookOutput": ""}
    if not number:
        return JSONResponse(answer)
    url = f"{where}/discussions/{number}"
    remark = f"Draft; nobody votes on it yet. Make it yours and a pull request: {COMMAND.format(url)}"
    warning = {"X-HF-Warning": remark.replace("…", "...")}
    return JSONResponse(answer | {"pullRequestUrl": url}, headers=warning if target.place.is_draft else {})


async def _received(request: Request, scratch: Path) -> Commit:
    """What a request asks to be changed, with its files on the disk."""
    if "content-encoding" in request.headers:
        raise Problem(415, "BadRequest", "a commit comes as it is, not compressed")
    try:
        with closing(Body(scratch)) as body:
            async for part in parts(request, MOST_BODY):
                await run_in_threadpool(body.feed, part)
            return await run_in_threadpool(body.end)
    except Hostile as error:
        raise Problem(400, "BadRequest", str(error)) from error


def _committed(target: Target, wanted: Commit) -> tuple[str, int]:
    """The commit that was made, and the number of its pull request, 0 where it is none."""
    place, author = target.place, target.caller.name
    try:
        refuse_large(place, author, wanted.changes)
        changes = [_whole(each, target) for each in wanted.changes]
        if not target.offers:
            oid = place.repository.commit_to(target.ref, changes, wanted.message, author, parent=wanted.parent)
            if target.number:
                came(place, target.number, author, wanted.summary, oid)
            return oid, target.number
        base = wanted.parent or place.repository.commit(target.ref)
        if wanted.parent and not place.repository.reaches(base):
            raise Stale("the commit that this is to stand on is not here")
        oid = place.repository.prepared(base, changes, wanted.message, author)
        return oid, offered(place, author, wanted.summary, wanted.description, oid)
    except Stale as error:
        raise Problem(412, "BadRequest", str(error)) from error
    except NotFound as error:
        raise Problem(404, "EntryNotFound", str(error)) from error
    except UsageError as error:
        raise Problem(400, "BadRequest", str(error)) from error


def _whole(change: Change, target: Target) -> Change:
    """A change, with the size of a file that came by LFS before; one that waited is kept from now on.

    Raises:
        Problem: it did not come.
    """
    if not isinstance(change, Added) or change.place is not None:
        return change
    sizes = target.sizes(change.sha256)
    if not sizes or change.size not in (-1, *sizes):
        raise Problem(400, "BadRequest", f"{change.path[:200]!r} did not come, or not whole: send its bytes first")
    target.arrivals.take(change.sha256, target.caller.name, target.repository.large)
    return Added(change.path, change.sha256, sizes[0])

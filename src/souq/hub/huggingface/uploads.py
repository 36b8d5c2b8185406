"""Uploads: what is to come, how it comes, and the commit that holds it, which is there whole or not at all."""

from __future__ import annotations

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
from souq.hub.huggingface.asked import hub_of, kind_of, source_of
from souq.hub.huggingface.bodies import json_of, parts
from souq.hub.huggingface.commit_body import MOST_BODY, MOST_FILE, Body, Commit
from souq.hub.huggingface.corpora import MAX_HEAD
from souq.hub.huggingface.plain import CARD, PlainSource
from souq.hub.huggingface.repositories import address
from souq.hub.huggingface.sources import Row
from souq.hub.plain.arrivals import Arrivals
from souq.hub.plain.repository import Added, Change, Plain, Stale
from souq.hub.problems import Problem
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


# -- where to ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Whose files are to be changed, and by whom."""

    caller: Caller
    name: str
    repository: Plain
    ref: str
    arrivals: Arrivals

    def sizes(self, sha256: str) -> list[int]:
        """The sizes of a large file, here or waiting for its commit: one, or none."""
        sizes = (self.repository.large.size(sha256), self.arrivals.size(sha256, self.caller.name))
        return [size for size in sizes if size is not None]


async def target_of(request: Request) -> Target:
    """What a request wants to change.

    Raises:
        Problem: it may not be changed, or not by them.
    """
    caller, source, name = await needs(request, "write"), await source_of(request), request.path_params["repo"]
    if not isinstance(source, PlainSource):
        raise Problem(403, "", GOVERNED.format(name))
    if not may_write(caller, name.partition("/")[0]):
        raise Problem(403, "", f"{name} is not {caller.name}'s: `create_pr=True` offers your change to its owner")
    ref = await run_in_threadpool(_ref, source, request.path_params.get("rev", "main"))
    return Target(caller, name, source.repository, ref, hub_of(request).arrivals)


def _ref(source: PlainSource, rev: str) -> str:
    ref = rev if rev.startswith("refs/") else f"refs/heads/{rev}"
    if not ref.startswith("refs/heads/") or source.repository.ref(ref) is None:
        raise Problem(404, "RevisionNotFound", f"no branch {rev[:80]!r} in {source.name}")
    return ref


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
    head = target.repository.ref(target.ref)
    listing = target.repository.listing(head) if head else {}
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
    """Change files, by one commit."""
    target = await target_of(request)
    with beside(hub_of(request).incoming / "commit") as scratch:
        wanted = await _received(request, scratch)
        oid = await run_in_threadpool(_committed, target, wanted)
    url = f"{address(request, kind_of(request), target.name)}/commit/{oid}"
    return JSONResponse({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


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


def _committed(target: Target, wanted: Commit) -> str:
    changes = [_whole(each, target) for each in wanted.changes]
    try:
        return target.repository.commit_to(
            target.ref, changes, wanted.message, target.caller.name, parent=wanted.parent
        )  # fmt: skip
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

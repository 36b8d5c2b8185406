"""Plain repositories made, renamed and removed, and their branches and tags."""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import UsageError
from souq.hub.accounts.callers import Caller, may_write, needs
from souq.hub.discussions.store import About
from souq.hub.huggingface.asked import hub_of, source_of
from souq.hub.huggingface.bodies import json_of
from souq.hub.huggingface.plain import PlainSource
from souq.hub.huggingface.revisions import COMMIT, Previews
from souq.hub.plain.shelf import Kind, Taken
from souq.hub.problems import Problem
from souq.repo.git import MAIN

BRANCH = re.compile(r"(?!.*(?:\.\.|\.lock\Z))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_])?")
GOVERNED = "{} is governed: nobody {} through this hub, as its people decide together: `souq pr create`"
_KINDS: dict[str, Kind] = {"model": "models", "dataset": "datasets"}


class _Named(msgspec.Struct, frozen=True):
    name: str
    organization: str | None = None
    type: Literal["model", "dataset", "space"] | None = None
    private: bool | None = None
    visibility: str | None = None


class _Moved(msgspec.Struct, frozen=True):
    fromRepo: str  # as it is sent
    toRepo: str
    type: Literal["model", "dataset", "space"] | None = None


def address(request: Request, kind: Kind, name: str) -> str:
    """Where a repository is, for people."""
    prefix = "datasets/" if kind == "datasets" else ""
    return f"{request.url.scheme}://{request.url.netloc}/{prefix}{name}"


async def create(request: Request) -> Response:
    """A plain repository of an account or an organisation."""
    caller, wanted = await needs(request, "write"), await json_of(request, _Named)
    kind, name = _kind(wanted.type), f"{wanted.organization or caller.name}/{wanted.name}"
    _refuse_private(private=wanted.private, visibility=wanted.visibility)
    _refuse_others(caller, name)
    known = {"url": address(request, kind, name), "name": name, "id": name}
    try:
        await run_in_threadpool(hub_of(request).shelf.create, kind, name, caller.name)
    except Taken as error:
        return JSONResponse(known | {"error": str(error)}, 409, {"X-Error-Message": str(error)})
    except UsageError as error:
        raise Problem(400, "BadRequest", str(error)) from error
    return JSONResponse(known)


async def delete(request: Request) -> Response:
    """Remove a plain repository."""
    caller, wanted = await needs(request, "write"), await json_of(request, _Named)
    kind, name = _kind(wanted.type), f"{wanted.organization or caller.name}/{wanted.name}"
    await _refuse_governed(request, kind, name, "deletes it")
    _refuse_others(caller, name)
    await run_in_threadpool(hub_of(request).shelf.delete, kind, name)
    for kept in (request.app.state.discussions, request.app.state.likes):
        await run_in_threadpool(kept.forget, About(kind, name))
    return JSONResponse({})


async def move(request: Request) -> Response:
    """Call a plain repository otherwise."""
    caller, wanted = await needs(request, "write"), await json_of(request, _Moved)
    kind = _kind(wanted.type)
    await _refuse_governed(request, kind, wanted.fromRepo, "renames it")
    for name in (wanted.fromRepo, wanted.toRepo):
        _refuse_others(caller, name)
    try:
        await run_in_threadpool(hub_of(request).shelf.move, kind, wanted.fromRepo, wanted.toRepo)
    except Taken as error:
        raise Problem(409, "BadRequest", str(error)) from error
    except UsageError as error:
        raise Problem(400, "BadRequest", str(error)) from error
    for kept in (request.app.state.discussions, request.app.state.likes):
        await run_in_threadpool(kept.move, About(kind, wanted.fromRepo), About(kind, wanted.toRepo))
    return JSONResponse({"url": address(request, kind, wanted.toRepo)})


class _Settings(msgspec.Struct, frozen=True):
    private: bool | None = None
    visibility: str | None = None
    gated: Literal["auto", "manual", False] | None = None


async def settings(request: Request) -> Response:
    """What a plain repository is to be: as open as everything here.

    Raises:
        Problem: it is to be hidden.
    """
    await _owned(request, "changes its settings")
    wanted = await json_of(request, _Settings)
    _refuse_private(private=wanted.private, visibility=wanted.visibility)
    if wanted.gated:
        raise Problem(403, "", "whoever reaches this hub may read: nothing on it is gated")
    return JSONResponse({"private": False, "gated": False})


class _Branch(msgspec.Struct, frozen=True):
    startingPoint: str | None = None  # as it is sent


async def create_branch(request: Request) -> Response:
    """A branch that begins somewhere.

    Raises:
        Problem: no name for one, or it is there.
    """
    source, _ = await _owned(request, "makes branches of it")
    name, wanted = _branch(request.path_params["name"]), await json_of(request, _Branch)

    def made() -> bool:
        start = source.find(wanted.startingPoint or "main", _previews(request)).id
        return source.named(name) is None and source.repository.move(f"refs/heads/{name}", start, None)

    if not await run_in_threadpool(made):
        raise Problem(409, "BadRequest", f"{name} is there already")
    return JSONResponse({})


async def delete_branch(request: Request) -> Response:
    """Remove a branch.

    Raises:
        Problem: it is main.
    """
    source, _ = await _owned(request, "deletes branches of it")
    ref = f"refs/heads/{_branch(request.path_params['name'])}"
    if ref == MAIN:
        raise Problem(403, "", "a repository has a main")
    await _remove(source, ref)
    return JSONResponse({})


class _Tag(msgspec.Struct, frozen=True):
    tag: str
    message: str | None = None


async def create_tag(request: Request) -> Response:
    """A name for a commit.

    Raises:
        Problem: no name for one, or it is there.
    """
    source, caller = await _owned(request, "tags it")
    wanted = await json_of(request, _Tag)
    name, message = _branch(wanted.tag), (wanted.message or "").strip()

    def made() -> bool:
        commit = source.find(request.path_params["rev"], _previews(request)).id
        return source.named(name) is None and source.repository.tag(name, commit, message, caller.name)

    if not await run_in_threadpool(made):
        raise Problem(409, "BadRequest", f"{name} is there already")
    return JSONResponse({})


async def delete_tag(request: Request) -> Response:
    """Remove a tag."""
    source, _ = await _owned(request, "deletes tags of it")
    await _remove(source, f"refs/tags/{_branch(request.path_params['rev'])}")
    return JSONResponse({})


async def may_write_to(request: Request) -> Response:
    """Whether they may write: an answer for those who do."""
    await _owned(request, "writes to it")
    return JSONResponse({})


async def _remove(source: PlainSource, ref: str) -> None:
    old = await run_in_threadpool(source.repository.ref, ref)
    if old is None or not await run_in_threadpool(source.repository.remove_ref, ref, old):
        raise Problem(404, "RevisionNotFound", f"no {ref[:120]} in {source.name}")


async def _owned(request: Request, what: str) -> tuple[PlainSource, Caller]:
    """A plain repository that is theirs who ask."""
    caller, source, name = await needs(request, "write"), await source_of(request), request.path_params["repo"]
    if not isinstance(source, PlainSource):
        raise Problem(403, "", GOVERNED.format(name, what))
    _refuse_others(caller, name)
    return source, caller


async def _refuse_governed(request: Request, kind: Kind, name: str, what: str) -> None:
    request.path_params.update(kind=kind, repo=name)
    if not isinstance(await source_of(request), PlainSource):
        raise Problem(403, "", GOVERNED.format(name[:200], what))


def _refuse_others(caller: Caller, name: str) -> None:
    if not may_write(caller, namespace := name.partition("/")[0]):
        raise Problem(403, "", f"{namespace[:100]} is neither {caller.name} nor an organisation of theirs")


def _refuse_private(*, private: bool | None, visibility: str | None) -> None:
    if private or visibility not in (None, "public"):
        raise Problem(403, "", "whoever reaches this hub may read: nothing on it is private")


def _kind(name: str | None) -> Kind:
    if (kind := _KINDS.get(name or "model")) is None:
        raise Problem(501, "NotImplemented", "this hub has models and data sets, and no spaces")
    return kind


def _branch(name: str) -> str:
    if not BRANCH.fullmatch(name) or COMMIT.fullmatch(name):
        allowed = "letters, digits, `-`, `_` and `.`, at most 100, and no slash"
        raise Problem(400, "BadRequest", f"{name[:80]!r} is no name of a branch or a tag here: {allowed}")
    return name


def _previews(request: Request) -> Previews:
    return hub_of(request).previews

"""Likes as Hugging Face's clients and pages ask for them: of a repository, and of an account.

POST, DELETE /api/models/amira/notes/like      GET /api/models/amira/notes/likers, /api/users/bruno/likes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.hub.accounts.callers import needs
from souq.hub.database import Away
from souq.hub.discussions.store import About
from souq.hub.huggingface.asked import kind_of, source_of
from souq.hub.huggingface.paging import next_page, number
from souq.hub.huggingface.sources import Row, utc
from souq.hub.likes import MOST, Likes

PAGE = 1_000


async def like(request: Request) -> Response:
    """Like a repository."""
    caller = await needs(request, "write")
    await source_of(request)
    await run_in_threadpool(_likes(request).add, _about(request), caller.name)
    return JSONResponse({})


async def unlike(request: Request) -> Response:
    """Take it back; of a repository that is gone, too."""
    caller = await needs(request, "write")
    await run_in_threadpool(_likes(request).drop, _about(request), caller.name)
    return JSONResponse({})


async def likers(request: Request) -> Response:
    """Who likes a repository, in pages."""
    await source_of(request)
    rows, more = await _page(request, lambda start, most: _likes(request).likers(_about(request), start, most))
    return JSONResponse([{"user": name, "fullname": name, "avatarUrl": ""} for name in rows], headers=more)


async def liked(request: Request) -> Response:
    """What an account likes, in pages; nothing, where there is no such account."""
    name = request.path_params["name"]
    rows, more = await _page(request, lambda start, most: _likes(request).liked(name, start, most))
    return JSONResponse([_row(about, at) for about, at in rows], headers=more)


def counted(request: Request, kind: str, name: str) -> Row:
    """How many like it, where the database can be asked: what is read needs none."""
    with suppress(Away):
        return {"likes": _likes(request).count(About(kind, name))}
    return {}


def _row(about: About, at: str) -> Row:
    return {"createdAt": utc(at), "repo": {"name": about.name, "type": about.kind.removesuffix("s")}}


async def _page(
    request: Request, ask: Callable[[int, int], Sequence[Any]]
) -> tuple[Sequence[Any], dict[str, str]]:  # fmt: skip
    start = number(request, "cursor", 0, MOST * 100)
    rows = await run_in_threadpool(ask, start, PAGE + 1)
    return rows[:PAGE], next_page(request, {"cursor": str(start + PAGE)}) if len(rows) > PAGE else {}


def _about(request: Request) -> About:
    return About(kind_of(request), request.path_params["repo"])


def _likes(request: Request) -> Likes:
    likes = request.app.state.likes
    assert isinstance(likes, Likes)
    return likes

"""Whether a hub can answer: for whoever watches it from outside, in a moment and in one word.

GET /health    200 {"ok": true, …}; 503 where the database or a folder is away
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from sqlalchemy import text
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from souq.errors import SouqError
from souq.hub.accounts.callers import accounts_of
from souq.hub.running.observed import metrics


def routes() -> list[BaseRoute]:
    """Where they are."""
    return [Route("/health", health), Route("/metrics", metrics)]


async def health(request: Request) -> Response:
    """What a hub cannot do without, each with whether it is there."""
    parts = await run_in_threadpool(_parts, request)
    ok = all(parts.values())
    return JSONResponse({"ok": ok, **parts}, 200 if ok else 503, {"Cache-Control": "no-store"})


def _parts(request: Request) -> dict[str, Any]:
    return {"database": _answers(request), "repositories": os.access(request.app.state.catalog.root, os.R_OK | os.X_OK)}


def _answers(request: Request) -> bool:
    with suppress(SouqError), accounts_of(request).database.reading() as connection:
        return bool(connection.execute(text("SELECT 1")).scalar() == 1)
    return False

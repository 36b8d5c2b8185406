"""What can be named of a model or a corpus, and how it came to be: refs, and commits."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.hub.huggingface.asked import hub_of, revision_of, source_of
from souq.hub.huggingface.paging import is_true, next_page, number
from souq.hub.huggingface.sources import Row

PAGE = 50


async def refs(request: Request) -> Response:
    """Main, the releases as tags, and on demand the pull requests that are open."""
    source, previews = await source_of(request), hub_of(request).previews

    def known() -> Row:
        return source.refs(previews, with_pulls=is_true(request, "include_prs"))

    return JSONResponse(await run_in_threadpool(known))


async def commits(request: Request) -> Response:
    """What led to a revision, the newest first, in pages."""
    source, revision = await revision_of(request)
    start, limit = number(request, "p", 0, 10**6), max(number(request, "limit", PAGE, PAGE), 1)
    rows = await run_in_threadpool(source.commits, revision, (start + 1) * limit + 1)
    page = rows[start * limit :][:limit]
    more = next_page(request, {"p": str(start + 1)}) if len(rows) > (start + 1) * limit else {}
    return JSONResponse(page, headers=more)

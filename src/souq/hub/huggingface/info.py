"""What is known of a model or a corpus in one answer, and the lists of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import SouqError
from souq.hub.huggingface.asked import Asked, Hub, asked, hub_of, kind_of
from souq.hub.huggingface.corpora import corpora
from souq.hub.huggingface.exports import Exports
from souq.hub.huggingface.files import lfs
from souq.hub.huggingface.likes import counted
from souq.hub.huggingface.models import listed
from souq.hub.huggingface.paging import is_true, next_page, number
from souq.hub.huggingface.plain import PlainSource
from souq.hub.huggingface.sources import Row
from souq.hub.plain.shelf import Kind
from souq.hub.problems import Problem

PAGE = 1_000
# By what lists are sorted: by these dates, and by names where nothing is counted.
DATES = {"createdAt": "createdAt", "created_at": "createdAt", "lastModified": "lastModified"}
DATES |= {"last_modified": "lastModified"}
UNCOUNTED = ("downloads", "likes", "likes30d", "trendingScore", "trending_score")
ALWAYS = {"_id", "id", "modelId", "sha"}  # whatever else was asked for
Named = Callable[[Hub], Iterator[tuple[str, Callable[[], Row]]]]


async def facts(request: Request) -> Response:
    """One model or corpus at a revision: its digits, its files, and what is known of it."""
    of = await asked(request)
    known = await run_in_threadpool(_facts, of, hub_of(request).exports, blobs=is_true(request, "blobs"))
    known |= await run_in_threadpool(counted, request, kind_of(request), of.name)
    query = request.query_params
    if wanted := {*query.getlist("expand"), *query.getlist("expand[]")}:
        known = {name: value for name, value in known.items() if name in wanted | ALWAYS}
    return JSONResponse(known)


def _facts(of: Asked, exports: Exports, *, blobs: bool) -> Row:
    def read(path: str) -> bytes:
        return of.place(of.file(path), exports).read_bytes()

    siblings: list[Row] = [{"rfilename": path} for path in of.listing]
    if blobs:
        for sibling, (path, file) in zip(siblings, of.listing.items(), strict=True):
            sibling |= {"size": file.size, "blobId": file.oid}
            sibling |= {"lfs": lfs(file, "sha256")} if file.is_large(path) else {}
    used = sum({file.oid: file.size for file in of.listing.values()}.values())
    known = of.source.facts(of.name, of.revision, of.listing, read)
    return known | {"sha": of.revision.id, "siblings": siblings, "usedStorage": used}


async def models(request: Request) -> Response:
    """The models of this hub that can be read, in pages."""
    return await _list(request, _models)


async def datasets(request: Request) -> Response:
    """The corpora of this hub that can be read, in pages."""
    return await _list(request, _datasets)


def _models(hub: Hub) -> Iterator[tuple[str, Callable[[], Row]]]:
    for entry in hub.catalog.entries():
        if not entry.problem:
            yield entry.name, partial(_model, hub, entry.name)
    yield from _plain(hub, "models")


def _model(hub: Hub, name: str) -> Row:
    return listed(hub.catalog.open(name), name)


def _datasets(hub: Hub) -> Iterator[tuple[str, Callable[[], Row]]]:
    for corpus in corpora(hub.catalog, hub.exports.contents):
        yield corpus.name, corpus.described
    yield from _plain(hub, "datasets")


def _plain(hub: Hub, kind: Kind) -> Iterator[tuple[str, Callable[[], Row]]]:
    for name in hub.shelf.names(kind):
        yield name, PlainSource(name, hub.shelf.open(kind, name)).described


async def _list(request: Request, named: Named) -> Response:
    query = request.query_params
    if (sort := query.get("sort", "")) and sort not in (*DATES, *UNCOUNTED):
        known = ", ".join((*DATES, *UNCOUNTED))
        raise Problem(400, "BadRequest", f"lists are not sorted by {sort[:40]!r}: one of {known}")
    limit, start = max(number(request, "limit", PAGE, PAGE), 1), number(request, "cursor", 0, 10**6)
    rows = await run_in_threadpool(_rows, named(hub_of(request)), query.get("search", ""), query.get("author", ""))
    wanted = [word for words in query.getlist("filter") for word in words.split(",")]
    rows = [row for row in rows if all(word in row["tags"] for word in wanted)]
    if sort in DATES:
        rows.sort(key=lambda row: str(row[DATES[sort]]), reverse=query.get("direction", "-1") == "-1")
    more = next_page(request, {"cursor": str(start + limit)}) if len(rows) > start + limit else {}
    return JSONResponse(rows[start : start + limit], headers=more)


def _rows(named: Iterator[tuple[str, Callable[[], Row]]], search: str, author: str) -> list[Row]:
    rows = []
    for name, row in named:
        if search.lower() in name.lower() and author in ("", name.rpartition("/")[0]):
            with suppress(SouqError, OSError, msgspec.MsgspecError):  # a broken one never breaks the list
                rows.append(row())
    return rows

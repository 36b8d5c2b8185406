"""Large files by the protocol of git-lfs, which Hugging Face's clients speak too: in one piece, or in parts.

Whoever may write announces a file and is given an address that takes it once; bytes are hashed as they come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from souq.errors import Hostile, NotFound, Refused
from souq.hub.huggingface.asked import hub_of, kind_of, source_of
from souq.hub.huggingface.bodies import json_of, parts
from souq.hub.huggingface.files import Sent
from souq.hub.huggingface.plain import PlainSource
from souq.hub.huggingface.repositories import address
from souq.hub.huggingface.sources import Row
from souq.hub.huggingface.uploads import Target, target_of
from souq.hub.plain.arrivals import Announced
from souq.hub.plain.large import SHA256
from souq.hub.problems import Problem

MOST_OBJECTS = 1_000
MOST_SIZE = 64 << 30  # bytes of one file
IN_PARTS, PART = 1 << 30, 256 << 20  # bytes from which on it comes in parts, and of a part
MEDIA = "application/vnd.git-lfs+json"
T = TypeVar("T")


class _Object(msgspec.Struct, frozen=True):
    oid: str
    size: int


class _Batch(msgspec.Struct, frozen=True):
    operation: str
    objects: list[_Object]
    transfers: list[str] = []
    hash_algo: str = "sha256"


async def batch(request: Request) -> Response:
    """Where files are to be sent, or are."""
    wanted = await json_of(request, _Batch, 1 << 20)
    if len(wanted.objects) > MOST_OBJECTS or wanted.hash_algo != "sha256":
        raise Problem(413, "BadRequest", f"at most {MOST_OBJECTS:,} files at once, each by its sha256")
    if wanted.operation == "download":
        return await _downloads(request, wanted)
    if wanted.operation != "upload":
        raise Problem(400, "BadRequest", f"not done here: {wanted.operation[:40]!r}")
    target, in_parts = await target_of(request, announces=True), "multipart" in wanted.transfers
    make = _Uploads(request, target, in_parts=in_parts)
    rows = [await run_in_threadpool(make.row, each) for each in wanted.objects]
    transfer = "multipart" if any("chunk_size" in str(row) for row in rows) else "basic"
    return JSONResponse({"transfer": transfer, "objects": rows, "hash_algo": "sha256"}, media_type=MEDIA)


class _Uploads:
    """Answers to who wants to send."""

    def __init__(self, request: Request, target: Target, *, in_parts: bool) -> None:
        self._hub, self._target, self._in_parts = hub_of(request), target, in_parts
        self._root = f"{request.url.scheme}://{request.url.netloc}/lfs"

    def row(self, wanted: _Object) -> Row:
        """Where a file is to be sent; nowhere where it is here."""
        row: Row = {"oid": wanted.oid, "size": wanted.size}
        if not SHA256.fullmatch(wanted.oid) or not 0 <= wanted.size <= MOST_SIZE:
            return row | {"error": {"code": 422, "message": f"a file has a sha256, and at most {MOST_SIZE >> 30} GiB"}}
        if wanted.size in self._target.sizes(wanted.oid):
            return row
        part = PART if self._in_parts and wanted.size > IN_PARTS else 0
        what = Announced(self._target.caller.name, wanted.oid, wanted.size, part)
        try:
            word = self._hub.arrivals.announce(what)
        except Refused as error:
            return row | {"error": {"code": 413, "message": str(error)}}
        header = {"chunk_size": str(part)} if part else {}
        header |= {str(n): f"{self._root}/{word}/{n}" for n in range(1, what.parts + 1)} if part else {}
        upload = {"href": f"{self._root}/{word}", "header": header}
        return row | {"authenticated": True, "actions": {"upload": upload}}  # what came is hashed: nothing to verify


async def _downloads(request: Request, wanted: _Batch) -> Response:
    source = await source_of(request)
    if not isinstance(source, PlainSource):
        raise Problem(404, "EntryNotFound", "no large files are here: what is in this repository's git is text")
    large, root = source.repository.large, f"{address(request, kind_of(request), source.name)}.git/info/lfs/objects"

    def row(each: _Object) -> Row:
        known: Row = {"oid": each.oid, "size": each.size}
        if not SHA256.fullmatch(each.oid) or large.size(each.oid) is None:
            return known | {"error": {"code": 404, "message": "nobody has brought this file"}}
        return known | {"authenticated": True, "actions": {"download": {"href": f"{root}/{each.oid}"}}}

    rows = await run_in_threadpool(lambda: [row(each) for each in wanted.objects])
    return JSONResponse({"transfer": "basic", "objects": rows, "hash_algo": "sha256"}, media_type=MEDIA)


async def download(request: Request) -> Response:
    """A large file by its sha256."""
    source, oid = await source_of(request), request.path_params["oid"]
    if not isinstance(source, PlainSource) or not SHA256.fullmatch(oid):
        raise Problem(404, "EntryNotFound", "no such file")
    if (size := await run_in_threadpool(source.repository.large.size, oid)) is None:
        raise Problem(404, "EntryNotFound", "no such file")
    headers = {"ETag": f'"{oid}"', "X-Linked-Size": str(size)}
    return Sent(source.repository.large.path(oid), headers=headers, media_type="application/octet-stream")


async def upload(request: Request) -> Response:
    """Take a file, or a part of one; whoever knows the address may send it, once."""
    arrivals, words = hub_of(request).arrivals, request.path_params
    word, part = words["word"], words.get("part", 0)
    what = await run_in_threadpool(_known, lambda: arrivals.of(word))
    try:
        with arrivals.receiving(word, part) as receiver:
            async for piece in parts(request, what.size):
                await run_in_threadpool(receiver.feed, piece)
    except NotFound as error:
        raise Problem(404, "EntryNotFound", str(error)) from error
    except Hostile as error:
        raise Problem(422, "BadRequest", str(error)) from error
    return Response(headers={"ETag": f'"{receiver.sha256}"'})


class _Part(msgspec.Struct, frozen=True):
    partNumber: int  # as it is sent
    etag: str


class _Parts(msgspec.Struct, frozen=True):
    oid: str
    parts: list[_Part]


async def complete(request: Request) -> Response:
    """Make a file of the parts that came."""
    arrivals, word = hub_of(request).arrivals, request.path_params["word"]
    wanted = await json_of(request, _Parts, 1 << 20)
    tags = [each.etag.strip('"') for each in sorted(wanted.parts, key=lambda part: part.partNumber)]
    await run_in_threadpool(_known, lambda: arrivals.join(word, tags))
    return JSONResponse({"oid": wanted.oid}, media_type=MEDIA)


async def no_locks(request: Request) -> Response:
    """Nobody locks files here.

    Raises:
        Problem: always.
    """
    raise Problem(404, "", "this hub has no locks on files")


def _known(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except NotFound as error:
        raise Problem(404, "EntryNotFound", str(error)) from error
    except Hostile as error:
        raise Problem(422, "BadRequest", str(error)) from error

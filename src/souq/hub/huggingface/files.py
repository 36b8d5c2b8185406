"""The files of a revision: listed, described and sent.

A path is looked up among the names of the revision's files and never on a disk, so none leads anywhere else.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from souq.hub.huggingface.asked import Asked, asked, hub_of
from souq.hub.huggingface.exports import FOR_FILES
from souq.hub.huggingface.paging import is_true, next_page, number
from souq.hub.huggingface.sources import Row
from souq.hub.listing import File, Listing
from souq.hub.problems import Problem

PAGE, PAGE_EXPANDED = 1_000, 50
MAX_FORM = 1 << 20  # bytes
MAX_PATHS = 5_000
_TEXT = (".md", ".txt", ".toml", ".lock", ".jinja", ".py", ".yaml", ".yml", "LICENSE", "NOTICE", ".html", ".svg")
_POINTER = len("version https://git-lfs.github.com/spec/v1\noid sha256:\nsize \n") + 64

# -- listed ------------------------------------------------------------------------------------------------------------


async def tree(request: Request) -> Response:
    """The files and folders in a folder of a revision, in pages."""
    of = await asked(request)
    expanded = is_true(request, "expand")
    limit = number(request, "limit", default := PAGE_EXPANDED if expanded else PAGE, default)
    folder = request.path_params.get("path", "").strip("/")
    rows = _listed(of.listing, folder, recursive=is_true(request, "recursive"))
    if folder and not rows:
        message = f"no folder {folder[:200]!r} in this revision"
        raise Problem(404, "EntryNotFound", message, commit=of.revision.id)
    after = request.query_params.get("cursor", "")
    rows = [row for row in rows if row["path"] > after]
    page = rows[: max(limit, 1)]
    more = next_page(request, {"cursor": page[-1]["path"]}) if len(rows) > len(page) else {}
    if expanded:
        await run_in_threadpool(_expand, of, page)
    return JSONResponse(page, headers=more)


async def paths_info(request: Request) -> Response:
    """What is known of some paths, files or folders; those that are not there are left out."""
    of = await asked(request)
    try:
        form = parse_qs((await _body(request)).decode("utf-8", "replace"), max_num_fields=MAX_PATHS)
    except ValueError as error:
        raise Problem(413, "BadRequest", f"more than {MAX_PATHS:,} paths: ask in parts") from error
    paths = [path.strip("/") for path in form.get("paths", [])]
    every = {row["path"]: row for row in _listed(of.listing, "", recursive=True)}
    rows = [every[path] for path in dict.fromkeys(paths) if path in every]
    if form.get("expand", [""])[-1].lower() in ("true", "1"):
        await run_in_threadpool(_expand, of, rows)
    return JSONResponse(rows)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM:
            raise Problem(413, "BadRequest", f"more than {MAX_FORM:,} bytes of paths: ask in parts")
    return body


def _listed(listing: Listing, folder: str, *, recursive: bool) -> list[Row]:
    """Rows of the files and folders below a folder, by path."""
    below = f"{folder}/" if folder else ""
    rows, inside = dict[str, Row](), dict[str, Any]()
    for path, file in listing.items():
        if not path.startswith(below):
            continue
        *above, _ = path.removeprefix(below).split("/")
        for depth in range(1, len(above) + 1):
            name = below + "/".join(above[:depth])
            inside.setdefault(name, hashlib.sha1(usedforsecurity=False)).update(f"{path} {file.oid}\n".encode())
        if recursive or not above:
            rows[path] = file_row(path, file)
    for name, hasher in inside.items():
        if recursive or "/" not in name.removeprefix(below):
            rows[name] = {"type": "directory", "oid": hasher.hexdigest(), "size": 0, "path": name}
    return [rows[path] for path in sorted(rows)]


def file_row(path: str, file: File) -> Row:
    """A file as a tree lists it."""
    row: Row = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    return row | {"lfs": lfs(file, "oid")} if file.is_large(path) else row


def lfs(file: File, digest: str) -> Row:
    """What clients are told of a large file, its sha256 under the name that they look for."""
    return {digest: file.sha256, "size": file.size, "pointerSize": _POINTER + len(str(file.size))}


def _expand(of: Asked, rows: list[Row]) -> None:
    """A revision is made as a whole, so its files were all last changed by its commit."""
    last = of.source.commits(of.revision, 1)[0]
    for row in rows:
        row["lastCommit"] = {key: last[key] for key in ("id", "title", "date")}


# -- sent --------------------------------------------------------------------------------------------------------------


async def resolve(request: Request) -> Response:
    """A file, or the part of it that was asked for."""
    of = await asked(request, FOR_FILES)
    file = of.file(path := request.path_params["path"])

    def look() -> tuple[Path, os.stat_result, dict[str, str]]:
        place = of.place(file, hub_of(request).exports)
        return place, place.stat(), _headers(of, path, file)

    place, facts, headers = await run_in_threadpool(look)
    if headers["ETag"] in _tags(request):
        return Response(status_code=304, headers=headers)
    name = path.rpartition("/")[2]
    return Sent(place, headers=headers, media_type=_type(path), filename=name, stat_result=facts)


def _headers(of: Asked, path: str, file: File) -> dict[str, str]:
    headers = {"X-Repo-Commit": of.revision.id, "ETag": f'"{file.etag(path)}"', "Cache-Control": "no-cache"}
    # What strangers wrote is no page of this hub, whatever it looks like.
    headers["Content-Security-Policy"] = "default-src 'none'; sandbox; frame-ancestors 'none'"
    if file.is_large(path):
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
    warning = of.source.warning(of.revision)
    return headers | ({"X-HF-Warning": warning} if warning else {})


def _tags(request: Request) -> set[str]:
    """The states of a file that a client has."""
    return {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}


def _type(path: str) -> str:
    """What a file is sent as: nothing that a browser would run."""
    if path.endswith(".json"):
        return "application/json"
    return "text/plain" if path.endswith(_TEXT) else "application/octet-stream"


class Sent(FileResponse):
    """A file, or a part of it."""

    chunk_size = 1 << 20  # a thread is asked for each

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a range of more digits than any file has bytes is no range."""
        if len(dict(scope["headers"]).get(b"range", b"")) > 1_000:
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        await super().__call__(scope, receive, send)

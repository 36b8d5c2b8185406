"""A repository's objects by digest: GET and HEAD in ranges for everybody, PUT in parts for who may push there.

curl http://hub/atlas/smol/souq/store/objects/ab/cdef…
curl -T object -H "Authorization: Bearer TOKEN" http://hub/atlas/smol/souq/store/objects/ab/cdef…

A PUT may say by Content-Range which part it brings; `bytes */TOTAL` asks how much is here, which Upload-Offset says.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from souq.errors import Corrupt, Hostile, NotFound, Refused
from souq.hub.accounts.callers import needs
from souq.hub.huggingface.asked import hub_of
from souq.hub.huggingface.bodies import parts
from souq.hub.huggingface.files import Sent
from souq.hub.problems import Problem
from souq.hub.routing import route
from souq.hub.tensors.waiting import Busy, Part, Pointed, Uploads, Waiting
from souq.records import Digest, is_digest
from souq.repo.remote import Repo
from souq.weights.bucket import MAX_OBJECT
from souq.weights.hub import FORM, OFFSET, PLACE

FOR_EVER = "public, max-age=31536000, immutable"
_RANGE = re.compile(r"bytes (?:(\d{1,15})-(\d{1,15})|\*)/(\d{1,15})", re.ASCII)


def routes() -> list[BaseRoute]:
    """Where a store is asked for, and its objects."""
    at = f"/{{repo:repo}}/{PLACE}"
    return [
        route(at, about),
        route(f"{at}/objects/{{ab}}/{{rest}}", bring),
        route(f"{at}/objects/{{ab}}/{{rest}}", take, "PUT"),
    ]


async def about(request: Request) -> Response:
    """That there is a store."""
    await run_in_threadpool(_repo, request)
    return JSONResponse({"store": FORM}, headers={"Cache-Control": "no-cache"})


async def bring(request: Request) -> Response:
    """An object, or a part of it."""
    name = _name(request)
    repo = await run_in_threadpool(_repo, request)
    path = repo.store.path(name)
    if not await run_in_threadpool(path.is_file):
        raise Problem(404, "EntryNotFound", f"no object {name} here")
    facts = await run_in_threadpool(path.stat)
    # The same tensor may lie here otherwise another day, and parts of both make none.
    headers = {"ETag": f'"{name}-{facts.st_size}"', "Cache-Control": FOR_EVER}
    headers["Content-Security-Policy"] = "default-src 'none'; sandbox; frame-ancestors 'none'"
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    media = "application/octet-stream"
    return Sent(path, headers=headers, media_type=media, filename=name[3:], stat_result=facts)


@dataclass(frozen=True)
class Sending:
    """Which part of an object a request brings: from where, to where, of how many bytes."""

    start: int
    stop: int
    total: int
    asks: bool = False  # how much is here, and brings nothing

    @classmethod
    def of(cls, request: Request) -> Sending:
        """What a request says of it.

        Raises:
            Problem: nothing that can be.
        """
        span, length = request.headers.get("content-range"), request.headers.get("content-length", "")
        if span is None and re.fullmatch(r"\d{1,15}", length, re.ASCII):
            return cls(0, int(length), int(length)).refused_odd()
        match = _RANGE.fullmatch(span or "")
        if match is None:
            raise Problem(400, "BadRequest", "say with Content-Length or Content-Range how large it is")
        total = int(match[3])
        if match[1] is None:
            return cls(0, 0, total, asks=True).refused_odd()
        return cls(int(match[1]), int(match[2]) + 1, total).refused_odd()

    def refused_odd(self) -> Sending:
        """Itself, where it can be.

        Raises:
            Problem: it cannot.
        """
        if not 0 < self.total <= MAX_OBJECT:
            raise Problem(413, "BadRequest", f"an object has at most {MAX_OBJECT:,} bytes, and some")
        if not self.asks and not 0 <= self.start < self.stop <= self.total:
            raise Problem(416, "BadRequest", "this range is none of an object of that size")
        return self


async def take(request: Request) -> Response:
    """Receive an object, or a part of one."""
    caller, name, sending = await needs(request, "write"), _name(request), Sending.of(request)
    repo, uploads = await run_in_threadpool(_repo, request), _uploads(request)
    waiting = uploads.waiting(caller.name, _called(request), repo)
    if await run_in_threadpool(waiting.freshen, name):
        await run_in_threadpool(uploads.forget_parts, waiting, name)
        await _read_past(request, sending)
        await run_in_threadpool(_handed_over, request, repo, waiting, name)
        return Response(status_code=200)
    try:
        with closing(await run_in_threadpool(uploads.begin, caller.name, waiting, name, sending.total)) as part:
            return await _received(request, repo, waiting, name, sending, part)
    except Busy as error:
        raise Problem(503, "", str(error), headers={"Retry-After": "2"}) from error
    except Refused as error:
        raise Problem(413, "BadRequest", str(error)) from error


async def _received(
    request: Request, repo: Repo, waiting: Waiting, name: Digest, sending: Sending, part: Part
) -> Response:  # fmt: skip
    if not sending.asks and part.size != sending.start:
        await _read_past(request, sending)
        if part.size < sending.total:  # else it came whole before, to a hub that was killed then
            raise Problem(409, "", "it goes on elsewhere", headers={OFFSET: str(part.size)})
    else:
        async for data in parts(request, sending.stop - sending.start):
            await run_in_threadpool(part.write, data)
    if part.size < sending.total:
        return Response(status_code=202, headers={OFFSET: str(part.size)})
    try:
        await run_in_threadpool(_uploads(request).finish, waiting, name, part)
    except (Corrupt, Hostile, NotFound) as error:
        raise Problem(422, "BadRequest", str(error)) from error
    await run_in_threadpool(_handed_over, request, repo, waiting, name)
    return Response(status_code=201)


async def _read_past(request: Request, sending: Sending) -> None:
    """A sender who is not listened to would not hear the answer."""
    async for _ in parts(request, sending.stop - sending.start):
        pass


def _handed_over(request: Request, repo: Repo, waiting: Waiting, name: Digest) -> None:
    """What a ref points at already waits for nobody."""
    pointed = request.app.state.pointed
    assert isinstance(pointed, Pointed)
    if name not in repo.store and pointed(repo, name):
        waiting.hand_over([name])


def _name(request: Request) -> Digest:
    first, rest = request.path_params["ab"], request.path_params["rest"]
    if len(first) != 2 or not is_digest(name := f"b3:{first}{rest}"):
        raise Problem(404, "EntryNotFound", "an object lies at two digits of its digest and the other sixty-two")
    return name


def _called(request: Request) -> str:
    return str(request.path_params["repo"]).removesuffix(".git")


def _repo(request: Request) -> Repo:
    """The souq repository that is asked for; plain ones have no store.

    Raises:
        Problem: there is none.
    """
    try:
        return hub_of(request).catalog.open(_called(request))
    except NotFound as error:
        raise Problem(404, "RepoNotFound", str(error)) from error


def _uploads(request: Request) -> Uploads:
    uploads = request.app.state.uploads
    assert isinstance(uploads, Uploads)
    return uploads

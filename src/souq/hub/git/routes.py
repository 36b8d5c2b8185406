"""git's own protocol over HTTP, by git's own programs: what they may read or move is judged before they start.

git clone http://hub/atlas/smol
git push http://amira:TOKEN@hub/amira/notes main
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Message, Send

from souq.errors import Hostile, NotFound, Refused
from souq.files import beside, replacing
from souq.hub.accounts.callers import Caller, may_write, needs
from souq.hub.discussions.store import About
from souq.hub.git.receive import QUESTION, Question
from souq.hub.git.refs import Command, commands, refuse_governed, refuse_plain
from souq.hub.huggingface.asked import hub_of, kind_of
from souq.hub.huggingface.bodies import parts
from souq.hub.plain.shelf import Kind
from souq.hub.problems import Problem
from souq.hub.routing import route
from souq.repo.git import NOBODY

MOST_SENT, MOST_ASKED = 1 << 30, 32 << 20  # bytes of a push, and of a question
MOST_AT_ONCE = 16  # of a process
PATIENCE, LONGEST = 120.0, 3_600.0  # seconds until git says the next word, and in all
DEAF = 60.0  # seconds in which somebody takes nothing of what is sent
SERVICES = ("git-upload-pack", "git-receive-pack")
_CHUNK = 1 << 16
# The repository's own settings start nothing and widen nothing; whose folder it is, the operator knows.
_SET = """
safe.directory=* core.alternateRefsCommand=true core.fsmonitor=false protocol.allow=never gc.auto=0 receive.autogc=false
transfer.fsckObjects=true receive.denyDeletes=false receive.maxInputSize=1g uploadpack.allowTipSHA1InWant=true
uploadpack.allowFilter=true core.fsync=committed
"""
_SHOWN = ("refs", "!HEAD", "!refs/heads/main", "!refs/souq")
PYTHON = "SOUQ_PYTHON"
_SLOTS = asyncio.Semaphore(MOST_AT_ONCE)


def routes() -> list[BaseRoute]:
    """Where git asks, of models and of data sets."""
    return [*_of("/datasets/{repo:repo}", "datasets"), *_of("/{repo:repo}", "models")]


def _of(at: str, kind: Kind) -> list[BaseRoute]:
    return [
        route(f"{at}/info/refs", advertise, kind=kind),
        route(f"{at}/git-upload-pack", fetch, "POST", kind=kind),
        route(f"{at}/git-receive-pack", push, "POST", kind=kind),
    ]


@dataclass(frozen=True)
class Opened:
    """A repository as git's programs are given it."""

    name: str
    place: Path
    governed: bool


async def advertise(request: Request) -> Response:
    """What a repository has, for who is about to fetch or to push."""
    service = request.query_params.get("service", "")
    if service not in SERVICES:
        raise Problem(403, "", "git asks here, by its smart protocol")
    if service == SERVICES[1]:
        await needs(request, "write")
    opened, version = await _opened(request), _version(request)
    hooks = await run_in_threadpool(_hooks, hub_of(request).incoming)
    process = await _started(opened, service, version, "--http-backend-info-refs", hooks=hooks)
    with ExitStack() as stack:
        stack.callback(_stop, process)
        assert process.stdout is not None
        refs = await asyncio.wait_for(process.stdout.read(), PATIENCE)
        if await asyncio.wait_for(process.wait(), PATIENCE):
            raise Problem(503, "", "this repository cannot be read now", headers={"Retry-After": "5"})
    line = f"# service={service}\n"
    head = b"" if version == "version=2" else f"{len(line) + 4:04x}{line}0000".encode()
    return Response(head + refs, media_type=f"application/x-{service}-advertisement", headers=_FRESH)


async def fetch(request: Request) -> Response:
    """What somebody lacks."""
    return await _answered(request, await _opened(request), SERVICES[0], MOST_ASKED, None)


async def push(request: Request) -> Response:
    """What somebody sends."""
    caller = await needs(request, "write")
    return await _answered(request, await _opened(request), SERVICES[1], MOST_SENT, caller)


_FRESH = {"Cache-Control": "no-cache"}


async def _answered(request: Request, opened: Opened, service: str, most: int, caller: Caller | None) -> Response:
    if _SLOTS.locked():
        raise Problem(503, "", "others fetch and push now: ask again in a moment", headers={"Retry-After": "3"})
    stack = ExitStack()
    try:
        scratch, asked = stack.enter_context(beside(hub_of(request).incoming / "git")), list[Command]()
        await _spool(request, scratch / "body", most)
        if caller is not None:
            asked = await run_in_threadpool(_refuse, request, opened, caller, scratch / "body")
        stdin = stack.enter_context((scratch / "body").open("rb")).fileno()
        hooks, env = await run_in_threadpool(_hooks, hub_of(request).incoming), _question(request, opened, caller)
        process = await _started(opened, service, _version(request), hooks=hooks, stdin=stdin, env=env)
    except BaseException:
        stack.close()
        raise
    stack.callback(_stop, process)
    sent = _sent(process, stack, lambda: _remember(request, opened, caller, asked))
    return _Heard(sent, media_type=f"application/x-{service}-result", headers=_FRESH)


class _Heard(StreamingResponse):
    """An answer to somebody who reads it: who stops is hung up on, and others have their turn."""

    async def stream_response(self, send: Send) -> None:
        """Send it, as long as it is taken."""

        async def heard(message: Message) -> None:
            async with asyncio.timeout(DEAF):
                await send(message)

        with suppress(TimeoutError):
            await super().stream_response(heard)
        if aclose := getattr(self.body_iterator, "aclose", None):
            await aclose()


async def _sent(
    process: asyncio.subprocess.Process, stack: ExitStack, done: Callable[[], None]
) -> AsyncIterator[bytes]:  # fmt: skip
    """What git says, as it says it; it ends with whoever listens."""
    assert process.stdout is not None
    with stack:
        async with _SLOTS, asyncio.timeout(LONGEST):
            while data := await asyncio.wait_for(process.stdout.read(_CHUNK), PATIENCE):
                yield data
            await process.wait()
        await run_in_threadpool(done)


def _remember(request: Request, opened: Opened, caller: Caller | None, asked: list[Command]) -> None:
    """Whose a pull request's head is that came: theirs to move."""
    about, discussions = About("models", opened.name), request.app.state.discussions
    heads = [each for each in asked if opened.governed and each.ref.endswith("/head")]
    repo = hub_of(request).catalog.open(opened.name) if heads else None
    for each in heads:
        known = [line for line in discussions.sayings(about, each.number) if line.type == "pushed"]
        if caller is not None and repo is not None and repo.ref(each.ref) == each.new and not known:
            discussions.note(about, each.number, "pushed", caller.name, {})


async def _spool(request: Request, place: Path, most: int) -> None:
    """The body onto the disk, unpacked where it was packed."""
    packed = request.headers.get("content-encoding", "identity").lower()
    if packed not in ("gzip", "x-gzip", "identity"):
        raise Problem(415, "BadRequest", "git sends as it is, or by gzip")
    unpack, size = zlib.decompressobj(31) if packed != "identity" else None, 0
    with place.open("wb") as file:
        async for part in parts(request, most):
            rest = part
            while rest:
                try:
                    data = unpack.decompress(rest, 1 << 20) if unpack else rest
                except zlib.error as error:
                    raise Problem(400, "BadRequest", f"this is no gzip: {error}") from error
                rest = unpack.unconsumed_tail if unpack else b""
                size += len(data)
                if size > most:
                    raise Problem(413, "BadRequest", f"more than {most:,} bytes at once")
                await run_in_threadpool(file.write, data)


def _refuse(request: Request, opened: Opened, caller: Caller, body: Path) -> list[Command]:
    """What a push asks for, where all of it is theirs to move.

    Raises:
        Problem: one is not.
    """
    try:
        with body.open("rb") as file:
            asked = commands(file)
        if not opened.governed:
            if not may_write(caller, opened.name.partition("/")[0]):
                raise Refused(f"{opened.name} is not {caller.name}'s")
            refuse_plain(asked)
            return asked
        about, discussions = About("models", opened.name), request.app.state.discussions

        def is_theirs(each: Command) -> bool:
            """Who pushed the head of a pull request first may move it; what others sign about it is new each time."""
            if not each.ref.endswith(("/head", "/signoff")) or may_write(caller, opened.name.partition("/")[0]):
                return True
            pushed = [line.author for line in discussions.sayings(about, each.number) if line.type == "pushed"]
            return pushed[:1] in ([], [caller.name]) if each.old == "0" * 40 else pushed[:1] == [caller.name]

        refuse_governed(asked, is_theirs)
        return asked
    except Refused as error:
        raise Problem(403, "", str(error)) from error
    except Hostile as error:
        raise Problem(400, "BadRequest", str(error)) from error


async def _opened(request: Request) -> Opened:
    """The repository that a request names.

    Raises:
        Problem: there is none.
    """
    name, hub, kind = request.path_params["repo"].removesuffix(".git"), hub_of(request), kind_of(request)

    def look() -> Opened:
        with suppress(NotFound):
            return Opened(name, hub.shelf.open(kind, name).git_dir, False)
        if kind == "datasets":
            raise NotFound(f"no data set {name[:200]!r}")
        return Opened(name, hub.catalog.open(name).git_dir, True)

    try:
        return await run_in_threadpool(look)
    except NotFound as error:
        raise Problem(404, "RepoNotFound", str(error)) from error


def _version(request: Request) -> str:
    """The protocol that somebody speaks; nothing else of theirs reaches git's environment."""
    asked = request.headers.get("git-protocol", "")
    return asked if re.fullmatch(r"version=[0-2]", asked) else ""


def _question(request: Request, opened: Opened, caller: Caller | None) -> dict[str, str]:
    """What is told to who judges a push."""
    if caller is None:
        return {}
    incoming = str(hub_of(request).incoming.resolve())
    question = Question(governed=opened.governed, account=caller.name, incoming=incoming, name=opened.name)
    # The hook runs in the repository's folder, from which nothing is imported.
    here = {PYTHON: sys.executable, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    return here | {QUESTION: msgspec.json.encode(question).decode()}


async def _started(
    opened: Opened,
    service: str,
    version: str,
    *words: str,
    hooks: Path,
    stdin: int | None = None,
    env: Mapping[str, str] = {},
) -> asyncio.subprocess.Process:
    settings = [word for line in (*_SET.split(), f"core.hooksPath={hooks}") for word in ("-c", line)]
    hidden = [word for ref in _SHOWN if opened.governed for word in ("-c", f"transfer.hideRefs={ref}")]
    own = NOBODY | {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "LC_ALL": "C"} | dict(env)
    own |= {"GIT_PROTOCOL": version} if version else {}
    return await asyncio.create_subprocess_exec(
        "git", *settings, *hidden, service.removeprefix("git-"), "--stateless-rpc", *words, str(opened.place),
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env=own, start_new_session=True,
    )  # fmt: skip


def _hooks(incoming: Path) -> Path:
    """Where the one hook is, which no repository has a word in."""
    hook = incoming / "hooks" / "pre-receive"
    if not hook.is_file():
        with replacing(hook) as partial:
            partial.write_text(f'#!/bin/sh\nexec "${PYTHON}" -m souq.hub.git.receive\n')
            partial.chmod(0o755)
    return hook.parent.resolve()


def _stop(process: asyncio.subprocess.Process) -> None:
    """End git and what it started."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)

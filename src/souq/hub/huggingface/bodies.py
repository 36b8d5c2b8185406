"""What a request brings, read piece by piece and no further than it may go on; how long it may take, limits.py knows.

async for part in parts(request, most=1 << 20): ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from souq.hub.problems import Problem

PIECE = 1 << 20  # bytes that are taken together
T = TypeVar("T")


async def parts(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body in pieces.

    Raises:
        Problem: it is longer than `most`, or ends before its end.
    """
    held, size = bytearray(), 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise Problem(413, "BadRequest", f"more than {most:,} bytes at once")
            held += part
            if len(held) >= PIECE:
                yield bytes(held)
                held.clear()
    except ClientDisconnect as error:
        raise Problem(400, "BadRequest", "this ended before its end") from error
    if held:
        yield bytes(held)


async def body_of(request: Request, most: int) -> bytes:
    """A small body, whole."""
    return b"".join([part async for part in parts(request, most)])


async def json_of(request: Request, kind: type[T], most: int = 1 << 16) -> T:
    """What a small body says, as JSON of a form that is known.

    Raises:
        Problem: it is none.
    """
    data = await body_of(request, most)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Problem(400, "BadRequest", str(error)) from error

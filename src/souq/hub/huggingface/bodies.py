"""What a request brings, read piece by piece and no further than it may go on: in bytes, and in seconds.

Whoever sends slower than a telephone line, or stops in the middle, is told so and gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from souq.hub.problems import Problem

PATIENCE = 60.0  # seconds for the next piece
SLOWEST = 1 << 10  # bytes a second, on average, after those
PIECE = 1 << 20  # bytes that are taken together
T = TypeVar("T")


async def parts(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body in pieces.

    Raises:
        Problem: it is longer than `most`, too slow, or ends before its end.
    """
    stream, held, size, began = request.stream(), bytearray(), 0, time.monotonic()
    while part := await _next(stream):
        size += len(part)
        if size > most:
            raise Problem(413, "BadRequest", f"more than {most:,} bytes at once")
        if time.monotonic() - began > PATIENCE + size / SLOWEST:
            raise Problem(408, "", "this comes too slowly to be waited for")
        held += part
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


async def _next(stream: AsyncIterator[bytes]) -> bytes:
    """The next piece that holds something; b"" at the end."""
    try:
        while True:
            if part := await asyncio.wait_for(anext(stream), PATIENCE):
                return part
    except StopAsyncIteration:
        return b""
    except TimeoutError as error:
        raise Problem(408, "", f"nothing came for {PATIENCE:.0f} seconds") from error
    except ClientDisconnect as error:
        raise Problem(400, "BadRequest", "this ended before its end") from error


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

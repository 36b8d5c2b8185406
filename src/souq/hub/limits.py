"""How much a stranger may ask of a hub: so many changes a minute, so much in one body, and no body without an end.

Buckets of tokens, one for each address, account and token; they are this process's own, and few bytes each. Looking is
free. A body must keep coming, at a pace that any line has.

    limits = Limits()
    limits.sign_in.take("192.0.2.7")    # 0.0, or the seconds to wait
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from souq.hub.problems import Problem

IDLE = 30.0  # seconds without a byte of a body
PACE, GRACE = 1_024, 60.0  # bytes a second, after so many seconds
LOOKING = ("GET", "HEAD", "OPTIONS")


class Bucket:
    """So many at once, and then so many a minute; of those who asked longest ago nothing is remembered."""

    def __init__(self, at_once: int, a_minute: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._rate, self._clock = at_once, a_minute / 60, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> float:
        """One more by somebody: 0, or the seconds after which there is room for it."""
        now = self._clock()
        left, since = self._left.pop(who, (float(self._most), now))
        left = min(float(self._most), left + (now - since) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[who] = (left if wait else left - 1, now)
        if len(self._left) > 20_000:
            self._left.popitem(last=False)
        return wait


class Limits:
    """The buckets of one hub: `app.state.limits`."""

    def __init__(self) -> None:
        self.changes = Bucket(600, 600)  # for an address, an account, a token
        self.sign_in = Bucket(20, 20)  # for an address
        self.guesses = Bucket(10, 2)  # of one account's password
        self.drafts = Bucket(10, 0.5)  # for an address, an account

    def refuse_fast(self, bucket: Bucket, *whose: str) -> None:
        """Take one for each.

        Raises:
            Problem: 429, with how long to wait.
        """
        if wait := max(bucket.take(who) for who in whose):
            seconds = int(wait) + 1
            headers = {"Retry-After": str(seconds), "RateLimit": f'"api";r=0;t={seconds}'}
            raise Problem(429, "", f"too many at once: again in {seconds} s", headers=headers)


def limits_of(request: Request) -> Limits:
    """The hub's."""
    limits = request.app.state.limits
    assert isinstance(limits, Limits)
    return limits


class Gate:
    """An application that nobody floods: what changes something is counted, and a body that does not come is cut."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in LOOKING:
            await self._app(scope, receive, send)
            return
        try:
            self._limits.refuse_fast(self._limits.changes, *_asking(scope))
        except Problem as problem:
            await problem.response(scope, receive, send)
            return
        await self._app(scope, _Paced(receive), send)


def _asking(scope: Scope) -> list[str]:
    """The address, and the token if one is brought."""
    address = line_of(scope["client"][0] if scope.get("client") else "")
    tokens = [value for name, value in scope["headers"] if name == b"authorization"]
    return [f"address {address}", *(f"token {sha256(token).hexdigest()}" for token in tokens[:1])]


def line_of(address: str) -> str:
    """What one subscriber has: an IPv4 address, or the half of an IPv6 address that they do not choose."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((int(parsed) >> 64 << 64, 64)))
    return address


class _Paced:
    """A body, as long as it comes; one that does not is as if its sender had hung up."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._start, self._size, self._is_whole = receive, time.monotonic(), 0, False

    async def __call__(self) -> Message:
        """The next part; once it is whole, whatever comes."""
        if self._is_whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), IDLE)
        except TimeoutError:
            return self._cut()
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        late = time.monotonic() - self._start
        return self._cut() if not self._is_whole and late > GRACE and self._size < PACE * late else message

    def _cut(self) -> Message:
        self._is_whole = True
        return {"type": "http.disconnect"}

"""Forms: what a browser sends of its own page, bounded in size and time, and nothing that another site had it send.

A page hands out a seal of the browser's own cookie; only who has both gets through, and only from the same place.

    fields = await form(request, visit)
    fields["name"]
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from souq.hub.accounts.callers import accounts_of, refuse_cross_site
from souq.hub.accounts.cookies import cookie_name
from souq.hub.accounts.sessions import FORM, is_sealed, new_cookie, seal
from souq.hub.accounts.store import Known
from souq.hub.problems import Problem

MOST, FIELDS, SECONDS = 64 << 10, 30, 20.0  # of one form: bytes, fields, time


@dataclass(frozen=True)
class Visit:
    """A browser: who is signed in with it, and the cookie by which its forms are known to be its own."""

    cookie: str
    account: Known | None
    seal: str
    is_new: bool


async def visit_of(request: Request) -> Visit:
    """The browser that asks.

    Raises:
        Away: the accounts cannot be asked.
    """
    accounts = accounts_of(request)
    session = request.cookies.get(cookie_name(request), "")
    account = await run_in_threadpool(accounts.signed_in, session) if session else None
    before = session if account is not None else request.cookies.get(cookie_name(request, "visitor"), "")
    cookie = before if FORM.fullmatch(before) else new_cookie()
    return Visit(cookie, account, seal(accounts.secret, "form", cookie), cookie != before)


async def form(request: Request, visit: Visit) -> dict[str, str]:
    """The fields of a form that this browser was given.

    Raises:
        Problem: it is none, is too large or too slow, or another site had it sent.
    """
    refuse_cross_site(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Problem(415, "BadRequest", "a form is wanted")
    fields = _fields(await _body(request))
    if visit.is_new or not is_sealed(accounts_of(request).secret, fields.pop("seal", ""), "form", visit.cookie):
        raise Problem(403, "", "this form was given to another browser, or long ago: open the page again")
    return fields


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MOST:
                    raise Problem(413, "", f"a form has at most {MOST:,} bytes")
    except (TimeoutError, ClientDisconnect) as error:
        raise Problem(408, "", "the form did not come in time") from error
    return body


def _fields(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(body.decode("ascii"), True, True, errors="strict", max_num_fields=FIELDS)
    except ValueError as error:  # neither UTF-8 nor few fields
        raise Problem(400, "BadRequest", "that is no form of ours") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Problem(400, "BadRequest", "a field stands there twice")
    return fields

"""Who a request is by, and what it may: from the token that it brings.

Programs send `Authorization: Bearer`, git sends the token as a password. Whoever brings none is nobody, and reads.

    caller = await needs(request, "write")
    if not may_write(caller, "atlas"): ...
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from souq.errors import SouqError
from souq.hub.accounts.cookies import cookie_name
from souq.hub.accounts.store import Accounts, Held
from souq.hub.accounts.tokens import SCOPES
from souq.hub.accounts.trail import NOBODY, By
from souq.hub.database.tables import Scope
from souq.hub.limits import LOOKING, limits_of
from souq.hub.problems import Problem, of_error

MAX_HEADER = 1_000  # characters
T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """Who asks, and what they may."""

    name: str
    scopes: frozenset[Scope]
    token: str  # the token's id; "" for a browser that is signed in
    organisations: tuple[str, ...]
    keys: tuple[str, ...]  # ssh public keys that they proved to have
    repository: str = ""  # the only one that the token is for; "" for all
    email: str = ""


def accounts_of(request: Request) -> Accounts:
    """The hub's accounts."""
    accounts = request.app.state.accounts
    assert isinstance(accounts, Accounts)
    return accounts


async def caller_of(request: Request) -> Caller | None:
    """Who asks; None where the request brings nothing that says so.

    A browser's cookie counts for a change only where the hub's own page asks for it.

    Raises:
        Problem: 401 for a token that is wrong, expired or revoked; 503 where the accounts cannot be asked.
    """
    if (token := _token_in(request)) is None:
        return await _signed_in(request)
    if (held := await _asked(accounts_of(request).holder, token)) is None:
        raise Problem(401, "", "this token is wrong, expired or revoked", headers=_challenge(request))
    return _caller(held)


async def needs(request: Request, scope: Scope) -> Caller:
    """Who asks, where they may do this.

    A token for one repository opens no other: the one that is asked for is `{repo}` in the route's path.

    Raises:
        Problem: 401 where nobody says who they are, 403 where their token does not reach so far, 429 for too much.
    """
    if (caller := await caller_of(request)) is None:
        raise Problem(401, "", f"this needs a token with the scope {scope!r}", headers=_challenge(request))
    if scope not in caller.scopes:
        raise Problem(403, "", f"this token does not have the scope {scope!r}")
    asked = str(request.path_params.get("repo", "")).removesuffix(".git")
    if caller.repository and caller.repository != asked:
        raise Problem(403, "", f"this token is for {caller.repository} alone")
    if request.method not in LOOKING:
        limits = limits_of(request)
        limits.refuse_fast(limits.changes, f"account {caller.name}")
    return caller


def may_write(caller: Caller, namespace: str) -> bool:
    """Whether a namespace is theirs: their own name, or an organisation that they are of."""
    return namespace in (caller.name, *caller.organisations)


def by_of(request: Request, name: str = "") -> By:
    """Who acts, for the list of what was changed."""
    return By(name or NOBODY, request.client.host if request.client else "")


def _caller(held: Held) -> Caller:
    scopes = frozenset(SCOPES[: SCOPES.index(held.token.scope) + 1])
    account, token = held.account, held.token
    return Caller(
        account.name, scopes, token.id, account.organisations, account.keys, token.repository, account.email
    )  # fmt: skip


async def _signed_in(request: Request) -> Caller | None:
    cookie = request.cookies.get(cookie_name(request))
    account = await _asked(accounts_of(request).signed_in, cookie) if cookie else None
    if account is None:
        return None
    if request.method not in LOOKING:
        refuse_cross_site(request)
    return Caller(
        account.name, frozenset(SCOPES), "", account.organisations, account.keys, email=account.email
    )  # fmt: skip


def refuse_cross_site(request: Request) -> None:
    """A browser says which page had it send something.

    Raises:
        Problem: another site's, or it does not say.
    """
    hosts = (request.headers.get("host", ""), urlsplit(getattr(request.app.state, "url", "")).netloc)
    if site := request.headers.get("sec-fetch-site", ""):
        is_ours = site == "same-origin"
    else:  # a browser of before 2023, or a page that is not over TLS
        origin = urlsplit(request.headers.get("origin", ""))
        is_ours = bool(origin.netloc) and origin.netloc in hosts
    if not is_ours:
        raise Problem(403, "", "another site had your browser send this: open the page here again")


async def _asked(ask: Callable[[str], T], secret: str) -> T:
    try:
        return await run_in_threadpool(ask, secret)
    except SouqError as error:
        raise of_error(error) from error


def _token_in(request: Request) -> str | None:
    """The token in a request; "" for words that can be none."""
    if (header := request.headers.get("authorization")) is None:
        return None
    kind, _, value = header.strip().partition(" ")
    if len(header) > MAX_HEADER:
        return ""
    return value.strip() if kind.lower() == "bearer" else _password_in(value) if kind.lower() == "basic" else ""


def _password_in(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _challenge(request: Request) -> dict[str, str]:
    """How to say who one is: git asks its user for a password where it is asked so."""
    kind = "Bearer" if request.url.path.startswith("/api/") else "Basic"
    return {"WWW-Authenticate": f'{kind} realm="souq hub"'}

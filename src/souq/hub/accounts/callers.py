"""Who a request is by, and what it may: from the token that it brings.

Programs send `Authorization: Bearer`, git sends the token as a password. Whoever brings none is nobody, and reads.

    caller = await needs(request, "write")
    if not may_write(caller, "atlas"): ...
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from souq.errors import SouqError
from souq.hub.accounts.store import Accounts, Held
from souq.hub.accounts.tokens import SCOPES
from souq.hub.accounts.trail import By
from souq.hub.database.tables import Scope
from souq.hub.problems import Problem, of_error

MAX_HEADER = 1_000  # characters


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

    Raises:
        Problem: 401 for a token that is wrong, expired or revoked; 503 where the accounts cannot be asked.
    """
    if (token := _token_in(request)) is None:
        return None
    if (held := await _held(request, token)) is None:
        raise Problem(401, "", "this token is wrong, expired or revoked", headers=_challenge(request))
    return _caller(held)


async def needs(request: Request, scope: Scope) -> Caller:
    """Who asks, where they may do this.

    A token for one repository opens no other: the one that is asked for is `{repo}` in the route's path.

    Raises:
        Problem: 401 where nobody says who they are, 403 where their token does not reach so far.
    """
    if (caller := await caller_of(request)) is None:
        raise Problem(401, "", f"this needs a token with the scope {scope!r}", headers=_challenge(request))
    if scope not in caller.scopes:
        raise Problem(403, "", f"this token does not have the scope {scope!r}")
    asked = str(request.path_params.get("repo", "")).removesuffix(".git")
    if caller.repository and caller.repository != asked:
        raise Problem(403, "", f"this token is for {caller.repository} alone")
    return caller


def may_write(caller: Caller, namespace: str) -> bool:
    """Whether a namespace is theirs: their own name, or an organisation that they are of."""
    return namespace in (caller.name, *caller.organisations)


def by_of(request: Request, name: str = "") -> By:
    """Who acts, for the list of what was changed."""
    return By(name or "(nobody)", request.client.host if request.client else "")


def _caller(held: Held) -> Caller:
    scopes = frozenset(SCOPES[: SCOPES.index(held.token.scope) + 1])
    account, token = held.account, held.token
    return Caller(
        account.name, scopes, token.id, account.organisations, account.keys, token.repository, account.email
    )  # fmt: skip


async def _held(request: Request, token: str) -> Held | None:
    try:
        return await run_in_threadpool(accounts_of(request).holder, token)
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

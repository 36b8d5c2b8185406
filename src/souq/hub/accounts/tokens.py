"""Tokens: what programs sign in with. Shown once and kept as a hash; each has a scope, an end, and may be revoked.

token, kept = mint(connection, "ada", scope="write", title="laptop", days=90)
held = holder(connection, token)    # None where it is wrong, expired or revoked
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from sqlalchemy import Connection, insert, select, update

from souq import signing
from souq.errors import NotFound, UsageError
from souq.hub.catalog import is_name
from souq.hub.database.tables import Account, Scope, Token
from souq.records import Record, spelled_out

SCOPES: tuple[Scope, ...] = get_args(Scope)  # each holds those before it
MOST_DAYS, MOST_EACH, MAX_TITLE = 3_650, 100, 80
_FORM = re.compile(r"(?:hf|souq)_[A-Za-z0-9_-]{16,128}")


class Kept(Record, frozen=True):
    """What a hub knows of a token."""

    id: str
    account: str
    title: str
    scope: Scope
    repository: str
    made: str
    expires: str
    revoked: str
    used: str

    @property
    def state(self) -> Literal["good", "expired", "revoked"]:
        return "revoked" if self.revoked else "expired" if self.expires <= signing.now() else "good"


COLUMNS = (
    Token.id, Token.account, Token.title, Token.scope, Token.repository, Token.made, Token.expires, Token.revoked,
    Token.used,
)  # fmt: skip


def mint(
    connection: Connection, account: str, *, scope: Scope, title: str = "", repository: str = "", days: int = 365
) -> tuple[str, Kept]:
    """A new token of an account, and what is kept of it.

    Raises:
        UsageError: no such scope or repository's name, an end too far away, or too many tokens.
    """
    _refuse(scope, repository, days)
    if sum(kept.state == "good" for kept in listed(connection, account)) >= MOST_EACH:
        raise UsageError(f"{account} has {MOST_EACH} tokens", hint="revoke what is not used")
    token = f"souq_{secrets.token_urlsafe(32)}"
    title = spelled_out(" ".join(title.split()))[:MAX_TITLE] or "token"
    made = signing.now()
    kept = Kept(secrets.token_hex(6), account, title, scope, repository, made, in_days(days), "", "")
    values = {name: getattr(kept, name) for name in kept.__struct_fields__}
    connection.execute(insert(Token).values(hash=hash_of(token), **values))
    return token, kept


def _refuse(scope: str, repository: str, days: int) -> None:
    if scope not in SCOPES:
        raise UsageError(f"no scope {scope[:20]!r}", hint=f"one of {', '.join(SCOPES)}")
    if repository and not is_name(repository):
        raise UsageError(f"no repository's name: {repository[:100]!r}", hint="as the hub lists it: atlas/smol")
    if not 1 <= days <= MOST_DAYS:
        raise UsageError(f"a token lives 1 to {MOST_DAYS} days")


def holder(connection: Connection, token: str) -> Kept | None:
    """Of whom a token is, and what it may; None where it is wrong, expired or revoked, or its account disabled."""
    if not _FORM.fullmatch(token):
        return None
    asked = select(*COLUMNS).join(Account, Account.name == Token.account)
    row = connection.execute(asked.where(Token.hash == hash_of(token), Account.disabled == "")).first()
    kept = Kept(*row) if row is not None else None
    return kept if kept is not None and kept.state == "good" else None


def use(connection: Connection, kept: Kept) -> None:
    """Remember when it was used last."""
    connection.execute(update(Token).where(Token.id == kept.id).values(used=this_minute()))


def this_minute() -> str:
    """The time, to the minute: often enough for who looks, and no write for each request."""
    return f"{signing.now()[:-3]}00Z"


def listed(connection: Connection, account: str = "") -> list[Kept]:
    """Every token of an account, or of all, the newest first."""
    asked = select(*COLUMNS).order_by(Token.made.desc(), Token.id)
    if account:
        asked = asked.where(Token.account == account)
    return [Kept(*row) for row in connection.execute(asked)]


def revoke(connection: Connection, id_: str, account: str = "") -> Kept:
    """Have a token open nothing from now on; of this account, where one is named.

    Raises:
        NotFound: there is none.
    """
    kept = next((each for each in listed(connection, account) if each.id == id_), None)
    if kept is None:
        raise NotFound(f"no token {id_[:40]!r}", hint="`souq hub token list` lists those there are")
    connection.execute(update(Token).where(Token.id == id_, Token.revoked == "").values(revoked=signing.now()))
    return kept


def hash_of(secret: str) -> str:
    """What is kept of a long random word: nobody guesses it, so no slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def in_days(days: float) -> str:
    """The time so many days from now."""
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

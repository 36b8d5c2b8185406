"""Browsers that are signed in: a cookie that only the browser has, for two weeks at most.

What a page hands out and wants back is sealed with a secret of the hub's, so nothing is kept of who only looks.

    cookie = begin(connection, "ada")
    account_of(connection, cookie)    # "ada", until `end` or `end_all`
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256

from sqlalchemy import Connection, delete, insert, select

from souq import signing
from souq.hub.accounts.tokens import hash_of, in_days
from souq.hub.database.tables import Account, Session, Setting

DAYS = 14
FORM = re.compile(r"[A-Za-z0-9_-]{43}")


def begin(connection: Connection, account: str) -> str:
    """The cookie of a browser that is signed in from now on: always a new one."""
    connection.execute(delete(Session).where(Session.expires <= signing.now()))
    cookie = new_cookie()
    values = {"hash": hash_of(cookie), "account": account, "made": signing.now(), "expires": in_days(DAYS)}
    connection.execute(insert(Session).values(**values))
    return cookie


def account_of(connection: Connection, cookie: str) -> str | None:
    """Who is signed in with a cookie; None where nobody is."""
    if not FORM.fullmatch(cookie):
        return None
    asked = select(Session.account).join(Account, Account.name == Session.account)
    held = (Session.hash == hash_of(cookie), Session.expires > signing.now(), Account.disabled == "")
    return connection.scalar(asked.where(*held))


def end(connection: Connection, cookie: str) -> None:
    """Sign one browser out."""
    connection.execute(delete(Session).where(Session.hash == hash_of(cookie)))


def end_all(connection: Connection, account: str) -> None:
    """Sign every browser of an account out."""
    connection.execute(delete(Session).where(Session.account == account))


def new_cookie() -> str:
    """A word that nobody guesses."""
    return secrets.token_urlsafe(32)


def secret_of(connection: Connection) -> bytes:
    """What this hub seals with, made when it is first asked for; the same for all its processes."""
    asked = select(Setting.value).where(Setting.name == "secret")
    if (kept := connection.scalar(asked)) is None:
        connection.execute(insert(Setting).values(name="secret", value=(kept := secrets.token_hex(32))))
    return bytes.fromhex(kept)


def seal(secret: bytes, *words: str) -> str:
    """What shows that these words are the hub's own."""
    plain = b"".join(b"%d:%s" % (len(word.encode()), word.encode()) for word in words)
    return hmac.new(secret, plain, sha256).hexdigest()


def is_sealed(secret: bytes, given: str, *words: str) -> bool:
    """Whether somebody brings back what was handed out."""
    return hmac.compare_digest(seal(secret, *words).encode(), given.encode("utf-8", "replace"))

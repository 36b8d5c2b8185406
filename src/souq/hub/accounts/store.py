"""Accounts and organisations: who there is, who is of what, and every change with who made it.

accounts = Accounts(Database(url))
accounts.add("ada", password="correct horse battery", by=OPERATOR)
token, kept = accounts.mint("ada", by=OPERATOR, scope="write")
accounts.holder(token).name    # "ada"
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from souq import signing
from souq.errors import NotFound, UsageError
from souq.hub.accounts import passwords, sessions, tokens
from souq.hub.accounts.names import key_of, refuse_odd
from souq.hub.accounts.trail import By, note
from souq.hub.database import Away, Database
from souq.hub.database.tables import Account, Key, Member, Name
from souq.records import Record, spelled_out

MAX_EMAIL = 200


class Known(Record, frozen=True):
    """Somebody who has an account, and what opens by it."""

    name: str
    email: str
    disabled: str
    organisations: tuple[str, ...]
    keys: tuple[str, ...]


class Held(Record, frozen=True):
    """A token that holds, and who has it."""

    token: tokens.Kept
    account: Known


class Organisation(Record, frozen=True):
    """A namespace that several accounts share."""

    name: str
    members: tuple[str, ...]


class Accounts:
    """The accounts of one hub."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.writing() as connection:
            self.secret = sessions.secret_of(connection)

    # -- accounts ------------------------------------------------------------------------------------------------------

    def add(self, name: str, *, by: By, email: str = "", password: str = "") -> None:
        """A new account; without a password it is opened by a key or a token.

        Raises:
            UsageError: the name is none, or is taken; or the password is none.
        """
        refuse_odd(name)
        kept = passwords.hashed(password) if password else ""
        with self.database.writing() as connection:
            insert_account(connection, name, email, kept)
            note(connection, by, "account added", name)

    def every(self) -> list[Known]:
        """Each account, by name."""
        with self.database.reading() as connection:
            names = connection.scalars(select(Account.name).order_by(Account.name)).all()
            return [known(connection, name) for name in names]

    def set_disabled(self, name: str, is_disabled: bool, *, by: By) -> None:
        """Close an account with all its tokens, or open it again.

        Raises:
            NotFound: there is none of that name.
        """
        with self.database.writing() as connection:
            since = signing.now() if is_disabled else ""
            connection.execute(update(Account).where(Account.name == _there(connection, name)).values(disabled=since))
            sessions.end_all(connection, name)
            note(connection, by, "account disabled" if is_disabled else "account enabled", name)

    def set_password(self, name: str, password: str, *, by: By) -> None:
        """Another password; every browser that was signed in is signed out.

        Raises:
            NotFound: there is no such account.
            UsageError: the password is none.
        """
        kept = passwords.hashed(password)
        with self.database.writing() as connection:
            connection.execute(update(Account).where(Account.name == _there(connection, name)).values(password=kept))
            sessions.end_all(connection, name)
            note(connection, by, "password changed", name)

    def opens(self, name: str, password: str) -> bool:
        """Whether a password opens an account; the same work is done for one that is not there."""
        with self.database.reading() as connection:
            asked = select(Account.password).where(Account.name == name, Account.disabled == "")
            kept = connection.scalar(asked) if len(name) <= MAX_EMAIL else None
        return passwords.holds(kept or "", password)

    def signed_in(self, cookie: str) -> Known | None:
        """Who is signed in by a browser's cookie; None where nobody is."""
        with self.database.reading() as connection:
            name = sessions.account_of(connection, cookie)
            return known(connection, name) if name is not None else None

    # -- organisations -------------------------------------------------------------------------------------------------

    def add_organisation(self, name: str, *, by: By) -> None:
        """A new organisation, of nobody yet.

        Raises:
            UsageError: the name is none, or is taken.
        """
        refuse_odd(name)
        with self.database.writing() as connection:
            _take(connection, name, "organisation")
            note(connection, by, "organisation added", name)

    def organisations(self) -> list[Organisation]:
        """Each with its members."""
        with self.database.reading() as connection:
            names = connection.scalars(select(Name.name).where(Name.kind == "organisation").order_by(Name.name)).all()
            rows = [(row.organisation, row.account) for row in connection.execute(select(Member.__table__))]
        return [Organisation(name, tuple(sorted(who for of, who in rows if of == name))) for name in names]

    def join(self, organisation: str, name: str, *, by: By) -> None:
        """Have an account be of an organisation.

        Raises:
            NotFound: one of both is not there.
        """
        with self.database.writing() as connection:
            values = {"organisation": _organisation(connection, organisation), "account": _there(connection, name)}
            if name not in _members(connection, organisation):
                connection.execute(insert(Member).values(**values))
                note(connection, by, "joined", organisation, name)

    def leave(self, organisation: str, name: str, *, by: By) -> None:
        """Have an account be of an organisation no more.

        Raises:
            NotFound: it is not of it.
        """
        with self.database.writing() as connection:
            if name not in _members(connection, organisation):
                raise NotFound(f"{name} is not of {organisation}", hint="`souq hub org list` says who is")
            connection.execute(delete(Member).where(Member.organisation == organisation, Member.account == name))
            note(connection, by, "left", organisation, name)

    # -- tokens --------------------------------------------------------------------------------------------------------

    def mint(self, account: str, *, by: By, **what: Any) -> tuple[str, tokens.Kept]:
        """A new token (`tokens.mint`).

        Raises:
            NotFound: there is no such account.
            UsageError: it cannot be made so.
        """
        with self.database.writing() as connection:
            token, kept = tokens.mint(connection, _there(connection, account), **what)
            details = " ".join(word for word in (kept.id, kept.scope, kept.repository, kept.title) if word)
            note(connection, by, "token created", account, details)
        return token, kept

    def token_list(self, account: str = "") -> list[tokens.Kept]:
        """Those of an account, or all."""
        with self.database.reading() as connection:
            return tokens.listed(connection, account)

    def revoke(self, id_: str, *, by: By, account: str = "") -> tokens.Kept:
        """Have a token open nothing from now on.

        Raises:
            NotFound: there is none.
        """
        with self.database.writing() as connection:
            kept = tokens.revoke(connection, id_, account)
            note(connection, by, "token revoked", kept.account, f"{kept.id} {kept.title}")
        return kept

    def holder(self, token: str) -> Held | None:
        """Who has a token; None where it opens nothing."""
        with self.database.reading() as connection:
            kept = tokens.holder(connection, token)
            held = Held(kept, known(connection, kept.account)) if kept is not None else None
        if held is not None and held.token.used != tokens.this_minute():
            with suppress(Away), self.database.writing() as connection:  # who may read is not kept from it by this
                tokens.use(connection, held.token)
        return held


# -- with a connection -------------------------------------------------------------------------------------------------


def insert_account(connection: Connection, name: str, email: str, password: str) -> None:
    """A new account's rows; `password` is what argon2 made of it.

    Raises:
        UsageError: the name is taken.
    """
    _take(connection, name, "account")
    values = {"name": name, "email": spelled_out(email)[:MAX_EMAIL], "password": password, "disabled": ""}
    connection.execute(insert(Account).values(**values))


def known(connection: Connection, name: str) -> Known:
    """An account that is there."""
    row = connection.execute(select(Account.email, Account.disabled).where(Account.name == name)).one()
    organisations = connection.scalars(select(Member.organisation).where(Member.account == name))
    keys = connection.scalars(select(Key.key).where(Key.account == name))
    return Known(name, row.email, row.disabled, tuple(sorted(organisations)), tuple(sorted(keys)))


def _take(connection: Connection, name: str, kind: str) -> None:
    values = {"key": key_of(name), "name": name, "kind": kind, "made": signing.now()}
    try:
        with connection.begin_nested():
            connection.execute(insert(Name).values(**values))
    except IntegrityError as error:
        hint = "choose another; names that only look different are one"
        raise UsageError(f"the name {name!r} is taken", hint=hint) from error


def _there(connection: Connection, name: str) -> str:
    if connection.scalar(select(Account.name).where(Account.name == name)) is None:
        raise NotFound(f"no account {name[:60]!r}", hint="`souq hub account list` lists those there are")
    return name


def _organisation(connection: Connection, name: str) -> str:
    if connection.scalar(select(Name.name).where(Name.name == name, Name.kind == "organisation")) is None:
        raise NotFound(f"no organisation {name[:60]!r}", hint="`souq hub org list` lists those there are")
    return name


def _members(connection: Connection, organisation: str) -> set[str]:
    return {*connection.scalars(select(Member.account).where(Member.organisation == organisation))}

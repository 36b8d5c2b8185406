"""How somebody comes in: by a password, by an ssh key, by registering; and how a key is proved to be theirs.

Each writes down that it happened, and what was refused: neither words nor time say whether an account is there.

    cookie = by_password(accounts, "ada", "correct horse battery", By("ada", "192.0.2.7"))
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from souq import signing
from souq.errors import NotFound, Refused, UsageError
from souq.hub.accounts import passwords, sessions
from souq.hub.accounts.challenges import Challenge, signed_by, spend
from souq.hub.accounts.names import refuse_odd
from souq.hub.accounts.store import Accounts, insert_account
from souq.hub.accounts.tokens import hash_of, in_days
from souq.hub.accounts.trail import NOBODY, By, note
from souq.hub.database.tables import Account, Invitation, Key
from souq.records import spelled_out

MOST_KEYS, MAX_TITLE = 20, 80


def by_password(accounts: Accounts, name: str, password: str, by: By) -> str:
    """The cookie of who knows the password.

    Raises:
        Refused: there is no such account, or it is not its password.
    """
    is_right = accounts.opens(name, password)
    with accounts.database.writing() as connection:
        _note_entry(connection, name if is_right else "", by, name, "password")
        cookie = sessions.begin(connection, name) if is_right else ""
    if not is_right:
        raise Refused("name and password do not open an account")
    return cookie


def by_key(accounts: Accounts, given: Challenge, armour: str, host: str, by: By) -> str:
    """The cookie of who signed what was given out, with a key that an account has proved.

    Raises:
        Refused: no account has this key, or the text was not given out for this, is too old, or was used.
        Forged: the signature does not hold.
    """
    key = signed_by(accounts.secret, given, armour, host=host)
    with accounts.database.writing() as connection:
        spend(connection, given)
        asked = select(Key.account).join(Account, Account.name == Key.account)
        name = connection.scalar(asked.where(Key.key == key, Account.disabled == ""))
        _note_entry(connection, name or "", by, name or "", signing.fingerprint(key))
        cookie = sessions.begin(connection, name) if name else ""
    if not cookie:
        raise Refused("no account has this key", hint="sign in otherwise, and add it")
    return cookie


def _note_entry(connection: Connection, entered: str, by: By, about: str, how: str) -> None:
    who = By(entered or NOBODY, by.address)
    note(connection, who, "signed in" if entered else "sign-in refused", about, how)


def prove(accounts: Accounts, name: str, given: Challenge, armour: str, host: str, by: By, title: str = "") -> str:
    """Have a key be an account's: the one that signed what was given out to it.

    Raises:
        Refused: another account has it; or the text was not given out for this, is too old, or was used.
        Forged: the signature does not hold.
    """
    key = signed_by(accounts.secret, given, armour, host=host, account=name)
    with accounts.database.writing() as connection:
        spend(connection, given)
        theirs = [*connection.scalars(select(Key.key).where(Key.account == name))]
        if key in theirs or len(theirs) >= MOST_KEYS or connection.scalar(select(Key.key).where(Key.key == key)):
            raise Refused("this key is an account's already, or there are too many")
        title = spelled_out(" ".join(title.split()))[:MAX_TITLE]
        connection.execute(insert(Key).values(key=key, account=name, title=title, added=signing.now()))
        note(connection, by, "key added", name, signing.fingerprint(key))
    return key


def drop_key(accounts: Accounts, name: str, fingerprint: str, by: By) -> None:
    """Have a key be an account's no more.

    Raises:
        NotFound: it is not theirs.
    """
    with accounts.database.writing() as connection:
        theirs = connection.scalars(select(Key.key).where(Key.account == name))
        if (key := next((key for key in theirs if signing.fingerprint(key) == fingerprint), None)) is None:
            raise NotFound("no such key of yours")
        connection.execute(delete(Key).where(Key.key == key, Key.account == name))
        note(connection, by, "key removed", name, fingerprint)


def keys_of(accounts: Accounts, name: str) -> list[tuple[str, str, str]]:
    """(fingerprint, title, since when) of each key of an account."""
    asked = select(Key.key, Key.title, Key.added).where(Key.account == name).order_by(Key.added)
    with accounts.database.reading() as connection:
        return [(signing.fingerprint(key), title, added) for key, title, added in connection.execute(asked)]


def leave(accounts: Accounts, cookie: str, by: By) -> None:
    """Sign one browser out."""
    with accounts.database.writing() as connection:
        sessions.end(connection, cookie)
        note(connection, by, "signed out", by.name)


def invite(accounts: Accounts, days: int, by: By) -> str:
    """A word by which somebody may register, once."""
    word = sessions.new_cookie()
    with accounts.database.writing() as connection:
        values = {"hash": hash_of(word), "by": by.name, "expires": in_days(days), "taken": ""}
        connection.execute(insert(Invitation).values(**values))
        note(connection, by, "invited", "", f"for {days} days")
    return word


def register(accounts: Accounts, name: str, password: str, email: str, invitation: str, by: By) -> str:
    """The cookie of who has an account from now on; without an invitation where the hub is open to anybody.

    Raises:
        Refused: the invitation is none, was taken, or is too old.
        UsageError: the name is none or is taken, or the password is none.
    """
    refuse_odd(name)
    kept = passwords.hashed(password)
    with accounts.database.writing() as connection:
        if invitation:
            valid = (Invitation.hash == hash_of(invitation), Invitation.taken == "", Invitation.expires > signing.now())
            if connection.execute(update(Invitation).where(*valid).values(taken=name)).rowcount != 1:
                raise Refused("this invitation is none, was taken, or is too old")
        insert_account(connection, name, email, kept)
        note(connection, by, "registered", name)
        return sessions.begin(connection, name)


def change_password(accounts: Accounts, name: str, before: str, after: str, by: By) -> None:
    """Another password, for who knows the one before or never had one.

    Raises:
        Refused: it is not the one before.
        UsageError: the new one is none.
    """
    with accounts.database.reading() as connection:
        kept = connection.scalar(select(Account.password).where(Account.name == name))
    if kept and not passwords.holds(kept, before):
        raise Refused("that is not your password")
    if after == name:
        raise UsageError("a password is not the account's name")
    accounts.set_password(name, after, by=by)

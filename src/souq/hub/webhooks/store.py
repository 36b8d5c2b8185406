"""Webhooks in a hub's database: where to, about what, with which secret, and what has come already.

One worker at a time sends for a hook. What came is noted by the id that it has in the feeds, so nothing is sent twice
but what came just before whoever sent it was stopped.

    hooks = Hooks(database)
    hooks.add("https://ci.example/souq", by=OPERATOR)
    hook = hooks.take(lease=60)
    hooks.came(hook, "urn:souq:…")
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, insert, select, update

from souq import signing
from souq.errors import NotFound, Refused, UsageError
from souq.hub.accounts.tokens import in_days
from souq.hub.accounts.trail import By, note
from souq.hub.catalog import is_name
from souq.hub.database import Database
from souq.hub.database.tables import Came, Hook
from souq.records import Record

EVENTS = ("pulls", "verdicts", "releases")
MOST, MAX_URL, MAX_BECAUSE = 100, 500, 300  # hooks; characters
MOST_TRIES = 20  # that fail one after another, before nothing is tried any more
FIRST_WAIT, LONGEST_WAIT = 10.0, 3_600.0  # seconds after the first failure, and at most
DAY = 86_400.0


class Webhook(Record, frozen=True):
    """Whom to tell."""

    id: int
    url: str
    repository: str  # "" for all
    events: str
    secret: str
    is_internal: bool  # it may be an address that only this machine's network has
    begun: str  # since when something is sent; "" while it has only been asked for
    tries: int
    ended: str
    because: str


class Hooks:
    """The webhooks of one hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- who runs the hub ----------------------------------------------------------------------------------------------

    def add(
        self, url: str, *, by: By, repository: str = "", events: Collection[str] = EVENTS, is_internal: bool = False
    ) -> Webhook:
        """A new one; what is there already is not sent.

        Raises:
            UsageError: the URL is none, or there are no such events, or nothing is called so.
            Refused: there are too many.
        """
        _refuse_odd(url, repository, events)
        values = {
            "url": url, "repository": repository, "events": " ".join(each for each in EVENTS if each in events),
            "secret": f"souqhook_{secrets.token_urlsafe(32)}", "is_internal": int(is_internal), "begun": "", "tries": 0,
            "due": signing.now(), "ended": "", "because": "",
        }  # fmt: skip
        with self._database.writing() as connection:
            if len(connection.execute(select(Hook.id)).all()) >= MOST:
                raise Refused(f"a hub has at most {MOST} webhooks", hint="remove one with `souq hub webhook remove`")
            id_ = connection.scalar(insert(Hook).values(**values).returning(Hook.id)) or 0
            note(connection, by, "webhook added", repository or "(all)", url)
            return _hook(connection.execute(select(Hook.__table__).where(Hook.id == id_)).one())

    def every(self) -> list[Webhook]:
        """The oldest first."""
        with self._database.reading() as connection:
            return [_hook(row) for row in connection.execute(select(Hook.__table__).order_by(Hook.id))]

    def remove(self, id_: int, *, by: By) -> None:
        """Have nobody be told there any more.

        Raises:
            NotFound: there is none.
        """
        with self._database.writing() as connection:
            if not connection.execute(delete(Hook).where(Hook.id == id_)).rowcount:
                raise NotFound(f"no webhook {id_}", hint="`souq hub webhook list` says which there are")
            connection.execute(delete(Came).where(Came.hook == id_))
            note(connection, by, "webhook removed", "", str(id_))

    # -- who sends -----------------------------------------------------------------------------------------------------

    def take(self, lease: float) -> Webhook | None:
        """One that is due, for so many seconds nobody else's; None where none is."""
        now = signing.now()
        with self._database.writing() as connection:
            due = (Hook.ended == "", Hook.due <= now)
            asked = select(Hook.__table__).where(*due).order_by(Hook.due, Hook.id).limit(1)
            if (row := connection.execute(asked.with_for_update(skip_locked=True)).first()) is None:
                return None
            connection.execute(update(Hook).where(Hook.id == row.id).values(due=in_days(lease / DAY)))
            return _hook(row)

    def unsent(self, hook: Webhook, ids: Collection[str]) -> set[str]:
        """Those of these that have not come; what is in no feed any more is forgotten."""
        with self._database.writing() as connection:
            there = set(connection.scalars(select(Came.entry).where(Came.hook == hook.id)))
            if old := there - set(ids):
                connection.execute(delete(Came).where(Came.hook == hook.id, Came.entry.in_(list(old)[:500])))
        return set(ids) - there

    def begin(self, hook: Webhook, ids: Collection[str]) -> None:
        """What is new from now on is sent; these are not."""
        with self._database.writing() as connection:
            if rows := [{"hook": hook.id, "entry": each} for each in {*ids}]:
                connection.execute(delete(Came).where(Came.hook == hook.id))
                connection.execute(insert(Came), rows)
            connection.execute(update(Hook).where(Hook.id == hook.id).values(begun=signing.now()))

    def came(self, hook: Webhook, entry: str) -> None:
        """Note that something came."""
        with self._database.writing() as connection:
            if connection.scalar(select(Hook.id).where(Hook.id == hook.id)) is not None:
                connection.execute(insert(Came).values(hook=hook.id, entry=entry))
                connection.execute(update(Hook).where(Hook.id == hook.id).values(tries=0, because=""))

    def failed(self, hook: Webhook, because: str) -> None:
        """Note that something did not come: it is tried again, each time later, and at last no more."""
        tries = hook.tries + 1
        wait = min(FIRST_WAIT * 2.0 ** (tries - 1), LONGEST_WAIT)
        words: dict[str, Any] = {"tries": tries, "because": because[:MAX_BECAUSE], "due": in_days(wait / DAY)}
        words |= {"ended": signing.now()} if tries >= MOST_TRIES else {}
        with self._database.writing() as connection:
            connection.execute(update(Hook).where(Hook.id == hook.id).values(**words))

    def later(self, hook: Webhook, seconds: float) -> None:
        """Look again in so many seconds."""
        with self._database.writing() as connection:
            connection.execute(update(Hook).where(Hook.id == hook.id).values(due=in_days(seconds / DAY)))


def _refuse_odd(url: str, repository: str, events: Collection[str]) -> None:
    hint = "https://HOST/PATH, with nothing that a terminal or a header could not hold"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"no address to send to: {url[:100]!r}", hint=hint) from error
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not plain or port == 0:
        raise UsageError(f"no address to send to: {url[:100]!r}", hint=hint)
    if repository and not is_name(repository):
        raise UsageError(f"no repository is called {repository[:100]!r}")
    if not events or {*events} - {*EVENTS}:
        raise UsageError("no such events", hint=f"some of {', '.join(EVENTS)}")


def _hook(row: Any) -> Webhook:
    words = {name: getattr(row, name) for name in Webhook.__struct_fields__}
    return Webhook(**words | {"is_internal": bool(row.is_internal)})

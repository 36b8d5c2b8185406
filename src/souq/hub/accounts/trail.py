"""What was changed on a hub, by whom, when and from where: written with the change itself, or not at all.

with database.writing() as connection:
    note(connection, By("ada", "192.0.2.7"), "token created", "ada", "t4f0a write")
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from souq import signing
from souq.hub.database import Database
from souq.hub.database.tables import Event
from souq.records import Record, spelled_out

MAX_WORDS = 400  # characters of each text


@dataclass(frozen=True)
class By:
    """Who acts, and from which address; an operator acts on the machine itself."""

    name: str
    address: str = ""


OPERATOR, NOBODY = By("(operator)"), "(nobody)"


class Change(Record, frozen=True):
    """One line of what was changed."""

    at: str
    by: str
    address: str
    what: str
    about: str
    details: str


def note(connection: Connection, by: By, what: str, about: str, details: str = "") -> None:
    """Write it down; a stranger's words stay on their line."""
    words = {"by": by.name, "address": by.address, "what": what, "about": about, "details": details}
    plain = {name: spelled_out(" ".join(text.split()))[:MAX_WORDS] for name, text in words.items()}
    connection.execute(insert(Event).values(at=signing.now(), **plain))


def changes(database: Database, most: int, about: str = "") -> Iterator[Change]:
    """The newest first; of one account, where one is named."""
    asked = select(Event.at, Event.by, Event.address, Event.what, Event.about, Event.details)
    if about:
        asked = asked.where((Event.by == about) | (Event.about == about))
    with database.reading() as connection:
        yield from [Change(*row) for row in connection.execute(asked.order_by(Event.id.desc()).limit(most))]

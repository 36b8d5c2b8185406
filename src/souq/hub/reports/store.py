"""What people report in a hub's database: a prompt, what should have come, and how that is judged.

A report is nobody's signature: who files it as a bug reads it and signs for it. Texts are bounded, and those that steer
a terminal or turn writing around are refused, since somebody will read them in one.

    reports = Reports(database)
    id_ = reports.add("atlas/smol", Reported(prompt="what is 2+2", expected="4"), by=By("ada"))
    reports.listed("atlas/smol")
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from souq import signing
from souq.errors import NotFound, Refused
from souq.hub.accounts.tokens import in_days
from souq.hub.accounts.trail import NOBODY, By, note
from souq.hub.database import Database
from souq.hub.database.tables import Report as Row
from souq.pulls.bugs import Reported
from souq.records import Record

MOST_OPEN, MOST_EACH, MOST_NAMELESS = 500, 30, 50  # of a repository; of an account in it; of who has none
DAYS = 180  # after which one that nobody filed is listed no more


class Report(Record, frozen=True):
    """A report, as it is kept."""

    id: int
    repository: str
    by: str
    made: str
    dropped: str
    case: Reported


class Reports:
    """The reports of one hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, repository: str, case: Reported, *, by: By) -> int:
        """A new report, and its number; the same again is the one there is.

        Raises:
            Refused: too many wait.
        """
        with self._database.writing() as connection:
            words = {name: getattr(case, name) for name in ("prompt", "expected", "checker")}
            same = _open(repository).where(*(getattr(Row, name) == text for name, text in words.items()))
            if (row := connection.execute(same).first()) is not None:
                return int(row.id)
            _refuse_many(connection, repository, by.name)
            values = {**words, "title": case.title, "source": case.source, "repository": repository, "dropped": ""}
            made = {"by": by.name, "made": signing.now()}
            id_ = connection.scalar(insert(Row).values(**values, **made).returning(Row.id)) or 0
            note(connection, by, "bug reported", repository, f"draft {id_}")
            return int(id_)

    def get(self, repository: str, id_: int) -> Report:
        """One by its number.

        Raises:
            NotFound: there is none in this repository, or it was dropped.
        """
        with self._database.reading() as connection:
            row = connection.execute(_open(repository).where(Row.id == id_)).first()
        if row is None:
            raise NotFound("no such draft of a bug, or it was dropped")
        return _report(row)

    def listed(self, repository: str, most: int = 50) -> tuple[Report, ...]:
        """Those that were not dropped, the newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(_open(repository).order_by(Row.id.desc()).limit(most)).all()
        return tuple(_report(row) for row in rows)

    def drop(self, repository: str, id_: int, *, by: By) -> None:
        """Have one be listed no more.

        Raises:
            NotFound: there is none.
        """
        with self._database.writing() as connection:
            of = (Row.repository == repository, Row.id == id_, Row.dropped == "")
            if not connection.execute(update(Row).where(*of).values(dropped=signing.now())).rowcount:
                raise NotFound("no such draft of a bug, or it was dropped")
            note(connection, by, "report dropped", repository, f"draft {id_}")


def _open(repository: str) -> Select[Any]:
    return select(Row.__table__).where(Row.repository == repository, Row.dropped == "", Row.made > in_days(-DAYS))


def _refuse_many(connection: Connection, repository: str, name: str) -> None:
    count = select(func.count()).where(Row.repository == repository, Row.dropped == "", Row.made > in_days(-DAYS))
    if (connection.scalar(count) or 0) >= MOST_OPEN:
        raise Refused(f"{MOST_OPEN} reports wait there already", hint="somebody who may write there drops what is none")
    most = MOST_NAMELESS if name == NOBODY else MOST_EACH
    if (connection.scalar(count.where(Row.by == name)) or 0) >= most:
        raise Refused(f"{most} reports of yours wait there already", hint="have them filed, or dropped, first")


def _report(row: object) -> Report:
    own = {name: getattr(row, name) for name in ("id", "repository", "by", "made", "dropped")}
    return Report(**own, case=Reported(**{name: getattr(row, name) for name in Reported.__struct_fields__}))

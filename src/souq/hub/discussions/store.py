"""Discussions of a hub, in its database: begun, answered, renamed, closed; what was said can be changed and hidden.

It knows names, words and numbers. Whose repository it is, and what files are offered, others know.

    discussions = Discussions(database)
    number = discussions.begin(About("models", "amira/notes"), "bruno", "A question", "Why?")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from souq import signing
from souq.errors import NotFound, Refused, UsageError
from souq.hub.database import Database
from souq.hub.database.tables import Discussion, Saying
from souq.records import Record, spelled_out

OWN = 1_000_001  # where the hub's own numbers begin beside git's
MOST_TITLE, MOST_TEXT, LEAST_TITLE = 200, 64 << 10, 3  # characters
MOST_SAYINGS = 5_000  # of one discussion
MOST_A_DAY = 200  # discussions of one account, and ten times as many comments
MOST_CHANGES = 50  # of one comment
STATES = ("open", "closed", "merged", "draft")


@dataclass(frozen=True)
class About:
    """A repository of a kind."""

    kind: str
    name: str


class Talk(Record, frozen=True):
    """A discussion."""

    number: int
    is_pull: bool
    title: str
    status: str
    author: str
    made: str
    merged: str = ""


class Words(Record, frozen=True):
    """One state of a comment."""

    text: str
    at: str
    by: str


class Happened(Record, frozen=True):
    """Something that happened in a discussion."""

    id: int
    type: str
    author: str
    at: str
    data: dict[str, Any]


class Discussions:
    """The discussions of one hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- asked -----------------------------------------------------------------------------------------------------

    def get(self, about: About, number: int) -> Talk:
        """A discussion by its number.

        Raises:
            NotFound: there is none.
        """
        with self._database.reading() as connection:
            return _get(connection, about, number)

    def every(self, about: About) -> list[Talk]:
        """Those of a repository, the newest first."""
        asked = select(Discussion.__table__).where(*_of(Discussion, about)).order_by(Discussion.number.desc())
        with self._database.reading() as connection:
            return [_talk(row) for row in connection.execute(asked)]

    def of_author(self, author: str, status: str) -> list[tuple[About, Talk]]:
        """Those that somebody began and that are in a state, the newest first."""
        asked = select(Discussion.__table__).where(Discussion.author == author, Discussion.status == status)
        with self._database.reading() as connection:
            rows = connection.execute(asked.order_by(Discussion.id.desc())).all()
        return [(About(row.kind, row.repository), _talk(row)) for row in rows]

    def sayings(self, about: About, number: int) -> list[Happened]:
        """What happened in one, the oldest first."""
        asked = select(Saying.__table__).where(*_of(Saying, about), Saying.number == number).order_by(Saying.id)
        with self._database.reading() as connection:
            return [_happened(row) for row in connection.execute(asked)]

    # -- changed ---------------------------------------------------------------------------------------------------

    def begin(
        self, about: About, author: str, title: str, text: str, *, status: str = "open", is_pull: bool = False,
        first: int = 1,
    ) -> int:  # fmt: skip
        """A new discussion, and its number.

        Raises:
            UsageError: its title or its text is none.
            Refused: they begin too many.
        """
        title, text, now = _title(title), _text(text), signing.now()
        with self._database.writing() as connection:
            _refuse_many(connection, Discussion, author, Discussion.made, MOST_A_DAY)
            asked = select(func.max(Discussion.number)).where(*_of(Discussion, about), Discussion.number >= first)
            number = (connection.scalar(asked) or first - 1) + 1
            row = {"number": number, "is_pull": int(is_pull), "title": title, "status": status, "author": author}
            connection.execute(insert(Discussion).values(**_values(about), **row, made=now, merged=""))
            if text:
                _say(connection, about, number, "comment", author, _comment(text, now, author))
        return number

    def comment(self, about: About, number: int, author: str, text: str) -> Happened:
        """Say something; about a pull request of git's, too, which only git knows.

        Raises:
            UsageError: it is no text.
            Refused: too much was said.
        """
        if not (text := _text(text)):
            raise UsageError("a comment says something")
        now = signing.now()
        with self._database.writing() as connection:
            _refuse_many(connection, Saying, author, Saying.at, 10 * MOST_A_DAY)
            return _say(connection, about, number, "comment", author, _comment(text, now, author))

    def note(self, about: About, number: int, type_: str, author: str, data: dict[str, Any]) -> Happened:
        """Something that happened."""
        with self._database.writing() as connection:
            return _say(connection, about, number, type_, author, data)

    def rename(self, about: About, number: int, author: str, title: str) -> Happened:
        """Another title.

        Raises:
            UsageError: it is none.
            NotFound: there is no such discussion.
        """
        title = _title(title)
        with self._database.writing() as connection:
            before = _get(connection, about, number)
            connection.execute(update(Discussion).where(*_at(about, number)).values(title=title))
            return _say(connection, about, number, "title-change", author, {"from": before.title, "to": title})

    def set_status(self, about: About, number: int, author: str, status: str, merged: str = "") -> Happened:
        """Another state; what was merged stays so.

        Raises:
            NotFound: there is no such discussion.
            UsageError: no state, or it was merged.
        """
        with self._database.writing() as connection:
            if status not in STATES or _get(connection, about, number).status == "merged":
                raise UsageError("it is open, closed, merged or a draft, and what was merged stays so")
            connection.execute(update(Discussion).where(*_at(about, number)).values(status=status, merged=merged))
            return _say(connection, about, number, "status-change", author, {"status": status})

    def edit(self, about: About, number: int, id_: int, author: str, text: str) -> Happened:
        """What a comment is to say from now on; what it said is kept.

        Raises:
            NotFound: there is no such comment of theirs.
            UsageError: it is no text, or was changed too often.
        """
        now, text = signing.now(), _text(text)
        with self._database.writing() as connection:
            saying = _comment_at(connection, about, number, id_)
            if saying.author != author or saying.data["hidden"]:
                raise NotFound("no such comment of yours")
            if not text or len(saying.data["history"]) >= MOST_CHANGES:
                raise UsageError(f"a comment says something, and is changed at most {MOST_CHANGES} times")
            words = _words(text, now, author)
            return _put(connection, saying, saying.data | {"history": [*saying.data["history"], words], "edited": True})

    def hide(self, about: About, number: int, id_: int, by: str) -> Happened:
        """Show a comment no more; who may, somebody else judges.

        Raises:
            NotFound: there is no such comment.
        """
        with self._database.writing() as connection:
            saying = _comment_at(connection, about, number, id_)
            return _put(connection, saying, saying.data | {"hidden": True, "by": by, "history": []})

    def move(self, about: About, to: About) -> None:
        """Have all of it be about a repository's other name."""
        with self._database.writing() as connection:
            for table in (Discussion, Saying):
                connection.execute(update(table).where(*_of(table, about)).values(**_values(to)))

    def forget(self, about: About) -> None:
        """Remove all that was said about a repository that is gone."""
        with self._database.writing() as connection:
            for table in (Discussion, Saying):
                connection.execute(delete(table).where(*_of(table, about)))


# -- with a connection -------------------------------------------------------------------------------------------------


def _get(connection: Connection, about: About, number: int) -> Talk:
    row = connection.execute(select(Discussion.__table__).where(*_at(about, number))).first()
    if row is None:
        raise NotFound(f"no discussion {number} of {about.name}")
    return _talk(row)


def _comment_at(connection: Connection, about: About, number: int, id_: int) -> Happened:
    asked = select(Saying.__table__).where(*_of(Saying, about), Saying.number == number, Saying.id == id_)
    row = connection.execute(asked.where(Saying.type == "comment")).first()
    if row is None:
        raise NotFound("no such comment")
    return _happened(row)


def _say(
    connection: Connection, about: About, number: int, type_: str, author: str, data: dict[str, Any]
) -> Happened:  # fmt: skip
    asked = select(func.count()).select_from(Saying).where(*_of(Saying, about), Saying.number == number)
    if (connection.scalar(asked) or 0) >= MOST_SAYINGS:
        raise Refused(f"more than {MOST_SAYINGS:,} things happened here: begin another discussion")
    saying = Happened(id=0, type=type_, author=author, at=signing.now(), data=data)
    row = {"number": number, "type": type_, "author": author, "at": saying.at, "data": _json(data)}
    made = connection.execute(insert(Saying).values(**_values(about), **row).returning(Saying.id)).scalar_one()
    return msgspec.structs.replace(saying, id=made)


def _put(connection: Connection, saying: Happened, data: dict[str, Any]) -> Happened:
    connection.execute(update(Saying).where(Saying.id == saying.id).values(data=_json(data)))
    return msgspec.structs.replace(saying, data=data)


def _refuse_many(connection: Connection, table: Any, author: str, column: Any, most: int) -> None:
    since = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if author.startswith("("):  # the hub itself: no account is called so
        return
    asked = select(func.count()).select_from(table).where(table.author == author, column > since)
    if (connection.scalar(asked) or 0) >= most:
        raise Refused(f"{author} has begun or said {most:,} things today: go on tomorrow")


def _comment(text: str, at: str, by: str) -> dict[str, Any]:
    return {"edited": False, "hidden": False, "history": [_words(text, at, by)]}


def _words(text: str, at: str, by: str) -> dict[str, str]:
    return {"text": text, "at": at, "by": by}


def _title(title: str) -> str:
    title = spelled_out(" ".join(title.split()))
    if not LEAST_TITLE <= len(title) <= MOST_TITLE:
        raise UsageError(f"a title has {LEAST_TITLE} to {MOST_TITLE} characters")
    return title


def _text(text: str) -> str:
    text = spelled_out(text.strip())
    if len(text) > MOST_TEXT:
        raise UsageError(f"at most {MOST_TEXT:,} characters are said at once")
    return text


def _json(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()


def _talk(row: Row[Any]) -> Talk:
    return Talk(
        number=row.number, is_pull=bool(row.is_pull), title=row.title, status=row.status, author=row.author,
        made=row.made, merged=row.merged,
    )  # fmt: skip


def _happened(row: Row[Any]) -> Happened:
    return Happened(id=row.id, type=row.type, author=row.author, at=row.at, data=msgspec.json.decode(row.data))


def _values(about: About) -> dict[str, str]:
    return {"kind": about.kind, "repository": about.name}


def _of(table: Any, about: About) -> Sequence[Any]:
    return table.kind == about.kind, table.repository == about.name


def _at(about: About, number: int) -> Sequence[Any]:
    return *_of(Discussion, about), Discussion.number == number

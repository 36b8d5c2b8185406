"""Who likes which repository: once each, taken back at will, and told to anybody. Nothing on a hub asks it.

likes = Likes(database)
likes.add(About("models", "amira/notes"), "bruno")
likes.count(About("models", "amira/notes"))
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, func, insert, select, update

from souq import signing
from souq.errors import Refused
from souq.hub.database import Database
from souq.hub.database.tables import Like
from souq.hub.discussions.store import About

MOST = 10_000  # of one account


class Likes:
    """The likes of one hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, about: About, account: str) -> None:
        """Have an account like a repository; again is once.

        Raises:
            Refused: it likes too many.
        """
        mine = select(func.count()).select_from(Like).where(Like.account == account)
        with self._database.writing() as connection:
            if connection.scalar(mine.where(*_of(about))):
                return
            if (connection.scalar(mine) or 0) >= MOST:
                raise Refused(f"{account} likes {MOST:,} repositories already", hint="unlike some")
            row = {"kind": about.kind, "repository": about.name, "account": account, "at": signing.now()}
            connection.execute(insert(Like).values(**row))

    def drop(self, about: About, account: str) -> None:
        """Take it back, where there is one."""
        with self._database.writing() as connection:
            connection.execute(delete(Like).where(*_of(about), Like.account == account))

    def count(self, about: About) -> int:
        """How many like a repository."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(Like).where(*_of(about))) or 0

    def likers(self, about: About, start: int, most: int) -> list[str]:
        """Who likes a repository, by name."""
        asked = select(Like.account).where(*_of(about)).order_by(Like.account).offset(start).limit(most)
        with self._database.reading() as connection:
            return list(connection.scalars(asked))

    def liked(self, account: str, start: int, most: int) -> list[tuple[About, str]]:
        """What an account likes and since when, the newest first."""
        asked = select(Like.kind, Like.repository, Like.at).where(Like.account == account)
        asked = asked.order_by(Like.at.desc(), Like.kind, Like.repository).offset(start).limit(most)
        with self._database.reading() as connection:
            return [(About(row.kind, row.repository), row.at) for row in connection.execute(asked)]

    def move(self, about: About, to: About) -> None:
        """Have them be of a repository's other name."""
        self.forget(to)
        with self._database.writing() as connection:
            connection.execute(update(Like).where(*_of(about)).values(kind=to.kind, repository=to.name))

    def forget(self, about: About) -> None:
        """Remove those of a repository that is gone."""
        with self._database.writing() as connection:
            connection.execute(delete(Like).where(*_of(about)))


def _of(about: About) -> tuple[ColumnElement[bool], ...]:
    return Like.kind == about.kind, Like.repository == about.name

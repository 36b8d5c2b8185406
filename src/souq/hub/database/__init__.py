"""What a hub cannot make again, in one database: SQLite in a file, or PostgreSQL by its URL.

It knows tables and how they came to be (migrations/); it has never heard of requests. Whoever writes is alone: on
SQLite from the first word on, so nobody is refused half-way. A database that is away is an answer, and is asked again.

    database = Database("sqlite:////srv/hub/hub.sqlite")
    with database.writing() as connection:
        connection.execute(insert(tables.Name).values(key="ada", name="Ada", kind="account"))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as Exhausted

from souq.errors import SouqError, UsageError
from souq.optional import needs

FILE = "hub.sqlite"
PATIENCE = 5  # seconds: for a connection, for a lock, for a place in the pool
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = Lock()  # what Alembic's steps stand on is one for a process


class Away(SouqError):
    """The database cannot be asked now: nothing was changed, and the same may be asked again."""


class Database:
    """Connections to one database, whose tables are as this version has them."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._migrate()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state.

        Raises:
            Away: the database cannot be asked.
        """
        with _asked(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection whose changes are kept when the block ends, all or none.

        Raises:
            Away: the database cannot be asked.
        """
        with _asked(), self.engine.connect() as connection:
            connection = connection.execution_options(souq_writes=True)
            with connection.begin():
                yield connection

    def revision(self) -> str:
        """Which migration its tables are of."""
        with self.reading() as connection:
            return MigrationContext.configure(connection).get_current_revision() or ""

    def close(self) -> None:
        """Let every connection go."""
        self.engine.dispose()

    def _migrate(self) -> None:
        config = _config()
        try:
            with _MIGRATING, self.writing() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            hint = "run the version of souq that made it, or a newer one"
            raise UsageError(f"the database is not of this version: {error}", hint=hint) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def revisions(url: str) -> tuple[str, str]:
    """Which migration a database is of, "" for none, and which this version has last; nothing is changed.

    Raises:
        Away: it cannot be asked.
    """
    engine = _engine(url)
    try:
        with _asked(), engine.connect() as connection:
            now = MigrationContext.configure(connection).get_current_revision() or ""
    except DBAPIError as error:
        raise Away(f"no database of a hub: {error.orig}", hint="restore it from a backup") from error
    finally:
        engine.dispose()
    return now, ScriptDirectory.from_config(_config()).get_current_head() or ""


def url_in(data: Path) -> str:
    """The URL of the database that a hub keeps in its folder unless it is given another."""
    return f"sqlite:///{(data / FILE).absolute()}"


def _engine(url: str) -> Engine:
    """An engine for a URL; PostgreSQL is spoken by psycopg.

    Raises:
        UsageError: no URL, or of a database that souq does not speak.
        Missing: psycopg is not installed.
    """
    hint = "sqlite:///FILE, or postgresql://USER@HOST/NAME"
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise UsageError("the --database is no URL", hint=hint) from error
    if address.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgres(address.set(drivername="postgresql+psycopg"))
    if address.drivername != "sqlite" or not address.database:
        raise UsageError(f"a database of kind {address.drivername[:40]!r} is not spoken here", hint=hint)
    return _sqlite(address, Path(address.database))


def _postgres(address: Any) -> Engine:
    with needs("psycopg", "postgres"):
        import psycopg  # noqa: F401
    asked = {"connect_timeout": PATIENCE, "options": "-c statement_timeout=30000 -c lock_timeout=10000"}
    return create_engine(address, pool_pre_ping=True, pool_timeout=PATIENCE, pool_recycle=1_800, connect_args=asked)


def _sqlite(address: Any, file: Path) -> Engine:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)  # hashes of passwords are for nobody else's eyes; what SQLite puts beside it is as it is
    except OSError as error:
        raise UsageError(f"cannot keep a database in {file.parent}: {error.strerror}", hint="name --data") from error
    engine = create_engine(address, pool_timeout=PATIENCE, connect_args={"timeout": PATIENCE})
    event.listen(engine, "connect", _connected)
    event.listen(engine, "begin", _begun)
    return engine


def _connected(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins nothing of its own: _begun does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    # A reader that begins to write may be refused at once, whatever its patience; so who writes says so first.
    is_writer = connection.get_execution_options().get("souq_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, Exhausted) as error:
        raise Away("the database cannot be asked now", hint="try again in a moment") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Away("the connection to the database was lost", hint="try again in a moment") from error
        raise

"""What Alembic runs: the steps on the connection that it is given, one process at a time.

command.upgrade(config, "head")    # config.attributes["connection"] is who asks
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from souq.hub.database.tables import Table

LOCK = 0x736F7571  # any number that nobody else takes: "souq"

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":  # SQLite's writers are alone anyhow
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
context.configure(connection=connection, target_metadata=Table.metadata)
context.run_migrations()

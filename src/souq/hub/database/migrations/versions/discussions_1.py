"""What is said on a hub: discussions, and what happened in each."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, Text

revision, down_revision = "discussions_1", "accounts_1"


def upgrade() -> None:
    """Make them."""
    about = [Column(name, Text, nullable=False) for name in ("kind", "repository")]
    words = [Column(name, Text, nullable=False) for name in ("title", "status", "author", "made", "merged")]
    op.create_table(
        "discussions", Column("id", Integer, primary_key=True), *about, Column("number", Integer, nullable=False),
        Column("is_pull", Integer, nullable=False), *words,
    )  # fmt: skip
    op.create_index("discussions_about", "discussions", ["kind", "repository", "number"], unique=True)
    op.create_index("discussions_author", "discussions", ["author", "made"])
    about = [Column(name, Text, nullable=False) for name in ("kind", "repository")]
    words = [Column(name, Text, nullable=False) for name in ("type", "author", "at", "data")]
    op.create_table(
        "sayings", Column("id", Integer, primary_key=True), *about, Column("number", Integer, nullable=False), *words
    )
    op.create_index("sayings_about", "sayings", ["kind", "repository", "number", "id"])

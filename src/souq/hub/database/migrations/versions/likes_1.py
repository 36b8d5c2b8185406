"""Who likes which repository."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKey, Text

revision, down_revision = "likes_1", "webhooks_1"


def upgrade() -> None:
    """Make it."""
    of = [Column(name, Text, primary_key=True) for name in ("kind", "repository")]
    account = Column("account", Text, ForeignKey("accounts.name"), primary_key=True, index=True)
    op.create_table("likes", *of, account, Column("at", Text, nullable=False))

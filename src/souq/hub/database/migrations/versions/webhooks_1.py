"""Whom to tell of what is new, and what has come."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, Text

revision, down_revision = "webhooks_1", "reports_1"

TEXTS = "url repository events secret begun due ended because"


def upgrade() -> None:
    """Make them."""
    texts = [Column(name, Text, nullable=False) for name in TEXTS.split()]
    numbers = [Column(name, Integer, nullable=False) for name in ("is_internal", "tries")]
    op.create_table("webhooks", Column("id", Integer, primary_key=True), *numbers, *texts)
    hook = Column("hook", Integer, primary_key=True, autoincrement=False)
    op.create_table("webhooks_came", hook, Column("entry", Text, primary_key=True))

"""Bugs that people report in a browser."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, Text

revision, down_revision = "reports_1", "jobs_1"

TEXTS = "repository prompt expected checker title source by made dropped"


def upgrade() -> None:
    """Make them."""
    texts = [Column(name, Text, nullable=False) for name in TEXTS.split()]
    op.create_table("reports", Column("id", Integer, primary_key=True), *texts)
    op.create_index("reports_about", "reports", ["repository", "dropped", "id"])

"""Work that is done by other processes."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, Text

revision, down_revision = "jobs_1", "discussions_1"

TEXTS = "kind repository state by made holder lease begun ended because result log"


def upgrade() -> None:
    """Make them."""
    numbers = [Column(name, Integer, nullable=False) for name in ("number", "rank", "tries")]
    texts = [Column(name, Text, nullable=False) for name in TEXTS.split()]
    op.create_table("jobs", Column("id", Integer, primary_key=True), *numbers, *texts)
    op.create_index("jobs_next", "jobs", ["state", "rank", "id"])
    op.create_index("jobs_about", "jobs", ["repository", "number", "id"])

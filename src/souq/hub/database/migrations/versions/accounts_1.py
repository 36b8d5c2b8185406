"""Accounts, their keys, organisations and tokens, who is signed in, and what was changed."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, ForeignKey, Integer, Text

revision, down_revision = "accounts_1", None


def upgrade() -> None:
    """Make them."""
    op.create_table("names", _key("key"), _text("name", unique=True), _text("kind"), _text("made"))
    op.create_table(
        "accounts", _key("name", ForeignKey("names.name")), _text("email"), _text("password"), _text("disabled")
    )
    op.create_table("keys", _key("key"), _account(), _text("title"), _text("added"))
    op.create_table(
        "members", _key("organisation", ForeignKey("names.name")), _key("account", ForeignKey("accounts.name"))
    )
    op.create_index("ix_members_account", "members", ["account"])
    _tokens()
    op.create_table("sessions", _key("hash"), _account(), _text("made"), _text("expires", index=True))
    op.create_table("spent", _key("nonce"), _text("expires", index=True))
    op.create_table("settings", _key("name"), _text("value"))
    op.create_table("invitations", _key("hash"), _text("by"), _text("expires"), _text("taken"))
    columns = [_text(name) for name in ("at", "by", "address", "what", "about", "details")]
    op.create_table("events", Column("id", Integer, primary_key=True), *columns)
    op.create_index("events_by", "events", ["by", "id"])


def _tokens() -> None:
    columns = [_text(name) for name in ("title", "scope", "repository", "made", "expires", "revoked", "used")]
    op.create_table("tokens", _key("id"), _text("hash", unique=True), _account(), *columns)


def _text(name: str, *, unique: bool = False, index: bool = False) -> Column[str]:
    return Column(name, Text, nullable=False, unique=unique or None, index=index)


def _key(name: str, *of: ForeignKey) -> Column[str]:
    return Column(name, Text, *of, primary_key=True)


def _account() -> Column[str]:
    return Column("account", Text, ForeignKey("accounts.name"), nullable=False, index=True)

"""The tables of a hub, as this version has them; migrations/ says how an older database becomes so.

Times are texts as records spell them, so they are compared as they stand. What is secret is kept as a hash.

    select(Account.name).where(Account.disabled == "")
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Scope = Literal["read", "write", "admin"]


class Table(DeclarativeBase):
    """What every table shares."""

    type_annotation_map = {str: Text}  # noqa: RUF012 - SQLAlchemy's own word


class Name(Table):
    """Accounts and organisations have names of one kind, so no two look alike: `key` is the name without its dress."""

    __tablename__ = "names"
    key: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]  # account, organisation
    made: Mapped[str]


class Account(Table):
    """Somebody who may sign in; `password` is what argon2 made of it, "" where there is none."""

    __tablename__ = "accounts"
    name: Mapped[str] = mapped_column(ForeignKey("names.name"), primary_key=True)
    email: Mapped[str]
    password: Mapped[str]
    disabled: Mapped[str]  # since when; "" where it may sign in


class Key(Table):
    """An ssh public key that somebody has proved to have."""

    __tablename__ = "keys"
    key: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    title: Mapped[str]
    added: Mapped[str]


class Member(Table):
    """Who is of which organisation."""

    __tablename__ = "members"
    organisation: Mapped[str] = mapped_column(ForeignKey("names.name"), primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), primary_key=True, index=True)


class Token(Table):
    """What a program signs in with; the token itself is nowhere."""

    __tablename__ = "tokens"
    id: Mapped[str] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    title: Mapped[str]
    scope: Mapped[Scope] = mapped_column(Text)  # the highest
    repository: Mapped[str]  # the only one it is for; "" for all
    made: Mapped[str]
    expires: Mapped[str]
    revoked: Mapped[str]
    used: Mapped[str]  # last, to the minute


class Session(Table):
    """A browser that is signed in; its cookie is nowhere."""

    __tablename__ = "sessions"
    hash: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), index=True)
    made: Mapped[str]
    expires: Mapped[str] = mapped_column(index=True)


class Spent(Table):
    """A text that somebody has signed, to sign in or to prove a key: it counts once."""

    __tablename__ = "spent"
    nonce: Mapped[str] = mapped_column(primary_key=True)
    expires: Mapped[str] = mapped_column(index=True)


class Setting(Table):
    """What the hub's processes share, such as what it seals with."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Invitation(Table):
    """A word by which somebody may register, once."""

    __tablename__ = "invitations"
    hash: Mapped[str] = mapped_column(primary_key=True)
    by: Mapped[str]
    expires: Mapped[str]
    taken: Mapped[str]  # by whom; "" while it may be


class Event(Table):
    """Something that was changed: who, what, when, from where."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    by: Mapped[str]
    address: Mapped[str]
    what: Mapped[str]
    about: Mapped[str]
    details: Mapped[str]


Index("events_by", Event.by, Event.id)


class Discussion(Table):
    """Something that people talk about on this hub: a question, or files that somebody offers."""

    __tablename__ = "discussions"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]  # models, datasets
    repository: Mapped[str]
    number: Mapped[int]
    is_pull: Mapped[int]
    title: Mapped[str]
    status: Mapped[str]  # open, closed, merged, draft
    author: Mapped[str]
    made: Mapped[str]
    merged: Mapped[str]  # the commit that it became; "" where it is none


class Saying(Table):
    """What happened in a discussion, or what was said on this hub about a pull request of git's."""

    __tablename__ = "sayings"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    repository: Mapped[str]
    number: Mapped[int]
    type: Mapped[str]
    author: Mapped[str]
    at: Mapped[str]
    data: Mapped[str]  # JSON


Index("discussions_about", Discussion.kind, Discussion.repository, Discussion.number, unique=True)
Index("discussions_author", Discussion.author, Discussion.made)
Index("sayings_about", Saying.kind, Saying.repository, Saying.number, Saying.id)


class Like(Table):
    """That somebody likes a repository."""

    __tablename__ = "likes"
    kind: Mapped[str] = mapped_column(primary_key=True)
    repository: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.name"), primary_key=True, index=True)
    at: Mapped[str]


class Job(Table):
    """Work that a worker does: who asked, who holds it and until when, what it wrote and found."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]  # look, checks, build
    repository: Mapped[str]
    number: Mapped[int]  # of the pull request; 0 for main
    state: Mapped[str]  # waiting, running, done, failed, cancelled
    rank: Mapped[int]  # cheap ones first
    by: Mapped[str]
    made: Mapped[str]
    tries: Mapped[int]
    holder: Mapped[str]  # a word of the worker's that holds it; "" where nobody does
    lease: Mapped[str]  # until when
    begun: Mapped[str]
    ended: Mapped[str]
    because: Mapped[str]  # why it failed
    result: Mapped[str]  # JSON
    log: Mapped[str]


Index("jobs_next", Job.state, Job.rank, Job.id)
Index("jobs_about", Job.repository, Job.number, Job.id)


class Report(Table):
    """A bug that somebody reported and nobody has signed."""

    __tablename__ = "reports"
    id: Mapped[int] = mapped_column(primary_key=True)
    repository: Mapped[str]
    prompt: Mapped[str]
    expected: Mapped[str]
    checker: Mapped[str]  # "" for exactly
    title: Mapped[str]
    source: Mapped[str]  # where the right answer is to be found
    by: Mapped[str]
    made: Mapped[str]
    dropped: Mapped[str]  # since when; "" while it waits


Index("reports_about", Report.repository, Report.dropped, Report.id)


class Hook(Table):
    """Whom to tell of what is new."""

    __tablename__ = "webhooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str]
    repository: Mapped[str]  # "" for all
    events: Mapped[str]  # of what, with spaces between
    secret: Mapped[str]  # what is sent is signed with it, so it is kept as it is
    is_internal: Mapped[int]
    begun: Mapped[str]
    tries: Mapped[int]  # that failed, one after another
    due: Mapped[str]
    ended: Mapped[str]  # since when nothing is tried any more
    because: Mapped[str]  # why the last one did not come


class Came(Table):
    """Something that came to a webhook, while it stands in a feed."""

    __tablename__ = "webhooks_came"
    hook: Mapped[int] = mapped_column(primary_key=True)
    entry: Mapped[str] = mapped_column(primary_key=True)

"""What a hub shows under a name: a model or a corpus, each with revisions that have files and a history.

Routes know these questions alone; models.py and corpora.py answer them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from souq.hub.huggingface.revisions import Previews, Revision
from souq.hub.listing import Listing
from souq.records import spelled_out
from souq.signing import Person

Row = dict[str, Any]


class Source(Protocol):
    """A model or a corpus."""

    def find(self, name: str, previews: Previews) -> Revision:
        """The revision that a client names; a Problem where there is none."""

    def write(self, revision: Revision, folder: Path, person: Person | None) -> None:
        """Write the files of a revision into a folder that is there and empty; `person` signs what is to be signed."""

    def commits(self, revision: Revision, most: int) -> list[Row]:
        """The revision and what came before it, the newest first, as commits."""

    def refs(self, previews: Previews, *, with_pulls: bool) -> Row:
        """What can be named."""

    def warning(self, revision: Revision) -> str:
        """What its user is to be told, as `topic; text`; "" where nothing is."""

    def facts(self, name: str, revision: Revision, listing: Listing, read: Callable[[str], bytes]) -> Row:
        """All that is known of a revision, but for its digits and files; `read` gives a file's bytes."""


def commit_row(oid: str, at: str, by: str, subject: str) -> Row:
    """A commit as clients read it."""
    return {
        "id": oid, "title": spelled_out(subject), "message": "", "date": utc(at),
        "authors": [{"user": spelled_out(by), "avatar": ""}],
    }  # fmt: skip


def named_row(name: str, ref: str, commit: str) -> Row:
    """What can be named, and the digits it stands for."""
    return {"name": name, "ref": ref, "targetCommit": commit}


def owned(name: str) -> Row:
    """What is said of everything by its name alone."""
    org = name.rpartition("/")[0] or None
    return {"_id": name, "id": name, "author": org, "private": False, "gated": False, "disabled": False}


def utc(at: str) -> str:
    """A date as clients parse it, in UTC and with a Z; a stranger's that is none is the first there is."""
    try:
        date = datetime.fromisoformat(at).astimezone(UTC)
    except (ValueError, OverflowError):
        date = datetime.fromtimestamp(0, UTC)
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")

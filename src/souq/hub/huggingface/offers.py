"""Pull requests that come as files: of a plain repository, to its owner; of a governed model, as a draft.

A pull request is there from the moment that its ref is, and not before, whatever stops the one who makes it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.requests import Request

from souq.errors import NotFound, Refused
from souq.hub.discussions.store import OWN, About, Discussions, Talk
from souq.hub.huggingface.asked import Hub, hub_of
from souq.hub.huggingface.judging import judge
from souq.hub.plain.drafts import DAYS, MOST, MOST_BYTES, MOST_FILES
from souq.hub.plain.repository import REPEATED, Added, Change, Plain
from souq.hub.problems import Problem
from souq.repo.git import MAIN

THE_HUB = "(hub)"  # no account is called so
COMMAND = "souq pr create {} --title … --licence … --signoff"


@dataclass(frozen=True)
class Place:
    """Where pull requests of a repository are: in it, or among the drafts of a model."""

    about: About
    plain: Plain | None  # None where it is the drafts of a model
    discussions: Discussions
    hub: Hub

    @property
    def is_draft(self) -> bool:
        """Whether it is a governed model's."""
        return self.plain is None

    @property
    def repository(self) -> Plain:
        """Where the files are; where they would be, it is made."""
        return self.plain or self.hub.drafts.open(self.about.name)

    @property
    def first(self) -> int:
        """Where its numbers begin: git gives out those of souq's own pull requests."""
        return OWN if self.is_draft else 1

    def ref(self, number: int) -> str | None:
        """What a pull request offers."""
        there = self.plain or self.hub.drafts.get(self.about.name)
        return there.ref(f"refs/pr/{number}") if there is not None else None

    def is_there(self, talk: Talk) -> bool:
        """Whether anybody sees it: one that was being made when its maker was stopped, nobody does."""
        return not talk.is_pull or talk.status not in ("open", "draft") or self.ref(talk.number) is not None


def place_of(request: Request, about: About, plain: Plain | None) -> Place:
    """Where a request's pull requests are."""
    return Place(about, plain, request.app.state.discussions, hub_of(request))


def open_(place: Place, author: str, title: str, text: str, commit: str) -> int:
    """A new pull request, and its number.

    Raises:
        Problem: they have too many drafts.
    """
    if place.is_draft:
        _sweep(place)
        _refuse_many(place, author)
    status = "draft" if place.is_draft or commit == place.repository.ref(MAIN) else "open"
    number = place.discussions.begin(
        place.about, author, title, text, status=status, is_pull=True, first=place.first
    )  # fmt: skip
    place.repository.move(f"refs/pr/{number}", commit, None)
    return number


def offered(place: Place, author: str, title: str, text: str, commit: str) -> int:
    """A pull request of a commit; the one that they just made of the same, where there is one."""
    again = _again(place, author, commit)
    number = again or open_(place, author, title, text, commit)
    if not again:
        came(place, number, author, title, commit)
    return number


def came(place: Place, number: int, author: str, title: str, commit: str) -> None:
    """That a commit came to a pull request; a draft is read by the hub."""
    place.discussions.note(place.about, number, "commit", author, {"subject": title, "oid": commit})
    if place.is_draft:
        place.hub.judges.submit(_judge, place, number, commit)


def refuse_large(place: Place, author: str, changes: list[Change]) -> None:
    """Say no to more than an account may have in drafts.

    Raises:
        Problem: it is more.
    """
    if place.is_draft:
        added = [each for each in changes if isinstance(each, Added)]
        held = sum(place.hub.drafts.size(about.name, talk.number) for about, talk in _drafts(place, author))
        if len(changes) > MOST_FILES or held + sum(each.size for each in added) > MOST_BYTES:
            most = f"{MOST_FILES:,} files in one draft, and {MOST_BYTES >> 30} GiB in all of {author}'s"
            raise Problem(413, "BadRequest", f"at most {most}: close those that are done")


def close(place: Place, number: int) -> None:
    """A draft that is closed holds no files."""
    if place.is_draft:
        place.repository.drop(f"refs/pr/{number}")


def _again(place: Place, author: str, commit: str) -> int:
    since = (datetime.now(UTC) - timedelta(seconds=REPEATED)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for talk in place.discussions.every(place.about):
        if talk.made < since:
            break
        head = place.ref(talk.number) if talk.is_pull and talk.author == author else None
        if head is not None and place.repository.repeats(head, commit):
            return talk.number
    return 0


def _drafts(place: Place, author: str) -> list[tuple[About, Talk]]:
    rows = place.discussions.of_author(author, "draft")
    return [(about, talk) for about, talk in rows if talk.number >= OWN]


def _refuse_many(place: Place, author: str) -> None:
    if len(_drafts(place, author)) >= MOST:
        raise Problem(403, "", f"{author} has {MOST} drafts already: close those that are done")


def _sweep(place: Place) -> None:
    """Close the drafts that nobody made into anything."""
    since = (datetime.now(UTC) - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for talk in place.discussions.every(place.about):
        if talk.status == "draft" and talk.made < since:
            place.discussions.set_status(place.about, talk.number, THE_HUB, "closed")
            close(place, talk.number)


def _judge(place: Place, number: int, commit: str) -> None:
    with suppress(Refused, NotFound):
        model = place.hub.catalog.open(place.about.name)
        text = judge(place.repository, commit, model.git_dir)
        place.discussions.comment(place.about, number, THE_HUB, f"{commit[:12]}: {text}")

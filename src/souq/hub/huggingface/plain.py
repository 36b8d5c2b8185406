"""A plain repository as a model or a data set on a hub: any branch, tag or commit of it, as git has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from souq.errors import NotFound
from souq.hub.huggingface.corpora import card
from souq.hub.huggingface.revisions import COMMIT, Previews, Revision, summary
from souq.hub.huggingface.sources import Row, commit_row, named_row, owned, utc
from souq.hub.listing import File, Listing
from souq.hub.plain.repository import Plain
from souq.hub.problems import Problem
from souq.repo.git import MAIN
from souq.signing import Person

CARD = "README.md"
MOST_CARD = 1 << 20  # bytes
_NAMED = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
# What of a card stands among the tags of a model, as clients filter by it.
_TAGGED = {"license": "license:", "language": "", "datasets": "dataset:", "base_model": "base_model:", "tags": ""}


class PlainSource:
    """A plain repository by its name."""

    def __init__(self, name: str, repository: Plain) -> None:
        self.name, self.repository = name, repository

    def find(self, name: str, previews: Previews) -> Revision:
        """What a client names: a branch, a tag, a pull request, or 40 digits that some ref leads to.

        Raises:
            Problem: nothing is called so.
        """
        if (commit := self.named(name)) is not None:
            return Revision(commit, commit)
        if COMMIT.fullmatch(name) and self.repository.reaches(name):
            return Revision(name, name)
        raise Problem(404, "RevisionNotFound", f"no revision {name[:80]!r} in {self.name}")

    def named(self, name: str) -> str | None:
        """The commit that a branch, a tag or a pull request is at."""
        names = [name] if name.startswith("refs/") else [f"refs/heads/{name}", f"refs/tags/{name}"]
        oid = next((oid for each in names if (oid := self.repository.ref(each)) is not None), None)
        return self.repository.commit(oid) if oid is not None else None

    def listing(self, revision: Revision) -> Listing | None:
        """The files of a revision, as git has them."""
        return self.repository.listing(revision.id)

    def place(self, file: File) -> Path:
        """Where the bytes of a file are.

        Raises:
            Problem: nobody brought them.
        """
        try:
            return self.repository.place(file)
        except NotFound as error:
            raise Problem(404, "EntryNotFound", str(error)) from error

    def write(self, revision: Revision, folder: Path, person: Person | None) -> None:
        """Nothing: its files are there.

        Raises:
            NotImplementedError: it is asked for.
        """
        raise NotImplementedError("a plain repository is not built")

    def commits(self, revision: Revision, most: int) -> list[Row]:
        """A commit and what came before it."""
        return [commit_row(*row) for row in self.repository.summaries(revision.id, most)]

    def refs(self, previews: Previews, *, with_pulls: bool) -> Row:
        """What can be named."""
        rows: Row = {"converts": []}
        for kind, below in _NAMED.items():
            if kind != "pullRequests" or with_pulls:
                refs = self.repository.refs(below)
                rows[kind] = [named_row(ref.removeprefix(below), ref, self.repository.commit(ref)) for ref in refs]
        return rows

    def warning(self, revision: Revision) -> str:
        """Nothing: its owner answers for it."""
        return ""

    def facts(self, name: str, revision: Revision, listing: Listing, read: Callable[[str], bytes]) -> Row:
        """What its card says, and when it changed."""
        return described(self.name, self.repository, revision.id)

    def described(self) -> Row:
        """It as a list has it."""
        head = self.repository.commit(MAIN)
        return described(self.name, self.repository, head) | {"sha": head}


@lru_cache(maxsize=2_000)
def described(name: str, repository: Plain, commit: str) -> Row:
    """What a plain repository says of itself at a commit."""
    first = summary(repository, repository.history(commit)[0])
    head = _card(repository, commit)
    row = owned(name) | {"modelId": name, "tags": _tags(head), "cardData": head}
    row |= {key: value for key in ("library_name", "pipeline_tag") if isinstance(value := head.get(key), str)}
    return row | {"createdAt": utc(first[1]), "lastModified": utc(summary(repository, commit)[1])}


def _card(repository: Plain, commit: str) -> Row:
    file = repository.listing(commit).get(CARD)
    if file is None or file.by_pointer or file.size > MOST_CARD:
        return {}
    return card(repository.contents([file.oid])[0])


def _tags(card: Row) -> list[str]:
    values = [(mark, card.get(key, [])) for key, mark in _TAGGED.items()]
    words = [(mark, word) for mark, value in values for word in (value if isinstance(value, list) else [value])]
    return [f"{mark}{word}" for mark, word in words if isinstance(word, str)]

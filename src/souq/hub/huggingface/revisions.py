"""Which state of a model a client names, and the 40 digits that say the same for ever.

`main`, a release by its version (`1.0` or `v1.0`), a commit of main, or `refs/pr/N`: what main would be with pull
request N merged. No commit holds the last, so its digits are a digest of both commits; which those were is kept, for a
client that goes on with the digits when main has moved.

    find(repo, "v1.0", previews).id
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import msgspec

from souq.errors import NotFound, SouqError
from souq.files import replacing
from souq.hub.problems import Problem
from souq.pulls import pull as pulls
from souq.records import Record
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

MOST = 20_000  # previews that are remembered
COMMIT = re.compile(r"[0-9a-f]{40}")
_PULL = re.compile(r"refs/pr/([1-9]\d{0,8})")


class Preview(Record, frozen=True):
    """Main as it was, and what is offered to it."""

    number: int
    main: str
    head: str

    @property
    def id(self) -> str:
        """Its name, as if it were a commit."""
        text = f"souq preview\n{self.main}\n{self.head}\n"
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Revision:
    """One state of a model."""

    id: str
    main: str  # the commit of main it is, or is built on
    preview: Preview | None = None


class Previews:
    """Which previews were handed out, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def remember(self, preview: Preview) -> None:
        """Know it by its name from now on."""
        note = self._folder / preview.id
        if not note.is_file():
            with replacing(note) as partial:
                partial.write_bytes(msgspec.json.encode(preview))
            self._forget_oldest()

    def get(self, name: str) -> Preview | None:
        """The preview of this name, if it was handed out."""
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode((self._folder / name).read_bytes(), type=Preview)
        return None

    def _forget_oldest(self) -> None:
        notes = [path for path in self._folder.iterdir() if COMMIT.fullmatch(path.name)]
        if len(notes) > MOST:
            for path in sorted(notes, key=lambda note: note.stat().st_mtime)[: MOST // 10]:
                path.unlink(missing_ok=True)


@lru_cache(maxsize=10_000)
def summary(repo: Repo, commit: str) -> tuple[str, str, str, str]:
    """A commit's id, date, author and subject, which never change: a git for each would be most of a list's time."""
    return repo.summary(commit)


class Line:
    """Main of a repository, and what of it can be named."""

    def __init__(self, repo: Repo, tip: str) -> None:
        self.repo, self.tip = repo, tip

    @cached_property
    def main(self) -> Snapshot:
        """Main as everybody has it."""
        return Snapshot(self.repo, self.tip)

    @cached_property
    def commits(self) -> list[str]:
        """Main's, the oldest first."""
        return self.repo.history(self.tip)

    @cached_property
    def releases(self) -> dict[str, str]:
        """Each version, and the commit by which it landed: a folder of main is added once, and never removed."""
        landed = dict[str, str]()
        adding = self.repo.adding(self.commits, "releases")
        for commit in self.commits:
            if commit in adding or commit == self.commits[0]:
                landed |= {
                    version: commit for version in self.repo.folders(commit, "releases") if version not in landed
                }
        return landed

    def released_at(self, commit: str) -> str:
        """The version that landed by a commit; "" where none did."""
        return next((version for version, landed in self.releases.items() if landed == commit), "")

    def yanked(self, commit: str) -> bool:
        """Whether what was released by a commit is not to be used."""
        version = self.released_at(commit)
        return bool(version) and f"releases/{version}/yanked.toml" in self.main.paths(f"releases/{version}")

    def open_pulls(self) -> list[pulls.PullRequest]:
        """What is offered to main now."""
        return [pull for pull in pulls.listed(self.repo) if pull.state(self.main) == "open"]

    def landing(self, pull: pulls.PullRequest) -> str:
        """The commit of main by which a pull request landed.

        Raises:
            NotFound: it did not.
        """
        adding = self.repo.adding(self.commits, f"contributions/{pull.offer.slug}")
        for commit in self.commits:
            if commit in adding:
                return commit
        raise NotFound(f"#{pull.number} has not landed")

    def preview(self, pull: pulls.PullRequest) -> Preview:
        """Main as it is, with a pull request."""
        return Preview(number=pull.number, main=self.tip, head=pull.head)


def find(line: Line, name: str, previews: Previews) -> Revision:
    """What a client names.

    Raises:
        Problem: nothing is called so.
    """
    name = name.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if name == "main":
        return Revision(line.tip, line.tip)
    if (match := _PULL.fullmatch(name)) is not None:
        return _of_pull(line, int(match[1]), previews)
    if COMMIT.fullmatch(name):
        if name in line.commits:
            return Revision(name, name)
        if (preview := _known(line, name, previews)) is not None:
            return Revision(name, preview.main, preview)
    for version in (name, name.removeprefix("v")):
        if version in line.releases:
            return Revision(line.releases[version], line.releases[version])
    raise _no(name)


def _of_pull(line: Line, number: int, previews: Previews) -> Revision:
    try:
        pull = pulls.get(line.repo, number)
        state = pull.state(line.main)
        if state == "merged":
            return Revision(landed := line.landing(pull), landed)
    except NotFound as error:
        raise _no(f"refs/pr/{number}") from error
    except SouqError as error:
        raise Problem(403, "", f"pull request {number} cannot be read: {error}") from error
    if state != "open":
        raise Problem(404, "RevisionNotFound", f"pull request {number} is {state}: it is no longer built")
    previews.remember(preview := line.preview(pull))
    return Revision(preview.id, line.tip, preview)


def _known(line: Line, name: str, previews: Previews) -> Preview | None:
    """A preview that was handed out for this repository, or that is one now."""
    preview = previews.get(name)
    if preview is not None and preview.main in line.commits:
        held = [pull.head for pull in pulls.listed(line.repo, preview.number)]
        return preview if preview.head in held else None
    for pull in pulls.listed(line.repo):
        if (now := line.preview(pull)).id == name and pull.state(line.main) == "open":
            return now
    return None


def _no(name: str) -> Problem:
    return Problem(404, "RevisionNotFound", f"no revision {name[:80]!r}: main, a release, a commit, or refs/pr/N")

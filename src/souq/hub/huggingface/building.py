"""A revision made into files by a worker's process, where the hub's clients find it: main, or a pull request in it.

The download API makes what is first asked for, while somebody waits; this makes it before. What it prints says of what,
and by which digits it is to be had.

    python -m souq.hub.huggingface.building REPOSITORY DATA main
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from souq.errors import SouqError
from souq.hub.huggingface.contents import MOST, Contents
from souq.hub.huggingface.exports import Exports
from souq.hub.huggingface.models import Model
from souq.hub.huggingface.revisions import Previews
from souq.hub.problems import Problem
from souq.records import Digest, Record
from souq.repo.remote import Repo
from souq.signing import Person, private_of
from souq.weights.lockfile import lock_digest, parse_lock


class Made(Record, frozen=True):
    """What came of it."""

    revision: str  # the digits by which clients have it
    main: str
    model: Digest
    files: int
    bytes: int


def made(repo: Repo, data: Path, name: str, person: Person | None = None) -> Made:
    """Make the files of a revision, unless they are there.

    Raises:
        Problem: there is no such revision, or it is not built, and why.
    """
    model, exports = Model(repo, repo.tip()), Exports(Contents(data / "contents", MOST), person)
    revision = model.find(name, Previews(data / "previews"))
    print(f"main {revision.main[:12]}: {name} is revision {revision.id}", file=sys.stderr, flush=True)  # noqa: T201
    listing = exports.made(model, revision)
    lock = parse_lock(exports.path(revision, listing["model.lock"]).read_text())
    size = sum(file.size for file in listing.values())
    return Made(revision.id, revision.main, lock_digest(lock), len(listing), size)


def main(repository: str, data: str, name: str, key: str = "") -> int:
    """Print what came of it, or why nothing did."""
    try:
        person = Person(name="the hub", email="", key=private_of(Path(key))) if key else None
        shown = made(Repo.find(Path(repository)), Path(data), name, person)
    except (SouqError, Problem) as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(shown))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

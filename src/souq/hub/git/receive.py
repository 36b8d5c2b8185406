"""What git asks before any ref of a push moves, with what was sent held apart: may this be here?

Of a souq repository main goes forward by what every reader of it will accept, judged by the code that they judge by. Of
a plain one, files have paths that are one file everywhere, and large ones come by git-lfs.

    SOUQ_RECEIVE='{"governed": false, …}' python -m souq.hub.git.receive REPOSITORY < "old new ref" lines
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from souq.errors import Refused, SouqError
from souq.hub.plain.arrivals import Arrivals
from souq.hub.plain.large import MOST_POINTER, pointed
from souq.hub.plain.paths import clashing, wrong_with
from souq.hub.plain.repository import MOST_FILES, MOST_SHOWN, Plain
from souq.hub.tensors.waiting import Uploads, pointed_at
from souq.records import Record, spelled_out
from souq.repo.git import MAIN, Entry
from souq.repo.policy_state import refuse_unsound
from souq.repo.remote import Repo

QUESTION = "SOUQ_RECEIVE"
NOTHING = "0" * 40
MOST_BLOB = 10 << 20  # bytes of a file that git itself holds
MOST_TIPS = 100  # of a plain repository, in one push


class Question(Record, frozen=True):
    """Whose push it is, and to what."""

    governed: bool
    account: str
    incoming: str  # the folder of what is on its way in
    name: str = ""  # of the repository


def main() -> int:
    """Read what is to move, and say no where it may not."""
    question = msgspec.json.decode(os.environ[QUESTION], type=Question)
    place = Path(os.environ.get("GIT_DIR", ".")).resolve()
    _see_what_came(place)
    rows = [line.split() for line in sys.stdin.read(1 << 22).splitlines()]
    try:
        (_judge if question.governed else _look)(place, question, [(old, new, ref) for old, new, ref in rows])
    except SouqError as error:
        sys.stderr.write(f"souq: {spelled_out(str(error))[:1_500]}\n")
        return 1
    return 0


def _see_what_came(place: Path) -> None:
    """What was sent lies apart until this ends: read it beside what is here."""
    apart = os.environ.get("GIT_QUARANTINE_PATH") or os.environ.get("GIT_OBJECT_DIRECTORY", "")
    others = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")
    os.environ["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = ":".join(filter(None, (apart, others, str(place / "objects"))))


def _judge(place: Path, question: Question, rows: list[tuple[str, str, str]]) -> None:
    """Main of a souq repository, as every reader will judge it."""
    for old, new, ref in rows:
        if ref == MAIN and new != old:
            repo = Repo.find(place)
            if not repo.contains(new, old):
                raise Refused("main goes forward: `souq fetch`, and do it again")
            refuse_unsound(repo, old, new)
    _have_tensors(Repo.find(place), question, rows)


def _have_tensors(repo: Repo, question: Question, rows: list[tuple[str, str, str]]) -> None:
    """What this account brought, and these refs are about to point at, is the repository's from now on."""
    waiting = Uploads(Path(question.incoming)).waiting(question.account, question.name, repo)
    if waiting.objects.is_dir():
        waiting.hand_over(name for _, new, ref in rows for name in pointed_at(repo, ref, new))


def _look(place: Path, question: Question, rows: list[tuple[str, str, str]]) -> None:
    """The files of a plain repository, at each tip."""
    repository = Plain(place)
    tips = {new for _, new, _ in rows if new != NOTHING}
    if len(tips) > MOST_TIPS:
        raise Refused(f"more than {MOST_TIPS} branches and tags at once")
    wrong = [line for tip in sorted(tips) for line in _wrong(repository, repository.commit(tip), question)]
    if wrong:
        raise Refused("; ".join(wrong[:MOST_SHOWN]))


def _wrong(repository: Plain, commit: str, question: Question) -> Iterator[str]:
    entries = repository.entries(commit)
    if len(entries) > MOST_FILES:
        yield f"{len(entries):,} files; the most is {MOST_FILES:,}"
        return
    for entry in entries:
        if not stat.S_ISREG(int(entry.mode, 8)):
            yield f"{entry.path[:200]!r} is a link or a repository, and no file"
        if entry.size > MOST_BLOB:
            yield f"{entry.path[:200]!r} has {entry.size:,} bytes: files over {MOST_BLOB >> 20} MiB come by git-lfs"
        if why := wrong_with(entry.path):
            yield f"{entry.path[:200]!r}: {why}"
    yield from clashing(entry.path for entry in entries)
    yield from _without_bytes(repository, entries, question)


def _without_bytes(repository: Plain, entries: list[Entry], question: Question) -> Iterator[str]:
    """Pointers to what nobody brought; what this account brought is kept from now on."""
    small = [entry for entry in entries if entry.size <= MOST_POINTER]
    arrivals = Arrivals(Path(question.incoming))
    for entry, data in zip(small, repository.contents([entry.oid for entry in small]), strict=True):
        if (named := pointed(data)) is not None:
            if repository.large.size(named[0]) is None:
                arrivals.take(named[0], question.account, repository.large)
            if repository.large.size(named[0]) != named[1]:
                yield f"{entry.path[:200]!r} points to bytes that nobody sent: `git lfs push` sends them"


if __name__ == "__main__":
    sys.exit(main())

"""What a main may be, so that everybody can read it: each limit that a reader raises, asked before it is main.

A limit that is raised only when it is too late closes main for ever, so `souq init`, a landing, the queue and
`souq pr checks` ask all of them of the commit itself: `LIMITS` names them, `exceeded` asks.

    exceeded(with_offer(main, offer), main)   # () where it may land
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from souq.errors import SouqError
from souq.records import format_toml
from souq.repo.contribution import MAX_HELD, MAX_RECORD, MAX_RECORDS, RECORDS, Offer
from souq.repo.git import MAX_BLOB, MAX_EVALS, MAX_FILES, MAX_MOVED, MAX_OFFER, MAX_READ, Entry, Step
from souq.repo.landing import files_gained, files_lost, files_returned
from souq.repo.local import LocalRepo
from souq.repo.snapshot import MOST_BELOW, Snapshot


@dataclass(frozen=True)
class Result:
    """A commit that is about to be main, and the main it comes after; None where it is the first."""

    after: Snapshot
    before: Snapshot | None = None

    @cached_property
    def step(self) -> Step:
        """What it changes, as whoever verifies it will see it."""
        since = self.before.commit if self.before is not None else ""
        return next(self.after.repo.steps(self.after.commit, since))

    def changed(self, pattern: str) -> list[str]:
        """The folders that gain or change a file, by a pattern of how their paths begin."""
        matches = (re.match(pattern, moved.path) for moved in self.step.moved if moved.new)
        return sorted({match[0] for match in matches if match})

    def within(self, folder: str, most: int = MAX_FILES) -> list[Entry]:
        """The files of one of its folders."""
        return self.after.repo.entries(self.after.commit, folder, most)

    @cached_property
    def evals(self) -> list[Entry]:
        """The files of all evals; not read where none of them changed."""
        return self.within("evals", 3 * MAX_EVALS + 1) if self.changed("evals/") else []


@dataclass(frozen=True)
class Limit:
    """The most of something that a main, or one landing on it, may have."""

    what: str  # "files of one contribution, records too"
    most: int
    raised_by: str  # who could not read it
    counts: Callable[[Result], Iterator[tuple[str, int]]]  # what it was counted of, and how many there are


def _changes(result: Result) -> Iterator[tuple[str, int]]:
    yield "", len(result.step.moved)


def _largest(result: Result) -> Iterator[tuple[str, int]]:
    sizes = result.after.repo.sizes(moved.new for moved in result.step.moved if moved.new)
    yield from ((moved.path, sizes.get(moved.new, 0)) for moved in result.step.moved)


def _folders(result: Result) -> Iterator[tuple[str, int]]:
    # A release's folder, the base's own: any that is read whole.
    for folder in result.changed(r"(model|(releases|evals)/[^/]+)(?=/)"):
        yield folder, len(result.within(folder))


def _each(measure: Callable[[list[int]], int], *, records: bool) -> Callable[[Result], Iterator[tuple[str, int]]]:
    """Counts of the sizes of what each contribution offers, or of its records."""

    def counts(result: Result) -> Iterator[tuple[str, int]]:
        for home in result.changed(r"contributions/[^/]+/"):
            entries = result.within(home, MOST_BELOW)
            yield home, measure([each.size for each in entries if each.path.startswith(home + RECORDS) is records])

    return counts


def _evals(result: Result) -> Iterator[tuple[str, int]]:
    yield "evals", len({entry.path.split("/")[1] for entry in result.evals})


def _exam_bytes(result: Result) -> Iterator[tuple[str, int]]:
    yield "evals", sum(entry.size for entry in result.evals)


LIMITS = (
    Limit("files and folders that one commit changes", MAX_MOVED, "souq verify", _changes),
    Limit("bytes of one file", MAX_BLOB, "every reader", _largest),
    Limit("files of one folder", MAX_FILES, "every reader", _folders),
    Limit("files that one contribution offers", MAX_FILES, "every reader", _each(len, records=False)),
    Limit("bytes that one contribution offers", MAX_OFFER, "every reader", _each(sum, records=False)),
    Limit("records of one contribution", MAX_RECORDS + 1, "souq verify", _each(len, records=True)),
    Limit("bytes of one contribution's records", MAX_HELD + MAX_RECORD, "souq verify", _each(sum, records=True)),
    Limit("evals", MAX_EVALS, "the gate, souq eval", _evals),
    Limit("bytes of all evals", MAX_READ, "the gate, souq eval", _exam_bytes),
)


def exceeded(after: Snapshot, before: Snapshot | None = None) -> tuple[str, ...]:
    """Why a commit cannot become main, all of it at once: what is beyond a limit, and what no reader takes."""
    result = Result(after, before)
    try:
        _ = result.step
    except SouqError as error:  # more than anybody would read on
        return (str(error),)
    lines = [line for limit in LIMITS for line in _beyond(limit, result)]
    return tuple(dict.fromkeys([*lines, *(() if lines else _unread(result))]))


def _beyond(limit: Limit, result: Result) -> Iterator[str]:
    try:
        for where, count in limit.counts(result):
            if count > limit.most:
                of = f"{where.rstrip('/')}: " if where else ""
                yield f"{of}{count:,} {limit.what}; the most is {limit.most:,} ({limit.raised_by} would stop)"
    except SouqError as error:  # so many that nobody counts them, or no plain files
        yield str(error)


def _unread(result: Result) -> Iterator[str]:
    """What is read of every main, asked whether it can be."""
    after = result.after
    readers: list[Callable[[], object]] = [lambda: after.config, lambda: after.base, lambda: after.landed]
    readers += [lambda: after.evals, lambda: after.sealed] if result.evals else []
    for reader in readers:
        try:
            reader()
        except SouqError as error:
            yield str(error)


def with_offer(main: Snapshot, offer: Offer) -> Snapshot:
    """Main with one more contribution, as a commit that nobody sees: without records, and without what is computed."""
    repo = LocalRepo.of(main.repo)
    return Snapshot(repo, repo.write_commit([main.commit], files_of(offer, main), "\n", tree_of=main.commit))


def files_of(offer: Offer, main: Snapshot) -> dict[str, bytes | None]:
    """What an offer's landing does to main's files, but for what is computed of all of them; None is taken away."""
    files: dict[str, bytes | None] = dict.fromkeys(files_lost(offer, main))
    files |= files_gained(offer) | files_returned(offer, main)
    if offer.merge is not None:
        files["souq.toml"] = format_toml(main.config_with(offer)).encode()
    return files

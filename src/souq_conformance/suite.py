"""Build every case, ask a verifier about each, and count.

build(Path("cases"))
results = run(Path("cases"), Command("other-verifier {repo}"))
print(summary(results))
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from souq.errors import NotFound, nearest
from souq.files import refuse_full
from souq.records import Record
from souq.repo.remote import Repo
from souq.verify import verify
from souq_conformance import (
    all_others,
    bad_bindings,
    bad_edits,
    bad_git,
    bad_landings,
    bad_policies,
    bad_records,
    bad_sizes,
    bad_times,
    documents,
    good,
    good_bindings,
    good_times,
    sketches,
)
from souq_conformance.cases import CASES, Case
from souq_conformance.codes import CONSEQUENCE, read
from souq_conformance.town import Stock, Town

INDEX = "cases.json"
SOUQ = "souq verify {repo} --json"
PARTS = (
    documents,
    good,
    good_times,
    sketches,
    bad_times,
    bad_edits,
    good_bindings,
    bad_bindings,
    bad_records,
    bad_policies,
    bad_landings,
    bad_git,
    bad_sizes,
    all_others,
)  # whose import fills CASES


class Asked(Record, frozen=True):
    """A case as it lies on disk: cases.json holds a list of these."""

    name: str
    says: str
    repo: str  # its folder, from where cases.json is
    root: str  # the first commit, as its readers pinned it
    now: str  # their clock
    reason: str = ""  # why it must be rejected; none where it must be accepted
    also: tuple[str, ...] = ()  # codes that may be told beside the reason, for the same fault

    @property
    def allowed(self) -> set[str]:
        return {self.reason, *self.also, *CONSEQUENCE.get(self.reason, ())}


@dataclass(frozen=True)
class Answer:
    """What a verifier says: whether it accepts, and why not; None where it could not judge or name no reason."""

    accepts: bool | None
    codes: frozenset[str] | None = None
    words: str = ""


Verifier = Callable[[Path, Asked], Answer]


@dataclass(frozen=True)
class Result:
    """One case and the answer to it."""

    asked: Asked
    answer: Answer

    @property
    def right(self) -> bool:
        """Judged as it must be, whatever the reason."""
        return self.answer.accepts is (not self.asked.reason)

    @property
    def named(self) -> bool:
        """Rejected for the reason named, or what follows from it, and for no other."""
        codes = self.answer.codes or frozenset()
        just = {self.asked.reason, *CONSEQUENCE.get(self.asked.reason, ())}
        return self.right and (not self.asked.reason or bool(codes & just and codes <= self.asked.allowed))

    def __str__(self) -> str:
        wanted = f"reject, {self.asked.reason}" if self.asked.reason else "accept"
        verdict = {True: "accepts", False: "rejects", None: "cannot say"}[self.answer.accepts]
        codes = ", ".join(sorted(self.answer.codes or ())) or self.answer.words
        return f"{self.asked.name}: must {wanted}; it {verdict}{f': {codes}' if codes else ''}"


def chosen(only: Sequence[str]) -> list[Case]:
    """Cases by name, all where none is named.

    Raises:
        NotFound: no case of such a name.
    """
    for name in only:
        if name not in CASES:
            raise NotFound(f"no case {name!r}{nearest(name, CASES)}", hint="see `souq-conformance list`")
    return [case for case in CASES.values() if not only or case.name in only]


def build(folder: Path, only: Sequence[str] = ()) -> list[Asked]:
    """Write every case below a new folder, and cases.json."""
    refuse_full(folder)
    stock = Stock(folder / "stock")
    made = [_built(folder, case, stock) for case in chosen(only)]
    (folder / INDEX).write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    return made


def _built(folder: Path, case: Case, stock: Stock) -> Asked:
    place = f"{'bad' if case.reason else 'good'}/{case.name}"
    town = Town(folder / place, stock)
    case.build(town)
    root, now = town.root or town.commits[0], town.now or town.at(minutes=1)
    return Asked(name=case.name, says=case.says, repo=place, root=root, now=now, reason=case.reason, also=case.also)


def load(folder: Path) -> list[Asked]:
    """The cases that were built in a folder.

    Raises:
        NotFound: it holds no cases.json.
    """
    if not (folder / INDEX).is_file():
        raise NotFound(f"no {INDEX} in {folder}", hint="run `souq-conformance build` first")
    return msgspec.json.decode((folder / INDEX).read_bytes(), type=list[Asked])


def run(folder: Path, verifier: Verifier, only: Sequence[str] = (), jobs: int = 1) -> list[Result]:
    """Ask about every case."""
    asked = [case for case in load(folder) if not only or case.name in only]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda case: Result(case, verifier(folder / case.repo, case)), asked))


@dataclass(frozen=True)
class Command:
    """A verifier by its command line; {repo}, {root} and {now} stand for the case's, the last two added if missing."""

    line: str = SOUQ
    seconds: float = 60.0

    def __call__(self, repo: Path, asked: Asked) -> Answer:
        words = shlex.split(self.line)
        words += [] if "{root}" in self.line else ["--root", "{root}"]
        words += [] if "{now}" in self.line else ["--now", "{now}"]
        values = {"{repo}": str(repo), "{root}": asked.root, "{now}": asked.now}
        for mark, value in values.items():
            words = [word.replace(mark, value) for word in words]
        try:
            done = subprocess.run(words, capture_output=True, check=False, timeout=self.seconds)
        except subprocess.TimeoutExpired:
            return Answer(None, words=f"no answer in {self.seconds:.0f} s")
        except OSError as error:
            raise NotFound(f"cannot run {words[0]}: {error.strerror}", hint="name it with --command") from error
        lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        accepts = {0: True, 3: False}.get(done.returncode)
        return Answer(accepts, codes_in(done.stdout), f"exit {done.returncode} {' '.join(lines[-1:])}")


def codes_in(out: bytes) -> frozenset[str] | None:
    """The reasons in what a verifier printed: {"reasons": [codes]}, or souq's own {"findings": [lines]}."""
    try:
        answer = json.loads(out)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    if isinstance(codes := answer.get("reasons"), list):
        return frozenset(map(str, codes))
    findings = answer.get("findings")
    return frozenset(read(map(str, findings))) if isinstance(findings, list) else None


def in_process(repo: Path, asked: Asked) -> Answer:
    """souq itself, without a process for each case."""
    report = verify(Repo.find(repo), root=asked.root, now=asked.now)
    return Answer(not report.findings, frozenset(read(report.findings)))


def summary(results: Iterable[Result]) -> str:
    """The counts in one line."""
    judged = list(results)
    bad, fine = [r for r in judged if r.asked.reason], [r for r in judged if not r.asked.reason]
    rejected, named = sum(r.right for r in bad), sum(r.named for r in bad)
    reasons = "each for the reason named" if named == len(bad) else f"{named} for the reason named"
    return (
        f"bad histories rejected: {rejected}/{len(bad)}, {reasons}; good ones accepted: "
        f"{sum(r.right for r in fine)}/{len(fine)}"
    )

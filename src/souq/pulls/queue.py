"""The merge queue: main only ever holds a tree that was itself tested.

Who waits, in which order, and who was set aside and why are signed records beside each pull request
(refs/souq/pr/<n>/queued/<id>), so every clone sees one queue. `run` takes what the policy lets through but for the
machines, tests it together on main as it is, halves where that fails (bisect.py), and lands what passed in one push.
Of what it does nothing is kept but scores and builds by digest: after a kill it begins again and soon is where it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from filelock import FileLock, Timeout

from souq import signing
from souq.checks import run as run_checks
from souq.checks.evals import effect
from souq.errors import Refused, SouqError, UsageError
from souq.files import replacing
from souq.governance import Policy, read_policy
from souq.governance.policy import refuse_stranger
from souq.progress import Progress, quiet
from souq.pulls import land, reviews
from souq.pulls import pull as pulls
from souq.pulls.bisect import settle
from souq.pulls.pull import PULLS, PullRequest
from souq.pulls.waiting import Line
from souq.records import Digest, Record, Verdict
from souq.repo.clock import refuse_wrong_clock
from souq.repo.git import MAIN
from souq.repo.landing import touched
from souq.repo.limits import files_of
from souq.repo.remote import Raced, Repo, give_up
from souq.repo.snapshot import Snapshot
from souq.signing import Person

BATCH = 8
TRIES = 5  # to publish what was tested, while others move main
ORDINARY = ("weights", "data")  # kinds that change no rules: only they are tested together
State = Literal["enter", "leave", "refused", "apart"]


class Queued(Record, frozen=True):
    """What somebody says about a pull request's place in the queue."""

    subject: Digest
    state: State
    by: str
    at: str
    because: str = ""
    others: tuple[int, ...] = ()  # the pull requests it fails together with


@dataclass(frozen=True)
class Place:
    """One pull request in the queue, or set aside by it."""

    pull: PullRequest
    queued: Queued

    @property
    def waits(self) -> bool:
        return self.queued.state == "enter"


# -- who waits ---------------------------------------------------------------------------------------------------------


def enter(repo: Repo, number: int, person: Person, *, out_of_turn: bool = False) -> Queued:
    """Put an open pull request at the end of the queue, as it is offered now.

    Raises:
        Refused: it is not open, it waits already or for others to be looked at, or this person is not enrolled.
    """
    pull, main = pulls.open_to_sign(repo, number)
    if not out_of_turn:
        Line(repo, main).refuse(pull, "souq queue add")
    before = place(pull, main)
    if before is not None and before.waits:
        raise Refused(f"#{number} waits already, since {before.queued.at}", hint="see `souq queue`")
    return _say(pull, main, "enter", person)


def leave(repo: Repo, number: int, person: Person, because: str = "") -> Queued:
    """Take it out of the queue again; it stays open.

    Raises:
        Refused: it does not wait.
    """
    pull, main = pulls.open_to_sign(repo, number)
    before = place(pull, main)
    if before is None or not before.waits:
        raise Refused(f"#{number} does not wait in the queue", hint="see `souq queue`")
    return _say(pull, main, "leave", person, because=because)


def listed(repo: Repo, main: Snapshot) -> list[Place]:
    """Open pull requests ever queued as they are now: those that wait, in their order, then those set aside."""
    places = [
        at
        for pull in pulls.listed(repo)
        if (at := place(pull, main)) is not None
        if at.queued.state != "leave" and pull.state(main) == "open"
    ]
    return sorted(places, key=lambda at: (not at.waits, at.queued.at, at.pull.number))


def place(pull: PullRequest, main: Snapshot) -> Place | None:
    """The last word of an enrolled person about its place; None where nobody queued it as it is now."""
    keys = read_policy(main.policy_text).keys
    records = []
    with suppress(SouqError):
        for signed in pulls.read_all(pull, "queued", keys, main):
            with suppress(msgspec.ValidationError):
                records.append(msgspec.convert(signed.predicate, Queued))
    last = max(records, key=lambda record: (record.at, record.state != "enter"), default=None)
    return Place(pull, last) if last is not None else None


def _say(pull: PullRequest, main: Snapshot, state: State, person: Person, **more: Any) -> Queued:
    refuse_stranger(read_policy(main.policy_text), person, signing.now(), hint="ask somebody who is to queue it")
    record, data = _queued(pull, main, state, person, **more)
    pulls.publish_record(pull, "queued", data)
    return record


def _queued(pull: PullRequest, main: Snapshot, state: State, person: Person, **more: Any) -> tuple[Queued, bytes]:
    subject = pull.offer.digest
    record = Queued(subject=subject, state=state, by=person.name, at=signing.now(), **more)
    about = msgspec.to_builtins(record) | {"main": main.commit}
    return record, pulls.signed_record("queued", pull.offer.slug, subject, about, person)


def rows(repo: Repo, main: Snapshot, now: Now | None = None) -> list[dict[str, Any]]:
    """The queue as a table; `now` is what a run does at this moment."""
    return [_row(main, at, now) for at in listed(repo, main)]


def _row(main: Snapshot, at: Place, now: Now | None) -> dict[str, Any]:
    record, offered = at.queued, at.pull.summary
    return {
        "#": at.pull.number, "title": offered.title, "author": offered.author.name, "since": record.at,
        "state": _state_in_words(main, at, now), "because": record.because, "with": record.others,
    }  # fmt: skip


def _state_in_words(main: Snapshot, at: Place, now: Now | None) -> str:
    record, number = at.queued, at.pull.number
    if record.state == "refused":
        return f"refused: {record.because}"
    if record.state == "apart":
        return f"waits apart: passes alone, and fails together with {numbered(record.others)}"
    if now is not None and number in now.testing:
        return "being tested"
    if now is not None and number in now.batch:
        return "in the batch"
    lacks = [line for line in land.decision_on(at.pull, main).missing if "has not been run" not in line]
    lacks = [line for line in lacks if not line.startswith("checks on main as it is now")]
    return f"waits: {lacks[0]}" if lacks else "ready"


def numbered(numbers: Sequence[int]) -> str:
    """Pull requests by their numbers: `#4, #7`."""
    return ", ".join(f"#{number}" for number in numbers)


# -- one batch ---------------------------------------------------------------------------------------------------------


class Now(Record, frozen=True):
    """What a queue does at this moment, for whoever looks on."""

    pid: int
    since: str
    batch: tuple[int, ...]
    testing: tuple[int, ...] = ()
    tests: int = 0


@dataclass
class Report:
    """What came of a run, by pull request number."""

    landed: dict[int, str] = field(default_factory=dict)  # -> the commit
    refused: dict[int, str] = field(default_factory=dict)  # -> why
    apart: dict[int, tuple[tuple[int, ...], str]] = field(default_factory=dict)  # -> with whom it fails, and why
    waiting: dict[int, tuple[str, ...]] = field(default_factory=dict)  # -> what is missing
    tests: int = 0


def run(repo: Repo, person: Person, *, batch: int = BATCH, progress: Progress = quiet) -> Report:
    """Land what is ready, batch after batch, until nobody who waits is.

    Raises:
        Refused: another run is under way in this clone, or this person is not enrolled.
        Raced: main moves faster than it can be tested.
        Declined: the remote does not take what landed.
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch}", hint="at least 1; 8 unless you say")
    report = Report()
    raced, going = 0, True
    with _alone(repo):
        while going:
            try:
                going, raced = _turn(repo, person, batch, report, progress), 0
            except Raced as error:  # main moved: what was tested is not what it would become
                if (raced := raced + 1) == TRIES:
                    raise give_up(error, str(error), "run `souq queue run` again when main rests") from error
    return report


@contextmanager
def _alone(repo: Repo) -> Iterator[None]:
    try:
        with FileLock(repo.cache / "queue.lock", timeout=0):
            yield
    except Timeout as error:
        raise Refused("the queue runs already in this clone", hint="see `souq queue --watch`") from error
    finally:
        _note(repo).unlink(missing_ok=True)


def _note(repo: Repo) -> Path:
    return repo.cache / "queue.json"


def now(repo: Repo) -> Now | None:
    """What a run in this clone does at this moment; None where none is under way."""
    try:
        state = msgspec.json.decode(_note(repo).read_bytes(), type=Now)
        os.kill(state.pid, 0)
    except (OSError, msgspec.MsgspecError):
        return None
    return state


def _turn(repo: Repo, person: Person, batch: int, report: Report, progress: Progress) -> bool:
    """One batch on main as it is now; False when nothing came of it."""
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    refuse_stranger(read_policy(main.policy_text), person, signing.now(), hint="ask somebody who is to run it")
    refuse_wrong_clock(repo, main)
    land.refuse_misdated(main, person)
    report.waiting = {}
    turn = Turn(main, person, report, progress)
    ready = [place.pull for place in listed(repo, main) if place.waits and turn.is_ready(place.pull)]
    turn.settle(_together(ready, batch, read_policy(main.policy_text), main))
    return turn.publish()


def _together(ready: Sequence[PullRequest], batch: int, policy: Policy, main: Snapshot) -> list[PullRequest]:
    """The first of the queue, as many as may be tested together: what changes rules goes alone."""
    chosen: list[PullRequest] = []
    for pull in ready[:batch]:
        if not _is_ordinary(pull, policy, main):
            return chosen or [pull]
        chosen.append(pull)
    return chosen


def _is_ordinary(pull: PullRequest, policy: Policy, main: Snapshot) -> bool:
    """Whether others may be tested with it: it changes no rules, and no evaluator must have seen the main before it."""
    offer = pull.offer
    scopes, _ = policy.scopes(touched(offer, main))
    changes_no_rules = offer.contribution.kind in ORDINARY and offer.merge is None
    return changes_no_rules and not any(scope.evaluators for scope in scopes)


class Turn:
    """One main, the pull requests that want to land on it, and what is found out about them."""

    def __init__(self, main: Snapshot, person: Person, report: Report, progress: Progress) -> None:
        self.main, self.person, self.report, self.progress = main, person, report, progress
        self.accepted: tuple[PullRequest, ...] = ()
        self._records: list[tuple[PullRequest, str, bytes]] = []  # to be published, of those that do not land
        self._effects: dict[tuple[int, ...], Verdict] = {}
        self._begun, self._batch = signing.now(), tuple[int, ...]()

    @property
    def repo(self) -> Repo:
        return Repo.of(self.main.repo)

    # -- before anything is built

    def is_ready(self, pull: PullRequest) -> bool:
        """Whether people have said yes, and no quick check says no; what a machine refuses leaves the queue."""
        reviews.bring(self.repo, self.main, pull.offer, self.progress)
        verdicts = self._quick(pull, self.main)
        if (refused := next((verdict for verdict in verdicts if not verdict), None)) is not None:
            self._refuse(pull, verdicts, f"check `{refused.check}`: {refused.because}")
            return False
        assumed = Verdict(check="evals", outcome="pass", because="not tested yet")
        decision = land.decision_on(self._checked(pull, self.main, (*verdicts, assumed)), self.main)
        if not decision:
            self.report.waiting[pull.number] = decision.missing
        return bool(decision)

    def _quick(self, pull: PullRequest, main: Snapshot) -> tuple[Verdict, ...]:
        return run_checks(reviews.case_of(pull, main), given=[reviews.signed_off(pull, main)], costly=False)

    def _checked(self, pull: PullRequest, main: Snapshot, verdicts: tuple[Verdict, ...]) -> PullRequest:
        """With the verdicts of its checks on `main`, signed and not published."""
        return pull.with_record("checked", self._signed(pull, main, verdicts))

    def _signed(self, pull: PullRequest, main: Snapshot, verdicts: tuple[Verdict, ...]) -> bytes:
        return reviews.checked(pull, main, verdicts, self.person)[1]

    # -- testing

    def settle(self, batch: Sequence[PullRequest]) -> None:
        """Test all together, and find who is in the way."""
        by_number = {pull.number: pull for pull in batch}
        self._batch = (*by_number,)
        settled = settle(self._batch, lambda numbers: self.passes([by_number[number] for number in numbers]))
        for number in settled.bad:
            self._set_aside(by_number[number])
        for number, others in settled.apart.items():
            because = self.effect([by_number[n] for n in (*others, number)]).because
            self._leave(by_number[number], "apart", because, others)
            self.report.apart[number] = (others, because)
        self.accepted = tuple(by_number[number] for number in settled.accepted)

    def passes(self, batch: Sequence[PullRequest]) -> bool:
        """Whether the tree with all of these may be main: its effect, and each one's decision where it lands."""
        verdict = self.effect(batch)
        return bool(verdict) and all(
            land.decision_on(self._checked(pull, main, (*self._quick(pull, main), verdict)), main)
            for pull, main in zip(batch, self._steps(batch), strict=True)
        )

    def effect(self, batch: Sequence[PullRequest]) -> Verdict:
        """What the evals say about main with all of these."""
        numbers = tuple(pull.number for pull in batch)
        if numbers not in self._effects:
            self.report.tests += 1
            self._show_now(numbers)
            self._effects[numbers] = self._tested(batch)
        return self._effects[numbers]

    def _tested(self, batch: Sequence[PullRequest]) -> Verdict:
        if len(batch) == 1:
            pull = batch[0]
            case = reviews.case_of(pull, self.main, self.progress)
            verdicts = run_checks(case, given=self._quick(pull, self.main))
            return next(verdict for verdict in verdicts if verdict.check == "evals")
        claims = tuple(sorted({name for pull in batch for name in pull.offer.contribution.fixes}))
        together = ", ".join(f"#{pull.number}" for pull in batch)
        try:
            tree = self._tree(batch)
            outcome, because, evidence = effect(self.main, tree, claims, self.progress)
        except SouqError as error:  # two that cannot stand in one model
            outcome, because, evidence = "refuse", str(error), {"raised": type(error).__name__}
        evidence = evidence | {"together": [pull.number for pull in batch]}
        return Verdict(check="evals", outcome=outcome, because=f"{together} together: {because}", evidence=evidence)

    def _steps(self, batch: Sequence[PullRequest]) -> Iterator[Snapshot]:
        """The mains that these would land on, one after the other."""
        yield self.main
        yield from (self._tree(batch[:n]) for n in range(1, len(batch)))

    def _tree(self, batch: Sequence[PullRequest]) -> Snapshot:
        """Main with all of these, as a commit that nobody sees."""
        files: dict[str, bytes | None] = {}
        for pull in batch:
            files |= files_of(pull.offer, self.main)
        return Snapshot(self.repo, self.repo.write_commit([self.main.commit], files, "\n", tree_of=self.main.commit))

    def _show_now(self, testing: tuple[int, ...]) -> None:
        state = Now(pid=os.getpid(), since=self._begun, batch=self._batch, testing=testing, tests=self.report.tests)
        with replacing(_note(self.repo)) as partial:
            partial.write_bytes(msgspec.json.encode(state))

    # -- those that do not land

    def _set_aside(self, pull: PullRequest) -> None:
        """It fails alone: for good where a machine refuses it, until more people agree where one is not sure."""
        verdicts = (*self._quick(pull, self.main), verdict := self.effect([pull]))
        if not verdict:
            self._refuse(pull, verdicts, verdict.because)
            return
        self._records.append((pull, "checked", self._signed(pull, self.main, verdicts)))
        self.report.waiting[pull.number] = land.decision_on(self._checked(pull, self.main, verdicts), self.main).missing

    def _refuse(self, pull: PullRequest, verdicts: tuple[Verdict, ...], because: str) -> None:
        self._records.append((pull, "checked", self._signed(pull, self.main, verdicts)))
        self._leave(pull, "refused", because)
        self.report.refused[pull.number] = because

    def _leave(self, pull: PullRequest, state: State, because: str, others: tuple[int, ...] = ()) -> None:
        record = _queued(pull, self.main, state, self.person, because=because, others=others)[1]
        self._records.append((pull, "queued", record))

    # -- those that do

    def publish(self) -> bool:
        """Move main to the tree that was tested, with a record for each that stays behind, all at once or not."""
        refs: dict[str, tuple[str | None, str]] = {}
        at, tensors, landed = self.main, list[Digest](), dict[int, str]()
        for signed, before, at in self._landings():
            tensors += land.tensors_of(before, self.main)
            new = signed.refs.items() - before.refs.items()
            refs |= {f"{PULLS}{signed.number}/{name}": (None, oid) for name, oid in sorted(new)}
            landed[signed.number] = at.commit
        for pull, kind, data in self._records:
            oid = self.repo.write_blob(data)
            refs[f"{PULLS}{pull.number}/{kind}/{oid[:16]}"] = (None, oid)
        if landed:
            refs[MAIN] = (self.main.commit, at.commit)
        if not refs:
            return False
        self.repo.publish(refs, tensors, self.progress)
        self.report.landed |= landed
        return True

    def _landings(self) -> list[tuple[PullRequest, PullRequest, Snapshot]]:
        """Each that lands, with its records and without, and main then; none where one cannot, which is set aside.

        The others are tested again in the next turn: what they would land on is another main without it.
        """
        landings, at = list[tuple[PullRequest, PullRequest, Snapshot]](), self.main
        for pull in self.accepted:
            try:
                signed, at = self._landed(pull, at)
            except Refused as error:
                self._leave(pull, "refused", str(error))
                self.report.refused[pull.number] = str(error)
                return []
            landings.append((signed, pull, at))
        return landings

    def _landed(self, pull: PullRequest, on: Snapshot) -> tuple[PullRequest, Snapshot]:
        """One landing on the one before it; its verdict is that of the tree which all of them make."""
        verdicts = (*self._quick(pull, on), self.effect(self.accepted))
        signed = self._checked(pull, on, verdicts)
        if not (decision := land.decision_on(signed, on)):
            raise Refused(f"#{pull.number} cannot land any more: {decision.missing[0]}")
        return signed, Snapshot(self.repo, land.landing(signed, on, self.person, self.progress))

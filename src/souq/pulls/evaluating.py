"""Evaluators who lend compute: whose machine checks which pull request next, and whose word others' contradict.

There is no scheduler. What is to be done is read from refs: open pull requests whose turn it is, on which nobody who is
asked has run main's checks on main as it is now. Each belongs first to one evaluator, by a hash of main's tip, its
digest and their name; two who do the same do it twice, and nothing breaks. Of what another has run, each evaluator runs
a share again, by their own draw (prechecks.py), so that who signs what they never ran cannot know which is looked at.

    for job in jobs(repo, main, person, again=0.2): reviews.check(repo, job.number, person)
    standings(repo, main)    # who was run again, confirmed, contradicted
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

from souq import signing
from souq.errors import SouqError
from souq.governance import Policy, SignedChecked, read_policy
from souq.governance.policy import Who
from souq.pulls.prechecks import draw
from souq.pulls.pull import PullRequest, listed, read_checked
from souq.pulls.waiting import Line
from souq.records import Checked, Record, Verdict, digest
from souq.repo.history import change_of
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person

ENOUGH = 3  # who have run what two of them disagree on: then one stands alone


@dataclass(frozen=True)
class Job:
    """One pull request to check: whether others have, and whether it is this evaluator's before it is another's."""

    number: int
    again: bool = False
    mine: bool = True


@dataclass(frozen=True)
class Result:
    """What one person's machine found of exactly what is offered, on main as it is now."""

    by: Who
    checked: Checked


def jobs(repo: Repo, main: Snapshot, person: Person, *, again: float) -> list[Job]:
    """What this evaluator may do now: what others disagree on, then what nobody ran, then a share of what others did.

    `again` is that share, from 0 to 1.
    """
    policy = read_policy(main.policy_text)
    evaluator, waits = policy.person_of(person.public_key, signing.now()), Line(repo, main).waits
    if evaluator is None:
        return []
    todo = []
    for pull in _open(repo, main):
        with suppress(SouqError):  # one hostile pull request must not stop the others
            job = _job(pull, main, evaluator, person, again) if pull.number not in waits else None
            todo += [job] if job is not None else []
    return sorted(todo, key=lambda job: (not job.mine, job.again, job.number))


def _open(repo: Repo, main: Snapshot) -> list[PullRequest]:
    return [pull for pull in listed(repo) if pull.state(main) == "open"]


def _job(pull: PullRequest, main: Snapshot, evaluator: Who, person: Person, again: float) -> Job | None:
    policy = read_policy(main.policy_text)
    asked = _asked(pull, main, policy)
    if evaluator.name not in asked:
        return None
    results = results_of(pull, main, policy)
    if any(result.by == evaluator for result in results):
        return None
    if not results:
        return Job(pull.number, mine=_whose(asked, main.commit, pull) == evaluator.name)
    if disagree(results) and len(results) < ENOUGH:
        return Job(pull.number, again=True)
    if len(results) == 1 and draw(main.commit, pull.subject, person) < again:
        return Job(pull.number, again=True)
    return None


def _asked(pull: PullRequest, main: Snapshot, policy: Policy) -> list[str]:
    """Whose checks would count: the roles that scopes ask to run them, or anybody enrolled; never the author."""
    scopes, _ = policy.scopes(change_of(pull.offer, main).touched)
    roles = [scope.evaluators.role for scope in scopes if scope.evaluators]
    names = [name for role in roles for name in policy.members(role)] or [who.name for who in policy.person]
    author = policy.person_of(pull.offer.contribution.author.key)
    return sorted({*names} - ({author.name} if author else set()))


def _whose(names: Sequence[str], tip: str, pull: PullRequest) -> str:
    """Whose it is first: the name with the highest hash (rendezvous hashing, Thaler and Ravishankar 1998)."""
    return max(names, key=lambda name: digest(f"{tip} {pull.subject} {name}".encode()))


def results_of(pull: PullRequest, main: Snapshot, policy: Policy) -> list[Result]:
    """Everybody's last word on it as it is, on main as it is; its author's own is none."""
    author, last = policy.person_of(pull.offer.contribution.author.key), dict[str, Result]()
    for signed in sorted(read_checked(pull, policy), key=lambda each: each.checked.at):
        who = _by(signed, policy)
        if who is not None and who != author and signed.checked.base == main.commit:
            last[who.name] = Result(who, signed.checked)
    return [last[name] for name in sorted(last)]


def _by(signed: SignedChecked, policy: Policy) -> Who | None:
    return policy.person_of(signed.key)


# -- who contradicts whom ----------------------------------------------------------------------------------------------


def disagree(results: Sequence[Result]) -> bool:
    """Whether two machines cannot both be right about it."""
    return any(contradict(one.checked, other.checked) for one, other in combinations(results, 2))


def contradict(one: Checked, other: Checked) -> bool:
    """Whether a check that both ran is refused by one and not by the other; scores may differ between processors."""
    verdicts = {verdict.check: verdict for verdict in other.verdicts}
    both = [(verdict, verdicts[verdict.check]) for verdict in one.verdicts if verdict.check in verdicts]
    return any(bool(mine) != bool(theirs) and _is_run(mine) and _is_run(theirs) for mine, theirs in both)


def _is_run(verdict: Verdict) -> bool:
    """A machine that lacks something to check with has not contradicted anybody."""
    return verdict.evidence.get("raised") not in ("NotFound", "Missing")


class Standing(Record, frozen=True):
    """An evaluator, how much they ran, how much of it others ran again, and what came of that."""

    name: str
    ran: int
    again: int
    contradicted: int
    alone: tuple[int, ...] = ()  # the pull requests on which two or more others agree against them


@dataclass(frozen=True)
class _Run:
    """What one person's machine ran once: how many others ran the same, and how many of them contradict it."""

    number: int
    name: str
    others: int
    against: int

    @property
    def is_alone(self) -> bool:
        return self.against >= ENOUGH - 1 and self.against == self.others


def standings(repo: Repo, main: Snapshot) -> list[Standing]:
    """Of everybody whose machine ran main's checks, on whatever main they did."""
    policy, by = read_policy(main.policy_text), dict[str, list[_Run]]()
    for pull in listed(repo):
        with suppress(SouqError):  # what cannot be read was never run
            for run in _runs(pull, policy):
                by.setdefault(run.name, []).append(run)
    return [
        Standing(
            name=name, ran=len(runs), again=sum(run.others > 0 for run in runs),
            contradicted=sum(run.against > 0 for run in runs),
            alone=tuple(sorted({run.number for run in runs if run.is_alone})),
        )
        for name, runs in sorted(by.items())
    ]  # fmt: skip


def _runs(pull: PullRequest, policy: Policy) -> Iterator[_Run]:
    runs: dict[tuple[str, str], dict[str, Checked]] = {}
    for signed in sorted(read_checked(pull, policy), key=lambda each: each.checked.at):
        if (who := _by(signed, policy)) is not None:
            runs.setdefault((signed.checked.subject, signed.checked.base), {})[who.name] = signed.checked
    for same in runs.values():
        for name, mine in same.items():
            others = [checked for other, checked in same.items() if other != name]
            yield _Run(pull.number, name, len(others), sum(contradict(mine, other) for other in others))

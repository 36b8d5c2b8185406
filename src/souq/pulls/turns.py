"""Whose turn it is: what of the open pull requests waits for who is at this keyboard, and what for others.

Each turn is asked of the policy: whether this person's checks, or their yes, would leave less missing.

    turn(pull, main, key).do    # ("check", "vote"), or nothing
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from souq import signing
from souq.errors import SouqError
from souq.governance import Policy, SignedChecked, SignedVote, read_policy
from souq.governance.explain import uncounted
from souq.pulls.land import decision_on
from souq.pulls.pull import PullRequest
from souq.pulls.reviews import words
from souq.records import Checked, Decision, Verdict, Vote
from souq.repo.history import change_of
from souq.repo.snapshot import Snapshot

Step = Literal["check", "vote", "ballot", "merge", "mend"]
_APPROVALS = re.compile(r"(\d+) more approvals? from `[^`]+` for .*")
_MORE = re.compile(r"approvals from \d+ organisations for .*")


@dataclass(frozen=True)
class Turn:
    """One open pull request: what this person can do for it, and what it lacks."""

    number: int
    title: str
    do: tuple[Step, ...]
    missing: tuple[str, ...]


def turn(pull: PullRequest, main: Snapshot, key: str, waits: str = "") -> Turn:
    """What waits for whoever holds this key, "" for nobody's; nothing does, of what itself `waits` for others."""
    if waits:
        return Turn(pull.number, pull.summary.title, (), (waits,))
    decision = decision_on(pull, main)
    try:
        return Turn(pull.number, pull.offer.contribution.title, _steps(pull, main, key, decision), decision.missing)
    except SouqError as error:  # one hostile pull request must not hide the others
        return Turn(pull.number, "cannot be read", (), (str(error),))


def _steps(pull: PullRequest, main: Snapshot, key: str, decision: Decision) -> tuple[Step, ...]:
    policy, now = read_policy(main.policy_text), signing.now()
    if not key:
        return ()
    own = signing.normal_key(pull.offer.contribution.author.key) == key
    if own and any(line.startswith("check ") and " refuses: " in line for line in decision.missing):
        return ("mend",)
    if policy.person_of(key, now) is None:
        return ()
    if decision:
        return ("merge",)
    if pull.offer.contribution.kind == "election":
        return ("ballot",) if _may_cast(pull, policy, key, now) else ()
    steps: tuple[Step, ...] = ("check",) if _checks_help(pull, main, policy, key, decision) else ()
    return (*steps, "vote") if _yes_helps(pull, main, policy, key, decision) else steps


def _may_cast(pull: PullRequest, policy: Policy, key: str, now: str) -> bool:
    election, voter = pull.offer.election, policy.person_of(key, now)
    role = next((role for role in policy.role if election and role.name == election.role), None)
    if election is None or role is None or voter is None or now >= election.closes:
        return False
    cast = [signed.key for signed in pull.signed_records(policy).ballots]
    return voter.name in policy.members(role.elected_by) and voter not in map(policy.person_of, cast)


def _checks_help(pull: PullRequest, main: Snapshot, policy: Policy, key: str, before: Decision) -> bool:
    scopes, _ = policy.scopes(change_of(pull.offer, main).touched)
    names = dict.fromkeys(name for scope in scopes for name in scope.checks)
    verdicts = tuple(Verdict(check=name, outcome="pass", because="") for name in names)
    mine = Checked(subject=pull.offer.digest, base=main.commit, verdicts=verdicts, by="", at=signing.now())
    after = decision_on(pull, main, checked=[SignedChecked(mine, key)])
    return len([*filter(_of_checks, after.missing)]) < len([*filter(_of_checks, before.missing)])


def _of_checks(line: str) -> bool:
    return "has not been run by" in line or line.startswith("checks on main")


def _yes_helps(pull: PullRequest, main: Snapshot, policy: Policy, key: str, before: Decision) -> bool:
    change, now = change_of(pull.offer, main), signing.now()
    voter = policy.person_of(key, now)
    if uncounted(policy, change, key, now) or any(voter and word.by == voter.name for word in words(pull, main)):
        return False
    scopes, _ = policy.scopes(change.touched)
    if any(scope.cooloff_h for scope in scopes):  # a yes of this moment counts for nothing yet
        return _lack(before) > 0
    yes = Vote(subject=pull.offer.digest, choice="approve", reason="", by="", at=now)
    return _lack(decision_on(pull, main, votes=[SignedVote(yes, key)])) < _lack(before)


def _lack(decision: Decision) -> int:
    """Approvals that are missing, and organisations that are."""
    counts = [int(match[1]) for line in decision.missing if (match := _APPROVALS.search(line))]
    return sum(counts) + sum(bool(_MORE.search(line)) for line in decision.missing)

"""History judged again: every change by the policy in force before it, and by what history left to it. Pure.

findings = replay(landings)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from souq.errors import SouqError
from souq.governance.decide import NOTHING, SKEW, Change, PolicyState, SignedChecked, SignedVote, decide, seconds
from souq.governance.policy import Policy
from souq.records import Decision


@dataclass(frozen=True)
class Landed:
    """One change that is on main, with the policy in force before it and the records that came with it."""

    name: str
    policy: Policy
    change: Change
    checked: tuple[SignedChecked, ...]
    votes: tuple[SignedVote, ...]
    at: str  # as who merged it signed
    by: str = ""  # the key that did


class Replay:
    """History one landing at a time: `judge` says what is wrong with the next, and remembers what it leaves behind."""

    def __init__(self, state: PolicyState = NOTHING, at: str = "") -> None:
        self.state, self.at = state, at

    def judge(self, landed: Landed) -> list[str]:
        """What should not be there, a line each."""
        then, before = seconds(landed.at), seconds(self.at)
        if then is None:
            return [f"{landed.name} has no signed merge record"]
        problems = []
        if before is not None and before > then + SKEW:
            problems.append(f"{landed.name} is dated {landed.at}, before what landed before it ({self.at})")
        evidence = landed.checked, landed.votes
        try:
            decision = decide(landed.policy, landed.change, *evidence, now=landed.at, state=self.state)
        except SouqError as error:
            return [*problems, f"{landed.name}: {error}"]
        self._remember(landed, decision, then)
        return problems + [f"{landed.name} landed without {line}" for line in decision.missing]

    def _remember(self, landed: Landed, decision: Decision, then: float) -> None:
        self.at = max(self.at, landed.at)
        if not landed.policy.remembers:
            return
        seen = {person.name: self.state.seen.get(person.name, landed.at) for person in landed.policy.person}
        keys = [(landed.by, landed.at), (landed.change.author_key, landed.at)]
        keys += [(signed.key, signed.checked.at) for signed in landed.checked]
        keys += [(signed.key, signed.vote.at) for signed in landed.votes]
        keys += [(signed.key, signed.ballot.at) for signed in landed.change.ballots]
        for key, at in keys:
            person = landed.policy.person_of(key) if key else None
            if person is not None:
                seen[person.name] = max(seen[person.name], min(at, landed.at))
        pending = dict(self.state.pending)
        if landed.change.kind in ("ratify", "restore"):
            pending.pop(landed.change.of, None)
        if decision.emergency and (clause := landed.policy.emergency):
            lapses = datetime.fromtimestamp(then + clause.days * 86_400, UTC)
            pending[landed.name] = lapses.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.state = PolicyState(seen, pending)


def replay(landings: Iterable[Landed], state: PolicyState = NOTHING) -> list[str]:
    """Judge changes that landed, one after the other; a line for everything that should not be there."""
    history = Replay(state)
    return [line for landed in landings for line in history.judge(landed)]

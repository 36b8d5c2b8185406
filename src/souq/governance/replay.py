"""History judged again: every change by the policy in force before it, and by what history left to it. Pure.

findings = replay(landings)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from souq.errors import SouqError
from souq.governance.decide import (
    HOUR,
    NOTHING,
    SKEW,
    Change,
    PolicyState,
    SignedChecked,
    SignedVote,
    decide,
    seconds,
    signer,
    spelled,
)
from souq.governance.policy import FOREVER, Policy
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

    def signed(self) -> Iterator[tuple[str, str]]:
        """Every key that speaks in it, and when."""
        if self.by:
            yield self.by, self.at
        yield from ((each.key, each.checked.at) for each in self.checked)
        yield from ((each.key, each.vote.at) for each in self.votes)
        yield from ((each.key, each.ballot.at) for each in self.change.ballots)

    def vouched(self, by: str) -> float:
        """When somebody apart from a key's owner last signed something of it; 0 where nobody did.

        Apart is who is of another organisation; where all are of one, another person; who is the only one, oneself.
        """
        people, owner = self.policy.person, self.policy.person_of(by) if by else None
        sides = len({person.side for person in people}) > 1
        last = 0.0
        for key, at in self.signed():
            person = signer(self.policy, key, at, self.at)
            same = person and owner and (person.side == owner.side if sides else person.name == owner.name)
            if person and (not same or len(people) == 1):
                last = max(last, seconds(at) or 0.0)
        return last


class Replay:
    """History one landing at a time: `judge` says what is wrong with the next, and remembers what it leaves behind.

    `at` is main's clock, which nobody moves alone: a landing moves it to its own date, but no further than somebody
    apart from its merger has signed. Landings dated later than that wait in `alone`: where the next is dated before
    them, as somebody apart from their mergers vouches, those clocks were fast, and they hold by its date or not at all.
    """

    def __init__(self, state: PolicyState = NOTHING, at: str = "") -> None:
        self.state, self.at, self.earliest = state, at, FOREVER
        self.alone: list[tuple[Landed, PolicyState]] = []  # each with what history had left to it

    @property
    def latest(self) -> str:
        """The latest date of all that landed."""
        return max([self.at, *(landed.at for landed, _ in self.alone)])

    def judge(self, landed: Landed) -> list[str]:
        """What should not be there, a line each."""
        if seconds(landed.at) is None:
            return [f"{landed.name} has no signed merge record"]
        problems = self.misdated(landed)
        try:
            problems += self._set_back(landed.at) if not problems else []
            decision = _decided(landed, self.state)
        except SouqError as error:
            return [*problems, f"{landed.name}: {error}"]
        before = self.state
        self.earliest = min(self.earliest, landed.at)
        self._remember(landed, decision)
        self._advance(landed, before)
        return problems + [f"{landed.name} landed without {line}" for line in decision.missing]

    def misdated(self, landed: Landed) -> list[str]:
        """Why a landing may not be dated before what landed before it."""
        line = f"{landed.name} is dated {landed.at}, before what landed before it"
        alone = len(landed.policy.person) == 1 and landed.by and landed.policy.person_of(landed.by, self.at)
        if _after(self.at, landed.at) and not alone:  # with an old key that leaked nobody goes back to when it held
            return [f"{line} ({self.at})"]
        for fast, _ in self.alone:
            if _after(fast.at, landed.at) and landed.vouched(fast.by) < (seconds(landed.at) or 0.0) - HOUR:
                return [
                    f"{line} ({fast.at}), and nobody apart from who merged {fast.name} vouches for it within the hour"
                ]
        return []

    def _set_back(self, at: str) -> list[str]:
        """What cannot stand of main, where a landing that is dated before it is believed."""
        if not _after(self.latest, at):
            return []
        problems, alone = list[str](), self.alone
        self.at, self.alone = min(self.at, at), []
        seen = {name: min(heard, at) for name, heard in self.state.seen.items()}
        self.state = PolicyState(seen, self.state.pending, self.state.urgent)
        for fast, state in alone:
            again = replace(fast, at=at) if _after(fast.at, at) else fast
            decision = _decided(again, state)
            self.alone.append((again, state))
            self._pend(again, decision)
            problems += [f"{fast.name} landed, on {again.at}, without {line}" for line in decision.missing]
        return problems

    def _advance(self, landed: Landed, before: PolicyState) -> None:
        """Main's clock after a landing."""
        at = max(self.at, min(landed.at, spelled(landed.vouched(landed.by) + SKEW)))
        if at != self.at:
            self.at, self.alone = at, [(fast, state) for fast, state in self.alone if fast.at > at]
        if landed.at > at:
            self.alone.append((landed, before))

    def _remember(self, landed: Landed, decision: Decision) -> None:
        if not landed.policy.remembers:
            return
        seen = {person.name: self.state.seen.get(person.name, landed.at) for person in landed.policy.person}
        for key, at in [(landed.change.author_key, landed.at), *landed.signed()]:
            person = landed.policy.person_of(key)
            if person is not None:
                seen[person.name] = max(seen[person.name], min(at, landed.at))
        pending = dict(self.state.pending)
        if landed.change.kind in ("ratify", "restore"):
            pending.pop(landed.change.of, None)
        if landed.change.amends is not None and landed.change.amends.emergency is None:
            pending = {}  # who amends the clause away settles what it did
        self.state = PolicyState(seen, pending, self.state.urgent)
        self._pend(landed, decision)

    def _pend(self, landed: Landed, decision: Decision) -> None:
        """An emergency lapses so many days after it landed."""
        if decision.emergency and (clause := landed.policy.emergency):
            lapses = spelled((seconds(landed.at) or 0.0) + clause.days * 24 * HOUR)
            self.state = PolicyState(
                self.state.seen, {**self.state.pending, landed.name: lapses}, self.state.urgent | {landed.change.of}
            )


def replay(landings: Iterable[Landed], state: PolicyState = NOTHING) -> list[str]:
    """Judge changes that landed, one after the other; a line for everything that should not be there."""
    history = Replay(state)
    return [line for landed in landings for line in history.judge(landed)]


def _decided(landed: Landed, state: PolicyState) -> Decision:
    return decide(landed.policy, landed.change, landed.checked, landed.votes, now=landed.at, state=state)


def _after(at: str, other: str) -> bool:
    """Whether a time is later than another by more than two honest clocks differ."""
    return (seconds(at) or 0.0) > (seconds(other) or 0.0) + SKEW

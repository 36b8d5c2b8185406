"""Elections: approval ballots, signed by those who may cast them, counted the same by everybody. Pure.

Each elector names whom they approve of; seats go to the most approved, a name's place in the alphabet breaks ties, and
an organisation that has its seats gets no more (PEP 13 holds its council to two of one employer).

    council = Election(role="council", candidates=("amira", "bruno"), closes="2026-12-01T00:00:00Z")
    elect(policy, council, ballots, now, active).winners
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from souq.governance.policy import Policy, Who, capped
from souq.records import Digest, Record

Active = Callable[[str, Iterable[str]], Sequence[Who]]  # the electors a role has: those heard lately, and who votes now


class Election(Record, frozen=True, forbid_unknown_fields=True):
    """election.toml: whom ballots may name for a role, and until when they are cast (UTC, ISO)."""

    role: str
    candidates: tuple[str, ...]
    closes: str


class Ballot(Record, frozen=True):
    """One elector's choice among the candidates, in the words they signed."""

    subject: Digest
    choices: tuple[str, ...]
    by: str
    at: str
    after: tuple[Digest, ...] = ()


@dataclass(frozen=True)
class SignedBallot:
    """A ballot, and the public key that signed it."""

    ballot: Ballot
    key: str


@dataclass(frozen=True)
class Elected:
    """Who won, most approved first; or what is missing."""

    winners: tuple[str, ...] = ()
    approvals: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()


def elect(policy: Policy, election: Election, ballots: Sequence[SignedBallot], now: str, active: Active) -> Elected:
    """Count the ballots that were signed for one election."""
    role = next((role for role in policy.role if role.name == election.role), None)
    if role is None or not role.elected_by:
        return Elected(missing=(f"a role that is elected: {election.role!r} is none",))
    people = {person.name for person in policy.person}
    if stranger := next((name for name in election.candidates if name not in people), None):
        return Elected(missing=(f"candidates who are enrolled: {stranger!r} is no [[person]]",))
    if now < election.closes:
        return Elected(missing=(f"the end of the election, {election.closes}",))
    electors, cast = policy.members(role.elected_by), dict[str, Ballot]()
    for signed in sorted(ballots, key=lambda s: (s.ballot.at, s.ballot.choices, s.key)):
        elector = policy.person_of(signed.key)
        if elector is not None and elector.name in electors and signed.ballot.at <= election.closes:
            cast[elector.name] = signed.ballot
    sides = {policy.named(name).side for name in cast}
    needed = len(active(role.elected_by, cast)) // 2 + 1
    if len(cast) < needed:
        return Elected(missing=(f"{needed - len(cast)} more ballots of `{role.elected_by}`",))
    if len(sides) < min(2, len({policy.named(name).side for name in electors})):
        return Elected(missing=("ballots of two organisations",))
    counts = {name: sum(name in ballot.choices for ballot in cast.values()) for name in election.candidates}
    order = sorted((name for name, count in counts.items() if count), key=lambda name: (-counts[name], name))
    winners = [person.name for person in capped([*map(policy.named, order)], role.max_per_org)[0]][: role.seats]
    if not winners:
        return Elected(missing=("a candidate anybody approves of",))
    return Elected(tuple(winners), tuple(counts[name] for name in winners))

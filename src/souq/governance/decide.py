"""What the policy says about one change: signatures in, a decision out. Pure: no clock, no git, no disk.

Every scope a change touches must be satisfied at once. Nothing depends on the order in which votes are listed; a person
counts once, however many keys they hold, by their last word; a yes never turns a yes into a no.

    decision = decide(policy, change, checked, votes, now="2026-11-25T10:00:00Z")
    decision.missing   # what a person can go and do
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from msgspec.structs import replace

from souq.governance.elect import Elected, Election, SignedBallot, elect
from souq.governance.policy import POLICY, Needs, Policy, Scope, Who, at_once, most, wanted_of, with_members
from souq.records import Checked, Decision, Digest, Vote

SKEW = 600.0  # seconds by which two honest clocks may differ
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@dataclass(frozen=True)
class Change:
    """What a pull request would do, as the policy sees it."""

    digest: Digest
    author_key: str
    touched: tuple[str, ...]  # paths and tensor names
    kind: str = "weights"
    of: str = ""  # what it is about: a contribution taken back, a release yanked
    amends: Policy | None = None  # what GOVERNANCE.toml would say
    election: Election | None = None
    ballots: tuple[SignedBallot, ...] = ()


@dataclass(frozen=True)
class SignedVote:
    vote: Vote
    key: str


@dataclass(frozen=True)
class SignedChecked:
    checked: Checked
    key: str


@dataclass(frozen=True)
class PolicyState:
    """What history leaves to the next decision: when each was last heard, and the emergencies nobody has ratified yet."""

    seen: Mapping[str, str] = field(default_factory=dict)
    pending: Mapping[str, str] = field(default_factory=dict)  # contribution -> when it lapses

    def lapsed(self, now: str) -> list[str]:
        return sorted(slug for slug, until in self.pending.items() if until <= now)


NOTHING = PolicyState()
URGENT = ("revert", "yank")


def seconds(at: str) -> float | None:
    """A record's time since 1970; None for what is no time."""
    return _seconds(at)


@lru_cache(maxsize=1 << 16)
def _seconds(at: str) -> float | None:
    try:
        return datetime.fromisoformat(at.removesuffix("Z") + "+00:00").timestamp() if _INSTANT.fullmatch(at) else None
    except ValueError:
        return None


def decide(
    policy: Policy,
    change: Change,
    checked: Sequence[SignedChecked],
    votes: Sequence[SignedVote],
    *,
    now: str,
    state: PolicyState = NOTHING,
) -> Decision:
    """What the policy in force says about one change at `now`.

    An amendment is judged by the old policy and by the new one. Taking back at once is judged by the emergency clause
    where the ordinary way says no; once that has lapsed, nothing lands but its ratification or its undoing.
    """
    lapsed = state.lapsed(now) if policy.emergency else []  # who amends the clause away settles what was pending
    if lapsed and not (change.kind in ("restore", "ratify") and change.of in lapsed):
        return Decision(missing=(f"{lapsed[0]} has lapsed and nobody ratified it: ratify it or undo it first",))
    if change.kind == "restore" and change.of in lapsed:
        return Decision(met=(f"{change.of} has lapsed: what it took may come back",))
    if change.kind == "election":
        return _election(policy, change, now, state)
    if (gone := resigning(policy, change, now)) is not None:
        return Decision(met=(f"{gone} resigns",))
    said = _ordinary(policy, change, checked, votes, now, state)
    if said or change.kind not in URGENT or policy.emergency is None:
        return said
    urgent = _judged(policy, policy.emergency.scope, _Asked(policy, change, checked, votes, now, state))
    return Decision(met=urgent.met, emergency=True) if urgent else said


def _ordinary(
    policy: Policy, change: Change, checked: Sequence[SignedChecked], votes: Sequence[SignedVote], now: str, state: PolicyState
) -> Decision:  # fmt: skip
    hit, open_ = policy.scopes(change.touched)
    found = [Decision(missing=tuple(f"a scope for {path}: by default nobody may change it" for path in open_[:3]))]
    asked = _Asked(policy, change, checked, votes, now, state)
    found += [_judged(policy, scope, asked) for scope in hit]
    if change.amends is not None:
        under = _Asked(change.amends, change, checked, votes, now, state)
        rules, _ = change.amends.scopes([POLICY])
        new = [_judged(change.amends, _unchecked(scope), under) for scope in rules]
        told = tuple(f"by the new policy too: {line}" for said in new for line in said.missing)
        if not rules:
            told = (f"a scope for {POLICY} in the new policy: without one nobody could ever amend it again",)
        found.append(Decision(missing=told))
    missing = dict.fromkeys(line for said in found for line in said.missing)
    return Decision(missing=tuple(missing), met=tuple(dict.fromkeys(line for said in found for line in said.met)))


def _unchecked(scope: Scope) -> Scope:
    """The scope without its checks: machines answer to the policy in force."""
    return replace(scope, checks=())


def resigning(policy: Policy, change: Change, now: str) -> str | None:
    """Who lays down roles by a change that does nothing else; nobody's leave is needed for that."""
    who = policy.person_of(change.author_key, now)
    if who is None or change.amends is None or change.kind != "governance":
        return None
    left = policy
    for role, after in zip(policy.role, change.amends.role, strict=False):
        if role.members != after.members and who.name in role.members and who.name not in after.members:
            left = with_members(left, role.name, [name for name in role.members if name != who.name])
    return who.name if left == change.amends and left != policy else None


# -- one scope ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """A person's last word, and since when they have said so without a break."""

    who: Who
    vote: Vote
    at: float
    since: float
    first: float  # when they were heard at all


class _Asked:
    """One change with all that was said about it, under one policy, at one time."""

    def __init__(
        self, policy: Policy, change: Change, checked: Sequence[SignedChecked], votes: Sequence[SignedVote], now: str, state: PolicyState
    ) -> None:  # fmt: skip
        self.change, self.state, self.now = change, state, now
        self.at = seconds(now) or 0.0
        self.author = policy.person_of(change.author_key)
        self.said = _latest(policy, change, votes, now)
        self.checked = [
            (who, found.checked)
            for found in checked
            if found.checked.subject == change.digest and (who := _heard(policy, found.key, found.checked.at, now))
        ]
        self._policy = policy

    def is_author(self, who: Who) -> bool:
        return self.author is not None and self.author.name == who.name

    @property
    def opened(self) -> float | None:
        """When the second organisation is known to have seen it: no company alone can say it was earlier."""
        first: dict[str, float] = {}
        for who, at in self._heard():
            first[who.side] = min(at, first.get(who.side, at))
        enough = min(2, len({who.side for who in self._policy.person}))
        times = sorted(first.values())
        return times[enough - 1] if len(times) >= enough else None

    def _heard(self) -> Iterator[tuple[Who, float]]:
        for who, found in self.checked:
            yield who, seconds(found.at) or 0.0
        for said in self.said.values():
            yield said.who, said.first

    def active(self, role: str, speaking: Iterable[str]) -> list[Who]:
        """Whom a share is a share of: members heard lately, and those who speak now."""
        told = self._policy.role_of(role)
        return [self._policy.who(name) for name in told.members if self._is_active(name, told.inactive_days, speaking)]

    def _is_active(self, name: str, days: int, speaking: Iterable[str]) -> bool:
        if not self._policy.who(name).valid(self.now):
            return False
        heard = seconds(self.state.seen.get(name, self.now)) or self.at
        return not days or name in speaking or self.at - heard < days * 86_400


def _heard(policy: Policy, key: str, at: str, now: str) -> Who | None:
    """Whose record this is, if their key held when they signed and holds now, and its time has come."""
    when, then = seconds(at), seconds(now)
    if when is None or then is None or when > then + SKEW or policy.person_of(key, at) is None:
        return None
    return policy.person_of(key, now)


def _latest(policy: Policy, change: Change, votes: Sequence[SignedVote], now: str) -> dict[str, Said]:
    """Each enrolled person's last word on exactly this contribution; of two at one time, the no."""
    said: dict[str, Said] = {}
    for signed in sorted(votes, key=lambda s: (s.vote.at, s.vote.choice, s.vote.reason, s.key)):
        vote = signed.vote
        if vote.subject != change.digest or (who := _heard(policy, signed.key, vote.at, now)) is None:
            continue
        before, then = said.get(who.name), seconds(vote.at) or 0.0
        since = before.since if before and before.vote.choice == vote.choice else then
        said[who.name] = Said(who, vote, then, since, before.first if before else then)
    return said


def _judged(policy: Policy, scope: Scope, asked: _Asked) -> Decision:
    """One scope's answer."""
    more, missing = _machines(policy, scope, asked)
    against = [*_objections(policy, scope, asked)]
    met: list[str] = []
    wait = [*_waits(scope, asked)]
    wanted: list[str] = []
    for needs in scope.requires:
        line, enough = _quorum(policy, scope, needs, asked, more)
        (met if enough else wanted).append(line)
    wanted += _sides(policy, scope, asked)
    if wanted and not more and (hours := _silence(policy, scope, asked)) is not None:
        met, wanted = [f"nobody has objected to {scope.name} for {hours} hours"], []
    return Decision(missing=(*missing, *against, *wait, *wanted), met=tuple(met))


def _machines(policy: Policy, scope: Scope, asked: _Asked) -> tuple[int, list[str]]:
    """Every check the scope names must have been run by whom it asks, the author left out, and not refuse."""
    missing, more = [], 0
    for name in scope.checks:
        found = [
            (who, verdict)
            for who, each in asked.checked
            if scope.author_may_vote or not asked.is_author(who)
            for verdict in each.verdicts
            if verdict.check == name
        ]
        refused = min((verdict.because for _, verdict in found if verdict.outcome == "refuse"), default=None)
        if refused is not None:
            missing.append(f"check `{name}` refuses: {refused}")
        elif lack := _unchecked_by(policy, scope, [who for who, _ in found]):
            missing.append(f"check `{name}` has not been run by {lack}")
        more = max(more, int(any(verdict.outcome == "needs-eyes" for _, verdict in found)))
    return more, missing


def _unchecked_by(policy: Policy, scope: Scope, ran: Sequence[Who]) -> str:
    """Who is still to run a check that these have run; "" where nobody is."""
    if scope.evaluators is None:
        return "" if ran else "an enrolled person other than the author"
    role, wanted = scope.evaluators.role, scope.evaluators.n
    sides = sorted({who.side for who in ran if who.name in policy.members(role)})
    of = f"{wanted} of `{role}`, each of another organisation" if wanted > 1 else f"one of `{role}`"
    return "" if len(sides) >= wanted else f"{of} (have {', '.join(sides) or 'none'})"


def _objections(policy: Policy, scope: Scope, asked: _Asked) -> Iterator[str]:
    """The no that stands in the way: of everybody asked, or as far as `majority` or a veto's own terms go."""
    members = {name for needs in scope.requires for name in policy.members(needs.role)}
    no = [said for name, said in sorted(asked.said.items()) if said.vote.choice == "reject"]
    if scope.majority:
        against = sum(said.who.name in members for said in no)
        if against and against >= len(_yes(scope, asked, members)):
            yield f"more approvals than the {against} against {scope.name}"
        return
    if scope.veto is None:
        yield from (f"{said.who.name} rejects it: {said.vote.reason}" for said in no if said.who.name in members)
        return
    vetoes = [said for said in no if said.who.name in policy.members(scope.veto.role) and said.vote.reason.strip()]
    for said in vetoes:
        age = asked.at - said.at
        others = sum(other.who.side != said.who.side for other in vetoes)
        alone = others < scope.veto.seconds
        ends = scope.veto.alone_h * 3600 if alone else scope.veto.days * 86_400
        if age < ends:
            left = max(1, round((ends - age) / 3600))
            second = f", unless {scope.veto.seconds - others} more second it" if alone else ""
            yield f"{said.who.name} vetoes it: {said.vote.reason} (lapses in {left} h{second})"


def _waits(scope: Scope, asked: _Asked) -> Iterator[str]:
    if not scope.window_h:
        return
    opened = asked.opened
    if opened is None:
        yield f"{scope.window_h} h for everybody to see it, counted from when people of two organisations have"
    elif asked.at < opened + scope.window_h * 3600:
        yield f"{_hours(opened + scope.window_h * 3600 - asked.at)} more for everybody to see it ({scope.name})"


def _hours(left: float) -> str:
    return f"{max(1, round(left / 3600))} h"


def _yes(scope: Scope, asked: _Asked, members: set[str] | tuple[str, ...]) -> list[Who]:
    """Members who have said yes for long enough, and may."""
    return [
        said.who
        for name, said in sorted(asked.said.items())
        if said.vote.choice == "approve"
        and name in members
        and (not scope.cooloff_h or said.since <= asked.at - scope.cooloff_h * 3600)
        and (scope.author_may_vote or not asked.is_author(said.who))
    ]


def _quorum(policy: Policy, scope: Scope, needs: Needs, asked: _Asked, more: int) -> tuple[str, bool]:
    yes = _yes(scope, asked, policy.members(needs.role))
    counted, idle = _capped(yes, scope.max_per_org)
    # A share is of what can count: not of who may not vote or is over the cap, nor of a yes too young to. Otherwise
    # the yes of a member long unheard would ask for one more and be none.
    speaking = {who.name for who in yes} | {name for name, said in asked.said.items() if said.vote.choice == "reject"}
    able = [who for who in asked.active(needs.role, speaking) if scope.author_may_vote or not asked.is_author(who)]
    wanted = wanted_of(needs, at_once(able, scope.max_per_org))
    wanted = min(wanted + more, most(policy, scope, needs.role)) if more else wanted
    have = ", ".join(_named(who) for who in counted) or "nobody"
    if len(counted) >= wanted:
        return f"{wanted} of `{needs.role}` for {scope.name}: {have}", True
    lack = wanted - len(counted)
    line = f"{lack} more approval{'s' if lack > 1 else ''} from `{needs.role}` for {scope.name} (have {have}"
    for who in idle:
        line += (
            f"; {who.name}'s does not count: {who.side} has {scope.max_per_org} of at most {scope.max_per_org} already"
        )
    young = [said for said in asked.said.values() if said.vote.choice == "approve" and scope.cooloff_h and said.since > asked.at - scope.cooloff_h * 3600]  # fmt: skip
    for said in sorted(young, key=lambda said: said.who.name):  # whichever key they used
        line += f"; {said.who.name}'s counts in {_hours(said.since + scope.cooloff_h * 3600 - asked.at)}"
    if asked.author is not None and asked.author.name in asked.said and not scope.author_may_vote:
        line += f"; {asked.author.name} is its author"
    return line + ")", False


def _named(who: Who) -> str:
    return f"{who.name} of {who.org}" if who.org else who.name


def _capped(yes: Sequence[Who], cap: int) -> tuple[list[Who], list[Who]]:
    """Who counts under the cap for each organisation, and who does not."""
    counted: list[Who] = []
    idle: list[Who] = []
    for who in yes:
        full = cap and sum(other.side == who.side for other in counted) >= cap
        (idle if full else counted).append(who)
    return counted, idle


def _sides(policy: Policy, scope: Scope, asked: _Asked) -> Iterator[str]:
    members = {name for needs in scope.requires for name in policy.members(needs.role)}
    sides = {who.side for who in _yes(scope, asked, members)}
    if asked.author is not None and asked.author.name in members:  # offering it is standing behind it
        sides.add(asked.author.side)
    if len(sides) < scope.min_orgs:
        yield f"approvals from {scope.min_orgs} organisations for {scope.name} (have {', '.join(sorted(sides)) or 'none'})"


def _silence(policy: Policy, scope: Scope, asked: _Asked) -> int | None:
    """How many hours of silence are consent: nobody said no so long, and enough outside the author's side said yes."""
    members = {name for needs in scope.requires for name in policy.members(needs.role)}
    opened = asked.opened
    if scope.lazy is None or opened is None or asked.at < opened + scope.lazy.after_h * 3600:
        return None
    if any(said.vote.choice == "reject" and name in members for name, said in asked.said.items()):
        return None
    side = asked.author.side if asked.author is not None else None
    return scope.lazy.after_h if sum(who.side != side for who in _yes(scope, asked, members)) >= scope.lazy.n else None


# -- elections ---------------------------------------------------------------------------------------------------------


def _election(policy: Policy, change: Change, now: str, state: PolicyState) -> Decision:
    """Ballots decide, and nobody else."""
    if change.election is None:
        return Decision(missing=("election.toml: who may be chosen for what, and until when",))
    found = elected(policy, change, now=now, state=state)
    if found.missing:
        return Decision(missing=found.missing)
    told, after = found.winners, change.amends
    if after is not None and after != with_members(policy, change.election.role, told):
        return Decision(missing=(f"{POLICY} as the ballots make it: {', '.join(told)}",))
    return Decision(met=(f"elected to {change.election.role}: {', '.join(told)}",))


def elected(policy: Policy, change: Change, *, now: str, state: PolicyState = NOTHING) -> Elected:
    """Who won an election, once it is closed, with more than half of the electors, of two organisations."""
    if change.election is None:
        return Elected(missing=("an election",))
    active = _Asked(policy, change, (), (), now, state).active
    heard = [ballot for ballot in change.ballots if _heard(policy, ballot.key, ballot.ballot.at, now)]
    return elect(policy, change.election, change.digest, heard, now, active)

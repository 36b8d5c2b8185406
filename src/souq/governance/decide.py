"""What the policy says about one change: signatures in, a decision out. Pure: no clock, no git, no disk.

Every scope a change touches must be satisfied at once. Nothing depends on the order in which votes are listed; a person
counts once, however many keys they hold, by their last word; a yes never turns a yes into a no.

    decision = decide(policy, change, checked, votes, now="2026-11-25T10:00:00Z")
    decision.missing   # what a person can go and do
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from math import inf

from msgspec.structs import replace

from souq.governance.elect import Elected, Election, SignedBallot, elect
from souq.governance.policy import (
    POLICY,
    Needs,
    Policy,
    Scope,
    Who,
    at_once,
    capped,
    edited,
    format_policy,
    is_date,
    most,
    read_policy,
    wanted_of,
)  # fmt: skip
from souq.records import Checked, Decision, Digest, Vote

SKEW = 600.0  # seconds by which two honest clocks may differ
HOUR = 3600
LAST_SECOND = 253_402_300_799.0  # of the year 9999: records spell none after it
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True)
class Change:
    """What a pull request would do, as the policy sees it."""

    digest: Digest
    author_key: str
    touched: tuple[str, ...]  # paths and tensor names
    kind: str = "weights"
    of: str = ""  # what it is about: a contribution taken back, a release yanked
    amends: Policy | None = None  # what GOVERNANCE.toml would say
    texts: tuple[str, str] = ("", "")  # what it says and would say, to the byte; "" for a policy as souq writes it
    election: Election | None = None
    ballots: tuple[SignedBallot, ...] = ()


@dataclass(frozen=True)
class SignedVote:
    """A vote, and the public key that signed it."""

    vote: Vote
    key: str


@dataclass(frozen=True)
class SignedChecked:
    """What a machine found, and the public key that signed it."""

    checked: Checked
    key: str


@dataclass(frozen=True)
class PolicyState:
    """What history leaves to the next decision: when each was last heard, and emergencies nobody has ratified yet."""

    seen: Mapping[str, str] = field(default_factory=dict)
    pending: Mapping[str, str] = field(default_factory=dict)  # contribution -> when it lapses
    urgent: frozenset[str] = frozenset()  # what emergencies have taken: each once, then the ordinary way is asked

    def lapsed(self, now: str) -> list[str]:
        return sorted(slug for slug, until in self.pending.items() if until <= now)


NOTHING = PolicyState()
URGENT = ("revert", "yank")
ANEW_UNTIL = "2027-01-01"  # until then souq itself wrote all of a policy anew when somebody was elected or resigned


def seconds(at: str) -> float | None:
    """A record's time since 1970; None for what is no time."""
    return _seconds(at)


def spelled(at: float) -> str:
    """A time since 1970 in seconds as records have it, whole seconds of the years 1970 to 9999."""
    return datetime.fromtimestamp(min(max(at, 0.0), LAST_SECOND), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
    evidence = _Evidence(policy, change, (checked, votes), now, state)
    ordinary = _ordinary(evidence)
    if ordinary or change.kind not in URGENT or policy.emergency is None or change.of in state.urgent:
        return ordinary
    urgent = _judged(policy.emergency.scope, evidence)
    return Decision(met=urgent.met, emergency=True) if urgent else ordinary


def _ordinary(evidence: _Evidence) -> Decision:
    """Every scope's answer, and for an amendment that of the policy it makes."""
    scopes, closed = evidence.policy.scopes(evidence.change.touched)
    answers = [Decision(missing=tuple(f"a scope for {path}: by default nobody may change it" for path in closed[:3]))]
    answers += [_judged(scope, evidence) for scope in scopes]
    if evidence.change.amends is not None:
        answers.append(_by_the_new_policy(evidence.under(evidence.change.amends)))
    missing, met, eyes = (
        tuple(dict.fromkeys(line for lines in each for line in lines))
        for each in zip(*((answer.missing, answer.met, answer.eyes) for answer in answers), strict=True)
    )
    return Decision(missing=missing, met=met, eyes=eyes)


def _by_the_new_policy(evidence: _Evidence) -> Decision:
    """What an amendment lacks by the policy it makes; machines answer to the one in force."""
    rules, _ = evidence.policy.scopes([POLICY])
    if not rules:
        nobody = f"a scope for {POLICY} in the new policy: without one nobody could ever amend it again"
        return Decision(missing=(nobody,))
    answers = [_judged(replace(scope, checks=()), evidence) for scope in rules]
    return Decision(missing=tuple(f"by the new policy too: {line}" for answer in answers for line in answer.missing))


def resigning(policy: Policy, change: Change, now: str) -> str | None:
    """Who lays down roles by a change that does nothing else; nobody's leave is needed for that."""
    author = policy.person_of(change.author_key, now)
    if author is None or change.amends is None or change.kind != "governance":
        return None
    left = {
        role.name: [name for name in role.members if name != author.name]
        for role, after in zip(policy.role, change.amends.role, strict=False)
        if role.members != after.members and author.name in role.members and author.name not in after.members
    }
    return author.name if left and _only_edited(policy, change, left, now) else None


def _only_edited(policy: Policy, change: Change, seats: Mapping[str, Sequence[str]], now: str) -> bool:
    """Whether GOVERNANCE.toml is the old one, comments and all, with other people in these roles."""
    before, after = change.texts
    text, after = before or format_policy(policy), after or format_policy(change.amends or policy)
    for role, members in seats.items():
        text = edited(text, role, members)
    return after == text or (now < ANEW_UNTIL and after == format_policy(read_policy(text)))


# -- what was said -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LastWord:
    """A person's last word, and since when they have said so without a break."""

    voter: Who
    vote: Vote
    at: float
    since: float
    first: float  # when they were heard at all
    no: float  # when they first said no: a veto that is said again is no younger


@dataclass
class _Evidence:
    """One change with all that was said about it, under one policy, at one time."""

    policy: Policy
    change: Change
    signed: tuple[Sequence[SignedChecked], Sequence[SignedVote]]
    now: str
    state: PolicyState

    def __post_init__(self) -> None:
        checked, votes = self.signed
        self.at = seconds(self.now) or 0.0
        self.author = self.policy.person_of(self.change.author_key)
        # offering it is standing behind it, with a key that holds
        self.backer = self.author if self.policy.person_of(self.change.author_key, self.now) else None
        self.last_words = last_words(self.policy, self.change, votes, self.now)
        self.checked = [
            (checker, each.checked)
            for each in checked
            if each.checked.subject == self.change.digest
            and (checker := signer(self.policy, each.key, each.checked.at, self.now))
        ]

    def under(self, policy: Policy) -> _Evidence:
        """All of it, under another policy."""
        return _Evidence(policy, self.change, self.signed, self.now, self.state)

    def may_judge(self, person: Who, scope: Scope) -> bool:
        """Authors do not judge their own work, unless the scope lets them."""
        return scope.author_may_vote or self.author is None or self.author.name != person.name

    def saying(self, choice: str) -> list[LastWord]:
        """The last words that are a yes, or a no, by name."""
        return [word for _, word in sorted(self.last_words.items()) if word.vote.choice == choice]

    @property
    def opened(self) -> float | None:
        """When the second organisation is known to have seen it: no company alone can say it was earlier."""
        first: dict[str, float] = {}
        for person, at in self._heard():
            first[person.side] = min(at, first.get(person.side, at))
        enough = min(2, len({person.side for person in self.policy.person}))
        times = sorted(first.values())
        return times[enough - 1] if len(times) >= enough else None

    def _heard(self) -> Iterator[tuple[Who, float]]:
        for checker, checked in self.checked:
            yield checker, seconds(checked.at) or 0.0
        for word in self.last_words.values():
            yield word.voter, word.first

    def active(self, role: str, speaking: Iterable[str]) -> list[Who]:
        """Whom a share is a share of: members heard lately, and those who speak now."""
        days = self.policy.role_of(role).inactive_days
        return [self.policy.named(name) for name in self.policy.members(role) if self._is_active(name, days, speaking)]

    def _is_active(self, name: str, days: int, speaking: Iterable[str]) -> bool:
        if not self.policy.named(name).valid(self.now):
            return False
        heard = seconds(self.state.seen.get(name, self.now)) or self.at
        return not days or name in speaking or self.at - heard < days * 24 * HOUR


def signer(policy: Policy, key: str, at: str, now: str) -> Who | None:
    """Whose record this is, if their key held when they signed and holds now, and its time has come."""
    when, then = seconds(at), seconds(now)
    if when is None or then is None or when > then + SKEW or policy.person_of(key, at) is None:
        return None
    return policy.person_of(key, now)


def last_words(policy: Policy, change: Change, votes: Sequence[SignedVote], now: str) -> dict[str, LastWord]:
    """Each enrolled person's last word on exactly this contribution; of two at one time, the no."""
    words: dict[str, LastWord] = {}
    for signed in sorted(votes, key=lambda s: (s.vote.at, s.vote.choice, s.vote.reason, s.key)):
        vote = signed.vote
        if vote.subject != change.digest or (voter := signer(policy, signed.key, vote.at, now)) is None:
            continue
        before, at = words.get(voter.name), seconds(vote.at) or 0.0
        since = before.since if before and before.vote.choice == vote.choice else at
        no = at if vote.choice == "reject" else inf
        first, no = (before.first, min(before.no, no)) if before else (at, no)
        words[voter.name] = LastWord(voter, vote, at, since, first, no)
    return words


# -- one scope ---------------------------------------------------------------------------------------------------------


def _judged(scope: Scope, evidence: _Evidence) -> Decision:
    """One scope's answer."""
    doubts, missing = _machines(scope, evidence)
    missing += [*_objections(scope, evidence), *_waits(scope, evidence)]
    quorums = [_count(scope, needs, evidence, needs_eyes=bool(doubts)) for needs in scope.requires]
    met = [_explain(quorum) for quorum in quorums if quorum.met]
    wanted = [_explain(quorum) for quorum in quorums if not quorum.met]
    wanted += _sides(scope, evidence)
    if wanted and not doubts and (hours := _silence(scope, evidence)) is not None:
        met, wanted = [f"nobody has objected to {scope.name} for {hours} hours"], []
    eyes = tuple(_looked_at(doubts, quorum) for quorum in quorums if doubts)
    return Decision(missing=(*missing, *wanted), met=tuple(met), eyes=eyes)


def _looked_at(doubts: Sequence[str], quorum: Quorum) -> str:
    raised = f"instead of {quorum.plain}" if quorum.required > quorum.plain else "all the same: no more could"
    approvals = f"{quorum.required} approval{'' if quorum.required == 1 else 's'} from `{quorum.role}`"
    asks = f"{', '.join(f'`{name}`' for name in doubts)} ask{'s' if len(doubts) == 1 else ''} people to look"
    return f"{asks}: {approvals} for {quorum.scope.name} {raised}"


def _machines(scope: Scope, evidence: _Evidence) -> tuple[list[str], list[str]]:
    """Which checks ask for human eyes; and which nobody has run whom the scope asks, the author left out, or refuse."""
    missing, doubts, by = [], list[str](), scope.evaluators
    asked = evidence.policy.members(by.role) if by else [checker.name for checker, _ in evidence.checked]
    for name in scope.checks:
        verdicts = [
            (checker, verdict)
            for checker, checked in evidence.checked
            if evidence.may_judge(checker, scope) and checker.name in asked
            for verdict in checked.verdicts
            if verdict.check == name
        ]
        refused = min((verdict.because for _, verdict in verdicts if verdict.outcome == "refuse"), default=None)
        if refused is not None:
            missing.append(f"check `{name}` refuses: {refused}")
        elif lack := _unchecked_by(scope, [checker for checker, _ in verdicts]):
            missing.append(f"check `{name}` has not been run by {lack}")
        doubts += [name] if any(verdict.outcome == "needs-eyes" for _, verdict in verdicts) else []
    return doubts, missing


def _unchecked_by(scope: Scope, ran: Sequence[Who]) -> str:
    """Who is still to run a check that these have run; "" where nobody is."""
    if scope.evaluators is None:
        return "" if ran else "an enrolled person" + ("" if scope.author_may_vote else " other than the author")
    role, wanted = scope.evaluators.role, scope.evaluators.n
    sides = sorted({checker.side for checker in ran})
    of = f"{wanted} of `{role}`, each of another organisation" if wanted > 1 else f"one of `{role}`"
    return "" if len(sides) >= wanted else f"{of} (have {', '.join(sides) or 'none'})"


def _objections(scope: Scope, evidence: _Evidence) -> Iterator[str]:
    """The no that stands in the way: of everybody asked, or as far as `majority` or a veto's own terms go."""
    asked, no = evidence.policy.asked(scope), evidence.saying("reject")
    if scope.majority:
        against = sum(word.voter.name in asked for word in no)
        if against and against >= len(_yes(scope, evidence, asked)):
            yield f"more approvals than the {against} against {scope.name}"
        return
    if scope.veto is None:
        yield from (f"{word.voter.name} rejects it: {word.vote.reason}" for word in no if word.voter.name in asked)
        return
    may_veto = evidence.policy.members(scope.veto.role)
    vetoes = [word for word in no if word.voter.name in may_veto and word.vote.reason.strip()]
    for word in vetoes:
        others = sum(other.voter.side != word.voter.side for other in vetoes)
        alone = others < scope.veto.seconds
        left = word.no + (scope.veto.alone_h if alone else scope.veto.days * 24) * HOUR - evidence.at
        if left > 0:
            second = f", unless {scope.veto.seconds - others} more second it" if alone else ""
            yield f"{word.voter.name} vetoes it: {word.vote.reason} (lapses in {_hours(left)}{second})"


def _waits(scope: Scope, evidence: _Evidence) -> Iterator[str]:
    if not scope.window_h:
        return
    opened = evidence.opened
    if opened is None:
        yield f"{scope.window_h} h for everybody to see it, counted from when people of two organisations have"
    elif (left := opened + scope.window_h * HOUR - evidence.at) > 0:
        yield f"{_hours(left)} more for everybody to see it ({scope.name})"


def _hours(left: float) -> str:
    return f"{max(1, round(left / HOUR))} h"


def _yes(scope: Scope, evidence: _Evidence, members: Collection[str]) -> list[Who]:
    """Members who have said yes for long enough, and may."""
    return [
        word.voter
        for word in evidence.saying("approve")
        if word.voter.name in members
        and evidence.may_judge(word.voter, scope)
        and _cooling(scope, word, evidence.at) <= 0
    ]


def _cooling(scope: Scope, word: LastWord, at: float) -> float:
    """Seconds until a yes has stood for as long as the scope asks."""
    return word.since + scope.cooloff_h * HOUR - at if scope.cooloff_h else 0.0


@dataclass(frozen=True)
class Quorum:
    """The approvals a scope asks of one role, and those it has."""

    scope: Scope
    role: str
    required: int
    plain: int  # as many as were asked for if no check asked people to look
    counted: Sequence[Who]
    over_cap: Sequence[Who]  # a yes that does not count: their organisation has all it may have
    cooling_off: Sequence[tuple[str, float]]  # whose yes is too young, by name, and the seconds until it counts
    own_vote: str  # the author's name, where they voted on their own work and may not

    @property
    def met(self) -> bool:
        return len(self.counted) >= self.required


def _count(scope: Scope, needs: Needs, evidence: _Evidence, *, needs_eyes: bool) -> Quorum:
    """The approvals of one role: how many are asked for, whose count, and whose do not."""
    author = evidence.author.name if evidence.author and not scope.author_may_vote else ""
    yes = _yes(scope, evidence, evidence.policy.members(needs.role))
    counted, over_cap = capped(yes, scope.max_per_org)
    # A share is of what can count: not of who may not vote or is over the cap, nor of a yes too young to. Otherwise
    # the yes of a member long unheard would ask for one more and be none.
    speaking = {voter.name for voter in yes} | {word.voter.name for word in evidence.saying("reject")}
    able = [member for member in evidence.active(needs.role, speaking) if evidence.may_judge(member, scope)]
    plain, top = wanted_of(needs, at_once(able, scope.max_per_org)), most(evidence.policy, scope, needs.role)
    required = min(plain + 1, top) if needs_eyes else plain
    if scope.or_all_others and not scope.author_may_vote:
        others = most(evidence.policy, scope, needs.role, without=evidence.backer)
        plain, required = min(plain, others), min(required, others)
    young = [(word.voter.name, _cooling(scope, word, evidence.at)) for word in evidence.saying("approve")]
    cooling_off = [(name, left) for name, left in young if left > 0]
    own_vote = author if author in evidence.last_words else ""
    return Quorum(scope, needs.role, required, plain, counted, over_cap, cooling_off, own_vote)


def _explain(quorum: Quorum) -> str:
    """A quorum for people: that it is met and by whom, or what it lacks and whose yes does not count."""
    scope, have = quorum.scope, ", ".join(map(_of_org, quorum.counted)) or "nobody"
    if quorum.met:
        return f"{quorum.required} of `{quorum.role}` for {scope.name}: {have}"
    lack, cap = quorum.required - len(quorum.counted), scope.max_per_org
    notes = [f"have {have}"]
    notes += [
        f"{each.name}'s does not count: {each.side} has {cap} of at most {cap} already" for each in quorum.over_cap
    ]
    notes += [f"{name}'s counts in {_hours(left)}" for name, left in quorum.cooling_off]
    notes += [f"{quorum.own_vote} is its author"] if quorum.own_vote else []
    more = f"{lack} more approval{'s' if lack > 1 else ''} from `{quorum.role}` for {scope.name}"
    return f"{more} ({'; '.join(notes)})"


def _of_org(person: Who) -> str:
    return f"{person.name} of {person.org}" if person.org else person.name


def _sides(scope: Scope, evidence: _Evidence) -> Iterator[str]:
    asked, backer = evidence.policy.asked(scope), evidence.backer
    sides = {voter.side for voter in _yes(scope, evidence, asked)}
    sides |= {backer.side} if backer is not None and backer.name in asked else set()
    if len(sides) < scope.min_orgs:
        have = ", ".join(sorted(sides)) or "none"
        yield f"approvals from {scope.min_orgs} organisations for {scope.name} (have {have})"


def _silence(scope: Scope, evidence: _Evidence) -> int | None:
    """How many hours of silence are consent: nobody said no so long, and enough outside the author's side said yes."""
    asked, opened = evidence.policy.asked(scope), evidence.opened
    if scope.lazy is None or opened is None or evidence.at < opened + scope.lazy.after_h * HOUR:
        return None
    if any(word.voter.name in asked for word in evidence.saying("reject")):
        return None
    side = evidence.author.side if evidence.author is not None else None
    outside = sum(voter.side != side for voter in _yes(scope, evidence, asked))
    return scope.lazy.after_h if outside >= scope.lazy.n else None


# -- elections ---------------------------------------------------------------------------------------------------------


def _election(policy: Policy, change: Change, now: str, state: PolicyState) -> Decision:
    """Ballots decide, and nobody else."""
    if change.election is None or not is_date(change.election.closes):
        return Decision(missing=("election.toml: who may be chosen for what, and until when",))
    result = elected(policy, change, now=now, state=state)
    if result.missing:
        return Decision(missing=result.missing)
    role, winners = change.election.role, ", ".join(result.winners)
    if change.amends is not None and not _only_edited(policy, change, {role: result.winners}, now):
        return Decision(missing=(f"{POLICY} as the ballots make it: {winners}",))
    return Decision(met=(f"elected to {role}: {winners}",))


def elected(policy: Policy, change: Change, *, now: str, state: PolicyState = NOTHING) -> Elected:
    """Who won an election, once it is closed, with more than half of the electors, of two organisations."""
    if change.election is None:
        return Elected(missing=("an election",))
    active = _Evidence(policy, change, ((), ()), now, state).active
    ballots = [signed for signed in change.ballots if signed.ballot.subject == change.digest]
    cast = [signed for signed in ballots if signer(policy, signed.key, signed.ballot.at, now)]
    return elect(policy, change.election, cast, now, active)

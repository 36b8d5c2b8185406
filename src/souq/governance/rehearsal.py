"""Whom a policy locks out: each kind of change played with everybody willing, and again with each organisation gone.

Nothing is worked out twice: every answer is that of decide(), asked with the yes of all who can give one.

    for line in rehearsed(policy, now):
        print(line)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from msgspec.structs import replace

from souq.governance.decide import HOUR, Change, PolicyState, SignedChecked, SignedVote, decide, seconds, spelled
from souq.governance.policy import POLICY, Policy, Scope, dated
from souq.records import Checked, Decision, Outcome, Verdict, Vote, format_toml

MOST_WORK = 20_000  # plays, times the people in each: some seconds
_STRANGER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43  # a key that nobody is enrolled with
_DIGEST, _LONG_AGO = "b3:" + "0" * 64, "1971-01-01T00:00:00Z"


@dataclass(frozen=True)
class Rehearsal:
    """One scope of a policy, asked about work that has been open for as long as it must be."""

    policy: Policy
    scope: Scope
    now: str

    @cached_property
    def _alone(self) -> Policy:
        # an hour stands for any window: what matters is whether people of two organisations open it
        scope = replace(self.scope, match=("x",), window_h=min(1, self.scope.window_h), cooloff_h=0)
        return Policy(person=self.policy.person, role=self.policy.role, org=self.policy.org, scope=(scope,))

    @cached_property
    def keys(self) -> dict[str, str]:
        """A key that holds of each who has one, by name."""
        held = [(person.name, dated(key).key) for person in self.policy.person for key in person.keys]
        return {name: key for name, key in reversed(held) if self.policy.person_of(key, self.now)}

    def decision(
        self, author: str, voters: Collection[str], *, eyes: bool = False, silent: Collection[str] = ()
    ) -> Decision:
        """What is decided when all these have run its checks and said yes; `silent` have not been heard for years.

        `author` is a person's name, or "" for a stranger.
        """
        able = [key for name, key in self.keys.items() if name in voters]
        outcome: Outcome = "needs-eyes" if eyes else "pass"
        verdicts = tuple(Verdict(check=name, outcome=outcome, because="") for name in self.scope.checks)
        checked = Checked(subject=_DIGEST, base="", verdicts=verdicts, by="", at=self.now)
        yes = Vote(subject=_DIGEST, choice="approve", reason="", by="", at=self.now)
        return decide(
            self._alone,
            Change(digest=_DIGEST, author_key=self.keys.get(author, _STRANGER), touched=("x",)),
            [SignedChecked(checked, key) for key in able],
            [SignedVote(yes, key) for key in able],
            now=spelled((seconds(self.now) or 0.0) + HOUR),
            state=PolicyState(seen=dict.fromkeys(silent, _LONG_AGO)),
        )

    def authors(self) -> list[tuple[str, ...]]:
        """All who may offer, together those whom the policy could not tell apart; a stranger last."""
        shapes, alike = self.shapes, dict[tuple[_Shape, _Roles], list[str]]()
        for person in self.policy.person:
            if person.name in self.keys:
                alike.setdefault((shapes[person.side], self._roles(person.name)), []).append(person.name)
        releases = self.scope.covers("releases/1/x") and not self.scope.covers("contributions/1/x")
        strangers = [] if releases else [("",)]  # only who is enrolled signs a release
        return [*map(tuple, alike.values()), *strangers]

    @cached_property
    def shapes(self) -> dict[str, _Shape]:
        """Each organisation by the roles of its people: of two alike, one is played."""
        sides = dict[str, list[_Roles]]()
        for person in self.policy.person:
            sides.setdefault(person.side, []).append(self._roles(person.name))
        return {side: tuple(sorted(roles)) for side, roles in sides.items()}

    def _roles(self, name: str) -> _Roles:
        held = [role.name for role in self.policy.role if name in role.members]
        return tuple(held) if name in self.keys else ("", *held)


_Roles = tuple[str, ...]
_Shape = tuple[_Roles, ...]


def rehearsed(policy: Policy, now: str) -> list[str]:
    """Who is locked out and what to type, and what happens where an organisation goes."""
    stages = [Rehearsal(policy, scope, now) for scope in policy.scope[:1]]
    kinds = sum(len(stage.authors()) * (2 + len({*stage.shapes.values()})) for stage in stages)
    if kinds * len(policy.person) * len(policy.scope) > MOST_WORK:
        return [f"not played: {len(policy.person)} people and {len(policy.scope)} scopes are too many"]
    locks, lines = locked_out(policy, now), list[str]()
    for lock in locks:
        lines += [f"locked out: {lock}", f"  missing, though all others say yes: {lock.missing}", f"  {lock.way_out}"]
    if not locks:
        lines.append("played as each person and as a stranger, with all others willing: nobody is locked out")
    return [*lines, *_departures(policy, now)]


# -- while everybody is here -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LockOut:
    """People whose work could never land in some scopes, though all others said yes."""

    who: tuple[str, ...]  # "" is a stranger
    eyes: bool  # only where a check asks people to look
    remedy: str
    scopes: tuple[str, ...]
    missing: str

    def __str__(self) -> str:
        looked_at = " and a check asks people to look at" if self.eyes else ""
        return f"{_listed(self.who)}: what they offer to {_listed(self.scopes)}{looked_at}"

    @property
    def way_out(self) -> str:
        """What to type."""
        return f"{self.remedy} in {_listed(self.scopes)}, then `souq governance amend {POLICY} --reason …`"


def locked_out(policy: Policy, now: str) -> list[LockOut]:
    """Who could never land what, while everybody is here."""
    alike = dict[tuple[tuple[str, ...], bool, str], LockOut]()
    for scope in policy.scope:
        for lock in _of_scope(policy, scope, now):
            same = (lock.who, lock.eyes, lock.remedy)
            before = alike.get(same, lock)
            scopes = (*before.scopes, scope.name) if same in alike else lock.scopes
            alike[same] = LockOut(*same, scopes, before.missing)
    return [*alike.values()]


def _of_scope(policy: Policy, scope: Scope, now: str) -> Iterator[LockOut]:
    stage, everybody = Rehearsal(policy, scope, now), [person.name for person in policy.person]
    open_to = stage.authors()
    for eyes in (False, True) if scope.checks else (False,):
        decisions = {alike: stage.decision(alike[0], everybody, eyes=eyes) for alike in open_to}
        out = [alike for alike in open_to if not decisions[alike]]
        open_to = [alike for alike in open_to if alike not in out]
        if out:
            names, missing = tuple(name for alike in out for name in alike), decisions[out[0]].missing[0]
            yield LockOut(names, eyes, _remedy(stage, out[0][0], everybody, eyes=eyes), (scope.name,), missing)


def _remedy(stage: Rehearsal, author: str, voters: Collection[str], *, eyes: bool) -> str:
    """The one line of a scope that would let this author in."""
    few = len(stage.policy.asked(stage.scope)) < 2
    for key in ("author_may_vote",) if few else ("or_all_others", "author_may_vote"):
        changed = replace(stage.scope, **{key: True})
        if Rehearsal(stage.policy, changed, stage.now).decision(author, voters, eyes=eyes):
            return f"write `{key} = true`"
    judges = [stage.scope.evaluators] if stage.scope.evaluators else []
    roles = dict.fromkeys(f"`{needs.role}`" for needs in (*stage.scope.requires, *judges))
    return f"ask for less, or name more people in {_listed([*roles])}"


# -- an organisation gone ----------------------------------------------------------------------------------------------

Passes = Literal["now", "later", "never"]


@dataclass(frozen=True)
class Gone:
    """What the others can land without one organisation."""

    closed: tuple[str, ...]  # scopes where nobody can land anything
    narrow: tuple[str, ...]  # scopes where somebody cannot
    amendment: Passes  # later: once its people have been silent for so long that they count in no share


def without(policy: Policy, side: str, now: str) -> Gone:
    """One organisation gone for good."""
    left = [person.name for person in policy.person if person.side != side]
    closed, narrow = list[str](), list[str]()
    for scope in policy.scope:
        if not scope.covers(POLICY):
            stage = Rehearsal(policy, scope, now)
            lands = [bool(stage.decision(author, left)) for author in _left(stage, left)]
            (narrow if any(lands) else closed).extend([] if all(lands) else [scope.name])
    return Gone(tuple(closed), tuple(narrow), _amendment(policy, left, now))


def _left(stage: Rehearsal, left: Collection[str]) -> list[str]:
    names = (next((name for name in alike if not name or name in left), None) for alike in stage.authors())
    return [name for name in names if name is not None]


def _amendment(policy: Policy, left: Collection[str], now: str) -> Passes:
    scopes, _ = policy.scopes([POLICY])
    stages = [Rehearsal(policy, scope, now) for scope in scopes]
    silent = {person.name for person in policy.person} - {*left}

    def passes(silent: Collection[str]) -> bool:
        authors = _left(stages[0], left) if stages else []
        return any(all(stage.decision(author, left, silent=silent) for stage in stages) for author in authors)

    return "now" if passes(()) else "later" if passes(silent) else "never"


def _departures(policy: Policy, now: str) -> Iterator[str]:
    """A line for all organisations without which things go on alike, and what to type where they do not."""
    shapes = Rehearsal(policy, policy.scope[0], now).shapes if policy.scope else {}
    one_of = {shape: side for side, shape in shapes.items() if len(shapes) > 1}
    played = {shape: without(policy, side, now) for shape, side in one_of.items()}
    departures = {side: played[shape] for side, shape in shapes.items() if shape in played}
    days = max((role.inactive_days for role in policy.role), default=0)
    passes = {
        "now": "an amendment can pass without it",
        "later": f"an amendment can pass once it has been silent for {days} days",
        "never": "nobody could ever amend the policy",
    }
    for outcome in dict.fromkeys(departures.values()):
        gone = _listed([side for side in departures if departures[side] == outcome], "or")
        lines = [f"nobody could land anything in {_listed(outcome.closed)}"] if outcome.closed else []
        lines += [f"not everybody could land their own in {_listed(outcome.narrow)}"] if outcome.narrow else []
        yield f"if {gone} went for good: {'; '.join([*lines, passes[outcome.amendment]])}"
        if outcome.amendment == "never":
            yield f"  {_insurance(policy, next(side for side in departures if departures[side] == outcome), now)}"


def _insurance(policy: Policy, side: str, now: str) -> str:
    """What to write into the policy, while all are here, so that it could be amended without an organisation."""
    scope = next((scope for scope in policy.scope if scope.covers(POLICY)), None)
    if scope is None:
        return f"write a scope that matches {POLICY}"
    fewer = min(scope.min_orgs, max(2, scope.min_orgs - 1))
    keys = {"author_may_vote": True, "min_orgs": fewer, "max_per_org": 1}
    for count in range(1, len(keys) + 1):
        written = dict([*keys.items()][:count])
        others = tuple(replace(each, **written) if each == scope else each for each in policy.scope)
        if without(replace(policy, scope=others), side, now).amendment == "now":
            lines = [f"`{line}`" for line in format_toml(written).splitlines()]
            return f"write {_listed(lines)} in {scope.name}, while all are here"
    return "name people of one more organisation in each role that it asks, while all are here"


def _listed(words: Sequence[str], joint: str = "and") -> str:
    names = [word or "strangers" for word in words]
    names = [*names[:8], f"{len(names) - 8} more"] if len(names) > 8 else names
    return f" {joint} ".join(filter(None, (", ".join(names[:-1]), names[-1])))

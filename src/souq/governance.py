"""Who must agree: the policy people write, and the decision it gives. Pure: no clock, no git, no keys but public ones.

Deny by default: what no scope names cannot change. The organisation is declared and can be challenged; the machine
checks caps, not truth.

    decision = decide(read_policy(text), change, checked, votes, now="2026-11-23T10:00:00Z")
    decision.missing   # what a person can go and do
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from souq.errors import SouqError, UsageError, nearest
from souq.records import Checked, Decision, Digest, Record, Vote, format_toml, parse_toml
from souq.signing import normal_key

FOREVER = "9999"


class Who(Record, frozen=True, forbid_unknown_fields=True):
    """`[[person]]`: a name, who they work for, and the keys that speak for them, between two dates (UTC, ISO)."""

    name: str
    org: str
    keys: tuple[str, ...]
    email: str = ""
    valid_from: str = ""
    valid_until: str = ""

    def valid(self, at: str) -> bool:
        return self.valid_from <= at < (self.valid_until or FOREVER)


class Role(Record, frozen=True, forbid_unknown_fields=True):
    """`[[role]]`: people who may do something together."""

    name: str
    members: tuple[str, ...]


class Needs(Record, frozen=True, forbid_unknown_fields=True):
    """`{ role = "maintainer", n = 2 }`."""

    role: str
    n: int


class Scope(Record, frozen=True, forbid_unknown_fields=True):
    """`[[scope]]`: for changes to these paths or tensors, so many approvals, at most so many of one organisation."""

    name: str
    match: tuple[str, ...]
    requires: tuple[Needs, ...]
    max_per_org: int = 0  # 0: no cap
    min_orgs: int = 0
    checks: tuple[str, ...] = ()
    author_may_vote: bool = False

    def covers(self, path: str) -> bool:
        return any(_glob(pattern).fullmatch(path) for pattern in self.match)


class Policy(Record, frozen=True, forbid_unknown_fields=True):
    """GOVERNANCE.toml."""

    person: tuple[Who, ...]
    role: tuple[Role, ...]
    scope: tuple[Scope, ...]

    @property
    def keys(self) -> list[str]:
        """Every enrolled public key."""
        return [normal_key(key) for who in self.person for key in who.keys]

    def person_of(self, key: str, at: str | None = None) -> Who | None:
        """Whose key this is, if they are valid then."""
        for who in self.person:
            if normal_key(key) in map(normal_key, who.keys) and (at is None or who.valid(at)):
                return who
        return None

    def members(self, role: str) -> tuple[str, ...]:
        return next(found.members for found in self.role if found.name == role)

    def scopes(self, paths: Iterable[str]) -> tuple[list[Scope], list[str]]:
        """The scopes these paths and tensors fall under, and the paths nobody may change."""
        touched = list(paths)
        hit = [scope for scope in self.scope if any(scope.covers(path) for path in touched)]
        open_ = [path for path in touched if not any(scope.covers(path) for scope in self.scope)]
        return hit, open_

    def may_release(self, key: str, at: str) -> str | None:
        """Why the holder of this key may not sign a release, or None. Any role that `releases/**` asks for may."""
        who = self.person_of(key, at)
        hit, _ = self.scopes(["releases/x/release.json"])
        allowed = {name for scope in hit for needs in scope.requires for name in self.members(needs.role)}
        if who is not None and who.name in allowed:
            return None
        names = ", ".join(sorted(allowed)) or "nobody: no scope covers releases/**"
        return f"only {names} may sign a release, by GOVERNANCE.toml"


@dataclass(frozen=True)
class Change:
    """What a pull request would do, as the policy sees it."""

    digest: Digest
    author_key: str
    author_name: str
    touched: tuple[str, ...]  # paths and tensor names


@dataclass(frozen=True)
class SignedVote:
    vote: Vote
    key: str


@dataclass(frozen=True)
class SignedChecked:
    checked: Checked
    key: str


@dataclass(frozen=True)
class Landed:
    """One change that is on main, with the policy in force before it and the records that came with it."""

    name: str
    policy: Policy
    change: Change
    checked: tuple[SignedChecked, ...]
    votes: tuple[SignedVote, ...]
    at: str


def read_policy(text: str) -> Policy:
    """GOVERNANCE.toml, strictly.

    Raises:
        UsageError: an unknown key, name or role, a key of two people, or a threshold that nobody could ever meet.
    """
    return _read_policy(text)


@lru_cache(maxsize=32)
def _read_policy(text: str) -> Policy:
    policy = parse_toml(text, Policy, where="GOVERNANCE.toml")
    for problem in _problems(policy):
        raise UsageError(f"GOVERNANCE.toml: {problem}", hint="correct GOVERNANCE.toml and try again")
    return policy


def _problems(policy: Policy) -> Iterator[str]:
    names, roles = [who.name for who in policy.person], [role.name for role in policy.role]
    for words, what in ((names, "people"), (roles, "roles"), ([s.name for s in policy.scope], "scopes")):
        if twice := next((word for word in words if words.count(word) > 1), None):
            yield f"two {what} are called {twice!r}"
    keys = policy.keys  # raises for what is not a key
    if len(set(keys)) != len(keys):
        yield "one key stands twice: a key speaks for one person"
    for role in policy.role:
        for member in role.members:
            if member not in names:
                yield f"role {role.name!r} names {member!r}, who is no [[person]]{nearest(member, names)}"
    for scope in policy.scope:
        yield from _scope_problems(policy, scope, roles)


def _scope_problems(policy: Policy, scope: Scope, roles: list[str]) -> Iterator[str]:
    if not scope.requires or not scope.match:
        yield f"scope {scope.name!r} asks for nobody or covers nothing"
    for needs in scope.requires:
        if needs.role not in roles:
            yield f"scope {scope.name!r} asks for role {needs.role!r}, which is not there{nearest(needs.role, roles)}"
        elif not 0 < needs.n <= (most := _most(policy, scope, needs.role)):
            yield f"scope {scope.name!r} asks for {needs.n} of {needs.role!r}; at most {most} can ever vote"


def _most(policy: Policy, scope: Scope, role: str) -> int:
    """How many of a role can count at once, under the cap."""
    orgs = [who.org for who in policy.person if who.name in policy.members(role)]
    cap = scope.max_per_org or len(orgs)
    return sum(min(orgs.count(org), cap) for org in set(orgs))


# -- deciding ----------------------------------------------------------------------------------------------------------


def decide(
    policy: Policy, change: Change, checked: Sequence[SignedChecked], votes: Sequence[SignedVote], *, now: str
) -> Decision:
    """What the policy says about one change: every scope it touches must be satisfied.

    Nothing here depends on the order of votes. A person counts once, however many keys they hold, by their latest
    vote; a rejection by somebody the scope asks for stands in the way until they change it.
    """
    hit, open_ = policy.scopes(change.touched)
    missing = [f"a scope for {path}: by default nobody may change it" for path in open_[:3]]
    met: list[str] = []
    said = _latest(policy, change, votes, now)
    for scope in hit:
        extra = _judged(checked, scope, change, policy)
        missing += [*extra.missing, *_rejections(policy, scope, said)]
        for needs in scope.requires:
            line, enough = _quorum(policy, scope, needs, change, said, extra.more)
            (met if enough else missing).append(line)
        missing += _orgs(policy, scope, change, said)
    return Decision(missing=tuple(dict.fromkeys(missing)), met=tuple(dict.fromkeys(met)))


@dataclass(frozen=True)
class Eyes:
    """What the checks leave to people: lines that stand in the way, and how many more approvals they ask for."""

    missing: tuple[str, ...]
    more: int


def _judged(checked: Sequence[SignedChecked], scope: Scope, change: Change, policy: Policy) -> Eyes:
    """Every check the scope names must have been run by an enrolled person other than the author, and not refuse."""
    missing, more = [], 0
    for name in scope.checks:
        found = [
            verdict
            for each in checked
            if each.checked.subject == change.digest and _may_check(policy, scope, change, each.key)
            for verdict in each.checked.verdicts
            if verdict.check == name
        ]
        refused = next((verdict for verdict in found if verdict.outcome == "refuse"), None)
        if refused is not None:
            missing.append(f"check `{name}` refuses: {refused.because}")
        elif not found:
            missing.append(f"check `{name}` has not been run by an enrolled person other than the author")
        more = max(more, int(any(verdict.outcome == "needs-eyes" for verdict in found)))
    return Eyes(tuple(missing), more)


def _may_check(policy: Policy, scope: Scope, change: Change, key: str) -> bool:
    who = policy.person_of(key)
    return who is not None and (scope.author_may_vote or not _is_author(policy, change, who))


def _is_author(policy: Policy, change: Change, who: Who) -> bool:
    author = policy.person_of(change.author_key)
    return author is not None and author.name == who.name


Said = dict[str, tuple[Who, Vote]]


def _latest(policy: Policy, change: Change, votes: Sequence[SignedVote], now: str) -> Said:
    """Each enrolled person's last word on exactly this contribution; of two at one time, the rejection."""
    said: Said = {}
    for signed in sorted(votes, key=lambda s: (s.vote.at, s.vote.choice, s.vote.reason, s.key)):
        who = policy.person_of(signed.key, now)
        if who is not None and signed.vote.subject == change.digest:
            said[who.name] = (who, signed.vote)
    return said


def _rejections(policy: Policy, scope: Scope, said: Said) -> Iterator[str]:
    asked = {name for needs in scope.requires for name in policy.members(needs.role)}
    for name, (_, vote) in sorted(said.items()):
        if vote.choice == "reject" and name in asked:
            yield f"{name} rejects it: {vote.reason}"


def _approvers(policy: Policy, scope: Scope, change: Change, said: Said, role: str) -> list[Who]:
    """Members of the role who said yes and may."""
    return [
        who
        for name, (who, vote) in sorted(said.items())
        if vote.choice == "approve"
        and name in policy.members(role)
        and (scope.author_may_vote or not _is_author(policy, change, who))
    ]


def _quorum(policy: Policy, scope: Scope, needs: Needs, change: Change, said: Said, more: int) -> tuple[str, bool]:
    yes = _approvers(policy, scope, change, said, needs.role)
    counted, idle = _capped(yes, scope.max_per_org)
    wanted = min(needs.n + more, _most(policy, scope, needs.role)) if more else needs.n
    have = ", ".join(f"{who.name} of {who.org}" for who in counted) or "nobody"
    if len(counted) >= wanted:
        return f"{wanted} of `{needs.role}` for {scope.name}: {have}", True
    lack = wanted - len(counted)
    line = f"{lack} more approval{'s' if lack > 1 else ''} from `{needs.role}` for {scope.name} (have {have}"
    for who in idle:
        line += (
            f"; {who.name}'s does not count: {who.org} has {scope.max_per_org} of at most {scope.max_per_org} already"
        )
    author = policy.person_of(change.author_key)
    if author is not None and author.name in said and not scope.author_may_vote:
        line += f"; {author.name} is its author"
    return line + ")", False


def _capped(yes: Sequence[Who], cap: int) -> tuple[list[Who], list[Who]]:
    """Who counts under the cap for each organisation, and who does not."""
    counted: list[Who] = []
    idle: list[Who] = []
    for who in yes:
        full = cap and sum(other.org == who.org for other in counted) >= cap
        (idle if full else counted).append(who)
    return counted, idle


def _orgs(policy: Policy, scope: Scope, change: Change, said: Said) -> Iterator[str]:
    roles = {needs.role for needs in scope.requires}
    orgs = {who.org for role in roles for who in _approvers(policy, scope, change, said, role)}
    if len(orgs) < scope.min_orgs:
        have = ", ".join(sorted(orgs)) or "none"
        yield f"approvals from {scope.min_orgs} organisations for {scope.name} (have {have})"


# -- replaying and explaining ------------------------------------------------------------------------------------------


def replay(landings: Iterable[Landed]) -> list[str]:
    """Judge changes that landed by the policy in force before each; a line for everything that should not be there."""
    wrong = []
    for landed in landings:
        if not landed.at:
            wrong.append(f"{landed.name} has no signed merge record")
            continue
        try:
            said = decide(landed.policy, landed.change, landed.checked, landed.votes, now=landed.at)
        except SouqError as error:
            wrong.append(f"{landed.name}: {error}")
            continue
        wrong += [f"{landed.name} landed without {line}" for line in said.missing]
    return wrong


def explain(policy: Policy) -> list[str]:
    """The policy in words, and what it leaves open."""
    lines = []
    for scope in policy.scope:
        who = " and ".join(
            f"{needs.n} of `{needs.role}` ({', '.join(policy.members(needs.role))})" for needs in scope.requires
        )
        cap = f", at most {scope.max_per_org} of one organisation" if scope.max_per_org else ""
        checks = f", after {', '.join(scope.checks)}" if scope.checks else ""
        lines.append(f"{scope.name}: {' '.join(scope.match)} needs {who}{cap}{checks}")
    return lines + [f"warning: {line}" for line in _warnings(policy)]


def _warnings(policy: Policy) -> Iterator[str]:
    for scope in policy.scope:
        for org in sorted({who.org for who in policy.person}):
            if scope.min_orgs < 2 and all(_alone(policy, scope, needs, org) for needs in scope.requires):
                yield f"{org} alone can decide on {scope.name}"
        if scope.author_may_vote:
            yield f"authors may approve their own work in {scope.name}"


def _alone(policy: Policy, scope: Scope, needs: Needs, org: str) -> bool:
    own = sum(who.org == org and who.name in policy.members(needs.role) for who in policy.person)
    return min(own, scope.max_per_org or own) >= needs.n


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    """`*` within a part of a path, `**` across parts, `[0-7]` as in shells."""
    parts = re.split(r"(\*\*|\*|\[[\w\-]+\])", pattern)
    known = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(known.get(part, part if part.startswith("[") else re.escape(part)) for part in parts))


CHECKS = ("signoff", "files", "licence", "fits-base", "tensors", "norms", "contamination", "evals")

_SOLO = """\
# One person decides; add people, roles and thresholds as others come. `souq governance check` explains this file.

[[person]]
name = "{name}"
org = "{org}"
keys = ["{key}"]

[[role]]
name = "maintainer"
members = ["{name}"]

[[scope]]
name = "contributions"
match = ["contributions/**", "model.*", "lm_head.*", "evals/**", "releases/**", "souq.toml"]
requires = [{{ role = "maintainer", n = 1 }}]
checks = [{checks}]
author_may_vote = true  # nobody else is here yet: drop this line when somebody is
"""


def solo(name: str, org: str, key: str) -> str:
    """GOVERNANCE.toml for a repository of one."""
    return _SOLO.format(name=name, org=org, key=key, checks=", ".join(f'"{check}"' for check in CHECKS))


def foundation(people: Sequence[Who], *, approvals: int = 2, max_per_org: int = 1) -> str:
    """GOVERNANCE.toml for people of several organisations, none of which can decide alone."""
    scope = Scope(
        name="contributions",
        match=("contributions/**", "model.*", "lm_head.*", "evals/**", "releases/**", "souq.toml"),
        requires=(Needs(role="maintainer", n=approvals),),
        max_per_org=max_per_org,
        checks=CHECKS,
    )
    role = Role(name="maintainer", members=tuple(who.name for who in people))
    head = "# No organisation can decide alone. `souq governance check` explains this file.\n\n"
    return head + format_toml(Policy(person=tuple(people), role=(role,), scope=(scope,)))

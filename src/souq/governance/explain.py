"""A policy in words, and what it leaves open: who could do what alone is asked of decide() itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from souq.governance.decide import Change, SignedChecked, SignedVote, decide
from souq.governance.policy import POLICY, Emergency, Key, Needs, Policy, Scope
from souq.records import Checked, Verdict, Vote

_DIGEST, _LONG_AGO, _LATER = "b3:" + "0" * 64, "2000-01-01T00:00:00Z", "2001-01-01T00:00:00Z"


def explain(policy: Policy) -> list[str]:
    """A line for each scope, role and clause, then a line for each warning."""
    lines = [_scope_in_words(policy, scope) for scope in policy.scope]
    lines += [
        _role_in_words(policy, role.name)
        for role in policy.role
        if role.elected_by or role.max_per_org or role.inactive_days
    ]
    if policy.emergency:
        lines.append(_emergency_in_words(policy, policy.emergency))
    return lines + [f"warning: {line}" for line in _warnings(policy)]


def _scope_in_words(policy: Policy, scope: Scope) -> str:
    who = " and ".join(_needs_in_words(policy, needs) for needs in scope.requires)
    more = [f"at most {scope.max_per_org} of one organisation"] if scope.max_per_org else []
    more += [f"of at least {scope.min_orgs} organisations"] if scope.min_orgs else []
    more += [f"open for {scope.window_h} h"] if scope.window_h else []
    more += [f"each approval {scope.cooloff_h} h old"] if scope.cooloff_h else []
    more += [f"or {scope.lazy.n} after {scope.lazy.after_h} h without a no"] if scope.lazy else []
    more += [_no_in_words(scope)]
    by = (
        f" run by {scope.evaluators.n} of `{scope.evaluators.role}`, each of another organisation"
        if scope.evaluators
        else ""
    )
    more += [f"after {', '.join(scope.checks)}{by}"] if scope.checks else []
    return f"{scope.name}: {' '.join(scope.match)} needs {who}, {', '.join(line for line in more if line)}".rstrip(", ")


def _needs_in_words(policy: Policy, needs: Needs) -> str:
    return f"{needs.share or needs.n} of `{needs.role}` ({', '.join(policy.members(needs.role))})"


def _no_in_words(scope: Scope) -> str:
    if scope.majority:
        return "more yes than no"
    if scope.veto is None:
        return ""
    second = f", {scope.veto.alone_h} h unless {scope.veto.seconds} second it" if scope.veto.seconds else ""
    return f"`{scope.veto.role}` may veto with a reason for {scope.veto.days} days{second}"


def _role_in_words(policy: Policy, name: str) -> str:
    role = policy.role_of(name)
    more = [f"at most {role.max_per_org} of one organisation"] if role.max_per_org else []
    more += [f"{role.seats} seats, elected by `{role.elected_by}`"] if role.elected_by else []
    more += (
        [f"unheard for {role.inactive_days} days, a member no longer counts in a share"] if role.inactive_days else []
    )
    return f"role {role.name} ({', '.join(role.members)}): {', '.join(more)}"


def _emergency_in_words(policy: Policy, told: Emergency) -> str:
    who = " and ".join(_needs_in_words(policy, needs) for needs in told.requires)
    return f"emergency: {who} may take a contribution or a release back at once; it lapses after {told.days} days unless ratified"


def _warnings(policy: Policy) -> Iterator[str]:
    sides = sorted({who.side for who in policy.person})
    for scope in policy.scope:
        amends = scope.covers(POLICY)
        for side in sides:
            if _alone(policy, scope, side):
                yield f"{side} alone can {'amend this policy' if amends else 'decide on ' + scope.name}"
        if scope.author_may_vote:
            yield f"authors may approve their own work in {scope.name}"
        if not scope.checks and not amends:
            yield f"no machine checks what changes {scope.name}"
    if not policy.scopes([POLICY])[0]:
        yield f"nobody can amend this policy: no scope covers {POLICY}"
    urgent = policy.emergency
    for side in sides if urgent else ():
        if urgent and _alone(policy, urgent.scope, side):
            yield f"{side} alone can take back what landed, for {urgent.days} days"
    for who in policy.person:
        if any(who.name in role.members for role in policy.role) and len(who.keys) == 1 and len(policy.person) == 1:
            yield f"{who.name} holds the only key: whoever loses it loses the repository"


def _alone(policy: Policy, scope: Scope, side: str) -> bool:
    """Whether people of one side, all saying yes to a stranger's work, are enough."""
    one = replace(_STRANGER, touched=("x",))
    only = Policy(
        person=policy.person, role=policy.role, org=policy.org,
        scope=(Scope(**{k: getattr(scope, k) for k in scope.__struct_fields__} | {"match": ("x",), "window_h": 0}),),
    )  # fmt: skip
    yes = [
        SignedVote(Vote(subject=_DIGEST, choice="approve", reason="", by=who.name, at=_LONG_AGO), _key(who.keys))
        for who in policy.person
        if who.side == side
    ]
    verdicts = tuple(Verdict(check=name, outcome="pass", because="") for name in scope.checks)
    seen = [
        SignedChecked(Checked(subject=_DIGEST, base="", verdicts=verdicts, by="", at=_LONG_AGO), vote.key)
        for vote in yes
    ]
    ageless = Policy(
        person=tuple(type(who)(name=who.name, org=who.org, keys=tuple(_plain(key) for key in who.keys)) for who in only.person),
        role=only.role, scope=only.scope, org=only.org,
    )  # fmt: skip
    return bool(decide(ageless, one, seen, yes, now=_LATER))


_STRANGER = Change(digest=_DIGEST, author_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", touched=())  # fmt: skip


def _plain(key: str | Key) -> str:
    return key.key if isinstance(key, Key) else key


def _key(keys: Sequence[str | Key]) -> str:
    return _plain(keys[0])

"""A policy in words, and what it leaves open: who could do what alone is asked of decide() itself."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from souq.governance.decide import URGENT, Change
from souq.governance.limits import STRANGERS
from souq.governance.policy import POLICY, Emergency, Limits, Needs, Policy, Scope, Who, dated
from souq.governance.rehearsal import Rehearsal
from souq.text import skeleton

_ONCE = "2001-01-01T00:00:00Z"


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
    lines += [_limits_in_words(policy.limits)] if policy.limits else []
    return lines + [f"warning: {line}" for line in _warnings(policy)]


def _scope_in_words(policy: Policy, scope: Scope) -> str:
    asked = " and ".join(_needs_in_words(policy, needs) for needs in scope.requires)
    asked += ", or all but the author where that is fewer" if scope.or_all_others else ""
    more = [f"at most {scope.max_per_org} of one organisation"] if scope.max_per_org else []
    more += [f"of at least {scope.min_orgs} organisations"] if scope.min_orgs else []
    more += ["its author's vote counts too"] if scope.author_may_vote else []
    more += [f"open for {scope.window_h} h"] if scope.window_h else []
    more += [f"each approval {scope.cooloff_h} h old"] if scope.cooloff_h else []
    more += [f"or {scope.lazy.n} after {scope.lazy.after_h} h without a no"] if scope.lazy else []
    more += [_no_in_words(scope)]
    by = scope.evaluators
    runners = f" run by {by.n} of `{by.role}`, each of another organisation" if by else ""
    more += [f"after {', '.join(scope.checks)}{runners}"] if scope.checks else []
    needs = ", ".join(line for line in (asked, *more) if line)
    return f"{scope.name}: {' '.join(scope.match)} needs {needs}"


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
    unheard = f"unheard for {role.inactive_days} days, a member no longer counts in a share"
    more += [unheard] if role.inactive_days else []
    return f"role {role.name} ({', '.join(role.members)}): {', '.join(more)}"


def _emergency_in_words(policy: Policy, emergency: Emergency) -> str:
    asked = " and ".join(_needs_in_words(policy, needs) for needs in emergency.requires)
    may = f"{asked} may take a contribution or a release back at once"
    return f"emergency: {may}; it lapses after {emergency.days} days unless ratified"


def _limits_in_words(limits: Limits) -> str:
    counts = {"of one key": limits.open_per_key, "of one organisation": limits.open_per_org,
              f"of {STRANGERS}": limits.open_strangers}  # fmt: skip
    at_once = [f"{most} {whose}" for whose, most in counts.items() if most]
    counts = {"of one key": limits.evals_per_key, f"of {STRANGERS}": limits.evals_strangers}
    a_week = [f"{most} {whose}" for whose, most in counts.items() if most]
    lines = [f"looks at {', '.join(at_once)} at once, the oldest first"] if at_once else []
    lines += [f"evaluates {', '.join(a_week)} a week"] if a_week else []
    lines += [f"anybody enrolled may vouch for {limits.vouches}"] if limits.vouches else ["nobody vouches for anybody"]
    return f"limits: {'; '.join(lines)}"


def _warnings(policy: Policy) -> Iterator[str]:
    sides = sorted({person.side for person in policy.person})
    plain = {skeleton(side).replace(" ", ""): side for side in sides}
    for side in sides:
        if (other := plain[skeleton(side).replace(" ", "")]) != side:
            yield f"{side!r} and {other!r} look alike, and are counted as two"
    for scope in policy.scope:
        amends = scope.covers(POLICY)
        for side in sides:
            if _alone(policy, scope, side):
                yield f"{side} alone can {'amend this policy' if amends else 'decide on ' + scope.name}"
        if scope.author_may_vote and not amends:
            yield f"authors may approve their own work in {scope.name}"
        if not scope.checks and not amends:
            yield f"no machine checks what changes {scope.name}"
    if not policy.scopes([POLICY])[0]:
        yield f"nobody can amend this policy: no scope covers {POLICY}"
    urgent = policy.emergency
    for side in sides if urgent else ():
        if urgent and _alone(policy, urgent.scope, side):
            yield f"{side} alone can take back what landed, for {urgent.days} days"
    for person in policy.person if len(policy.person) == 1 else ():
        if len(person.keys) == 1 and any(person.name in role.members for role in policy.role):
            yield f"{person.name} holds the only key: whoever loses it loses the repository"


def uncounted(policy: Policy, change: Change, key: str, now: str, choice: str = "approve") -> str:
    """Why a yes or a no that this key signs now would count for nothing; "" where it would count."""
    if (voter := policy.person_of(key, now)) is None:
        holder = policy.person_of(key)
        return f"{holder.name}'s key does not hold today" if holder else f"the key is nobody's in {POLICY}"
    return uncounted_of(policy, change, voter, choice)


def uncounted_of(policy: Policy, change: Change, voter: Who, choice: str) -> str:
    """Why somebody's yes or no counts for nothing, whatever key they have; "" where it counts."""
    if change.kind == "election":
        return "ballots decide an election"
    scopes, _ = policy.scopes(change.touched)
    scopes += [policy.emergency.scope] if policy.emergency and change.kind in URGENT else []
    asking = [scope for scope in scopes if voter.name in policy.asked(scope)]
    if choice == "reject" and any(scope.veto and voter.name in policy.members(scope.veto.role) for scope in scopes):
        return ""
    if not asking:
        roles = dict.fromkeys(f"`{needs.role}`" for scope in scopes for needs in scope.requires)
        return f"{voter.name} is in no role that is asked ({', '.join(roles) or 'none is'})"
    own = policy.person_of(change.author_key) == voter
    if choice == "approve" and own and not any(scope.author_may_vote for scope in asking):
        return f"{voter.name} is its author"
    return ""


def _alone(policy: Policy, scope: Scope, side: str) -> bool:
    """Whether people of one side, all saying yes to a stranger's work or to one's own, are enough."""
    people = tuple(
        replace(person, keys=tuple(dated(key).key for key in person.keys), valid_from="", valid_until="")
        for person in policy.person  # as if every key held
    )
    stage = Rehearsal(Policy(person=people, role=policy.role, scope=()), replace(scope, window_h=0), _ONCE)
    theirs = [person.name for person in people if person.side == side]
    return any(stage.decision(author, theirs) for author in ("", *theirs))

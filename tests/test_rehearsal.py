"""No template locks its people out at any size, none lets one company decide alone, and a policy that does is told so."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as but

from souq.errors import UsageError
from souq.governance import Who, foundation, from_template, read_policy, solo
from souq.governance.policy import format_policy
from souq.governance.rehearsal import MOST_WORK, locked_out, rehearsed, without
from souq.governance.templates import TEMPLATES
from tests.voters import at, key, of, ran, ruled, said, vote, who, work

HOME = "contributions/0001-x/contribution.toml"
TOUCHED = {
    "contribution": (HOME, "model.layers.0.q"),
    "evals": (HOME, "evals/e/cases.jsonl"),
    "release": (HOME, "releases/1/release.json"),
    "amendment": (HOME, "GOVERNANCE.toml"),
}
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) <= 12)
NOW = at()


def people(sizes):
    """So many people of each organisation; who is alone works for nobody."""
    return [
        Who(name=f"{chr(97 + side)}{n}", org=f"Org{side}" if size > 1 else "", keys=(key(13 * side + n),))
        for side, size in enumerate(sizes)
        for n in range(size)
    ]


@cache
def policy_of(template, sizes):
    """A template's policy; None where it says at once that these are too few."""
    try:
        return read_policy(from_template(template, people(sizes)))
    except UsageError:
        return None


def answer(policy, author, voters, kind, *, eyes=False):
    """What becomes of somebody's work when all of these run its checks and say yes, and two weeks are over."""
    keys = {person.name: str(person.keys[0]) for person in policy.person} | {"": key(99)}
    checks = tuple({name for scope in policy.scope for name in scope.checks})
    votes = [replace(vote(name), key=keys[name]) for name in voters]
    outcome = "needs-eyes" if eyes else "pass"
    machines = [replace(ran(name, outcome, checks=checks), key=keys[name]) for name in voters]
    change = work(author_key=keys[author], touched=TOUCHED.get(kind, (HOME,)), kind="revert" if kind == "revert" else "weights")  # fmt: skip
    return said(policy, votes, change, machines, hours=400)


@given(st.sampled_from(sorted(TEMPLATES)), SIZES)
def test_no_template_locks_its_people_out_at_any_size(template, sizes):
    """Whoever offers what, and whether or not a check asks people to look: where all others say yes, it lands."""
    if (policy := policy_of(template, tuple(sizes))) is None:
        return
    names = [person.name for person in policy.person]

    for author in [*names, ""]:
        for kind in TOUCHED:
            for eyes in (False, True):
                decision = answer(policy, author, names, kind, eyes=eyes)
                assert decision, (author, kind, eyes, decision.missing)
    assert locked_out(policy, NOW) == []


@given(st.sampled_from(["foundation", "company-plus-community"]), SIZES)
def test_under_no_such_template_does_one_company_decide(template, sizes):
    """With every yes and every machine of its own, on its own work or a stranger's."""
    if (policy := policy_of(template, tuple(sizes))) is None:
        return
    for side in {person.side for person in policy.person}:
        names = [person.name for person in policy.person if person.side == side]
        for author in [*names, ""]:
            for kind in (*TOUCHED, "revert"):
                assert not answer(policy, author, names, kind), (side, author, kind)


@given(st.sampled_from(sorted(TEMPLATES)), SIZES)
def test_where_an_organisation_goes_the_others_can_amend(template, sizes):
    """Where two are left, and it is not the company that the template gives a say in everything."""
    policy = policy_of(template, tuple(sizes))
    if policy is None or len(sizes) < 3 or template == "solo":
        return
    for side in {person.side for person in policy.person}:
        amendment = without(policy, side, NOW).amendment
        company = template == "company-plus-community" and side == policy.person[0].side
        assert amendment == "never" if company else amendment in ("now", "later")
        assert template != "foundation" or amendment == "now"


# -- what is said ------------------------------------------------------------------------------------------------------


def old_foundation(sizes):
    """As it was written before: without `or_all_others`, and amended by three organisations."""
    policy = policy_of("foundation", sizes)
    *others, last = policy.scope
    scopes = [but(scope, or_all_others=False) for scope in others if scope.name != "documents"]
    last = but(last, max_per_org=0, min_orgs=3, author_may_vote=False)
    return read_policy(format_policy(but(policy, scope=(*scopes, last))))


def test_who_is_locked_out_is_told_with_what_lacks_and_what_to_type():
    assert rehearsed(old_foundation((2, 1, 1)), NOW) == [
        "locked out: b0 and c0: what they offer to contributions, evals and releases and a check asks people to look at",
        "  missing, though all others say yes: 1 more approval from `maintainer` for contributions (have a0 of Org0, c0; "
        "a1's does not count: Org0 has 1 of at most 1 already; b0 is its author)",
        "  write `or_all_others = true` in contributions, evals and releases, then `souq governance amend "
        "GOVERNANCE.toml --reason …`",
        "if Org0 went for good: nobody could land anything in releases; not everybody could land their own in "
        "contributions and evals; nobody could ever amend the policy",
        "  write `author_may_vote = true`, `min_orgs = 2` and `max_per_org = 1` in policy, while all are here",
        "if b0 or c0 went for good: not everybody could land their own in contributions, evals and releases; nobody "
        "could ever amend the policy",
        "  write `author_may_vote = true` and `min_orgs = 2` in policy, while all are here",
    ]  # fmt: skip


def test_what_is_told_to_write_lets_them_in():
    """Each line taken at its word, and nobody is locked out or could be."""
    policy = old_foundation((2, 1, 1))
    *others, last = policy.scope
    scopes = [but(scope, or_all_others=True) for scope in others]
    last = but(last, author_may_vote=True, min_orgs=2, max_per_org=1)
    mended = but(policy, scope=(*scopes, last))

    assert rehearsed(mended, NOW) == [
        "played as each person and as a stranger, with all others willing: nobody is locked out",
        "if Org0 went for good: nobody could land anything in releases; not everybody could land their own in "
        "contributions and evals; an amendment can pass without it",
        "if b0 or c0 went for good: not everybody could land their own in contributions, evals and releases; an "
        "amendment can pass without it",
    ]


def test_a_share_waits_until_who_is_gone_counts_no_more():
    told = rehearsed(policy_of("company-plus-community", (1, 2, 2)), NOW)

    line = "if Org1 or Org2 went for good: an amendment can pass once it has been silent for 730 days"
    assert told[-1] == line


def test_one_person_who_may_not_vote_is_told_to_say_so():
    alone = ruled(of(1), people=[who("amira")], core=("amira",), match=("**",))

    told = rehearsed(alone, NOW)

    assert told[0] == "locked out: amira: what they offer to work"
    assert (
        told[2] == "  write `author_may_vote = true` in work, then `souq governance amend GOVERNANCE.toml --reason …`"
    )
    assert rehearsed(read_policy(solo("amira", "Atlas", key(0))), NOW)[0].startswith("played as each person")


def test_evaluators_nobody_can_be_are_told():
    """Both who must run the checks are of one who offers: more keys would not help, more people do."""
    judged = ruled(
        of(1), people=[who("amira"), who("bruno")], core=("amira", "bruno"), checks=("files",), evaluators=of(2)
    )

    lock = locked_out(judged, NOW)[0]

    assert lock.who == ("amira", "bruno")
    assert lock.missing == "check `files` has not been run by 2 of `core`, each of another organisation (have Borealis)"
    assert lock.remedy == "write `author_may_vote = true`"


def test_who_holds_no_key_any_more_counts_as_gone():
    """Two of three who are asked could vote until last year."""
    late = [who("amira"), who("bruno", valid_until="2025-01-01"), who("chen", valid_until="2025-01-01")]
    policy = ruled(of(2), people=late, core=("amira", "bruno", "chen"))

    lock = locked_out(policy, NOW)[0]

    assert (lock.who, lock.scopes) == (("amira", ""), ("work",))
    assert lock.remedy == "ask for less, or name more people in `core`"
    assert without(policy, "Atlas", NOW).amendment == "never"


def test_a_policy_that_nobody_can_amend_is_told_what_it_lacks():
    assert (
        rehearsed(ruled(of(1), match=("contributions/**",)), NOW)[-1] == "  write a scope that matches GOVERNANCE.toml"
    )


def test_many_are_not_played_for_minutes():
    crowd = [Who(name=f"p{n}", org=f"Org{n}", keys=(key(n),)) for n in range(200)]
    told = rehearsed(read_policy(foundation(crowd)), NOW)
    assert told[0].startswith("played as each person")

    huge = ruled(of(1), people=crowd, core=("p0", "p1"))
    scopes = tuple(but(huge.scope[0], name=f"s{n}") for n in range(MOST_WORK // 200))
    told = rehearsed(but(huge, scope=scopes), NOW)
    assert told == ["not played: 200 people and 100 scopes are too many"]


@pytest.mark.parametrize("line", ["governance check", "governance check {}"])
def test_governance_check_plays_the_policy(bazaar, line):
    path = bazaar.folder / "GOVERNANCE.toml"

    code, out, _ = bazaar.says("amira", line.format(path))

    assert code == 0
    assert "\nplayed as each person and as a stranger, with all others willing: nobody is locked out\n" in out


def test_amend_says_whom_the_new_policy_would_lock_out(bazaar):
    path = bazaar.folder / "new.toml"
    path.write_text((bazaar.folder / "GOVERNANCE.toml").read_text().replace("or_all_others = true\n", ""))

    code, _, err = bazaar.says("amira", ["governance", "amend", path, "--reason", "simpler"])

    assert code == 0
    assert "locked out: bruno and chen: what they offer to contributions, evals, documents and releases" in err
    assert "write `or_all_others = true` in contributions, evals, documents and releases" in err

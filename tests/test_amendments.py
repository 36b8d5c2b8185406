"""Who may change the rules: both policies are asked, and nobody is asked who lays down a role of their own."""

from __future__ import annotations

import msgspec

from souq.governance import POLICY
from souq.governance.decide import resigning
from souq.governance.policy import Key, Org, Role, Who, format_policy
from tests.voters import NAMES, at, key, key_of, of, ruled, said, who, work, yes


def amending(policy, **more):
    return work(kind="governance", touched=("contributions/0001-x/" + POLICY, POLICY), amends=policy, **more)


def test_an_amendment_is_judged_by_the_old_policy_and_by_the_new():
    """A new policy that asks for more is asked in its own words; its machines are not."""
    harder, easier = ruled(of(3), checks=("files",)), ruled(of(1))

    assert said(ruled(of(2)), yes("amira", "bruno"), amending(easier))
    assert said(ruled(of(2)), yes("amira", "bruno"), amending(harder)).missing == (
        "by the new policy too: 1 more approval from `core` for work (have amira of Atlas, bruno of Borealis)",
    )
    assert said(ruled(of(2)), yes("amira", "bruno", "chen"), amending(harder))
    assert not said(ruled(of(2)), yes("amira"), amending(easier))


def test_who_joins_by_an_amendment_has_no_say_in_it():
    fresh = ruled(of(2), people=[*map(who, NAMES), Who(name="eve", org="Eve", keys=(key(99),))], core=(*NAMES, "eve"))

    assert not said(ruled(of(2)), yes("amira", "stranger"), amending(fresh))


def test_who_leaves_by_an_amendment_does_not_carry_it_under_the_new():
    left = ruled(
        of(2), people=[who(name) for name in NAMES if name != "bruno"], core=[name for name in NAMES if name != "bruno"]
    )

    assert not said(ruled(of(2)), yes("amira", "bruno"), amending(left))
    assert said(ruled(of(2)), yes("amira", "bruno", "chen"), amending(left))


def test_a_policy_that_nobody_could_amend_again_is_no_amendment():
    closed = ruled(of(1), match=("contributions/**",))

    assert said(ruled(of(1)), yes("amira"), amending(closed)).missing == (
        "a scope for GOVERNANCE.toml in the new policy: without one nobody could ever amend it again",
    )


# -- resignation -------------------------------------------------------------------------------------------------------

BOTH = (Role(name="council", members=("bruno", "amira", "chen")), Role(name="press", members=("dora",)))


def without(policy, name, *roles, **more):
    left = tuple(
        msgspec.structs.replace(role, members=tuple(m for m in role.members if m != name))
        if not roles or role.name in roles else role
        for role in policy.role
    )  # fmt: skip
    return msgspec.structs.replace(policy, role=left, **more)


def test_nobody_s_leave_is_needed_to_lay_down_a_role():
    policy = ruled(roles=BOTH)

    assert said(policy, [], amending(without(policy, "bruno"), author_key=key_of("bruno", 1))).met == ("bruno resigns",)
    assert said(policy, [], amending(without(policy, "bruno", "council"), author_key=key_of("bruno")))


def test_a_resignation_is_one_s_own_and_nothing_else():
    policy = ruled(roles=BOTH)
    left, mine = without(policy, "bruno"), {"author_key": key_of("bruno")}
    fewer = msgspec.structs.replace(left, role=left.role[:-1])
    joined = msgspec.structs.replace(
        left, role=(*left.role[:-1], msgspec.structs.replace(left.role[-1], members=("dora", "anna")))
    )

    assert not said(policy, [], amending(left, author_key=key_of("chen")))
    assert not said(policy, [], amending(left, author_key=key_of("stranger")))
    assert not said(policy, [], amending(policy, **mine)), "it must do something"
    for smuggled in (
        without(left, "dora", "press"), without(left, "amira", "council"), fewer, joined,
        without(policy, "bruno", org=(Org(name="Atlas"),)), without(policy, "bruno", person=(*policy.person[:-1], who("dora", org="Atlas"))),
        without(policy, "bruno", scope=ruled(of(1)).scope),
    ):  # fmt: skip
        assert not said(policy, [], amending(smuggled, **mine)), smuggled
    assert not said(policy, [], work("bruno", amends=left)), "it is an amendment or none"


def test_a_key_that_no_longer_holds_lays_down_nothing():
    """Else whoever stole it could take its owner's seat away."""
    lost = who("bruno", keys=(Key(key=key_of("bruno"), valid_until=at(0)), key_of("bruno", 1)))
    policy = ruled(roles=BOTH, people=[lost if name == "bruno" else who(name) for name in NAMES])
    left = without(policy, "bruno")

    assert not said(policy, [], amending(left, author_key=key_of("bruno")))
    assert said(policy, [], amending(left, author_key=key_of("bruno", 1)))


# -- to the byte -------------------------------------------------------------------------------------------------------

WORDS = "# Nobody lands alone here.\n"
LATER = 24 * 40  # hours: a year that began in 2027


def texts_of(policy, left, *, before=WORDS, after=WORDS):
    return before + format_policy(policy), after + format_policy(left)


def test_who_resigns_changes_no_word_around_it():
    """Their own line, and not a byte more; until 2027 souq wrote all of it anew, without its comments."""
    policy = ruled(roles=BOTH)
    left = without(policy, "bruno")
    exact, rewritten, bare = (
        texts_of(policy, left), texts_of(policy, left, after="# Bruno lands alone.\n"), texts_of(policy, left, after=""),
    )  # fmt: skip

    for texts, hours, fine in (
        (exact, 1, True), (exact, LATER, True), (rewritten, 1, False), (rewritten, LATER, False),
        (bare, 1, True), (bare, LATER, False), (texts_of(policy, left, before="", after=""), LATER, True),
        ((exact[0], exact[1] + "\n"), 1, False), ((exact[0], exact[0]), 1, False),
    ):  # fmt: skip
        change = amending(left, author_key=key_of("bruno"), texts=texts)
        assert bool(said(policy, [], change, hours=hours)) == fine, (texts[1][:40], hours)
    assert said(policy, [], amending(left, author_key=key_of("bruno")), hours=LATER)
    assert at(LATER) > "2027" > at(1)


def test_a_resignation_to_the_second_when_2027_begins():
    policy = ruled(roles=BOTH)
    left = without(policy, "bruno")
    change = amending(left, author_key=key_of("bruno"), texts=texts_of(policy, left, after=""))

    for now, fine in (("2026-12-31T23:59:59Z", True), ("2027-01-01T00:00:00Z", False)):
        assert (resigning(policy, change, now) == "bruno") == fine

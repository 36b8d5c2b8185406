"""What an election promises: ballots decide and nobody else, everybody counts them the same, no company takes all seats."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.governance import Ballot, Election, PolicyState, SignedBallot
from souq.governance.decide import elected
from souq.governance.policy import Emergency, Org, Role, format_policy, with_members
from tests.voters import DIGEST, NAMES, OTHER, at, key_of, of, ruled, said, who, work, yes

COUNCIL = Role(name="council", members=("dora",), elected_by="core", seats=2)
CAPPED = msgspec.structs.replace(COUNCIL, max_per_org=1)
CANDIDATES = ("anna", "amira", "bruno", "chen")


def cast(name, *choices, hours=0.0, subject=DIGEST, which=0, when=None):
    told = Ballot(subject=subject, choices=choices, by=name, at=at(hours) if when is None else when)
    return SignedBallot(told, key_of(name, which))


def vote_on(
    ballots,
    *,
    role=COUNCIL,
    candidates=CANDIDATES,
    hours=48.0,
    closes=None,
    amends=None,
    policy=None,
    state=None,
    **more,
):
    told = Election(role=more.pop("name", "council"), candidates=candidates, closes=closes or at(24))
    change = work(kind="election", election=told, ballots=tuple(ballots), amends=amends)
    return said(policy or ruled(roles=(role,), **more), [], change, hours=hours, state=state or PolicyState())


FOUR = [cast("amira", "anna", "amira"), cast("bruno", "bruno", "anna"), cast("chen", "bruno"), cast("dora", "chen")]


def test_the_most_approved_are_elected():
    """Ties go by the alphabet; who nobody approves of gets no seat that is left."""
    assert vote_on(FOUR).met == ("elected to council: anna, bruno",)
    assert vote_on(FOUR, candidates=("chen", "amira")).met == ("elected to council: amira, chen",)
    assert vote_on(FOUR, role=msgspec.structs.replace(COUNCIL, seats=9), candidates=("chen", "adil")).met == (
        "elected to council: chen",
    )
    assert vote_on(FOUR, candidates=("adil",)).missing == ("a candidate anybody approves of",)


def test_how_many_approved_is_told_with_who():
    policy = ruled(roles=(COUNCIL,))
    change = work(
        kind="election", election=Election(role="council", candidates=CANDIDATES, closes=at(24)), ballots=tuple(FOUR)
    )

    assert elected(policy, change, now=at(48)).approvals == (2, 2)
    assert elected(policy, work(), now=at(48)).missing == ("an election",)


def test_an_organisation_that_has_its_seats_gets_no_more():
    three = [cast(name, "anna", "amira") for name in ("amira", "adil", "anna")]

    assert vote_on([*three, cast("bruno", "chen")]).met == ("elected to council: amira, anna",)
    assert vote_on([*three, cast("bruno", "chen")], role=CAPPED).met == ("elected to council: amira, chen",)


def test_more_than_half_of_the_electors_of_two_organisations():
    three = [cast(name, "anna") for name in ("amira", "adil", "anna")]

    assert vote_on(three).missing == ("1 more ballots of `core`",)
    assert vote_on([]).missing == ("4 more ballots of `core`",)
    assert vote_on(three, core=NAMES[:4]).missing == ("ballots of two organisations",)
    assert vote_on(three, core=NAMES[:3])
    assert vote_on([*three, cast("bruno", "bruno")])


def test_only_electors_cast_and_each_one_ballot():
    """The last before it closes, under any of their keys; of two at one second, by what they say."""
    few = FOUR[:3]

    assert not vote_on([*few, cast("stranger", "chen")])
    assert not vote_on([*few, cast("amira", "anna", which=1)])
    assert not vote_on([*few, cast("dora", "chen", subject=OTHER)])
    assert not vote_on([*few, cast("dora", "chen", hours=24 + 1 / 3600)]), "too late"
    assert not vote_on([*few, cast("dora", "chen", when="now")])
    assert vote_on([*few, cast("dora", "chen", hours=24)])
    assert not vote_on(FOUR, core=NAMES[:5]).missing
    assert vote_on(FOUR[:3], core=NAMES[:5])
    later = [cast("chen", "chen", hours=3), cast("chen", "adil", hours=2, which=1)]
    assert vote_on([*FOUR[:2], *later, cast("dora", "chen")]).met == ("elected to council: anna, chen",)
    twice = [cast("chen", "bruno"), cast("chen", "chen", which=1)]
    assert vote_on([*twice, *FOUR[:2], FOUR[3]]) == vote_on([*reversed(twice), *FOUR[:2], FOUR[3]])


def test_a_name_counts_once_on_a_ballot():
    assert vote_on([cast("amira", "anna", "anna"), *FOUR[1:]], role=msgspec.structs.replace(COUNCIL, seats=1)).met == (
        "elected to council: anna",
    )
    twice = vote_on(
        [cast("amira", "chen", "chen", "chen"), cast("adil", "bruno"), cast("bruno", "bruno"), cast("dora", "anna")]
    )
    assert twice.met == ("elected to council: bruno, anna",)


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ({"name": "core"}, "a role that is elected: 'core' is none"),
        ({"name": "nobody"}, "a role that is elected: 'nobody' is none"),
        ({"candidates": ("anna", "eve")}, "candidates who are enrolled: 'eve' is no [[person]]"),
        ({"hours": 23.99}, f"the end of the election, {at(24)}"),
        *(
            ({"closes": closes}, "election.toml: who may be chosen for what, and until when")
            for closes in ("0", "soon", "2026-11-24 08:00", "2026-11-31", "2026-11-23T24:00:00Z", "٢٠٢٦-11-24")
        ),
    ],
)
def test_what_is_no_election_says_so(more, missing):
    assert vote_on(FOUR, **more).missing == (missing,)


def test_it_is_over_from_the_second_it_closes():
    assert vote_on(FOUR, hours=24)


def test_ballots_decide_and_nobody_else():
    """No vote stands in their way; and the policy that lands is the one they make, to the letter."""
    policy = ruled(roles=(COUNCIL,))
    right = with_members(policy, "council", ("anna", "bruno"))

    assert vote_on(FOUR, policy=policy, amends=right)
    for wrong in (policy, with_members(policy, "council", ("bruno", "anna")), with_members(right, "core", NAMES[:3])):
        assert vote_on(FOUR, policy=policy, amends=wrong).missing == (
            "GOVERNANCE.toml as the ballots make it: anna, bruno",
        )
    assert said(policy, yes(*NAMES), work(kind="election")).missing == (
        "election.toml: who may be chosen for what, and until when",
    )


def test_a_role_keeps_everything_else_an_election_does_not_give():
    told = {
        "emergency": Emergency(requires=(of(1),)),
        "org": [Org(name=org) for org in ("Atlas", "Borealis", "University")],
    }
    policy = ruled(roles=(msgspec.structs.replace(CAPPED, inactive_days=9),), inactive_days=5, **told)

    after = with_members(policy, "council", ["anna"])

    assert after == msgspec.structs.replace(
        policy, role=(policy.role[0], msgspec.structs.replace(policy.role[1], members=("anna",)))
    )


def test_who_was_long_unheard_is_no_elector_unless_they_cast():
    """A member who slept adds to the turnout that is needed when they wake to vote: sleeping buys nothing."""
    asleep = PolicyState(seen={name: at(-24 * 30) for name in ("amira", "adil", "anna")})
    woken = [cast("amira", "anna"), cast("adil", "anna"), cast("bruno", "anna")]

    assert vote_on(FOUR[1:3], inactive_days=20, state=asleep), "two of the three who are awake"
    assert not vote_on(FOUR[1:3], inactive_days=40, state=asleep)
    assert vote_on([*woken[:1], woken[2]], inactive_days=20, state=asleep).missing == ("1 more ballots of `core`",)
    assert vote_on(woken, inactive_days=20, state=asleep)


def test_an_elector_whose_dates_are_over_is_none():
    people = [*map(who, NAMES[:5]), who("dora", valid_until=at(30))]

    assert vote_on(FOUR, people=people).missing == (), "three of five"
    assert vote_on(FOUR[1:], people=people).missing == ("1 more ballots of `core`",)


ballots = st.lists(
    st.builds(
        lambda name, choices, hours, which: cast(name, *choices, hours=hours, which=which),
        st.sampled_from([*NAMES, "stranger"]), st.lists(st.sampled_from(CANDIDATES), unique=True),
        st.sampled_from([0, 1, 24, 25]), st.integers(0, 1),
    ),
    max_size=12,
)  # fmt: skip


@given(ballots, st.randoms(use_true_random=False))
def test_everybody_counts_the_same(cast_, chance):
    """In any order, and however often a ballot is sent; and no company has more seats than it may."""
    mixed = chance.sample(cast_, len(cast_))
    answer = vote_on(cast_, role=CAPPED)

    assert vote_on(mixed, role=CAPPED) == answer == vote_on([*cast_, *mixed], role=CAPPED)
    assert not any("amira, anna" in line or "anna, amira" in line for line in answer.met)


@given(ballots)
def test_one_company_alone_elects_nobody(cast_):
    atlas = {key_of(name, which) for name in NAMES[:3] for which in (0, 1)}

    assert not vote_on([ballot for ballot in cast_ if ballot.key in atlas], core=NAMES[:4])


def test_who_lands_an_election_writes_the_winners_and_no_word_around_them():
    policy = ruled(roles=(COUNCIL,))
    won = with_members(policy, "council", ["anna", "bruno"])
    told = Election(role="council", candidates=CANDIDATES, closes=at(24))
    words, lies = "# Two of us, always.\n", "# Mallory decides.\n"

    for before, after, hours, fine in (
        (words, words, 48, True), (words, words, 24 * 40, True), (words, lies, 48, False), (words, "", 48, True),
        (words, "", 24 * 40, False), ("", "", 24 * 40, True),
    ):  # fmt: skip
        texts = before + format_policy(policy), after + format_policy(won)
        change = work(kind="election", election=told, ballots=tuple(FOUR), amends=won, texts=texts)
        decision = said(policy, [], change, hours=hours)
        assert decision.missing == (() if fine else ("GOVERNANCE.toml as the ballots make it: anna, bruno",))
    assert said(policy, [], work(kind="election", election=told, ballots=tuple(FOUR)), hours=48), "not written yet"

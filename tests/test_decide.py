"""What each clause of a scope promises, in the words a person is answered with."""

from __future__ import annotations

import msgspec
import pytest

from souq.governance import POLICY
from souq.governance.decide import seconds
from souq.governance.policy import Key, Lazy, Org, Policy, Role, Veto, Who
from tests.voters import (
    DIGEST,
    NAMES,
    OTHER,
    at,
    checked_policy,
    key,
    key_of,
    no,
    of,
    ran,
    ruled,
    said,
    vote,
    who,
    work,
    yes,
)


def test_what_was_said_is_said_back():
    assert said(ruled(), yes("amira", "bruno")).met == ("2 of `core` for work: amira of Atlas, bruno of Borealis",)
    assert said(ruled(), yes("dora", "bruno")).met == ("2 of `core` for work: bruno of Borealis, dora",)
    assert said(ruled(), []).missing == ("2 more approvals from `core` for work (have nobody)",)
    assert said(ruled(), yes("amira")).missing == ("1 more approval from `core` for work (have amira of Atlas)",)
    assert not said(ruled(), yes("amira", "bruno")).emergency


def test_a_person_counts_once_however_many_keys_they_hold():
    assert not said(ruled(), [*yes("amira"), *yes("amira", which=1)])
    assert not said(ruled(), [*yes("amira"), *yes("stranger"), *yes("bruno", subject=OTHER)])
    assert said(ruled(), [*yes("amira", which=1), *yes("bruno", which=1)])


def test_a_no_takes_back_the_yes_under_the_other_key():
    """And of two words at one time the no is the last."""
    told = [*yes("amira", "bruno"), *no("amira", hours=0.5, which=1)]

    assert said(ruled(), told).missing[0] == "amira rejects it: r"
    assert not said(ruled(), [*yes("amira", "bruno"), *no("amira", which=1)])
    assert said(ruled(), [*told, *yes("amira", hours=0.6)])


@pytest.mark.parametrize(
    ("dates", "hours", "counts"),
    [
        ({}, 0, True),
        ({"valid_from": at(1)}, 0, False),  # not yet when it signed
        ({"valid_from": at(0)}, 0, True),  # from that very second on
        ({"valid_until": at(0)}, 0, False),  # until, not through
        ({"valid_until": at(0.5)}, 0, False),  # it held then, and no longer does: a stolen one could be dated back
        ({"valid_until": at(1)}, 0, False),
        ({"valid_until": at(2)}, 0, True),
    ],
)
def test_a_key_speaks_between_its_own_dates(dates, hours, counts):
    """A person's other key is not touched by that."""
    amira = who("amira", keys=(Key(key=key_of("amira"), **dates), key_of("amira", 1)))
    policy = ruled(people=[amira, *map(who, NAMES[1:])])

    assert bool(said(policy, yes("amira", "bruno", hours=hours))) is counts
    assert said(policy, [*yes("amira", which=1), *yes("bruno")])
    mine = ruled(people=[who("amira", **dates), *map(who, NAMES[1:])])
    assert bool(said(mine, yes("amira", "bruno", hours=hours))) is counts, "a person's dates are every key's"


def test_a_record_counts_once_its_time_has_come():
    """Ten minutes are two honest clocks; what is no time never comes."""
    assert said(ruled(), yes("amira", "bruno", hours=1 + 1 / 6))
    assert not said(ruled(), yes("amira", "bruno", hours=1 + 1 / 6 + 1 / 3600))
    for when in (
        "",
        "soon",
        "2026-11-23",
        "2026-13-23T08:00:00Z",
        "2026-11-23T08:00:00+00:00",
        "2026-11-23T08:00:00Z ",
    ):
        assert not said(ruled(), [*yes("amira"), vote("bruno", when=when)]), when
    assert seconds("1970-01-02T00:00:00Z") == 86_400.0
    assert seconds("٢٠٢٦-11-23T08:00:00Z") is None


def test_everybody_asked_may_object_and_nobody_else():
    policy = ruled(of(1), core=("amira", "bruno"))

    assert said(policy, [*yes("amira"), *no("bruno", reason="it leaks")]).missing == ("bruno rejects it: it leaks",)
    assert said(policy, [*yes("amira"), *no("chen", "stranger")])


def test_several_roles_are_asked_at_once():
    roles = (Role(name="eval", members=("chen", "amira")),)
    policy = ruled(of(1), of(1, "eval"), roles=roles, core=("amira", "bruno"))

    assert said(policy, yes("amira")).met == (
        "1 of `core` for work: amira of Atlas",
        "1 of `eval` for work: amira of Atlas",
    )
    assert said(policy, yes("bruno")).missing == ("1 more approval from `eval` for work (have nobody)",)
    assert said(policy, yes("bruno", "chen"))
    assert said(policy, [*yes("bruno", "amira"), *no("chen")]).missing == ("chen rejects it: r",)


def test_every_scope_that_is_touched_is_asked():
    policy = ruled(of(1), match=("contributions/**",), name="work")
    both = msgspec.structs.replace(
        policy, scope=(*policy.scope, *ruled(of(2), match=("model.layers.[0-3].*",), name="low").scope)
    )
    change = work(touched=("contributions/0001-x/a", "model.layers.2.q", "model.layers.7.q", "x", "y", "z"))

    answer = said(both, yes("amira"), change)

    assert answer.missing == (
        "a scope for model.layers.7.q: by default nobody may change it",
        "a scope for x: by default nobody may change it",
        "a scope for y: by default nobody may change it",
        "1 more approval from `core` for low (have amira of Atlas)",
    )  # fmt: skip
    assert answer.met == ("1 of `core` for work: amira of Atlas",)
    assert said(both, yes("amira"), work(touched=("contributions/a",)))


# -- caps and sides ----------------------------------------------------------------------------------------------------


def test_an_organisation_counts_as_often_as_the_scope_says():
    policy = ruled(of(3), max_per_org=2)

    assert said(policy, yes("amira", "adil", "anna")).missing == (
        "1 more approval from `core` for work (have adil of Atlas, amira of Atlas; "
        "anna's does not count: Atlas has 2 of at most 2 already)",
    )
    assert said(policy, yes("amira", "adil", "bruno"))


def test_without_an_organisation_one_is_a_side_of_their_own():
    people = [who("amira", org=""), who("adil", org=""), who("bruno")]

    assert said(ruled(of(2), people=people, core=("amira", "adil", "bruno"), max_per_org=1), yes("amira", "adil"))


def test_approvals_are_of_so_many_organisations():
    """Offering it is standing behind it, so the author's side is one of them, where the author is asked at all."""
    policy = ruled(of(2), min_orgs=2)

    assert said(policy, yes("amira", "adil")).missing == ("approvals from 2 organisations for work (have Atlas)",)
    assert said(policy, yes("amira", "adil"), work("bruno"))
    assert said(ruled(of(1), min_orgs=3), yes("dora"), work("bruno")).missing == (
        "approvals from 3 organisations for work (have Borealis, dora)",
    )
    assert said(ruled(of(1), min_orgs=2), []).missing[1] == "approvals from 2 organisations for work (have none)"
    outside = ruled(of(1), core=("amira", "adil", "chen"), min_orgs=2)
    assert not said(outside, yes("amira"), work("bruno"))


# -- shares ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "wanted"), [("1/2", 3), ("2/3", 4), ("1/6", 1), ("1/1", 6), ("3/6", 3), ("1/100", 1)]
)
def test_a_share_is_rounded_up_and_never_nothing(share, wanted):
    policy = ruled(of(share=share))

    assert said(policy, yes(*NAMES[:wanted]))
    assert not said(policy, yes(*NAMES[: wanted - 1]))


def test_the_author_is_not_in_what_a_share_is_of():
    """Half of six are three; of the five who may vote on Dora's, three too; of the four others of five, two."""
    policy = ruled(of(share="1/2"), core=NAMES[:5])

    assert not said(policy, yes("amira", "adil"))
    assert said(policy, yes("amira", "adil"), work("chen"))
    voting = ruled(of(share="1/2"), core=NAMES[:5], author_may_vote=True)
    assert not said(voting, yes("amira", "adil"), work("chen"))
    assert said(voting, yes("amira", "adil", "chen"), work("chen"))


def test_a_share_under_a_cap_is_of_those_who_can_count_at_once():
    """Three of Atlas under a cap of one are one: two thirds of the four sides are three."""
    policy = ruled(of(share="2/3"), max_per_org=1)

    assert said(policy, yes("amira", "bruno", "chen"))
    assert not said(policy, yes("amira", "adil", "anna", "bruno"))


def test_whose_dates_are_over_is_in_no_share():
    gone = who("dora", valid_until=at(-1))
    policy = ruled(of(share="1/2"), people=[*map(who, NAMES[:4]), gone], core=("amira", "bruno", "dora"))

    assert said(policy, yes("amira"))


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_window_opens_when_the_second_organisation_has_seen_it():
    """However early the first says it was: a company that dates its own records back gains nothing."""
    policy = ruled(of(1), window_h=72)
    early = yes("amira", "adil", hours=-1000)

    assert said(policy, early, hours=100).missing == (
        "72 h for everybody to see it, counted from when people of two organisations have",
    )
    assert said(policy, [*early, *yes("bruno")], hours=70).missing == ("2 h more for everybody to see it (work)",)
    assert not said(policy, [*early, *yes("bruno")], hours=72 - 1 / 3600)
    assert said(policy, [*early, *yes("bruno")], hours=72)
    long = ruled(of(1), window_h=3000)
    assert said(long, [*early, *yes("bruno")], hours=0).missing == ("3000 h more for everybody to see it (work)",)
    assert said(policy, [*early, *yes("bruno")], hours=71.99).missing == ("1 h more for everybody to see it (work)",)


def test_who_ran_the_checks_has_seen_it_and_so_has_who_says_no():
    policy = ruled(of(1), window_h=72, majority=True, core=("amira", "adil"))

    assert said(policy, yes("amira"), checked=[ran("chen", hours=0)], hours=72)
    assert not said(policy, yes("amira"), checked=[ran("chen", hours=1)], hours=72)
    assert not said(policy, yes("amira"), checked=[ran("chen", subject=OTHER)], hours=72)
    assert said(policy, [*yes("amira"), *no("chen")], hours=72)


def test_changing_one_s_mind_opens_no_second_window():
    """Bruno saw it when he first spoke, whatever he says later."""
    policy = ruled(of(2), window_h=72)
    turned = [*yes("amira"), *no("bruno"), *yes("bruno", hours=50)]

    assert said(policy, turned, hours=72)


def test_one_organisation_s_own_repository_waits_for_itself_alone():
    people = [who(name) for name in NAMES[:3]]

    assert said(ruled(of(1), people=people, core=NAMES[:3], window_h=5), yes("amira"), hours=5)


def test_an_approval_counts_once_it_has_stood():
    policy = ruled(of(2), cooloff_h=24)

    assert said(policy, [*yes("amira"), *yes("bruno", hours=20)], hours=24).missing == (
        "1 more approval from `core` for work (have amira of Atlas; bruno's counts in 20 h)",
    )
    assert said(policy, yes("amira", "bruno"), hours=24)
    assert not said(policy, yes("amira", "bruno"), hours=24 - 1 / 3600)
    again = [*yes("amira", "bruno"), *yes("bruno", hours=20)]
    assert said(policy, again, hours=24), "said again is still said"
    torn = [*yes("amira", "bruno"), *no("bruno", hours=10), *yes("bruno", hours=11)]
    assert said(policy, torn, hours=34).missing[0].endswith("(have amira of Atlas; bruno's counts in 1 h)")
    assert (
        said(ruled(of(2)), [*yes("amira"), *no("bruno", hours=24)], hours=24)
        .missing[-1]
        .endswith("(have amira of Atlas)")
    )


# -- objections --------------------------------------------------------------------------------------------------------


def vetoed(**veto):
    return ruled(
        of(1), veto=Veto(**{"role": "council"} | veto), roles=(Role(name="council", members=("adil", "bruno", "chen")),)
    )


def test_a_veto_needs_a_reason_and_somebody_who_has_one():
    policy = vetoed()

    assert said(policy, [*yes("amira"), *no("bruno", reason="it leaks")], hours=10).missing == (
        "bruno vetoes it: it leaks (lapses in 710 h)",
    )
    assert said(policy, [*yes("amira"), *no("bruno", reason=" \n"), *no("dora")])


def test_a_veto_ends_and_can_be_renewed():
    policy = vetoed(days=2)
    told = [*yes("amira"), *no("bruno")]

    assert not said(policy, told, hours=48 - 1 / 3600)
    assert said(policy, told, hours=48 - 1 / 3600).missing == ("bruno vetoes it: r (lapses in 1 h)",)
    assert said(policy, told, hours=48)
    assert not said(policy, [*told, *no("bruno", hours=47)], hours=48)
    assert said(policy, [*told, *yes("bruno", hours=1)], hours=2)


def test_a_veto_alone_is_short_unless_others_second_it():
    """A second comes from another organisation, with a reason of its own."""
    policy = vetoed(seconds=1, alone_h=10, days=2)
    told = [*yes("amira"), *no("bruno")]

    assert said(policy, told, hours=4).missing == ("bruno vetoes it: r (lapses in 6 h, unless 1 more second it)",)
    assert said(policy, told, hours=10)
    assert said(policy, [*told, *no("chen", hours=9)], hours=10).missing == (
        "bruno vetoes it: r (lapses in 38 h)", "chen vetoes it: r (lapses in 47 h)",
    )  # fmt: skip
    assert said(policy, [*told, *no("chen", reason="")], hours=10)
    same = ruled(of(1), veto=Veto(role="core", seconds=1, alone_h=10))
    assert said(same, [*yes("bruno"), *no("amira", "adil")], hours=10)
    two = vetoed(seconds=2, alone_h=10)
    assert said(two, [*told, *no("chen")], hours=4).missing[0].endswith("unless 1 more second it)")
    assert not said(two, [*told, *no("chen", "adil")], hours=10)


def test_a_majority_is_more_yes_than_no():
    """Of the members; and nobody's no stands alone."""
    policy = ruled(of(1), majority=True, core=NAMES[:5])

    assert said(policy, [*yes("amira", "adil"), *no("bruno")])
    assert said(policy, [*yes("amira", "adil"), *no("bruno", "chen")]).missing == (
        "more approvals than the 2 against work",
    )
    assert said(policy, [*yes("amira", "adil"), *no("bruno", "dora", "stranger")])
    assert said(policy, []).missing == ("1 more approval from `core` for work (have nobody)",)


# -- machines ----------------------------------------------------------------------------------------------------------


def test_every_check_is_run_by_somebody_else_and_refuses_nothing():
    policy, told = ruled(of(1), checks=("files", "norms")), yes("bruno")
    missing = "check `{}` has not been run by an enrolled person other than the author"

    assert said(policy, told).missing == (missing.format("files"), missing.format("norms"))
    assert said(policy, told, checked=[ran("chen")]).missing == (missing.format("norms"),)
    assert said(policy, told, checked=[ran("chen"), ran("bruno", checks=("norms",))])
    both = ("files", "norms")
    assert not said(policy, told, work("chen"), [ran("chen", checks=both)])
    assert not said(policy, told, work("chen"), [ran("chen", checks=both, which=1)]), "nor with another key"
    assert said(ruled(of(1), checks=both, author_may_vote=True), told, work("chen"), [ran("chen", checks=both)])
    assert not said(policy, told, checked=[ran("stranger", checks=both)])
    assert not said(policy, told, checked=[ran("chen", checks=both, subject=OTHER)])
    assert not said(policy, told, checked=[ran("chen", checks=both, hours=2)]), "its time has not come"
    refused = [
        ran("chen", checks=both),
        ran("dora", "refuse", because="too long"),
        ran("amira", "refuse", because="odd"),
    ]
    assert said(policy, told, checked=refused).missing == ("check `files` refuses: odd",)


def test_doubt_asks_for_one_more_as_far_as_there_are_more():
    """Once, however many doubt; and silence does not settle a doubt."""
    policy = ruled(of(2), checks=("files", "norms"))
    doubt = [ran("chen", "needs-eyes", checks=("files",)), ran("chen", checks=("norms",))]

    assert not said(policy, yes("amira", "bruno"), checked=doubt)
    assert said(policy, yes("amira", "bruno", "chen"), checked=doubt)
    assert said(policy, yes("amira", "bruno", "chen"), checked=[ran("dora", "needs-eyes", checks=("files", "norms"))])
    few = ruled(of(2), core=("amira", "bruno"), checks=("files",))
    assert said(few, yes("amira", "bruno"), checked=[ran("chen", "needs-eyes")])
    lazy = ruled(of(2), checks=("files",), lazy=Lazy(after_h=1))
    assert said(lazy, yes("bruno"), checked=[ran("chen")], hours=1)
    assert not said(lazy, yes("bruno"), checked=[ran("chen", "needs-eyes")], hours=1)


# -- silence and authors -----------------------------------------------------------------------------------------------


def test_silence_is_consent_once_two_organisations_have_seen_it():
    policy = ruled(of(3), lazy=Lazy(after_h=72))
    told = yes("bruno")
    seen = [ran("chen")]

    assert said(policy, told, checked=seen, hours=72).met == ("nobody has objected to work for 72 hours",)
    assert not said(policy, told, checked=seen, hours=72 - 1 / 3600)
    assert not said(policy, told, hours=500), "only Borealis has seen it"
    assert not said(policy, [*told, *no("dora", hours=71)], checked=seen, hours=72)
    assert said(policy, [*told, *no("stranger")], checked=seen, hours=72)
    assert not said(policy, [], checked=[*seen, ran("bruno")], hours=72), "silence alone is nobody's consent"
    assert said(policy, yes("bruno", "chen", "dora")), "and three who say so need no silence"
    two = ruled(of(3), lazy=Lazy(after_h=72, n=2))
    assert not said(two, told, checked=seen, hours=72)
    assert said(two, yes("bruno", "chen"), hours=72)


def test_the_author_s_own_side_is_not_who_was_silent():
    policy = ruled(of(3), lazy=Lazy(after_h=1))

    assert not said(policy, yes("adil", "anna"), work("amira"), [ran("chen")], hours=9)
    assert said(policy, yes("chen"), work("amira"), [ran("bruno")], hours=9)
    assert not said(
        ruled(of(3), lazy=Lazy(after_h=1), veto=Veto(role="core", days=1)), [*yes("chen"), *no("dora")], hours=100
    )


def test_an_author_votes_where_the_scope_says_so():
    assert said(ruled(), yes("amira", "bruno"), work("amira")).missing == (
        "1 more approval from `core` for work (have bruno of Borealis; amira is its author)",
    )
    assert not said(ruled(), [*yes("amira", which=1), *yes("bruno")], work("amira"))
    assert said(ruled(author_may_vote=True), yes("amira", "bruno"), work("amira"))
    lacks = said(ruled(of(3), author_may_vote=True), yes("amira", "bruno"), work("amira"))
    assert lacks.missing == ("1 more approval from `core` for work (have amira of Atlas, bruno of Borealis)",)


# -- amendments --------------------------------------------------------------------------------------------------------


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


def test_a_policy_is_what_its_file_says():
    assert isinstance(checked_policy(ruled(roles=BOTH)), Policy)
    assert DIGEST != OTHER

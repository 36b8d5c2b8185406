"""Who counts, and how often: people and not keys, organisations up to their cap, shares of those who may, machines."""

from __future__ import annotations

import msgspec
import pytest

from souq.governance.decide import PolicyState, seconds
from souq.governance.policy import Key, Lazy, Role
from tests.voters import NAMES, OTHER, at, key_of, no, of, ran, ruled, said, vote, who, work, yes


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


def test_whoever_says_no_is_in_what_a_share_is_of():
    """Long unheard or not: of two a half is one, and the third who objects makes it two."""
    state = PolicyState(seen=dict.fromkeys(NAMES[2:], at(-1000)))
    policy = ruled(of(share="1/2"), inactive_days=10, majority=True)

    assert said(policy, yes("amira"), state=state)
    missing = said(policy, [*yes("amira"), *no("chen")], state=state).missing
    assert "1 more approval from `core` for work (have amira of Atlas)" in missing
    assert len(missing) == 2, "and more than there are against"


def test_whose_dates_are_over_is_in_no_share():
    gone = who("dora", valid_until=at(-1))
    policy = ruled(of(share="1/2"), people=[*map(who, NAMES[:4]), gone], core=("amira", "bruno", "dora"))

    assert said(policy, yes("amira"))


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


def test_checks_are_run_by_whom_the_scope_names():
    """Evaluators count once an organisation, and nobody else's run stands for theirs."""

    def missing(asked, *names):
        policy = ruled(
            of(1), roles=(Role(name="judges", members=("adil", "amira", "bruno")),), checks=("files",), evaluators=asked
        )
        return said(policy, yes("chen"), checked=[ran(name) for name in names]).missing

    one, two = of(1, "judges"), of(2, "judges")
    assert missing(one, "chen") == ("check `files` has not been run by one of `judges` (have none)",)
    assert missing(one, "chen", "adil") == ()
    lacks = "check `files` has not been run by 2 of `judges`, each of another organisation (have Atlas)"
    assert missing(two, "adil", "amira", "chen") == (lacks,)
    assert missing(two, "adil", "bruno") == ()
    three = "check `files` has not been run by 3 of `judges`, each of another organisation (have Atlas, Borealis)"
    judges = Role(name="judges", members=("adil", "bruno", "chen"))
    policy = ruled(of(1), roles=(judges,), checks=("files",), evaluators=of(3, "judges"))
    assert said(policy, yes("chen"), checked=[ran("bruno"), ran("adil")]).missing == (three,)


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


FEW = ("amira", "adil", "bruno", "chen")  # of three organisations


def test_no_more_is_asked_than_all_others_can_give():
    """Where the policy says so, of an author who is one of those asked: the most that can count without them."""
    doubt = [ran("dora", "needs-eyes")]
    three = ruled(core=FEW, max_per_org=1, checks=("files",), or_all_others=True)
    plain = ruled(core=FEW, max_per_org=1, checks=("files",))

    assert said(three, yes("amira", "bruno"), work("chen"), doubt).met[0].startswith("2 of `core` for work")
    assert not said(plain, yes("amira", "bruno"), work("chen"), doubt)
    assert not said(three, yes("bruno"), work("chen"), doubt)
    assert not said(three, yes("bruno", "chen"), work("amira"), doubt), "Adil can speak for Atlas"
    assert said(three, yes("adil", "bruno", "chen"), work("amira"), doubt)
    assert not said(three, yes("amira", "bruno"), work("stranger"), doubt)
    assert not said(three, yes("amira", "bruno"), work("dora"), [ran("anna", "needs-eyes")]), "she is not asked"
    assert said(three, yes("amira", "bruno"), work("chen"), [ran("dora")])
    assert not said(three, yes("amira"), work("chen"), [ran("dora")]), "no fewer than without doubt"


def test_all_others_are_so_many_as_stand_without_an_author_who_stands_behind_it():
    """An author's key that holds no more is nobody's yes, and who may vote themselves is asked like the others."""
    gone = [*map(who, NAMES[:4]), who("chen", valid_until=at(-1))]
    late = ruled(of(4), people=gone, core=("amira", "adil", "bruno", "chen"), or_all_others=True)
    own = ruled(of(4), core=FEW, author_may_vote=True, or_all_others=True)

    assert not said(late, yes("amira", "adil", "bruno"), work("chen"))
    assert said(ruled(of(4), core=FEW, or_all_others=True), yes("amira", "adil", "bruno"), work("chen"))
    assert not said(own, yes("amira", "adil", "bruno"), work("chen"))
    assert said(own, yes(*FEW), work("chen"))


def test_the_only_one_of_a_role_has_no_others_in_it():
    """Then nobody of it is asked; of every other role, its own."""
    company = Role(name="company", members=("amira",))
    both = ruled(of(1, "company"), of(1), core=("bruno", "chen"), roles=(company,), or_all_others=True)
    share = ruled(of(share="1/2", role="company"), of(1), core=("bruno",), roles=(company,), or_all_others=True)

    assert said(both, yes("bruno"), work("amira")).met == (
        "0 of `company` for work: nobody", "1 of `core` for work: bruno of Borealis",
    )  # fmt: skip
    assert not said(both, [], work("amira"))
    assert not said(both, yes("bruno"), work("chen"))
    assert said(both, yes("amira", "bruno"), work("chen"))
    assert said(share, yes("bruno"), work("amira"))


def test_a_verdict_of_who_is_not_asked_is_an_opinion():
    """Where a scope names its evaluators, nobody else's refusal or doubt keeps a contribution out for ever."""
    judges = Role(name="judges", members=("adil", "bruno"))
    policy = ruled(of(1), roles=(judges,), checks=("files",), evaluators=of(1, "judges"))

    for outcome in ("refuse", "needs-eyes"):
        odd = [ran("bruno"), ran("dora", outcome)]
        assert said(policy, yes("chen"), checked=odd).met == ("1 of `core` for work: chen of University",)
        assert not said(ruled(of(1), checks=("files",)), yes("chen"), checked=odd), "where none are named, all are"
    assert not said(policy, yes("chen"), checked=[ran("adil"), ran("bruno", "refuse")])
    assert not said(policy, yes("chen"), checked=[ran("bruno", "needs-eyes")])

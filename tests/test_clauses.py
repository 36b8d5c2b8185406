"""What a scope says about time, about a no, about silence and about authors, in the words a person is answered with."""

from __future__ import annotations

from souq.governance.policy import Lazy, Role, Veto
from tests.voters import NAMES, OTHER, at, no, of, ran, ruled, said, who, work, yes

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


def test_a_veto_ends_and_said_again_it_is_no_younger():
    """Nor after a change of mind: else one person could say no for ever where a policy says for how long."""
    policy = vetoed(days=2)
    told = [*yes("amira"), *no("bruno")]

    assert not said(policy, told, hours=48 - 1 / 3600)
    assert said(policy, told, hours=48 - 1 / 3600).missing == ("bruno vetoes it: r (lapses in 1 h)",)
    assert said(policy, told, hours=48)
    assert said(policy, [*told, *no("bruno", hours=47)], hours=48)
    assert said(policy, [*told, *yes("bruno", hours=1), *no("bruno", hours=47)], hours=48)
    assert not said(policy, [*told, *yes("bruno", hours=1), *no("bruno", hours=47)], hours=47.9)
    assert not said(policy, [*yes("amira", "bruno"), *no("bruno", hours=47)], hours=48), "a yes begins nothing"
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


def test_an_author_whose_key_ran_out_stands_behind_nothing():
    """Neither as an organisation beside the others; their work is judged all the same."""
    people = [who("amira"), who("bruno"), who("chen", valid_until=at(2))]
    policy = ruled(of(2), people=people, core=("amira", "bruno", "chen"), min_orgs=3)
    told, change = yes("amira", "bruno"), work("chen")

    assert said(policy, told, change, hours=2 - 1 / 3600)
    assert said(policy, told, change, hours=2).missing == (
        "approvals from 3 organisations for work (have Atlas, Borealis)",
    )

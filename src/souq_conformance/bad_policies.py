"""Bad histories: vetoes, silence, amendments, elections, emergencies, and policies that could never work."""

from __future__ import annotations

from souq.governance.policy import Needs, Role, Scope, format_policy, with_members
from souq_conformance.cases import bad
from souq_conformance.good import amended, council, elected, lazy, urgent, vetoes
from souq_conformance.town import ROWS, Town

# -- vetoes and silence ------------------------------------------------------------------------------------------------


@bad("veto")
def a_veto_within_its_hours(town: Town) -> None:
    """Alone, and two days old of three."""
    vetoes(town)
    offer = town.data().agreed("amira", "bruno")
    offer.no("chen")
    town.wait(hours=48)
    town.land(offer)


@bad("veto", "threshold")
def a_veto_that_was_seconded(town: Town) -> None:
    """Seconded by another organisation: it stands for thirty days."""
    vetoes(town)
    offer = town.data().agreed("adil", "bruno")
    offer.no("chen")
    offer.no("amira")
    town.wait(days=10)
    town.land(offer)


@bad("threshold")
def silence_too_short(town: Town) -> None:
    """One approval, and only two of three days without a no."""
    offer = lazy(town)
    town.wait(hours=48)
    town.land(offer)


@bad("rejected", "threshold")
def silence_that_was_broken(town: Town) -> None:
    """Somebody objected, and that is not silence."""
    offer = lazy(town)
    offer.no("chen")
    town.wait(hours=100)
    town.land(offer)


@bad("threshold")
def silence_among_friends(town: Town) -> None:
    """The one approval is of the author's own organisation."""
    offer = lazy(town, "adil")
    town.wait(hours=100)
    town.land(offer)


# -- the policy --------------------------------------------------------------------------------------------------------


@bad("not-offered")
def a_policy_amended_by_what_it_judges(town: Town) -> None:
    """A contribution that one approves brings, in the same commit, a policy by which one is enough."""
    lax = town.policy(scope=town.scopes(n=1))
    offer = town.data().agreed("amira", "bruno")
    town.land(offer, also={"GOVERNANCE.toml": format_policy(lax).encode()})


@bad("no-pull-request")
def a_policy_written_by_hand(town: Town) -> None:
    """One line of GOVERNANCE.toml, no pull request."""
    town.begin()
    town.commit({"GOVERNANCE.toml": format_policy(town.policy(emergency=None)).encode()})


@bad("threshold", "min-orgs")
def an_amendment_by_less_than_two_thirds(town: Town) -> None:
    """Two of four."""
    amended(town, town.amend(town.policy(emergency=None)), "amira", "bruno")


@bad("min-orgs")
def an_amendment_by_two_organisations(town: Town) -> None:
    """Three of four, of two organisations."""
    three = Scope(name="policy", match=("GOVERNANCE.toml",), requires=(Needs(role="maintainer", n=3),), min_orgs=3)
    scopes = (*town.policy().scope[:3], three)
    town.begin(town.policy(scope=scopes))
    amended(town, town.amend(town.policy(scope=scopes, emergency=None)), "amira", "adil", "bruno")


@bad("early")
def an_amendment_in_a_week(town: Town) -> None:
    """Two weeks are asked for."""
    amended(town, town.amend(town.policy(emergency=None)), days=7)


@bad("threshold")
def an_amendment_the_new_policy_refuses(town: Town) -> None:
    """Enough by the old policy; the new one asks for four."""
    rules = town.rules()
    hard = Scope(name="policy", match=("GOVERNANCE.toml",), requires=(Needs(role="maintainer", n=4),))
    amended(town, town.amend(town.policy(scope=(town.work(), *rules[:2], hard))))


@bad("unknown-signer")
def judged_by_the_policy_to_come(town: Town) -> None:
    """Dora is enrolled by the next landing; her vote comes before it."""
    enrolled = town.policy(person=town.people(dora=town.person("dora")))
    offer = town.amend(with_members(enrolled, "maintainer", ["amira", "adil", "bruno", "chen", "dora"]))
    offer.votes("amira", "bruno", "chen", "adil")
    town.wait(days=15)
    town.land(town.data().agreed("amira", "dora"))
    town.land(offer.checks())


@bad("unamendable")
def a_policy_nobody_could_amend(town: Town) -> None:
    """The new policy has no scope for itself."""
    amended(town, town.amend(town.policy(scope=town.policy().scope[:3])))


def _bad_policy(town: Town, text: str) -> None:
    town.begin()
    offer = town.amend(text)
    offer.votes("amira", "bruno", "chen")
    town.wait(days=15)
    town.land(offer.checks())


@bad("impossible-policy")
def more_approvals_than_people(town: Town) -> None:
    """Nine of four maintainers."""
    _bad_policy(town, format_policy(town.policy()).replace("n = 2", "n = 9", 1))


@bad("impossible-policy")
def more_organisations_than_there_are(town: Town) -> None:
    """Seven organisations, of three."""
    _bad_policy(town, format_policy(town.policy()).replace("min_orgs = 3", "min_orgs = 7"))


@bad("impossible-policy")
def more_than_the_cap_allows(town: Town) -> None:
    """Four approvals, at most one of an organisation, three organisations."""
    _bad_policy(town, format_policy(town.policy()).replace("n = 3", "n = 4"))


@bad("impossible-policy")
def a_root_that_could_never_move(town: Town) -> None:
    """The first policy itself asks for more people than it names."""
    town.begin(format_policy(town.policy()).replace("n = 2", "n = 9", 1))


@bad("bad-policy")
def one_key_of_two_people(town: Town) -> None:
    """A key speaks for one person; a comment does not make it another."""
    mine = town.keys["amira"].public
    people = town.people(bruno=town.person("bruno", f"{mine} bruno@borealis"))
    _bad_policy(town, format_policy(town.policy(person=people)))


@bad("bad-policy")
def two_people_of_one_name(town: Town) -> None:
    """Who is Amira?"""
    five = format_policy(town.policy(person=town.people(dora=town.person("dora"))))
    _bad_policy(town, five.replace('"dora"', '"amira"'))


@bad("bad-policy")
def two_roles_of_one_name(town: Town) -> None:
    """Which of the two is asked?"""
    _bad_policy(town, format_policy(town.policy()).replace('name = "security"', 'name = "maintainer"'))


@bad("bad-policy")
def a_member_who_is_nobody(town: Town) -> None:
    """A role names somebody who has no key."""
    _bad_policy(town, format_policy(town.policy()).replace('    "adil",\n', '    "adile",\n', 1))


@bad("bad-policy")
def a_key_nobody_has_heard_of(town: Town) -> None:
    """`reqires` is no setting: what is not understood is not passed over."""
    _bad_policy(town, format_policy(town.policy()).replace("requires", "reqires", 1))


@bad("bad-policy")
def a_key_with_options(town: Town) -> None:
    """`cert-authority` and dates before a key mean something to ssh, and nothing here."""
    key = town.keys["bruno"].public
    _bad_policy(town, format_policy(town.policy()).replace(key, f"cert-authority {key}"))


@bad("bad-policy")
def a_share_that_never_ends(town: Town) -> None:
    """1e999999999 is a fraction of a thousand million digits: a reader must not compute it."""
    _bad_policy(town, format_policy(town.policy()).replace('"2/3"', '"1e999999999"'))


@bad("unamendable", "bad-policy")
def a_pattern_that_is_none(town: Town) -> None:
    """`[z-a]` covers nothing, and must not stop a reader."""
    _bad_policy(town, format_policy(town.policy()).replace('"GOVERNANCE.toml"', '"GOVERNANCE[z-a]toml"'))


@bad("unamendable")
def a_pattern_that_takes_for_ever(town: Town) -> None:
    """Forty stars: a careless reader tries every way of sharing a path among them."""
    _bad_policy(town, format_policy(town.policy()).replace('"GOVERNANCE.toml"', f'"{"*" * 40}!"'))


@bad("bad-policy")
def a_policy_that_is_no_toml(town: Town) -> None:
    """Cut off in the middle."""
    _bad_policy(town, format_policy(town.policy())[:-40])


@bad("bad-policy")
def a_policy_nested_beyond_reason(town: Town) -> None:
    """An array in an array, 20,000 deep."""
    _bad_policy(town, format_policy(town.policy()) + "\n[x]\ny = " + "[" * 20_000 + "]" * 20_000 + "\n")


@bad("no-policy")
def a_root_without_a_policy(town: Town) -> None:
    """Nobody is in charge from the beginning."""
    town.begin(files={"GOVERNANCE.toml": None})


# -- elections ---------------------------------------------------------------------------------------------------------


@bad("election-open")
def elected_before_it_closed(town: Town) -> None:
    """Ballots are cast until a day that has not come."""
    council(town)
    offer = town.election(days=30).ballot("amira", "bruno").ballot("chen", "bruno").ballot("bruno", "bruno")
    elected(town, offer, "bruno")


@bad("too-few-ballots")
def elected_by_half(town: Town) -> None:
    """Two ballots of four electors: more than half are needed."""
    council(town)
    elected(town, town.election().ballot("amira", "bruno").ballot("chen", "bruno"), "bruno")


@bad("too-few-ballots")
def a_ballot_after_the_end(town: Town) -> None:
    """The third ballot came a day late."""
    council(town)
    offer = town.election().ballot("amira", "bruno").ballot("chen", "bruno")
    offer.ballot("bruno", "bruno", at=town.at(days=7.5))
    elected(town, offer, "bruno")


@bad("not-as-elected")
def another_was_elected(town: Town) -> None:
    """The ballots say Bruno and Chen, GOVERNANCE.toml says Adil."""
    council(town)
    offer = town.election().ballot("amira", "bruno", "chen").ballot("chen", "chen", "bruno").ballot("bruno", "bruno")
    elected(town, offer, "adil")


@bad("not-as-elected")
def elected_and_more(town: Town) -> None:
    """The right winners, and one line more in the policy."""
    council(town)
    offer = town.election().ballot("amira", "bruno", "chen").ballot("chen", "chen", "bruno").ballot("bruno", "bruno")
    seats = Role(name="council", members=("bruno", "chen"), elected_by="maintainer", seats=2, max_per_org=1)
    offer.policy = format_policy(town.policy(role=(*town.policy().role, seats), emergency=None))
    town.wait(days=8)
    town.land(offer)


@bad("no-such-office")
def elected_to_nothing(town: Town) -> None:
    """Maintainers are not elected here."""
    offer = town.election().ballot("amira", "bruno").ballot("chen", "bruno").ballot("bruno", "bruno")
    elected(town, offer, "bruno")


# -- emergencies -------------------------------------------------------------------------------------------------------


@bad("emergency-lapsed")
def work_after_an_emergency_lapsed(town: Town) -> None:
    """Eight days, nobody ratified it, and work goes on."""
    urgent(town)
    town.wait(days=8)
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))


@bad("emergency-lapsed")
def another_emergency_undone(town: Town) -> None:
    """Two lapsed; the one that is brought back is not the reason for the other."""
    first = urgent(town)
    two = town.land(town.data("two", rows=ROWS * 5).agreed("amira", "bruno"))
    urgent(town, of=two.slug)
    town.wait(days=8)
    town.land(town.offer("restore", "lapsed", "bruno", of=first.slug))
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))


@bad("threshold", "unchecked")
def an_emergency_by_one(town: Town) -> None:
    """Two of security may take back at once; one did."""
    first = town.land(town.data().agreed("amira", "bruno"))
    offer = town.offer("revert", "stop this", "adil", of=first.slug)
    offer.vote("chen")
    town.land(offer)


@bad("unchecked")
def an_emergency_to_add(town: Town) -> None:
    """Only taking back is urgent: a contribution needs its checks."""
    offer = town.data()
    offer.votes("amira", "bruno")
    town.land(offer)


@bad("threshold", "unchecked")
def ratified_by_the_same_two(town: Town) -> None:
    """What needed three to change is not settled for good by the two who took it back."""
    norm = town.work(name="norm", match=("model.norm.*",), requires=(Needs(role="maintainer", n=3),))
    town.begin(town.policy(scope=(town.work(), norm, *town.rules())))
    first = town.land(town.weights().agreed("amira", "bruno", "chen"))
    offer = town.offer("revert", "stop this", "adil", of=first.slug)
    offer.votes("amira", "bruno")
    back = town.land(offer)
    town.land(town.offer("ratify", "it was right", "adil", of=back.slug).agreed("amira", "bruno"))


@bad("unchecked", "threshold")
def restored_without_a_vote_in_time(town: Town) -> None:
    """Three days in, an emergency is undone by nobody's leave."""
    back = urgent(town)
    town.wait(days=3)
    town.land(town.offer("restore", "back", "bruno", of=back.slug))

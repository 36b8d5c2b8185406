"""Few who may vote: `or_all_others` asks no more than all others can give, of an author who stands by their work."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from souq.governance.policy import Needs, Role
from souq_conformance.cases import bad, good
from souq_conformance.town import Offered, Town


def doubted(town: Town, by: str, *votes: str, **scope: Any) -> Offered:
    """A check asks people to look at somebody's work: one more than two, of whom an organisation has one."""
    town.begin(town.policy(scope=town.scopes(**{"or_all_others": True, **scope})))
    return town.data(by=by).checks("adil", outcome="needs-eyes").votes(*votes)


def two_roles(town: Town, **scope: Any) -> None:
    """Atlas is Amira, the community Bruno, and both must agree."""
    roles = (
        Role(name="maintainer", members=("amira", "bruno", "chen")), Role(name="company", members=("amira",)),
        Role(name="community", members=("bruno",)), Role(name="security", members=("amira", "bruno", "chen")),
    )  # fmt: skip
    asked = (Needs(role="company", n=1), Needs(role="community", n=1))
    work = town.scopes(**{"requires": asked, "or_all_others": True, "min_orgs": 2, **scope})
    rules = tuple(each for each in work if each.name != "evals")
    town.begin(town.policy(role=roles, scope=rules))


@good
def all_others_have_looked(town: Town) -> None:
    """Chen's work needs three organisations, one of them his: the two others are all there are."""
    town.land(doubted(town, "chen", "amira", "bruno"))


@bad("threshold")
def all_others_are_not_asked_of(town: Town) -> None:
    """The same, where the policy does not say so: a third is asked, whom nobody can be."""
    town.land(doubted(town, "chen", "amira", "bruno", or_all_others=False))


@bad("threshold")
def not_all_others_have_looked(town: Town) -> None:
    """Amira's work: Adil can speak for Atlas, and has not."""
    town.land(doubted(town, "amira", "bruno", "chen"))


@good
def a_colleague_is_one_of_the_others(town: Town) -> None:
    """Adil speaks for Atlas on what Amira offers."""
    town.land(doubted(town, "amira", "adil", "bruno", "chen"))


@bad("threshold")
def a_stranger_has_no_others(town: Town) -> None:
    """Mallory is enrolled nowhere, so three are asked."""
    town.land(doubted(town, "mallory", "amira", "bruno"))


@bad("threshold")
def an_author_whose_key_ended_has_no_others(town: Town) -> None:
    """Chen's key holds no more: whoever has it does not stand in for his organisation."""
    gone = town.person("chen", valid_until="2026-02-28")
    town.begin(town.policy(person=town.people(chen=gone), scope=town.scopes(or_all_others=True)))
    town.land(town.data(by="chen").checks("adil", outcome="needs-eyes").votes("amira", "bruno"))


@bad("threshold", "self-approval")
def an_author_among_all_others(town: Town) -> None:
    """Chen says yes to his own work in the place of Bruno."""
    town.land(doubted(town, "chen", "amira", "chen"))


@good
def the_only_one_of_a_role_offers(town: Town) -> None:
    """Amira is the company: offering it is her yes, and the community's is Bruno's."""
    two_roles(town)
    town.land(town.data(by="amira").checks("chen").votes("bruno"))


@bad("threshold")
def the_only_one_of_a_role_offers_to_nobody(town: Town) -> None:
    """Amira is the company, and of the community nobody has said yes."""
    two_roles(town, min_orgs=0)
    town.land(town.data(by="amira").checks("chen"))


@bad("bad-policy")
def all_others_of_one_person(town: Town) -> None:
    """Who alone is asked would decide alone."""
    scopes = (town.work(1, or_all_others=True), replace(town.rules()[-1], min_orgs=0))
    role = Role(name="maintainer", members=("amira",))
    town.begin(town.policy(role=(role,), scope=scopes, emergency=None))

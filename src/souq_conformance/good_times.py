"""Good histories: clocks that were wrong and are right again, edits that keep every word, and last seconds."""

from __future__ import annotations

from datetime import timedelta

from souq.governance.policy import Needs, Scope, format_policy, with_members
from souq_conformance.bad_edits import WORDS, elected_as, resigned
from souq_conformance.bad_times import ahead, next_one, one_person, undone
from souq_conformance.cases import good
from souq_conformance.good import urgent, vetoes
from souq_conformance.town import ROWS, Town, spell


@good
def a_clock_of_2096_set_right(town: Town) -> None:
    """Bruno's clock was seventy years fast; the next landing, by Amira's, says what time it is, and life goes on."""
    ahead(town, town.data().agreed("amira", "bruno"), days=70 * 365)
    next_one(town)
    town.land(town.data("third", rows=ROWS * 3).agreed("amira", "bruno"))


@good
def who_was_fast_and_one_of_another_organisation(town: Town) -> None:
    """Bruno sets his clock and lands the next himself; Chen has checked it within the hour."""
    ahead(town, town.data().agreed("amira", "bruno"), days=400)
    next_one(town, by="bruno")


@good
def a_fast_clock_and_a_window_that_passed(town: Town) -> None:
    """Merged too early by a clock that was fast, and by the next landing the three days are over."""
    town.begin(town.policy(scope=town.scopes(window_h=72)))
    ahead(town, town.data().agreed("amira", "bruno"), days=30)
    town.wait(hours=80)
    town.land(town.offer("revert", "stop", "adil", of="0001-rows").agreed("amira", "chen"), by="amira")


@good
def one_person_sets_back_their_clock(town: Town) -> None:
    """Amira is alone: her clock was a year fast, and her key holds then and now."""
    town.begin(one_person(town, town.keys["amira"].public))
    for title, days in (("fast", 365), ("right", 0)):
        offer = town.data(title, by="amira", rows=ROWS * (days + 1))
        offer.vote("amira", at=town.at(days=days))
        town.land(offer, by="amira", at=town.at(days=days))


@good
def a_year_between_the_votes_and_the_landing(town: Town) -> None:
    """Nobody had time: what was agreed to in spring lands the spring after."""
    offer = town.data().agreed("amira", "bruno")
    town.wait(days=365)
    town.land(offer)
    next_one(town)


@good
def a_resignation_that_keeps_every_word(town: Town) -> None:
    """Adil's line is gone, and the comments stand."""
    town.wait(days=400)
    resigned(town)


@good
def a_resignation_written_anew(town: Town) -> None:
    """Until 2027 souq wrote the whole policy, without its comments."""
    resigned(town, lambda text: text.replace(WORDS, ""))


@good
def a_resignation_from_between_comments(town: Town) -> None:
    """His line had a comment of its own; those of the others stay."""
    text = format_policy(town.policy()).replace('    "adil",\n', '    "adil", # since 2024\n    # and then:\n', 1)
    town.begin(text)
    left = text.replace('    "adil", # since 2024\n', "")
    town.wait(days=400)
    town.land(town.amend(left, "adil leaves", by="adil"), by="adil")


@good
def a_resignation_from_two_roles(town: Town) -> None:
    """Adil leaves both of his at once."""
    policy = with_members(town.policy(), "security", ["adil", "bruno", "chen"])
    town.begin(WORDS + format_policy(policy))
    left = with_members(policy, "maintainer", ["amira", "bruno", "chen"])
    left = with_members(left, "security", ["bruno", "chen"])
    town.land(town.amend(WORDS + format_policy(left), "adil leaves", by="adil"), by="adil")


@good
def an_election_that_keeps_every_word(town: Town) -> None:
    """The winners stand where the others stood."""
    town.wait(days=400)
    elected_as(town, str)


@good
def a_veto_said_again(town: Town) -> None:
    """Chen repeats her veto every day: it ends three days after she said it first."""
    vetoes(town)
    offer = town.data().agreed("amira", "bruno")
    for _ in range(4):
        offer.no("chen")
        town.wait(hours=20)
    town.land(offer)


@good
def an_emergency_about_something_else(town: Town) -> None:
    """The first lapsed and was undone; another thing may be as urgent."""
    undone(town, urgent(town))
    two = town.land(town.data("two", rows=ROWS * 5).agreed("amira", "bruno"))
    urgent(town, of=two.slug)


@good
def taken_back_again_by_the_ordinary_way(town: Town) -> None:
    """What an emergency had taken, and what came back, goes when enough say so."""
    undone(town, urgent(town))
    town.land(town.offer("revert", "after all", "adil", of="0001-rows").agreed("bruno", "chen"))


@good
def an_emergency_clause_dropped_and_taken_up_again(town: Town) -> None:
    """Who amends the clause away settles what was pending; a new clause is about new emergencies."""
    quick = Scope(name="policy", match=("GOVERNANCE.toml",), requires=(Needs(role="maintainer", n=2),))
    scopes = (town.work(), *town.rules()[:2], quick)
    town.begin(town.policy(scope=scopes))
    urgent(town)
    town.land(town.amend(town.policy(scope=scopes, emergency=None)).agreed("chen", "bruno"))
    town.wait(days=180)
    town.land(town.amend(town.policy(scope=scopes), "again").agreed("chen", "bruno"))
    town.wait(days=1)
    town.land(town.data("more", rows=ROWS * 2).agreed("amira", "bruno"))


@good
def a_refusal_of_somebody_who_is_not_asked(town: Town) -> None:
    """Two of security run the checks; Dora, who is in no role, has another opinion."""
    scopes = town.scopes(evaluators=Needs(role="security", n=2))
    town.begin(town.policy(person=town.people(dora=town.person("dora")), scope=scopes))
    offer = town.data().checks("amira").checks("bruno").checks("dora", "refuse")
    town.land(offer.votes("amira", "bruno"))


@good
def a_key_until_its_last_second(town: Town) -> None:
    """He votes at 11:59:58, it lands at 11:59:59, and the key holds until noon."""
    bruno = town.person("bruno", valid_until="2026-03-02T12:00:00Z")
    town.begin(town.policy(person=town.people(bruno=bruno)))
    offer = town.data().agreed("amira")
    offer.vote("bruno", at="2026-03-02T11:59:58Z")
    town.land(offer, by="amira", at="2026-03-02T11:59:59Z")
    town.wait(hours=4)


@good
def a_window_to_the_second(town: Town) -> None:
    """72 hours and not a second less; a vote ten minutes after the landing."""
    town.begin(town.policy(scope=town.scopes(window_h=72)))
    offer, at = town.data(), town.clock
    offer.checks("chen", at=spell(at))
    offer.vote("amira", at=spell(at))
    town.wait(hours=72)
    offer.vote("bruno", at=spell(at + timedelta(hours=72, seconds=600)))
    town.land(offer, at=spell(at + timedelta(hours=72)))
    town.wait(hours=1)

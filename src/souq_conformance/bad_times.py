"""Bad histories: clocks that are fast or slow by years or by a second, and what was meant to end and does not."""

from __future__ import annotations

from datetime import timedelta

from souq.governance.policy import Emergency, Key, Lazy, Needs, Policy, Role, Scope, Who
from souq_conformance.cases import bad
from souq_conformance.good import council, elected, urgent, vetoes
from souq_conformance.town import ROWS, Offered, Town, spell

# -- fast clocks -------------------------------------------------------------------------------------------------------


def ahead(town: Town, offer: Offered, **how: float) -> Offered:
    """Landed by Bruno, whose clock is fast; the town's own stays right."""
    return town.land(offer, by="bruno", at=town.at(**how))


def next_one(town: Town, by: str = "amira") -> Offered:
    """The next landing, by a clock that is right and with records of that hour."""
    return town.land(town.data("next", rows=ROWS * 2).agreed("chen", "bruno"), by=by)


@bad("from-the-future")
def a_landing_of_2096(town: Town) -> None:
    """Agreed to, and merged by somebody whose clock is seventy years fast: nobody has come after it."""
    ahead(town, town.data().agreed("amira", "bruno"), days=70 * 365)


@bad("from-the-future")
def two_landings_of_2096(town: Town) -> None:
    """The second is as fast as the first: they agree with each other, and with nobody."""
    ahead(town, town.data().agreed("amira", "bruno"), days=70 * 365)
    offer = town.data("second", rows=ROWS * 3).agreed("chen", "amira")
    ahead(town, offer, days=70 * 365 + 1)


@bad("early")
def a_window_skipped_by_a_fast_clock(town: Town) -> None:
    """Three days are asked for; Bruno's clock says they are over, and the next landing that they are not."""
    town.begin(town.policy(scope=town.scopes(window_h=72)))
    ahead(town, town.data().agreed("amira", "bruno"), hours=73)
    town.wait(hours=2)
    town.land(town.offer("revert", "stop", "adil", of="0001-rows").agreed("amira", "chen"), by="amira")


@bad("early")
def an_amendment_skipped_by_a_fast_clock(town: Town) -> None:
    """Two weeks for everybody to see it, over in a minute."""
    offer = town.amend(town.policy(scope=town.scopes(n=1)))
    offer.votes("amira", "bruno", "chen")
    ahead(town, offer.checks("bruno"), days=15)
    next_one(town)


@bad("early")
def two_fast_clocks_and_a_right_one(town: Town) -> None:
    """Set back twice: what the second was believed is not what the first is judged by."""
    town.begin(town.policy(scope=(town.work(), *town.rules()[:2], town.rules()[2])))
    offer = town.amend(town.policy(scope=town.scopes(n=1)))
    offer.votes("amira", "bruno", "chen")
    ahead(town, offer.checks("bruno"), days=40)
    second = town.data("second", rows=ROWS * 3).agreed("adil", "bruno")
    town.land(second, by="chen", at=town.at(days=20))
    next_one(town)


@bad("veto")
def a_veto_outlasted_by_a_fast_clock(town: Town) -> None:
    """A veto alone stands for three days; Bruno's clock is four days on."""
    vetoes(town)
    offer = town.data().agreed("amira", "bruno")
    offer.no("chen")
    ahead(town, offer, days=4)
    next_one(town)


@bad("threshold", "cooling-off")
def a_cooloff_skipped_by_a_fast_clock(town: Town) -> None:
    """Each approval is to stand for a day."""
    town.begin(town.policy(scope=town.scopes(cooloff_h=24)))
    ahead(town, town.data().agreed("amira", "bruno"), hours=25)
    town.wait(hours=3)
    town.land(town.offer("revert", "stop", "adil", of="0001-rows").agreed("amira", "chen"), by="amira")


@bad("threshold")
def silence_cut_short_by_a_fast_clock(town: Town) -> None:
    """Three days without a no, by the clock of one."""
    town.begin(town.policy(scope=town.scopes(lazy=Lazy(after_h=72))))
    offer = town.data(by="amira").checks("chen").votes("bruno")
    ahead(town, offer, hours=80)
    next_one(town)


@bad("election-open")
def an_election_closed_by_a_fast_clock(town: Town) -> None:
    """Ballots are cast for a week; who lands it says that the week is over."""
    council(town)
    offer = town.election().ballot("amira", "bruno", "chen").ballot("chen", "chen", "bruno").ballot("bruno", "bruno")
    right = town.clock
    elected(town, offer, "bruno", "chen")
    town.clock = right + timedelta(hours=1)
    next_one(town)


@bad("unchecked", "threshold")
def an_emergency_lapsed_by_a_fast_clock(town: Town) -> None:
    """What two of security took comes back without a vote after a week, which passed for one."""
    back = urgent(town)
    ahead(town, town.offer("restore", "lapsed", "bruno", of=back.slug), days=8)
    next_one(town)


@bad("emergency-lapsed")
def an_emergency_of_2096_lapses_all_the_same(town: Town) -> None:
    """Dated far ahead it would stand for seventy years; the next landing dates it, and a week is a week."""
    first = town.land(town.data("rows").agreed("amira", "bruno"))
    offer = town.offer("revert", "stop this", "adil", of=first.slug)
    offer.votes("amira", "chen")
    ahead(town, offer, days=70 * 365)
    next_one(town)
    town.wait(days=8)
    town.land(town.data("more", rows=ROWS * 4).agreed("amira", "bruno"))


@bad("backwards", "from-the-future")
def who_was_fast_says_so_alone(town: Town) -> None:
    """Bruno sets his clock and lands the next himself; nobody else has signed anything of that hour."""
    town.begin()
    offers = [town.data(f"rows {n}", rows=ROWS * n).votes("amira", "bruno") for n in (1, 2)]
    town.land(offers[0].checks("chen"), by="bruno", at=town.at(days=400))
    town.wait(hours=5)
    town.land(offers[1].checks("bruno"), by="bruno")


@bad("backwards", "from-the-future")
def a_colleague_of_who_was_fast_says_so(town: Town) -> None:
    """Amira's clock was fast, and Adil's is right; both are of Atlas."""
    town.begin()
    offers = [town.data(f"rows {n}", rows=ROWS * n).votes("amira", "bruno") for n in (1, 2)]
    town.land(offers[0].checks("chen"), by="amira", at=town.at(days=400))
    town.wait(hours=5)
    town.land(offers[1].checks("adil"), by="adil")


@bad("backwards", "from-the-future")
def dated_before_what_two_organisations_said(town: Town) -> None:
    """A fast clock does not open the time before it: main's own clock stands where others have signed."""
    ahead(town, town.data().agreed("amira", "bruno"), days=400)
    offer = town.data("second", rows=ROWS * 2)
    offer.checks("chen", at=town.at(hours=-2))
    for name in ("amira", "bruno"):
        offer.vote(name, at=town.at(hours=-2))
    town.land(offer, by="amira", at=town.at(hours=-1))


def one_person(town: Town, *keys: str | Key) -> Policy:
    """A policy of one, who may approve of their own work."""
    scope = Scope(name="all", match=("**",), requires=(Needs(role="maintainer", n=1),), author_may_vote=True)
    person = Who(name="amira", org="Atlas", keys=keys)
    return Policy(person=(person,), role=(Role(name="maintainer", members=("amira",)),), scope=(scope,))


@bad("backwards")
def an_old_key_dates_itself_back(town: Town) -> None:
    """Amira is alone, and her key of last spring ran out; who found it lands something dated when it held."""
    old, new = town.keys["amira"].public, town.keys["amira-2"].public
    town.begin(one_person(town, Key(key=old, valid_until="2026-03-20"), new))
    town.wait(days=30)
    offer = town.data("honest", by="amira-2")
    offer.vote("amira-2")
    town.land(offer, by="amira-2")
    town.wait(days=-25)
    offer = town.data("stolen", by="amira", rows=ROWS * 2)
    offer.vote("amira")
    town.land(offer, by="amira")
    town.wait(days=60)


# -- to the second -----------------------------------------------------------------------------------------------------


@bad("expired-key")
def a_key_until_noon_at_noon(town: Town) -> None:
    """It holds until 12:00:00, and he votes at 12:00:00."""
    bruno = town.person("bruno", valid_until="2026-03-02T12:00:00Z")
    town.begin(town.policy(person=town.people(bruno=bruno)))
    offer = town.data().agreed("amira")
    town.clock = town.clock.replace(hour=12, minute=0)
    offer.vote("bruno", at=town.at())
    town.land(offer, by="amira", at=town.at(seconds=30))


@bad("future-record")
def six_hundred_and_one_seconds_after_it_landed(town: Town) -> None:
    """Ten minutes is what two honest clocks may differ by."""
    offer = town.data().agreed("amira")
    at = town.clock
    offer.vote("bruno", at=spell(at + timedelta(seconds=601)))
    town.land(offer, by="amira", at=spell(at))
    town.wait(hours=1)


@bad("early")
def a_second_before_everybody_could_see_it(town: Town) -> None:
    """72 hours, less one second."""
    town.begin(town.policy(scope=town.scopes(window_h=72)))
    offer, at = town.data(), town.clock
    offer.checks("chen", at=spell(at))
    for name in ("amira", "bruno"):
        offer.vote(name, at=spell(at))
    town.wait(hours=72)
    town.land(offer, at=spell(at + timedelta(hours=72, seconds=-1)))


@bad("threshold")
def a_vote_at_twenty_four_o_clock(town: Town) -> None:
    """Some libraries read it as the next day; it is no time."""
    offer = town.data().agreed("amira")
    offer.vote("bruno", at="2026-03-02T24:00:00Z")
    town.wait(days=2)
    town.land(offer)


@bad("threshold", "malformed-record", "expired-key")
def a_vote_in_arabic_digits(town: Town) -> None:
    """Digits to a library, and not to a text that is compared as text."""
    offer = town.data().agreed("amira")
    offer.vote("bruno", at="٢٠٢٦-٠٣-٠٢T٠٩:٠٠:٠٠Z")
    town.land(offer)


# -- for ever ----------------------------------------------------------------------------------------------------------


def undone(town: Town, back: Offered) -> None:
    """It has lapsed, and what it took is back."""
    town.wait(days=8)
    town.land(town.offer("restore", f"lapsed {town.number}", "chen", of=back.slug), by="chen")


@bad("unchecked", "threshold")
def an_emergency_declared_again(town: Town) -> None:
    """It lapsed, nobody ratified it, and the same two take the same thing back the same hour."""
    back = urgent(town)
    undone(town, back)
    urgent(town, of="0001-rows")


@bad("unchecked", "threshold")
def an_emergency_after_a_vote_against_it(town: Town) -> None:
    """Brought back by the ordinary rules after a day, and taken again by two."""
    back = urgent(town)
    town.wait(days=1)
    town.land(town.offer("restore", "bring back", of=back.slug).agreed("chen", "bruno"))
    urgent(town, of="0001-rows")


@bad("threshold", "unchecked")
def a_yank_declared_again(town: Town) -> None:
    """Releases too: each is yanked at once, once."""
    rules = town.rules()
    hard = Scope(name="releases", match=("releases/**",), requires=(Needs(role="maintainer", n=3),), checks=("files",))
    emergency = Emergency(requires=(Needs(role="security", n=2),))
    town.begin(town.policy(scope=(town.work(), rules[0], hard, rules[2]), emergency=emergency))
    town.land(town.release(by="mallory", signer="amira").agreed("chen", "bruno", "amira"))
    back = urgent(town, "yank", "1.0")
    undone(town, back)
    urgent(town, "yank", "1.0")


@bad("min-orgs")
def an_author_whose_key_ran_out(town: Town) -> None:
    """Chen offered it, and her key has run out since: she is no third organisation behind it."""
    chen = town.person("chen", valid_until="2026-03-05")
    town.begin(town.policy(person=town.people(chen=chen), scope=town.scopes(min_orgs=3)))
    offer = town.data(by="chen")
    town.wait(days=4)
    town.land(offer.agreed("amira", "bruno"))

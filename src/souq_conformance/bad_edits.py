"""Bad histories: short ways around the votes that bring more than they say, and policies of impossible values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from souq.governance.policy import Org, edited, format_policy, with_members
from souq.records import format_toml
from souq_conformance.cases import bad
from souq_conformance.good import council
from souq_conformance.town import EVAL, ROWS, Offered, Town

WORDS = "# Nobody lands alone here: two organisations, always. Ask amira before you amend this.\n"
LIES = "# Bruno may land whatever he likes; the others are advisers.\n"
JUDGED = ("threshold", "min-orgs", "unchecked", "early")  # what an amendment lacks that nobody voted on

# -- resignations ------------------------------------------------------------------------------------------------------


def resigned(town: Town, edit: Callable[[str], str] = str, more: Mapping[str, bytes] = MappingProxyType({})) -> Offered:
    """Adil lays down his role, as souq would write it, with an edit more."""
    text = WORDS + format_policy(town.policy())
    town.begin(text)
    left = WORDS + format_policy(with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"]))
    files = {"GOVERNANCE.toml": edit(left).encode(), **more}
    return town.land(town.offer("governance", "adil leaves", "adil", files), by="adil")


@bad("odd-offer")
def a_resignation_with_luggage(town: Town) -> None:
    """Nobody's leave is needed to resign, so nobody looks at what else is in the folder."""
    resigned(town, more={"GOVERNANCE.toml.d/setup.exe": b"MZ" + bytes(1 << 16)})


@bad("odd-offer")
def a_resignation_with_rows(town: Town) -> None:
    """Training rows that nobody voted on."""
    resigned(town, more={"data/rows.jsonl": ROWS})


@bad(*JUDGED)
def a_resignation_that_rewrites_the_comments(town: Town) -> None:
    """What explained the policy says the contrary."""
    resigned(town, lambda text: text.replace(WORDS, LIES))


@bad(*JUDGED)
def a_resignation_with_a_comment_more(town: Town) -> None:
    """One line, at the end, in nobody's name."""
    resigned(town, lambda text: text + "# and mallory may amend this\n")


@bad(*JUDGED)
def a_resignation_in_another_order(town: Town) -> None:
    """The members that are left, in another order: elections and thresholds do not mind, and the text is another."""
    resigned(town, lambda text: text.replace('    "amira",\n    "bruno",\n', '    "bruno",\n    "amira",\n', 1))


@bad(*JUDGED)
def a_resignation_that_drops_the_comments(town: Town) -> None:
    """In 2027, when souq has long ceased to write the whole policy anew."""
    town.wait(days=400)
    resigned(town, lambda text: text.replace(WORDS, ""))


@bad(*JUDGED)
def a_resignation_of_two(town: Town) -> None:
    """Adil leaves, and takes Chen out of security with him."""
    resigned(town, lambda text: text[::-1].replace('    "chen",\n'[::-1], "", 1)[::-1])


@bad(*JUDGED)
def a_resignation_that_lowers_a_threshold(town: Town) -> None:
    """One byte of another line."""
    resigned(town, lambda text: text.replace("n = 2", "n = 1", 1))


@bad("odd-offer")
def a_resignation_that_sets_a_guard(town: Town) -> None:
    """`fixes` makes an exam guarded for whoever comes after."""
    left = with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"])
    files = {"GOVERNANCE.toml": format_policy(left).encode()}
    town.land(town.offer("governance", "adil leaves", "adil", files, fixes=("sums",)), by="adil")


@bad("odd-offer")
def a_restore_that_sets_a_guard(town: Town) -> None:
    """Nobody's leave is needed to bring back what lapsed, and it says more than that."""
    first = town.land(town.data().agreed("amira", "bruno"))
    offer = town.offer("revert", "stop this", "adil", of=first.slug)
    offer.votes("amira", "bruno")
    back = town.land(offer)
    town.wait(days=8)
    town.land(town.offer("restore", "lapsed", "bruno", of=back.slug, fixes=("sums",)))


# -- elections ---------------------------------------------------------------------------------------------------------


def elected_as(town: Town, edit: Callable[[str], str], **files: bytes) -> Offered:
    """Bruno and Chen are elected, and who lands it writes the policy."""
    council(town)
    offer = town.election(days=7)
    offer.files.update(files)
    offer.records.clear()
    promise = {"signoff": offer.contribution.signoff, "licence": offer.contribution.licence}
    offer.record("signoff", "mallory", {"certificate": "DCO-1.1", **promise})
    offer.ballot("amira", "bruno", "chen").ballot("chen", "chen", "bruno").ballot("bruno", "bruno", "chen")
    offer.policy = edit(edited(town.read("GOVERNANCE.toml").decode(), "council", ["bruno", "chen"]))
    town.wait(days=8)
    return town.land(offer)


@bad("not-as-elected")
def an_election_that_rewrites_the_comments(town: Town) -> None:
    """The ballots decide the members, and who lands it what stands above them."""
    elected_as(town, lambda text: LIES + text)


@bad("not-as-elected")
def an_election_that_drops_the_comments(town: Town) -> None:
    """In 2027, likewise."""
    town.wait(days=400)
    elected_as(town, lambda text: text.replace("\n\n", "\n", 1))


@bad("odd-offer")
def an_election_with_luggage(town: Town) -> None:
    """A file whose name begins as the one that may be brought."""
    elected_as(town, str, **{"election.toml.d/setup.exe": b"MZ"})


@bad("odd-offer")
def an_election_that_ends_at_no_time(town: Town) -> None:
    """`closes = "0"`: over before anybody could vote, and never by a clock."""
    council(town)
    said = {"role": "council", "candidates": ["amira", "bruno"], "closes": "0"}
    offer = town.offer("election", "council", "mallory", {"election.toml": format_toml(said).encode()})
    for name in ("amira", "bruno", "chen"):
        offer.ballot(name, "amira", "bruno")
    offer.policy = edited(town.read("GOVERNANCE.toml").decode(), "council", ["amira", "bruno"])
    town.wait(days=8)
    town.land(offer)


# -- files by their names ----------------------------------------------------------------------------------------------


@bad("odd-offer")
def an_amendment_without_a_policy(town: Town) -> None:
    """`GOVERNANCE.toml.bak` is no GOVERNANCE.toml, and no scope of the policy is asked about it."""
    offer = town.offer("governance", "amend", "mallory", {"GOVERNANCE.toml.bak": b"x"}).agreed("amira", "bruno")
    del offer.files["GOVERNANCE.toml.bak"]
    own = {f"{offer.home}GOVERNANCE.toml.bak": b"x"}
    offer.files["GOVERNANCE.toml"] = town.read("GOVERNANCE.toml")
    town.land(offer, also={**own, f"{offer.home}GOVERNANCE.toml": None})


@bad("odd-offer")
def a_release_without_its_record(town: Town) -> None:
    """`release.json.bak` beside a page: nobody signed what it releases."""
    files = {"release/release.json.bak": b"{}", "release/README.md": b"# 1.0\n"}
    town.land(town.offer("release", "Release 1.0", "amira", files, of="1.0").agreed("chen", "bruno"), by="chen")


@bad("odd-offer")
def an_exam_with_notes(town: Town) -> None:
    """Agreed to by three; from then on nobody can read main's exams."""
    offer = town.offer("evals", "notes", "mallory", {"evals/sums/notes.bin": b"x"})
    town.land(offer.agreed("amira", "bruno", "chen"))


@bad("odd-offer")
def half_an_exam(town: Town) -> None:
    """A title without cases."""
    offer = town.offer("evals", "half", "mallory", {"evals/half/eval.toml": EVAL.encode()})
    town.land(offer.agreed("amira", "bruno", "chen"))


@bad("odd-offer")
def an_exam_that_is_no_folder(town: Town) -> None:
    """A file where a folder of that name would be."""
    offer = town.offer("evals", "flat", "mallory", {"evals/flat": b"x"})
    town.land(offer.agreed("amira", "bruno", "chen"))


# -- values that mean nothing ------------------------------------------------------------------------------------------


def amended_to(town: Town, old: str, new: str) -> None:
    """Agreed to by all, open for two weeks, and a policy that cannot be."""
    text = format_policy(town.policy())
    assert old in text
    town.begin()
    offer = town.amend(text.replace(old, new, 1))
    offer.votes("amira", "bruno", "chen")
    town.wait(days=15)
    town.land(offer.checks())


@bad("bad-policy")
def a_window_of_minus_an_hour(town: Town) -> None:
    """Over before it began."""
    amended_to(town, "window_h = 336", "window_h = -1")


@bad("bad-policy")
def a_window_of_a_million_years(town: Town) -> None:
    """Nobody could ever amend it again."""
    amended_to(town, "window_h = 336", "window_h = 8766000000")


@bad("bad-policy")
def two_and_a_half_approvals(town: Town) -> None:
    """People are counted whole."""
    amended_to(town, "n = 2", "n = 2.5")


@bad("bad-policy")
def not_a_number_of_approvals(town: Town) -> None:
    """`nan` is more than nothing and less than nothing."""
    amended_to(town, "n = 2", "n = nan")


@bad("bad-policy")
def an_emergency_of_no_days(town: Town) -> None:
    """Lapsed as it lands."""
    amended_to(town, "[emergency]\n", "[emergency]\ndays = 0\n")


@bad("bad-policy")
def a_key_until_the_thirtieth_of_february(town: Town) -> None:
    """Compared as a text it is a date."""
    amended_to(town, 'name = "adil"\n', 'name = "adil"\nvalid_until = "2027-02-30"\n')


@bad("bad-policy")
def a_key_until_twenty_four_o_clock(town: Town) -> None:
    """Two readers, two days."""
    amended_to(town, 'name = "adil"\n', 'name = "adil"\nvalid_until = "2027-02-03T24:00:00Z"\n')


@bad("bad-policy")
def an_organisation_with_an_invisible_letter(town: Town) -> None:
    """Two of Atlas would be two organisations."""
    adil = town.person("adil", org="Atlas\u200b")
    people = town.people(adil=adil)
    orgs = tuple(Org(name=name) for name in ("Atlas", "Atlas\u200b", "Borealis", "University"))
    town.begin(town.policy(person=people, org=orgs))
    town.land(town.data().agreed("amira", "adil"), by="amira")


@bad("bad-policy")
def an_organisation_in_another_normal_form(town: Town) -> None:
    """One accent, written in two ways."""
    people = town.people(amira=town.person("amira", org="Café"), adil=town.person("adil", org="Cafe\u0301"))
    town.begin(town.policy(person=people))
    town.land(town.data().agreed("amira", "adil"), by="amira")


@bad("bad-policy")
def an_organisation_in_capitals(town: Town) -> None:
    """ATLAS and Atlas."""
    people = town.people(adil=town.person("adil", org="ATLAS"))
    town.begin(town.policy(person=people))
    town.land(town.data().agreed("amira", "adil"), by="amira")


@bad("bad-policy")
def a_scope_that_asks_twenty_thousand_times(town: Town) -> None:
    """Four hundred kilobytes that keep a careless reader busy for minutes."""
    lines = '{ role = "maintainer", n = 1 }, ' * 20_000
    amended_to(town, "requires = [", f"requires = [{lines}")


@bad("bad-policy")
def a_scope_of_thirty_thousand_patterns(town: Town) -> None:
    """Each with stars of its own."""
    patterns = "".join(f'"**a**b{n}**", ' for n in range(30_000))
    amended_to(town, "match = [", f"match = [{patterns}")

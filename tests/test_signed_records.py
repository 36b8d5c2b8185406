"""Which records count: about exactly this landing, signed by who may, and none of them missed by those who saw it."""

from __future__ import annotations

import json

import msgspec
import pytest

from souq.governance import CHECKS, read_policy
from souq.governance.policy import format_policy, with_members
from souq.records import Vote, digest
from souq.repo.history import SignedRecords
from souq.repo.policy_state import binding
from tests.annals import Annals, enrolled
from tests.voters import at, of, ruled

LACKS = "0001-x landed without 1 more approval from `maintainer` for contributions (have {})"
THREE = ("amira", "bruno", "chen")


def test_who_offers_signs_off(town):
    town.open()
    town.agreed(signed=False)
    town.open(which=1)
    town.agreed(hours=3)
    town.open()
    town.land(
        town.checked(hours=5),
        town.vote("amira", hours=5),
        town.vote("bruno", hours=5),
        town.signoff("amira"),
        hours=6,
        signed=False,
    )

    assert town.findings() == ["0001-x is not signed off by its author", "0003-x is not signed off by its author"]


def test_a_merge_record_is_for_one_main_by_a_key_that_holds(town, tmp_path):
    town.open()
    town.agreed(merged=town.merged("amira", base="0" * 40))
    town.open()
    town.agreed(hours=2, merged={})
    town.open()
    town.agreed(hours=3, by="mallory")
    gone = Annals(tmp_path / "gone", format_policy(ruled(of(1), people=enrolled(amira={"valid_until": at(2)}))))
    gone.open()
    gone.land(gone.vote("bruno"), by="amira", hours=2)

    assert town.findings() == [
        "0001-x's merge record was made for another main",
        "0002-x has no signed merge record",
        "0003-x has no signed merge record",
        "0003-x: records/merge.json counts for nothing: not signed by anybody who is known here",
    ]
    assert gone.findings() == [f"0001-x was merged with a key that did not hold on {at(2)}"]


def test_verdicts_on_another_main_say_nothing(town):
    first = town.head
    town.open()
    town.agreed()
    town.open()
    stale = town.checked(base=first)
    town.land(stale, town.vote("amira"), town.vote("bruno"), hours=3)

    lacks = "0002-x landed without check `{}` has not been run by an enrolled person other than the author"
    assert town.findings() == [
        *(lacks.format(check) for check in CHECKS),
        "0002-x: urn:souq:checked:1 by chen counts for nothing: it is of another main",
    ]


def test_what_is_signed_after_the_landing_was_not_there_to_count(town):
    """Beyond the ten minutes by which two honest clocks differ."""
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno", hours=2 + 1 / 6))
    assert town.findings() == []
    town.open()
    late = town.vote("bruno", hours=4 + 1 / 6 + 1 / 3600)
    town.land(town.checked(hours=3), town.vote("amira", hours=3), late, hours=4)

    assert town.findings() == [
        LACKS.format("amira of Atlas").replace("0001", "0002"),
        f"0002-x: urn:souq:vote:1 by bruno counts for nothing: it is dated {at(4 + 1 / 6 + 1 / 3600)}, after the landing",
    ]


def test_a_key_that_does_not_hold_is_said_not_to(tmp_path):
    """On the day it signed, or on the day it landed."""
    dates = {"bruno": {"valid_until": at(1.5)}, "chen": {"valid_from": at(1.5)}}
    town = Annals(tmp_path / "dated", format_policy(ruled(of(2), people=enrolled(**dates))))
    town.open()
    town.land(town.vote("amira"), town.vote("bruno"), town.vote("chen"))
    town.open()
    town.land(town.vote("amira"), town.vote("dora"), merged={})

    votes = [town.findings()[1:3], town.findings()[3:]]
    line = "0001-x: urn:souq:vote:1 by {} counts for nothing: the key does not hold, on " + f"{at(1)} or on {at(2)}"
    assert sorted(votes[0]) == [line.format("bruno"), line.format("chen")]
    assert votes[1] == ["0002-x has no signed merge record"]


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ({"slug": "0002-x"}, "about another contribution, contributions/0002-x"),
        ({"subject": "b3:" + "7" * 64}, "about another contribution, contributions/0001-x"),
        ({"urn": "urn:souq:ballot:1"}, "signed as another kind of record"),
        ({"urn": "urn:souq:merge:1", "namespace": "souq.merge.v1"}, "signed as urn:souq:merge:1"),
        ({"urn": "urn:souq:closed:1", "namespace": "souq.closed.v1"}, "signed as urn:souq:closed:1"),
        ({"namespace": "souq.ballot.v1"}, "signed as another kind of record"),
        ({"urn": "u" * 50}, f"signed as {'u' * 40}"),
        ({"slug": "s" * 90}, f"about another contribution, contributions/{'s' * 66}"),
    ],
)
def test_a_record_is_of_one_kind_about_one_offer(town, forged, why):
    """Another folder, another digest, another type, another namespace: each makes it somebody else's."""
    town.open()
    odd = town.vote("bruno", **forged)
    town.land(town.checked(), town.vote("amira"), odd)

    assert town.findings() == [LACKS.format("amira of Atlas"), f"0001-x: {next(iter(odd))} counts for nothing: {why}"]


def test_what_is_no_record_counts_for_nothing(town):
    town.open()
    odd = town.record("vote", "bruno", {"choice": "maybe"})
    town.land(town.checked(), town.vote("amira"), odd, {"records/vote-x.json": b"{}"})

    assert town.findings() == [
        LACKS.format("amira of Atlas"),
        f"0001-x: {next(iter(odd))} counts for nothing: "
        "signed, but no vote: Invalid enum value 'maybe' - at `$.choice`",
        "0001-x: records/vote-x.json counts for nothing: not an envelope: Object missing required field `payloadType`",
    ]


def test_a_record_counts_as_what_was_signed_whatever_its_file_is_called(town):
    """A no under the name of praise is a no; a yes under the name of a sign-off is a yes."""
    for choice in ("approve", "reject"):
        town.open()
        votes = [*town.vote("amira").values(), *town.vote("bruno", choice).values()]
        town.land(town.checked(), dict(zip(["records/signoff-1.json", "records/praise-7.json"], votes, strict=True)))

    assert sorted(town.findings()) == [
        LACKS.format("amira of Atlas").replace("0001", "0002"), "0002-x landed without bruno rejects it: r",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["vote", "checked", "ballot", "signoff"])
def test_only_a_merge_record_is_one(town, kind):
    """The one file that is asked by its name: another kind under it is another kind, and nobody has merged."""
    town.open()
    (data,) = town.record(kind, "amira", _vote(town)).values()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno"), merged={"records/merge.json": data})

    assert town.findings()[0] == "0001-x has no signed merge record"


@pytest.mark.parametrize(
    "name", ["a/vote-1.json", ".GIT.json", "a:b.json", "x.", "vote-1.jsn", "é.json", "x" * 302 + ".json"]
)
def test_a_file_among_the_records_has_a_name_that_any_system_holds(town, name):
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno"), {f"records/{name}": b"{}"})

    assert town.findings() == [f"{f'records/{name}'[:80]!r} of 0001-x is no name of a record"]


def test_what_a_landing_copies(town):
    """What counts, once each and in one spelling, under names of its own; and what no longer counts but was seen."""
    offer, policy = town.open(), ruled(people=enrolled())
    gone = town.vote("chen", which=7)  # a key that is enrolled no longer
    merge = {"records/x.json": next(iter(town.merged("adil").values()))}
    junk, closed = {"records/junk.json": b"x" * 999}, town.record("closed", "chen", {"reason": "r"})
    seen = gone | merge | junk | closed
    vote, check, signoff = town.vote("bruno", after=seen), town.checked("amira"), town.signoff()
    (honest,) = vote.values()
    respelled = json.loads(honest)
    respelled["signatures"][0]["keyid"] = "SHA256:other"
    records = {
        **vote, **check, **signoff, **seen, **town.vote("mallory"), **town.vote("dora", which=7), **town.merged(),
        "records/aux.json": honest, "records/long.json": json.dumps(respelled).encode(),
    }  # fmt: skip

    signed = SignedRecords.of(offer, records, policy)
    kept = signed.kept

    assert signed.withheld == ()
    assert kept == {**vote, **check, **signoff, **gone}
    again = SignedRecords.of(offer, {**kept, **merge, **junk, **closed}, policy)
    assert (again.kept, again.withheld) == (kept, ())


def test_agreed_to_once_is_not_agreed_to_twice(quick):
    """What was taken back does not land again by the old votes, under whatever number."""
    offer = quick.open(title="once")
    old = [quick.vote(name) for name in THREE]
    quick.land(*old)
    quick.open("revert", "chen", of=offer.slug)
    quick.agreed("amira", "bruno", "dora", hours=3)
    quick.open(title="once", slug="0003-x")
    quick.land(*old, hours=5)

    assert quick.offered.digest == offer.digest
    assert quick.findings() == [
        "0003-x landed without 3 more approvals from `core` for work (have nobody)",
        *(
            f"0003-x: {path} counts for nothing: about another contribution, contributions/0001-x"
            for path in sorted(path for one in old for path in one)
        ),
    ]


def test_and_not_under_its_own_number_either(quick):
    quick.open()
    old = [quick.vote(name) for name in THREE]
    quick.land(*old)
    quick.open("revert", "chen", of="0001-x")
    quick.agreed("amira", "bruno", "dora", hours=3)
    quick.open(slug="0001-x")
    quick.land(*old, hours=5)

    assert quick.findings() == ["changes contributions/0001-x/contribution.toml without a pull request"]


def test_a_record_that_was_spelled_anew_is_no_loss(town):
    """Its key id is outside what was signed: who named the first spelling has not been robbed of anything."""
    town.open()
    seen = town.vote("adil")
    ((path, data),) = seen.items()
    envelope = json.loads(data)
    envelope["signatures"][0]["keyid"] = "SHA256:other"
    respelled = {path: json.dumps(envelope).encode()}
    town.land(town.checked(), respelled, town.vote("amira", after=seen), town.vote("bruno", after=seen))

    assert town.findings() == []


def test_a_name_of_three_hundred_signs_is_one(town):
    """As long as any that an older souq made of a ref."""
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno"), {f"records/{'x' * 301}.json": b"{}"})

    assert town.findings() == []


# -- which main --------------------------------------------------------------------------------------------------------

ELSEWHERE = "about another repository, or another line of this one: the main it names is not here"


def bound(town, *names, hours=1.0, main=None, **more):
    """Agreed to and signed off by records that name a main."""
    main = main or town.head
    votes = [town.vote(name, hours=hours, main=main) for name in names or ("amira", "bruno")]
    return town.land(town.checked(hours=hours), *votes, town.signoff(main=main), signed=False, hours=hours + 1, **more)


@pytest.mark.parametrize("main", ["7" * 40, "", 7, ["x"], {"a": 1}])
def test_a_record_names_a_main_of_this_line(town, main):
    town.open()
    odd = town.vote("bruno", main=main)
    town.land(town.checked(), town.vote("amira", main=town.head), odd)

    assert town.findings() == [
        LACKS.format("amira of Atlas"),
        f"0001-x: {next(iter(odd))} counts for nothing: {ELSEWHERE}",
    ]


def test_any_main_of_this_line_will_do(town):
    begun = town.head
    town.open()
    bound(town)
    town.open()
    bound(town, hours=3, main=begun)

    assert town.findings() == []


def test_a_sign_off_of_another_line_is_none(town):
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno"), town.signoff(main="7" * 40), signed=False)

    assert town.findings() == [f"0001-x is not signed off by its author: {ELSEWHERE}"]


def test_a_no_of_another_line_is_none_either(town):
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno"), town.vote("dora", "reject", main="7" * 40))

    assert town.findings() == []


def test_once_all_votes_of_a_landing_name_a_main_later_ones_must(town):
    """But for a no: whose tool is old has said it all the same."""
    town.open()
    bound(town)
    town.open()
    votes = [town.vote("amira", hours=3, main=town.head), town.vote("bruno", hours=3)]
    town.land(town.checked(hours=3), *votes, town.signoff(main=town.head), signed=False, hours=4)
    town.open()
    no = town.vote("dora", "reject", hours=5)
    yes = [town.vote(name, hours=5, main=town.head) for name in ("amira", "bruno")]
    town.land(town.checked(hours=5), *yes, no, hours=6)

    unbound = "it names no main that its signer saw"
    assert town.judged()[0].binding.since == "contributions/0001-x"
    assert town.findings() == [
        LACKS.format("amira of Atlas").replace("0001", "0002"),
        f"0002-x: {next(iter(votes[1]))} counts for nothing: {unbound}",
        f"0003-x is not signed off by its author: {unbound}",
        "0003-x landed without dora rejects it: r",
        f"0003-x: records/signoff.json counts for nothing: {unbound}",
    ]


@pytest.mark.parametrize("lacks", ["amira", "bruno", "signoff", "no vote"])
def test_as_long_as_one_of_them_does_not_none_must(quick, lacks):
    """So nobody is locked out by who moved to a newer tool first; and what lands without a vote says nothing of it."""
    main = quick.head
    quick.open("governance", "adil", {"GOVERNANCE.toml": quick.files["GOVERNANCE.toml"]})
    names = () if lacks == "no vote" else ("amira", "bruno", "dora")
    votes = [quick.vote(name, main=None if name == lacks else main) for name in names]
    quick.land(*votes, quick.signoff(main=None if lacks == "signoff" else main), signed=False)

    assert quick.judged()[0].binding.since == ""


def test_a_sign_off_lands_once(quick):
    """Under whatever number; and as long as it names a main: of before, it had not been said that it could not."""
    main = quick.head
    for number, named in enumerate((None, main)):
        quick.open(title=f"once {number}")
        signoff = quick.signoff(main=named)
        for hours in (1 + 10 * number, 3 + 10 * number):
            quick.land(*(quick.vote(name, hours=hours) for name in THREE), signoff, signed=False, hours=hours + 1)
            quick.open("revert", "chen", of=quick.offered.slug, title=f"{hours}")
            quick.agreed("amira", "bruno", "dora", hours=hours + 1)
            quick.open(title=f"once {number}")

    spent = "0008-x is not signed off by its author: it has landed already, and a sign-off does so once"
    assert quick.findings() == [spent]
    assert len(quick.judged()[0].binding.spent) == 1


def test_an_amendment_is_of_the_policy_it_was_offered_on(quick):
    """Whoever agreed to it had that one before them: landing later, it would undo what was amended since."""
    text = quick.files["GOVERNANCE.toml"].decode()
    begun = quick.head
    for number, main in enumerate((begun, begun, None)):
        after = f"# {number}\n{text}".encode()
        quick.open("governance", "mallory", {"GOVERNANCE.toml": after})
        votes = [quick.vote(name, hours=1 + 2 * number) for name in THREE]
        signoff = quick.signoff(main=main or quick.head)
        quick.land(*votes, signoff, signed=False, hours=2 + 2 * number, more={"GOVERNANCE.toml": after})

    assert quick.findings() == ["0002-x is not signed off by its author: GOVERNANCE.toml was amended since"]
    assert quick.judged()[0].binding.amended == 3


def test_what_landed_since_and_amended_nothing_is_no_reason(quick):
    """Nor is a vote that was cast before the last amendment: it names the bytes, which are signed off anew."""
    begun, text = quick.head, quick.files["GOVERNANCE.toml"]
    for number in (0, 1):
        offered_on = quick.head
        quick.open()
        quick.agreed(*THREE, hours=1 + 4 * number)
        after = f"# {number}\n".encode() + text
        quick.open("governance", "mallory", {"GOVERNANCE.toml": after})
        votes = [quick.vote(n, hours=3 + 4 * number, main=begun if n == "amira" else None) for n in THREE]
        more = {"GOVERNANCE.toml": after}
        quick.land(*votes, quick.signoff(main=offered_on), signed=False, hours=4 + 4 * number, more=more)

    assert quick.findings() == []


def test_a_vote_s_fault_is_not_the_sign_off_s(town):
    town.open()
    town.land(town.checked(), town.vote("amira", main="7" * 40), town.vote("bruno"), signed=False)

    assert "0001-x is not signed off by its author" in town.findings()


def test_an_older_sign_off_of_anything_else_holds(quick):
    begun, text = quick.head, quick.files["GOVERNANCE.toml"]
    quick.open("governance", "mallory", {"GOVERNANCE.toml": b"# x\n" + text})
    quick.agreed(*THREE, more={"GOVERNANCE.toml": b"# x\n" + text})
    quick.open()
    quick.land(*(quick.vote(name, hours=3) for name in THREE), quick.signoff(main=begun), signed=False, hours=4)

    assert quick.findings() == []


@pytest.mark.parametrize(("main", "late", "wrong"), [(True, 0, 0), (True, 1 / 3600, 1), (False, 1 / 3600, 0)])
def test_a_resignation_lands_within_two_weeks(quick, main, late, wrong):
    """To the second; one of before names no main and was not told."""
    policy = read_policy(quick.files["GOVERNANCE.toml"].decode())
    role = next(role for role in policy.role if role.name == "security")
    text = format_policy(with_members(policy, "security", [name for name in role.members if name != "adil"]))
    quick.open("governance", "adil", {"GOVERNANCE.toml": text.encode()})
    signoff = quick.signoff(hours=2, main=quick.head if main else None)
    quick.land(signoff, signed=False, hours=2 + 14 * 24 + late, more={"GOVERNANCE.toml": text.encode()})

    assert quick.findings() == ["0001-x is a resignation of more than 14 days before: offer it anew"] * wrong


def test_who_goes_on_from_a_remembered_main_holds_records_to_the_same(quick):
    text = quick.files["GOVERNANCE.toml"]
    quick.open()
    bound(quick, *THREE)
    binding(quick.repo, quick.head)
    quick.open("governance", "mallory", {"GOVERNANCE.toml": b"# x\n" + text})
    bound(quick, *THREE, hours=3, more={"GOVERNANCE.toml": b"# x\n" + text})

    held = quick.judged()[0].binding
    assert binding(quick.repo, quick.head) == held
    assert held.line == {commit: place for place, commit in enumerate(quick.commits)}
    assert (held.since, held.amended, len(held.spent)) == ("contributions/0001-x", 2, 2)


# -- withheld ----------------------------------------------------------------------------------------------------------


def test_a_vote_cast_in_sight_of_what_is_withheld_counts_for_nothing(town):
    town.open()
    veto = town.vote("dora", "reject")
    town.land(town.checked(), town.vote("amira", after=veto), town.vote("bruno"))
    lost = next(iter(veto.values()))

    assert town.findings() == [
        LACKS.format("bruno of Borealis"),
        f"0001-x: {digest(lost)} and more may be withheld: records that name it count for nothing",
    ]


def test_of_what_is_withheld_the_first_is_named(town):
    town.open()
    lost = ["b3:" + letter * 64 for letter in "cab"]
    town.land(town.checked(), town.vote("amira", after=lost))

    assert town.findings()[1:] == [
        f"0001-x: {'b3:' + 'a' * 64} and more may be withheld: records that name it count for nothing"
    ]


def test_whoever_invents_a_record_silences_only_themselves(town):
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno"), town.vote("adil", after=("b3:" + "0" * 64,)))

    assert town.findings() == []


def test_a_no_counts_whatever_it_names(town):
    """Else who withholds what a veto names would be rid of the veto as well."""
    town.open()
    seen = town.vote("adil")
    told = [town.checked(), town.vote("amira"), town.vote("bruno")]
    town.land(*told, town.vote("dora", "reject", after=seen))

    assert town.findings()[0] == "0001-x landed without dora rejects it: r"


def test_so_does_a_machine_s(town):
    town.open()
    told = [town.checked(), town.vote("amira"), town.vote("bruno")]
    town.land(*told, town.checked("dora", "refuse", after=town.vote("adil")))

    assert "0001-x landed without check `files` refuses: b" in town.findings()


def test_and_its_yes_does_not(town):
    town.open()
    town.land(town.vote("amira"), town.vote("bruno"), town.checked("dora", after=town.vote("adil")))

    assert (
        "0001-x landed without check `files` has not been run by an enrolled person other than the author"
        in town.findings()
    )


def test_what_is_here_and_seen_is_no_loss(town):
    town.open()
    veto = town.vote("dora", "reject")
    town.land(
        town.checked(after=veto),
        veto,
        town.vote("amira", after=veto),
        town.vote("bruno", after=veto),
        town.vote("dora", hours=1.5),
    )

    assert town.findings() == []


def test_the_next_to_sign_names_every_record_that_holds(town):
    """Not only the last ones, and nobody's who is not enrolled: so no stranger's record can stand in for a veto's."""
    offer = town.open()
    veto = town.vote("dora", "reject")
    records = {
        **veto,
        **town.vote("mallory", after=veto),
        **town.vote("amira", after=veto),
        **town.signoff(),
        "records/vote-y.json": b"{}",
    }
    policy = ruled(people=enrolled())

    signed = SignedRecords.of(offer, records, policy)

    held = [
        data
        for path, data in records.items()
        if data != b"{}" and data not in town.vote("mallory", after=veto).values()
    ]
    assert signed.seen == tuple(sorted(map(digest, held)))
    assert signed.withheld == ()
    assert [each.vote.choice for each in signed.votes] in (["approve", "reject"], ["reject", "approve"])
    assert (signed.merged, signed.at) == (None, "")


def test_what_names_nothing_readable_names_nothing(town):
    town.open()
    odd = town.record("vote", "amira", json.loads(msgspec.json.encode(_vote(town))) | {"after": "b3:x"})
    mixed = town.record("vote", "bruno", json.loads(msgspec.json.encode(_vote(town))) | {"after": [3, None]})
    town.land(town.checked(), odd, mixed)

    assert town.findings() == [
        "0001-x landed without 2 more approvals from `maintainer` for contributions (have nobody)",
        *sorted([
            f"0001-x: {next(iter(odd))} counts for nothing: signed, but no vote: Expected `array`, got `str` - at `$.after`",
            f"0001-x: {next(iter(mixed))} counts for nothing: signed, but no vote: Expected `str`, got `int` - at `$.after[0]`",
        ]),
    ]  # fmt: skip


def _vote(town):
    return Vote(subject=town.offered.digest, choice="approve", reason="", by="x", at=at(1))

"""Which records count: about exactly this landing, signed by who may, and none of them missed by those who saw it."""

from __future__ import annotations

import json

import msgspec
import pytest

from souq.governance import CHECKS
from souq.governance.policy import format_policy
from souq.records import Vote, digest
from souq.repo.history import SignedRecords
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


@pytest.mark.parametrize("name", ["a/vote-1.json", ".GIT.json", "a:b.json", "x.", "vote-1.jsn", "é.json", "x" * 302])
def test_a_file_among_the_records_has_a_name_that_any_system_holds(town, name):
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno"), {f"records/{name}": b"{}"})

    assert town.findings() == [f"{f'records/{name}'[:80]!r} of 0001-x is no name of a record"]


def test_what_a_landing_copies(town):
    """What counts, once each and in one spelling, under names of its own; and what no longer counts but was seen."""
    offer, policy = town.open(), ruled(people=enrolled())
    gone = town.vote("chen", which=7)  # a key that is enrolled no longer
    vote, check, signoff = town.vote("bruno", after=gone), town.checked("amira"), town.signoff()
    (honest,) = vote.values()
    respelled = json.loads(honest)
    respelled["signatures"][0]["keyid"] = "SHA256:other"
    records = {
        **vote, **check, **signoff, **gone, **town.vote("mallory"), **town.vote("dora", which=7), **town.merged(),
        "records/aux.json": honest, "records/long.json": json.dumps(respelled).encode(), "records/junk.json": b"x" * 999,
    }  # fmt: skip

    kept = SignedRecords.of(offer, records, policy).kept

    assert kept == {**vote, **check, **signoff, **gone}
    assert SignedRecords.of(offer, kept, policy).kept == kept


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

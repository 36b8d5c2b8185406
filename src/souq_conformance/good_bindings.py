"""Histories that must be accepted although something in them is of another place, of before, or oddly spelled."""

from __future__ import annotations

import json

import msgspec

from souq import signing
from souq.governance.policy import Needs, Role, Scope, with_members
from souq.records import Release, canonical
from souq.weights.lockfile import lock_digest
from souq_conformance.bad_bindings import replay, sandbox
from souq_conformance.cases import good
from souq_conformance.good import amended, witness
from souq_conformance.keys import seal
from souq_conformance.town import ROWS, Offered, Town


def agreed(town: Town, title: str = "rows", times: int = 1) -> Offered:
    return town.land(town.data(title, rows=ROWS * times).agreed("amira", "bruno"))


# -- before records named a main ---------------------------------------------------------------------------------------


@good
def a_history_of_before(town: Town) -> None:
    """No record in it names a main: they were not asked to."""
    town.bound = False
    for number in range(1, 4):
        agreed(town, f"rows {number}", number)
    town.land(town.revert(town.landed["0001-rows-1"]).agreed("chen", "bruno"))


@good
def a_history_of_before_that_goes_on(town: Town) -> None:
    """People move to newer tools one by one: until a landing's votes all name a main, either counts."""
    town.bound = False
    agreed(town, "before")
    for number, names in enumerate((("amira",), ("bruno",), ("chen",), ("amira", "bruno")), 2):
        offer = town.data(f"rows {number}", rows=ROWS * number).checks("adil")
        for name in ("amira", "bruno", "chen"):
            town.bound = name in names
            offer.vote(name)
        town.bound = False
        town.land(offer)
    town.bound = True
    agreed(town, "since", 9)


@good
def a_sign_off_of_before_that_landed_twice(town: Town) -> None:
    """Nobody had said then that it could not."""
    town.bound = False
    first = agreed(town)
    town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(replay(town.data(signed=False), first, "signoff").agreed("chen", "bruno"))


@good
def two_amendments_of_before(town: Town) -> None:
    """Offered on one policy, landed one after the other."""
    town.bound = False
    first = town.amend(town.policy(scope=town.scopes(cooloff_h=24)), "cool off")
    second = town.amend(town.policy(scope=town.scopes(n=3)), "three")
    amended(town, first)
    amended(town, second)


# -- another repository ------------------------------------------------------------------------------------------------


@good
def a_nightly_from_a_sandbox(town: Town) -> None:
    """A stranger lays a release of the same people's sandbox beside this main: it is about another."""
    there = sandbox(town)
    main = there.snapshot()
    night = Release(
        version="nightly-x", commit=main.commit, recipe=main.recipe(), model=lock_digest(main.model), at=there.at(),
        channel="nightly",
    )  # fmt: skip
    payload = signing.statement("urn:souq:release:1", "releases/nightly-x", night.model, msgspec.to_builtins(night))
    agreed(town)
    oid = town.git.put("blob", seal(payload, [town.keys["adil"].sign(payload, "souq.release.v1")]))
    town.git.ref("refs/souq/nightly/nightly-x", oid)


@good
def a_witness_note_from_a_sandbox(town: Town) -> None:
    """Amira saw her sandbox nine steps long; the note names its root."""
    agreed(town)
    witness(town, "amira", "7" * 40, 9, root=sandbox(town).main)


@good
def a_witness_note_of_before_from_a_sandbox(town: Town) -> None:
    """It names no root and follows no note that is of here."""
    agreed(town)
    witness(town, "amira", town.main, 2)
    witness(town, "bruno", "7" * 40, 9)


@good
def a_no_from_a_sandbox(town: Town) -> None:
    """Chen turned it down where it was tried; here he said nothing."""
    there = sandbox(town).data()
    there.no("chen")
    town.land(replay(town.data().agreed("amira", "bruno"), there, "vote"))


@good
def a_fork_with_a_life_of_its_own(town: Town) -> None:
    """Two lines with one beginning: each by its own votes, and this is one of them."""
    agreed(town, "shared")
    kept = dict(town.files), list(town.commits)
    agreed(town, "theirs", 2)
    town.git.ref("refs/heads/theirs", town.main)
    town.files, town.commits = kept
    agreed(town, "ours", 3)


@good
def a_vote_on_an_older_main(town: Town) -> None:
    """Bruno had not fetched: what he saw is of this line all the same."""
    begun = town.main
    agreed(town, "first")
    offer = town.data("second", rows=ROWS * 2).agreed("amira")
    offer.vote("bruno", main=begun)
    town.land(offer)


# -- another time ------------------------------------------------------------------------------------------------------


@good
def the_same_bytes_again(town: Town) -> None:
    """Taken back, offered anew: signed off again, agreed to again."""
    first = agreed(town)
    town.land(town.revert(first).agreed("chen", "bruno"))
    town.land(town.data().agreed("chen", "bruno"))


@good
def an_old_sign_off_beside_the_new_one(town: Town) -> None:
    """One that has landed does no harm to one that has not."""
    first = agreed(town)
    town.land(town.revert(first).agreed("chen", "bruno"))
    again = town.data()
    again.put("signoff-0000000000000000", first.records["signoff.json"])
    town.land(again.agreed("chen", "bruno"))


@good
def a_resignation_within_two_weeks(town: Town) -> None:
    """To the second."""
    offer = town.amend(with_members(town.policy(), "maintainer", ["amira", "bruno", "chen"]), "adil leaves", by="adil")
    at = signing.peek(offer.records["signoff.json"])["at"]
    town.wait(days=14)
    town.land(offer, at=at.replace("-02T", "-16T"))


@good
def one_amendment_after_another(town: Town) -> None:
    """The second is offered when the first is there."""
    amended(town, town.amend(town.policy(scope=town.scopes(cooloff_h=24)), "cool off"))
    amended(town, town.amend(town.policy(scope=town.scopes(n=3)), "three"))


@good
def a_record_of_somebody_who_left_meanwhile(town: Town) -> None:
    """Bruno and Chen voted in sight of Adil's yes; when it lands he is enrolled no more, and nothing is withheld."""
    asked = (Needs(role="maintainer", n=2),)
    scopes = (town.work(), Scope(name="policy", match=("GOVERNANCE.toml",), requires=asked))
    town.begin(town.policy(scope=scopes, emergency=None))
    offer = town.data().checks("amira")
    offer.votes("adil", "bruno", "chen")
    people = tuple(person for person in town.policy().person if person.name != "adil")
    roles = (Role(name="maintainer", members=("amira", "bruno", "chen")),)
    left = town.policy(scope=scopes, emergency=None, person=people, role=roles)
    town.land(town.amend(left).agreed("amira", "chen"))
    town.land(offer.checks("amira"))


# -- oddly spelled -----------------------------------------------------------------------------------------------------


@good
def an_envelope_spelled_otherwise(town: Town) -> None:
    """A hub wrote Amira's vote again with another key id, which nobody signs; Bruno's names the first spelling."""
    offer = town.data().checks("amira")
    offer.vote("amira")
    name = list(offer.records)[-1]
    envelope = json.loads(offer.records[name])
    offer.vote("bruno")
    envelope["signatures"][0]["keyid"] = "SHA256:other"
    offer.records[name] = canonical(envelope)
    town.land(offer)


@good
def records_under_names_of_no_kind(town: Town) -> None:
    """What was signed is read, whatever a file is called."""
    offer = town.data().agreed("amira", "bruno")
    offer.records = {f"{number}.json": data for number, data in enumerate(offer.records.values())}
    town.land(offer)


@good
def another_s_merge_record_beside(town: Town) -> None:
    """Chen was about to merge it too; one record is the landing's, and it has the landing's name."""
    offer = town.data().agreed("amira", "bruno")
    offer.record("merge", "chen", {"pr": 1, "base": "0" * 40}, name="merge-0000000000000000")
    town.land(offer)


@good
def a_thousand_records(town: Town) -> None:
    """As many as a landing may carry, most of them of nobody."""
    offer = town.data().agreed("amira", "bruno")
    empty = town.git.file(b"")
    others = 1_001 - len(offer.records) - 1
    town.land(offer, also={f"{offer.home}records/vote-{n:04d}.json": empty for n in range(1_000, 1_000 + others)})

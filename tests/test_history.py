"""What the judge of history promises: each step is one landing, by the rules before it, and not a byte more."""

from __future__ import annotations

import json

import msgspec
import pytest

from souq.governance import Election, Needs, Standing
from souq.governance.policy import Emergency, Role, format_policy, with_members
from souq.history import MAX_RECORDS, Told, signed_release, standing
from souq.records import digest, format_toml
from souq.repo import Moved, Step
from souq.weights import Delta, Dense, TensorRef, format_delta, lock_digest
from tests.annals import BASE, CONFIG, POLICY, Annals, enrolled, public, seal
from tests.voters import NAMES, at, checked_policy, key_of, of, ruled

LACKS = "0001-x landed without 1 more approval from `maintainer` for contributions (have {})"


@pytest.fixture
def town(tmp_path):
    return Annals(tmp_path / "town")


def small(folder, *requires, **more):
    """Under a policy of one scope."""
    return Annals(folder / "small", format_policy(ruled(*requires or (of(1),), people=enrolled(), **more)))


@pytest.fixture
def quick(tmp_path):
    """One yes is enough for anything, and two of security for what is urgent."""
    urgent = Emergency(requires=(of(2, "security"),), days=3)
    roles = (Role(name="security", members=NAMES), Role(name="council", members=("dora",), elected_by="core", seats=1))
    return small(tmp_path, of(3), roles=roles, emergency=urgent)


THREE = ("amira", "bruno", "chen")


def test_what_was_agreed_stands(town):
    for hours in (1, 2, 3):
        town.open("data", "mallory", title=str(hours))
        town.agreed(hours=hours)

    history, wrong = town.judged()
    assert (wrong, history.releases, history.replay.at) == ([], 0, at(4))
    assert list(history.commits) == town.commits
    assert [slug for slug, _ in history.log] == ["0001-x", "0002-x", "0003-x"]


def test_each_line_names_its_commit(town):
    commit = town.step({"README.md": b"x"})

    assert town.judged()[1] == [f"{commit[:12]}: changes README.md without a pull request"]


def test_what_nobody_agreed_to_is_named(town):
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("adil"))

    assert town.findings() == [LACKS.format("adil of Atlas; amira's does not count: Atlas has 1 of at most 1 already")]


# -- the root ----------------------------------------------------------------------------------------------------------


def test_history_begins_with_a_policy_and_with_nothing_nobody_voted_on(tmp_path):
    begun = Annals(tmp_path / "a", **{"contributions/0001-x/a": "x"})
    released = Annals(tmp_path / "b", **{"releases/v1/a": "x"})
    broken = Annals(tmp_path / "c", "x = 1")
    bare = Annals(tmp_path / "d")
    bare.files, bare.commits = {}, []
    bare.commits = [bare._commit({"souq.toml": CONFIG.encode()}, [])]

    assert begun.findings() == ["history begins with contributions/0001-x/a, which nobody voted on"]
    assert released.findings() == ["history begins with releases/v1/a, which nobody voted on"]
    assert broken.findings()[0].startswith("GOVERNANCE.toml: unknown key 'x'")
    assert bare.findings() == ["history begins without a GOVERNANCE.toml"]


# -- one landing and nothing else --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"README.md": b"x"}, "changes README.md, which 0001-x did not offer"),
        ({"souq.toml": b"x"}, "changes souq.toml, which 0001-x did not offer"),
        ({"model.lock": b"x"}, "changes model.lock, which 0001-x did not offer"),
        ({"base.lock": None}, "changes base.lock, which 0001-x did not offer"),
        ({"contributions/0001-x/data/more": b"x"}, None),  # another offer than the one they agreed to
        ({"contributions/0001-x/data/rows.jsonl": b"[]"}, None),
    ],
)
def test_a_landing_writes_what_was_offered_and_not_a_byte_more(town, more, line):
    town.open()
    town.agreed(more=more)

    wrong = town.findings()
    assert wrong == [line] if line else "0001-x is not signed off by its author" in wrong


def test_what_lives_elsewhere_lands_as_it_was_offered(town):
    """evals/ beside the contribution that brings them."""
    for n, (more, line) in enumerate([
        ({}, None),
        ({"evals/e2/eval.toml": b"other"}, "evals/e2/eval.toml is not what 0002-x offered"),
        ({"evals/e3/eval.toml": None}, "evals/e3/eval.toml of 0003-x did not land"),
    ], 1):  # fmt: skip
        town.open("evals", "mallory", {f"evals/e{n}/eval.toml": b"x", f"evals/e{n}/cases.jsonl": b"y"})
        town.agreed("amira", "bruno", "chen", more=more, hours=n)
        assert town.findings()[-1:] == ([line] if line else []), n


def test_what_is_there_already_as_offered_need_not_move(town):
    for n in (1, 2):
        town.open("evals", "mallory", {"evals/e/eval.toml": b"x"}, title=str(n))
        town.agreed("amira", "bruno", "chen", hours=n)
    town.open("evals", "mallory", {"evals/e/eval.toml": b"z"})
    town.agreed("amira", "bruno", "chen", hours=3, more={"evals/e/eval.toml": b"x"})

    assert town.findings() == ["evals/e/eval.toml of 0003-x did not land"]


def test_only_plain_files_land(town):
    town.open()
    town.agreed(modes={"contributions/0001-x/data/rows.jsonl": "120000"})

    assert town.findings() == ["contributions/0001-x/data/rows.jsonl is not a plain file"]


def test_a_step_without_one_new_contribution_is_none(town):
    town.open()
    town.agreed()
    town.step({})
    town.step({"contributions/0001-x/extra": b"x"})
    town.step({"contributions/9-a/contribution.toml": b"x", "contributions/9-b/contribution.toml": b"x"})
    town.step({"contributions/README": b"x"})

    assert town.findings() == [
        "changes nothing without a pull request",
        "changes contributions/0001-x/extra without a pull request",
        "changes contributions/9-a/contribution.toml without a pull request",
        "changes contributions/README without a pull request",
    ]


def test_what_cannot_be_read_is_said(town):
    town.step({"contributions/0001-x/contribution.toml": b"\xff"})
    town.step({"contributions/0002-x/a": b"x"})
    town.step({"contributions/0003-x/contribution.toml": b"title = 3"})

    told = town.findings()
    assert told[0] == "contribution.toml is not UTF-8 text"
    assert told[1] == "there is no contribution.toml"
    assert told[2].startswith("0003-x/contribution.toml: ")


def test_a_contribution_of_another_shape_than_it_says_is_none(town):
    town.open("data", "mallory", {"notes": b"x", "data/a": b"x"})
    town.agreed()
    town.open("data", "mallory", {})
    town.agreed(more={"contributions/0002-x/a": b""}, modes={"contributions/0002-x/a": "100755"})

    assert town.findings() == [
        "a contribution of data brings no notes",
        "contributions/0002-x/a is not a plain file",
        "a contribution of data without data/",
    ]


def test_a_flood_of_records_is_refused(town):
    town.open()
    town.land(more={f"contributions/0001-x/records/vote-{n}.json": b"" for n in range(MAX_RECORDS)})

    assert town.findings() == ["0001-x brings 1,004 files; the most is 1,000"]
    town.open()
    town.agreed(more={f"contributions/0002-x/records/vote-{n}.json": b"" for n in range(MAX_RECORDS - 7)}, hours=3)
    assert len(town.findings()) == 1


# -- records -----------------------------------------------------------------------------------------------------------


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
    ]
    assert gone.findings() == [f"0001-x was merged with a key that did not hold on {at(2)}"]


def test_verdicts_on_another_main_say_nothing(town):
    first = town.head
    town.open()
    town.agreed()
    town.open()
    town.land(town.checked(base=first), town.vote("amira"), town.vote("bruno"), hours=3)

    assert len(town.findings()) == 8
    assert "check `files` has not been run" in town.findings()[1]


@pytest.mark.parametrize(
    "forged",
    [
        {"slug": "0002-x"}, {"subject": "b3:" + "7" * 64}, {"urn": "urn:souq:ballot:1"}, {"namespace": "souq.ballot.v1"},
    ],
)  # fmt: skip
def test_a_record_is_of_one_kind_about_one_offer(town, forged):
    """Another folder, another digest, another type, another namespace: each makes it somebody else's."""
    town.open()
    town.land(town.checked(), town.vote("amira"), town.vote("bruno", **forged))

    assert town.findings() == [LACKS.format("amira of Atlas")]


def test_what_is_no_record_counts_for_nothing(town):
    town.open()
    odd = town.record("vote", "bruno", {"choice": "maybe"})
    town.land(town.checked(), town.vote("amira"), odd, {"records/vote-x.json": b"{}"})

    assert town.findings() == [LACKS.format("amira of Atlas")]


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
    assert quick.findings() == ["0003-x landed without 3 more approvals from `core` for work (have nobody)"]


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

    told = Told.of(offer, records, policy)

    held = [
        data
        for path, data in records.items()
        if data != b"{}" and data not in town.vote("mallory", after=veto).values()
    ]
    assert told.seen == tuple(sorted(map(digest, held)))
    assert told.withheld == ()
    assert [each.vote.choice for each in told.votes] in (["approve", "reject"], ["reject", "approve"])
    assert (told.merged, told.at) == (None, "")


def test_what_names_nothing_readable_names_nothing(town):
    town.open()
    odd = town.record("vote", "amira", json.loads(msgspec.json.encode(_vote(town))) | {"after": "b3:x"})
    mixed = town.record("vote", "bruno", json.loads(msgspec.json.encode(_vote(town))) | {"after": [3, None]})
    town.land(town.checked(), odd, mixed)

    assert len(town.findings()) == 1
    assert (
        town.findings()[0] == "0001-x landed without 2 more approvals from `maintainer` for contributions (have nobody)"
    )


def _vote(town):
    from souq.records import Vote

    return Vote(subject=town.offered.digest, choice="approve", reason="", by="x", at=at(1))


# -- amendments and elections ------------------------------------------------------------------------------------------


def test_an_amendment_counts_from_the_next_step_on(quick):
    calmer = format_policy(ruled(of(1), people=enrolled()))
    quick.open("governance", "chen", {"GOVERNANCE.toml": calmer.encode()})
    quick.agreed("amira", "bruno", "dora")
    quick.open()
    quick.agreed("dora", hours=3)

    assert quick.findings() == []


def test_a_policy_does_not_judge_the_step_it_comes_with(quick):
    easy = format_policy(ruled(of(1), people=enrolled()))
    quick.open("governance", "chen", {"GOVERNANCE.toml": easy.encode()})
    quick.agreed("amira")

    assert quick.findings() == ["0001-x landed without 2 more approvals from `core` for work (have amira of Atlas)"]


def test_a_policy_that_cannot_work_does_not_land(quick):
    quick.open("governance", "chen", {"GOVERNANCE.toml": b"x = 1"})
    quick.agreed(*THREE)

    assert quick.findings()[0].startswith("GOVERNANCE.toml: unknown key 'x'")


def test_an_election_lands_with_the_policy_its_ballots_make(quick):
    policy = quick.main.policy_text
    told = Election(role="council", candidates=("amira", "bruno"), closes=at(2))
    right = format_policy(with_members(quick_policy(policy), "council", ["bruno"])).encode()
    wrong = format_policy(with_members(quick_policy(policy), "council", ["amira"])).encode()
    for n, (after, line) in enumerate([
        ({"GOVERNANCE.toml": right}, None), ({"GOVERNANCE.toml": wrong}, "0002-x landed without GOVERNANCE.toml as the ballots make it: bruno"),
    ], 1):  # fmt: skip
        quick.open("election", "amira", {"election.toml": format_toml(told).encode()}, title=str(n))
        ballots = [quick.ballot(name, "bruno") for name in ("amira", "bruno", "chen", "dora")]
        quick.land(*ballots, hours=2 + n, more=after)
        assert quick.findings() == ([line] if line else [])
    quick.open("election", "amira", {"election.toml": format_toml(told).encode()}, title="3")
    quick.land(hours=6)
    assert quick.findings()[-1] == "GOVERNANCE.toml does not say who was elected"


def quick_policy(text):
    from souq.governance import read_policy

    return read_policy(text)


def test_an_amendment_is_not_what_an_election_may_bring(town):
    town.open()
    town.agreed(more={"GOVERNANCE.toml": POLICY.replace("730", "731").encode()})

    assert town.findings() == ["changes GOVERNANCE.toml, which 0001-x did not offer"]


# -- releases ----------------------------------------------------------------------------------------------------------


def test_a_release_is_of_a_commit_of_this_history_and_names_what_it_stands_on(town):
    lines = []
    for n, (told, line) in enumerate([
        ({}, None),
        ({"version": "v9"}, "release v2 calls itself v9"),
        ({"commit": "0" * 40}, "release v3 is of a commit that is not in this history"),
        ({"recipe": msgspec.structs.replace(town.main.recipe(), method="mean")}, "release v4 does not name the recipe it stands on"),
        ({"model": "b3:" + "5" * 64}, "release v5 names another model than model.lock does"),
        ({"commit": town.commits[0]}, None),
    ], 1):  # fmt: skip
        town.open("release", "mallory", town.release(**{"version": f"v{n}"} | told), of=f"v{n}")
        town.agreed("amira", "bruno", hours=n)
        lines += [line] if line else []
    history, wrong = town.judged()
    assert history.releases == 6
    assert [each.partition(": ")[2] for each in wrong] == lines


def test_a_release_is_signed_by_somebody_enrolled_about_its_own_digest(town):
    policy = quick_policy(POLICY)
    data = town.release()["release/release.json"]

    release, signer = signed_release(data, policy)
    assert (release.version, signer) == ("v1", public("amira"))
    town.open("release", "mallory", town.release(name="mallory"), of="v1")
    town.agreed()
    assert town.findings() == ["not signed by anybody who is known here"]
    from souq import signing
    from souq.errors import Forged

    other = signing.statement("urn:souq:release:1", "x", "b3:" + "1" * 64, msgspec.to_builtins(release))
    with pytest.raises(Forged, match="the record of release v1 is about something else"):
        signed_release(seal(other, "amira", "souq.release.v1"), policy)
    with pytest.raises(Forged, match="signed, but no release: "):
        signed_release(seal(signing.statement("x", "x", "b3:" + "1" * 64, {}), "amira", "souq.release.v1"), policy)


# -- taking back -------------------------------------------------------------------------------------------------------


def test_what_is_taken_back_is_taken_whole_and_comes_back_as_it_was(quick):
    quick.open(title="first")
    quick.agreed(*THREE)
    quick.open("revert", "chen", of="0001-x")
    quick.agreed("amira", "bruno", "dora", hours=3)
    quick.open("restore", "chen", of="0002-x")
    quick.agreed("amira", "bruno", "dora", hours=5)

    history, wrong = quick.judged()
    assert wrong == []
    assert [(slug, told is None) for slug, told in history.log] == [
        ("0001-x", False), ("0002-x", False), ("0001-x", True), ("0003-x", False), ("0001-x", False),
    ]  # fmt: skip
    assert list(history._landed_at(quick.commits[2])) == ["0002-x"]
    assert list(history._landed_at(quick.commits[3])) == ["0001-x", "0002-x", "0003-x"]


def test_what_is_left_behind_is_named(quick):
    quick.open()
    quick.agreed(*THREE)
    kept = quick.files["contributions/0001-x/data/rows.jsonl"]
    quick.open("revert", "chen", of="0001-x")
    quick.agreed("amira", "bruno", "dora", hours=3, more={"contributions/0001-x/data/rows.jsonl": kept})

    assert quick.findings() == ["leaves contributions/0001-x/data/rows.jsonl, which 0002-x takes back"]


def test_only_what_is_there_is_taken_back(quick):
    quick.open("revert", "chen", of="0009-x")
    quick.agreed("amira", "bruno", "dora")

    quick.open()
    quick.agreed(*THREE, hours=3)

    assert quick.findings() == ["0009-x is no contribution of weights or data here, so it cannot be taken back"]


def test_an_emergency_lapses_and_may_be_undone_by_anybody(quick):
    quick.open()
    quick.agreed(*THREE)
    quick.open("revert", "chen", of="0001-x")
    quick.agreed("amira", "bruno", hours=3)
    quick.open()
    quick.agreed(*THREE, hours=100)
    quick.open("restore", "mallory", of="0002-x")
    quick.land(hours=102)

    assert quick.findings() == [
        "0003-x landed without 0002-x has lapsed and nobody ratified it: ratify it or undo it first"
    ]


def test_a_yank_is_undone_by_a_restore(quick):
    quick.open("release", "chen", quick.release(), of="v1")
    quick.agreed("amira", "bruno", "dora")
    quick.open("yank", "chen", of="v1", title="it leaks")
    quick.agreed("amira", "bruno", "dora", hours=3)
    assert "releases/v1/yanked.toml" in quick.files
    quick.open("restore", "chen", of="0002-x")
    quick.agreed("amira", "bruno", "dora", hours=5)

    assert quick.findings() == []
    assert "releases/v1/yanked.toml" not in quick.files


def test_souq_toml_is_what_was_asked_for_and_what_it_was_otherwise(quick):
    def land(hours, **more):
        quick.open("weights", "mallory", {"delta.lock": lock, "merge.toml": b'method = "mean"\n'}, title=str(hours))
        asked = format_toml(quick.main.config_with(quick.offered)).encode()
        quick.agreed(*THREE, hours=hours, more={"souq.toml": asked, "model.lock": b"x"} | more)

    lock = format_delta(
        Delta(base=lock_digest(quick.base), parts={"model.norm.weight": Dense(value=TensorRef.of(BASE))})
    ).encode()
    land(1, **{"souq.toml": b"x"})
    quick.files["souq.toml"] = CONFIG.encode()
    quick.step({})
    land(3)
    land(5)  # it says so already

    assert quick.findings() == [
        "souq.toml is not what 0001-x asked for", "changes souq.toml without a pull request",
    ]  # fmt: skip


# -- standing ----------------------------------------------------------------------------------------------------------


def test_what_history_leaves_is_remembered_and_each_step_read_once(quick, monkeypatch):
    quick.open()
    quick.agreed(*THREE)
    first = quick.head
    quick.open("revert", "chen", of="0001-x")
    quick.agreed("amira", "bruno", hours=3)

    half = standing(quick.repo, first)
    assert half.pending == {}
    read = []
    steps = type(quick.repo).steps
    monkeypatch.setattr(
        type(quick.repo), "steps", lambda repo, *words: (read.append(s) or s for s in steps(repo, *words))
    )
    whole = standing(quick.repo, quick.head)

    assert [step.commit for step in read] == [quick.head]
    assert whole.pending == {"0002-x": "2026-11-26T12:00:00Z"}
    assert whole.seen["bruno"] == at(3)
    assert whole == quick.judged()[0].replay.standing
    quick.open()
    quick.agreed(*THREE, hours=5)
    assert standing(quick.repo, quick.head) == quick.judged()[0].replay.standing
    assert standing(quick.repo, quick.head).pending == whole.pending
    assert standing(quick.repo, first) == half, "what is not an ancestor is not built upon"
    (quick.repo.cache / "standing.json").write_text("{")
    assert standing(quick.repo, quick.commits[-2]) == whole
    assert isinstance(whole, Standing)


def test_the_shape_of_what_tests_build_on():
    assert Step("a", "b", (Moved("p", "", "x", "100644"),)).moved[0].new == "x"
    assert checked_policy(ruled()).person[0].name == "amira"
    assert Needs(role="x", n=1) == of(1, "x")
    assert key_of("amira") != key_of("amira", 1)

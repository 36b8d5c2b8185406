"""What each kind of landing may do to main, beside bringing what was offered."""

from __future__ import annotations

import msgspec
import pytest

from souq import signing
from souq.errors import Forged
from souq.governance import Election, read_policy
from souq.governance.policy import Who, format_policy, with_members
from souq.records import Author, Contribution, format_toml
from souq.repo import landing
from souq.repo.contribution import BRINGS, NAMED, Offer
from souq.repo.history import signed_release
from souq.repo.landing import conflicts_with, malformed
from souq.weights.delta import Delta, Dense, TensorRef
from souq.weights.lockfile import format_delta, lock_digest
from tests.annals import BASE, CONFIG, POLICY, Annals, enrolled, public, seal
from tests.voters import NAMES, at, of, ruled

THREE = ("amira", "bruno", "chen")


def test_an_amendment_counts_from_the_next_step_on(quick):
    calmer = format_policy(ruled(of(1), people=enrolled()))
    quick.open("governance", "chen", {"GOVERNANCE.toml": calmer.encode()})
    quick.agreed("amira", "bruno", "dora")
    quick.open()
    quick.agreed("dora", hours=3)

    assert quick.findings() == []


def test_whom_an_amendment_enrols_is_asked_by_the_new_policy(quick):
    """Beside the old one, under which they are nobody."""
    core = (*NAMES, "erin")
    told = format_policy(ruled(of(4), people=[*enrolled(), *enrolled_as("erin")], core=core)).encode()
    quick.open("governance", "chen", {"GOVERNANCE.toml": told})
    quick.agreed("amira", "bruno", "dora", "erin")
    assert quick.findings() == []
    quick.open("governance", "chen", {"GOVERNANCE.toml": told + b"\n"})
    quick.agreed("amira", "bruno", "dora", hours=3)

    assert quick.findings()[0].startswith("0002-x landed without 1 more approval from `core` for work")


def test_what_a_new_policy_asks_for_is_asked_of_it(quick):
    harder = format_policy(ruled(of(4), people=enrolled())).encode()
    quick.open("governance", "chen", {"GOVERNANCE.toml": harder})
    quick.agreed("amira", "bruno", "dora")

    assert quick.findings() == [
        "0001-x landed without by the new policy too: 1 more approval from `core` for work "
        "(have amira of Atlas, bruno of Borealis, dora)"
    ]


def test_a_resignation_lands_by_its_own_signature(quick):
    policy = read_policy(quick.main.policy_text)
    left = with_members(policy, "security", [name for name in NAMES if name != "dora"])
    for author in ("dora", "chen"):
        quick.open("governance", author, {"GOVERNANCE.toml": format_policy(left).encode()})
        quick.land(by="amira")

    assert quick.findings() == [
        "0002-x landed without 3 more approvals from `core` for work (have nobody)",
        "0002-x landed without by the new policy too: 3 more approvals from `core` for work (have nobody)",
    ]


def enrolled_as(name):
    return [Who(name=name, org="Elm", keys=(public(name),))]


def test_who_merges_was_heard(quick):
    quick.open()
    quick.agreed(*THREE)
    quick.open()
    quick.agreed(*THREE, by="dora", hours=7)

    seen = quick.judged()[0].replay.state.seen
    assert seen == dict.fromkeys(THREE, at(7)) | {"adil": at(2), "anna": at(2), "dora": at(8)}


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
    right = format_policy(with_members(read_policy(policy), "council", ["bruno"])).encode()
    wrong = format_policy(with_members(read_policy(policy), "council", ["amira"])).encode()
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


def test_a_release_is_signed_by_a_key_that_holds(tmp_path):
    people = enrolled(chen={"valid_until": at(3)})
    town = Annals(tmp_path / "dated", format_policy(ruled(of(1), people=people)))
    for hours in (1, 3):
        town.open("release", "mallory", town.release(f"v{hours}", "chen"), of=f"v{hours}")
        town.agreed("amira", hours=hours)

    assert len(town.findings()) == 1
    assert "v3" in town.findings()[0]


def test_a_release_is_signed_by_somebody_enrolled_about_its_own_digest(town):
    policy = read_policy(POLICY)
    data = town.release()["release/release.json"]

    signed = signed_release(data, policy)
    release = signed.release
    assert (release.version, signed.key, signed.record) == ("v1", public("amira"), data)
    town.open("release", "mallory", town.release(name="mallory"), of="v1")
    town.agreed()
    assert town.findings() == ["not signed by anybody who is known here"]
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

    quick.open("release", "mallory", quick.release(), of="v1")
    quick.agreed(*THREE, hours=3)

    assert quick.findings() == [
        "0009-x brought no weights, sketches, data, evals or documents here, so it cannot be taken back"
    ]


EXAM = b'title = "x"\nkind = "exact"\nsource = "me"\nlicence = "CC0-1.0"\n'
ONE, TWO = b'{"id": "a", "prompt": "1 + 1", "expected": "2"}\n', b'{"id": "b", "prompt": "2 + 2", "expected": "4"}\n'


def examined(quick, cases, hours, **more):
    quick.open("evals", files={"evals/sums/eval.toml": EXAM, "evals/sums/cases.jsonl": cases, **more})
    quick.agreed("amira", "bruno", "dora", hours=hours)


def of_exam(quick):
    return {path: data for path, data in quick.files.items() if path.startswith("evals/")}


def again(quick, kind, of, hours):
    offer = quick.open(kind, "chen", of=of)
    asked = landing.touched(offer, quick.main)
    quick.agreed("amira", "bruno", "dora", hours=hours)
    return asked


def test_an_exam_goes_with_what_brought_it_and_comes_back(quick):
    """Who is asked about evals is asked about both."""
    examined(quick, ONE, 1)
    before = of_exam(quick)
    home = [f"contributions/0001-x/{path}" for path in
            ("contribution.toml", "evals/sums/cases.jsonl", "evals/sums/eval.toml")]  # fmt: skip

    asked = again(quick, "revert", "0001-x", 3)
    assert of_exam(quick) == {}
    assert {"evals/sums/cases.jsonl", "evals/sums/eval.toml", *home} <= {*asked}

    ratified = landing.touched(quick.open("ratify", "chen", of="0002-x", slug="0009-x"), quick.main)
    assert {"evals/sums/cases.jsonl", "evals/sums/eval.toml", *home} <= {*ratified}
    quick.number = 2

    asked = again(quick, "restore", "0002-x", 5)
    assert of_exam(quick) == before
    assert {"evals/sums/cases.jsonl", "evals/sums/eval.toml", *home} <= {*asked}
    assert quick.findings() == []


def test_an_exam_is_what_it_was_before_the_contribution(quick):
    examined(quick, ONE, 1)
    examined(quick, ONE + TWO, 3)
    again(quick, "revert", "0002-x", 5)

    assert of_exam(quick) == {"evals/sums/eval.toml": EXAM, "evals/sums/cases.jsonl": ONE}
    again(quick, "restore", "0003-x", 7)
    assert of_exam(quick) == {"evals/sums/eval.toml": EXAM, "evals/sums/cases.jsonl": ONE + TWO}
    assert quick.findings() == []


@pytest.mark.parametrize("kind", ["revert", "restore"])
def test_an_exam_that_changed_since_is_left(quick, kind):
    """What others made of it since is theirs: the last is taken back first."""
    examined(quick, ONE, 1)
    if kind == "restore":
        again(quick, "revert", "0001-x", 3)
    examined(quick, TWO if kind == "restore" else ONE + TWO, 5)

    offer = quick.open(kind, "chen", of="0001-x" if kind == "revert" else "0002-x")
    left = offer.contribution.of
    assert landing.conflicts_with(quick.main, offer) == (
        f"evals/sums/cases.jsonl is not as {left} left it: take back first what changed it since"
    )


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


def test_model_lock_follows_from_weights_alone(quick):
    lock = format_delta(
        Delta(base=lock_digest(quick.base), parts={"model.norm.weight": Dense(value=TensorRef.of(BASE))})
    ).encode()
    quick.open("weights", "mallory", {"delta.lock": lock})
    quick.agreed(*THREE, more={"model.lock": b"x"})

    assert quick.findings() == []


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


# -- what a kind brings ------------------------------------------------------------------------------------------------

SUMS = {"eval.toml": b'title = "Sums"\nkind = "exact"\nsource = "here"\nlicence = "CC0-1.0"\n', "cases.jsonl": b'{"id": "a", "prompt": "1+1", "expected": "2"}\n'}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "of", "files", "line"),
    [
        ("governance", "", {"GOVERNANCE.toml.bak": b"x"}, "a contribution of governance without GOVERNANCE.toml"),
        ("governance", "", {"GOVERNANCE.toml": b"", "GOVERNANCE.toml.d/setup.exe": b"MZ"}, "a contribution of governance brings no GOVERNANCE.toml.d/setup.exe"),
        ("election", "", {"election.toml": b"", "election.tomlx": b""}, "a contribution of election brings no election.tomlx"),
        ("weights", "", {"delta.locked": b""}, "a contribution of weights without delta.lock"),
        ("weights", "", {"delta.lock": b"", "merge.toml/x": b""}, "a contribution of weights brings no merge.toml/x"),
        ("release", "1.0", {"release/release.json.bak": b"", "release/README.md": b""}, "a contribution of release without release/release.json"),
        ("data", "", {"data": b""}, "a contribution of data without data/"),
        ("data", "", {"data/x": b"", "contribution.toml.x": b""}, "a contribution of data brings no contribution.toml.x"),
    ],
)  # fmt: skip
def test_files_are_brought_by_their_names_and_folders_by_theirs(quick, kind, of, files, line):
    assert malformed(quick.open(kind, files=files, of=of)) == line


@pytest.mark.parametrize("kind", sorted(BRINGS))
def test_only_who_is_judged_by_exams_says_what_becomes_one(kind):
    """`fixes` is guarded from then on: who resigns or restores sets no guard in passing."""
    files = {path if not path.endswith("/") else f"{path}x": b"" for path in BRINGS[kind].must}
    of = "1.0" if kind in NAMED else ""
    told = Contribution(title="x", kind=kind, of=of, licence="CC0-1.0", signoff="a", fixes=("sums",), author=Author(name="a", email="", key="k"))  # fmt: skip
    line = malformed(Offer("0001-x", files | {"contribution.toml": format_toml(told).encode()}))

    assert line == ("" if kind in ("weights", "data", "evals") else f"a contribution of {kind} fixes nothing: what it names would be guarded")  # fmt: skip


def test_an_exam_is_read_as_it_will_be(quick):
    """Main's files and its own in one folder: who could not be read afterwards does not land."""
    whole = {f"evals/sums/{name}": data for name, data in SUMS.items()}
    assert conflicts_with(quick.main, quick.open("evals", files=whole)) == ""
    quick.agreed(*THREE)
    for files, line in (
        ({"evals/sums/notes.bin": b"x"}, "evals/sums holds /cases.jsonl /eval.toml /notes.bin"),
        ({"evals/sums/sealed.toml": b"x"}, "evals/sums holds /cases.jsonl /eval.toml /sealed.toml"),
        ({"evals/more/eval.toml": SUMS["eval.toml"]}, "evals/more holds /eval.toml"),
        ({"evals/more": b"x"}, "evals/more holds "),
        ({"evals/more/sealed.toml": b"x = 1"}, None),
        ({"evals/sums/cases.jsonl": SUMS["cases.jsonl"] * 1}, None),
        ({"evals/sums/cases.jsonl": SUMS["cases.jsonl"].replace(b"1+1", b"2+0")}, None),
    ):  # fmt: skip
        problem = conflicts_with(quick.main, quick.open("evals", files=files))
        assert problem == (f"a contribution of evals after which {line}" if line else ""), files

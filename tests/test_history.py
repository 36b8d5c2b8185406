"""What the judge of history promises: each step is one landing, by the rules before it, and not a byte more."""

from __future__ import annotations

import pytest

from souq.errors import Refused
from souq.governance import PolicyState
from souq.records import format_toml
from souq.repo import history
from souq.repo.contribution import MAX_RECORDS
from souq.repo.history import change_of
from souq.repo.policy_state import policy_state, refuse_unsound, replayed
from tests.annals import CONFIG, Annals
from tests.voters import at

LACKS = "0001-x landed without 1 more approval from `maintainer` for contributions (have {})"
THREE = ("amira", "bruno", "chen")


def test_what_was_agreed_stands(town):
    for hours in (1, 2, 3):
        town.open("data", "mallory", title=str(hours))
        town.agreed(hours=hours)

    history, wrong = town.judged()
    assert (wrong, history.releases, history.replay.latest) == ([], 0, at(4))
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
        town.open("evals", "mallory", {"evals/e/eval.toml": b"x", "evals/e/cases.jsonl": b"y"}, title=str(n))
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

    assert town.findings() == ["0001-x brings records: 1,002 files; the most is 1,001"]
    town.open()
    town.agreed(more={f"contributions/0002-x/records/vote-{n}.json": b"" for n in range(MAX_RECORDS - 4)}, hours=3)
    assert len(town.findings()) == 1


def test_records_and_what_was_offered_have_bounds_of_their_own(town, monkeypatch):
    """Each to the byte, whatever the other is; and one blob under a thousand names is counted a thousand times."""
    monkeypatch.setattr(history, "MAX_OFFER", 1 << 16)
    monkeypatch.setattr(history, "MAX_HELD", 1 << 17)
    monkeypatch.setattr(history, "MAX_RECORD", 0)
    facts = town.open(files={"data/rows.jsonl": b"{}\n" * 1000}).files
    room = (1 << 16) - sum(map(len, facts.values()))
    town.open(files={"data/rows.jsonl": b"{}\n" * 1000, "data/x.jsonl": b"\n" * room}, slug="0001-x")
    records = [town.checked(), town.vote("amira"), town.vote("bruno"), town.signoff(), town.merged()]
    left = (1 << 17) - sum(len(data) for each in records for data in each.values())
    half = {f"records/junk-{n}.json": b" " * (left // 2) for n in range(2)}
    town.land(*records, half)

    assert town.findings() == []
    town.open(files={"data/x.jsonl": b"\n" * (1 << 16)})
    town.agreed(hours=3)
    town.open()
    town.agreed(more={f"contributions/0004-x/records/{n}.json": b" " * (1 << 8) for n in range(512)}, hours=5)
    assert [line.partition(": ")[::2][0] for line in town.findings()] == ["0003-x brings", "0004-x brings records"]


# -- policy_state ------------------------------------------------------------------------------------------------------


def test_what_history_leaves_is_remembered_and_each_step_read_once(quick, monkeypatch):
    quick.open()
    quick.agreed(*THREE)
    first = quick.head
    quick.open("revert", "chen", of="0001-x")
    quick.agreed("amira", "bruno", hours=3)

    half = policy_state(quick.repo, first)
    assert half.pending == {}
    read = []
    steps = type(quick.repo).steps
    monkeypatch.setattr(
        type(quick.repo), "steps", lambda repo, *words: (read.append(s) or s for s in steps(repo, *words))
    )
    whole = policy_state(quick.repo, quick.head)

    assert [step.commit for step in read] == [quick.head]
    assert whole.pending == {"0002-x": "2026-11-26T12:00:00Z"}
    assert whole.seen["bruno"] == at(3)
    assert whole == quick.judged()[0].replay.state
    quick.open()
    quick.agreed(*THREE, hours=5)
    assert policy_state(quick.repo, quick.head) == quick.judged()[0].replay.state
    assert policy_state(quick.repo, quick.head).pending == whole.pending
    assert policy_state(quick.repo, first) == half, "what is not an ancestor is not built upon"
    (quick.repo.cache / "standing.json").write_text("{")
    assert policy_state(quick.repo, quick.commits[-2]) == whole
    assert isinstance(whole, PolicyState)


def test_what_came_back_is_no_second_contribution_to_who_goes_on_from_a_remembered_main(quick):
    """What a restore brings back was here before, whether this clone judged that itself or remembers it."""
    quick.open()
    quick.agreed(*THREE)
    quick.open("revert", "chen", of="0001-x")
    quick.land(quick.vote("amira", hours=3), quick.vote("bruno", hours=3), hours=4)
    assert policy_state(quick.repo, quick.head).pending == {"0002-x": at(76)}
    quick.open("restore", "amira", of="0002-x")
    quick.land(hours=80)

    assert policy_state(quick.repo, quick.head).pending == {}
    assert quick.findings() == []


def test_a_landing_is_asked_what_its_readers_will_ask(quick):
    """By the same code, from a main that is remembered: before it lands, and all that is wrong at once."""
    quick.open()
    quick.agreed(*THREE)
    quick.open("release", "amira", quick.release(), of="v1")
    refuse_unsound(quick.repo, quick.head, quick.agreed("bruno", "chen", "dora", hours=3))
    quick.open()
    before = quick.head
    quick.agreed("amira", more={"README.md": b"mine"}, hours=5)

    with pytest.raises(Refused) as caught:
        refuse_unsound(quick.repo, before, quick.head)
    assert str(caught.value) == (
        "nobody could verify main with it: changes README.md, which 0003-x did not offer; "
        "0003-x landed without 2 more approvals from `core` for work (have amira of Atlas)"
    )


def test_a_clock_that_was_set_back_is_not_remembered_ahead(quick):
    """What a clone keeps of history is what anybody reads of it, whichever landings came between."""
    quick.open()
    quick.agreed(*THREE)
    quick.open("revert", "chen", of="0001-x")
    fast = [quick.vote(name, hours=3) for name in ("amira", "bruno")]
    quick.land(*fast, by="bruno", hours=9_000)

    assert policy_state(quick.repo, quick.head).pending == {"0002-x": at(9_000 + 72)}
    assert replayed(quick.repo, quick.head, at(9_001)).alone == [], "as it is remembered"
    assert len(replayed(quick.repo, quick.head, at(4)).alone) == 1, "who is to land before it reads all of it"
    quick.open()
    quick.agreed(*THREE, hours=5)

    assert policy_state(quick.repo, quick.head) == quick.judged()[0].replay.state
    assert policy_state(quick.repo, quick.head).pending == {"0002-x": at(6 + 72)}
    assert policy_state(quick.repo, quick.head).urgent == {"0001-x"}
    assert quick.findings() == []


def test_what_the_policy_sees_of_a_contribution(town):
    """Who amends or elects shows the texts, to the letter: a resignation is judged by what it edits."""
    text = town.main.policy_text
    election = format_toml({"role": "council", "candidates": ["amira"], "closes": at(9)}).encode()
    brings = {
        "governance": ({"GOVERNANCE.toml": text.encode()}, (text, text)),
        "election": ({"election.toml": election}, (text, "")),
        "data": ({"data/x.jsonl": b"{}\n"}, ("", "")),
    }
    for kind, (files, texts) in brings.items():
        offer = town.open(kind, files=files)
        change = change_of(offer, town.main)

        assert (change.kind, change.texts, change.digest) == (kind, texts, offer.digest)
        assert change.author_key == offer.contribution.author.key
        assert set(change.touched) >= {f"{offer.home}{path}" for path in offer.files}
        assert (change.amends is None, change.election is None) == (kind != "governance", kind != "election")

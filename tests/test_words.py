"""What souq says is true at the moment it says it: of votes, of who waits for whom, of people and what they offer."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as but

import souq
from souq.cli import run
from souq.evals.score import Comparison
from souq.governance import CHECKS, Change, Election, read_policy
from souq.governance.explain import uncounted
from souq.pulls import pull as pulls
from souq.pulls import reviews, turns
from souq.records import Verdict, format_toml
from souq.repo.snapshot import Snapshot


@pytest.fixture
def offered(bazaar):
    """Chen, a maintainer, offers greetings as #2."""
    bazaar.offer("chen", bazaar.delta("greet"))
    return bazaar


def votes(bazaar, number=2):
    return json.loads(bazaar.says("amira", f"pr view {number} --no-forecast --json")[1])["votes"]


# -- a vote that does not count ----------------------------------------------------------------------------------------


def test_under_my_name_another_s_key_signs_nothing(offered):
    """Bruno's key was left in the environment: his would be the vote."""
    bruno = offered.actors["bruno"].key

    code, out, err = offered.says("amira", ["pr", "review", "2", "--approve", "--key", bruno])

    assert (code, out) == (3, "")
    assert f"git calls you amira, and the key {bruno.name} is bruno's in GOVERNANCE.toml" in err
    assert "`git config --global user.name" in err
    assert votes(offered) == []


def test_a_new_key_that_nobody_enrolled_signs_nothing_under_my_name(offered):
    offered.actors["nora"] = offered.stage.actor("nora", "Atlas")

    code, _, err = offered.says("amira", ["pr", "review", "2", "--approve", "--key", offered.actors["nora"].key])

    assert code == 3
    assert "is nobody's in GOVERNANCE.toml" in err
    assert votes(offered) == []


def test_a_stranger_s_vote_is_not_signed_and_says_why(offered):
    code, _, err = offered.says("mallory", "pr review 2 --approve")

    assert code == 3
    assert "nothing was signed, since it would not count: the key is nobody's in GOVERNANCE.toml" in err
    assert votes(offered) == []


def test_an_author_s_yes_says_that_it_does_not_count(offered):
    code, out, err = offered.says("chen", "pr review 2 --approve --reason mine")

    assert (code, out) == (0, "approve #2 by chen\n")
    assert "  it does not count: chen is its author\n" in err
    assert "approve by chen: mine (does not count: chen is its author)" in offered.says("amira", "pr view 2 --no-forecast")[1]  # fmt: skip


def test_who_is_asked_nothing_is_told_so(bazaar):
    """Nora is enrolled, and in no role."""
    nora = bazaar.stage.actor("nora", "Press")
    bazaar.actors["nora"] = nora
    text = (bazaar.folder / "GOVERNANCE.toml").read_text()
    key = nora.who().keys[0]
    (bazaar.folder / "new.toml").write_text(f'[[person]]\nname = "nora"\norg = "Press"\nkeys = ["{key}"]\n\n{text}')
    policy = read_policy((bazaar.folder / "new.toml").read_text())
    change = Change(digest="", author_key="", touched=("contributions/0002-x/a",))
    assert uncounted(policy, change, key, "2026-12-01T00:00:00Z") == "nora is in no role that is asked (`maintainer`)"


def test_an_approval_that_counts_says_nothing_more(offered):
    code, out, err = offered.says("amira", "pr review 2 --approve --json")

    assert code == 0
    assert json.loads(out)["uncounted"] == ""
    assert "does not count" not in err


def test_last_words_are_listed_and_no_earlier_ones(offered):
    """By the names of whose keys they are, whatever their signer calls themselves."""
    for choice, reason in (("--approve", "fine"), ("--reject", "wrong")):
        assert offered("amira", f"pr review 2 {choice} --reason {reason}") == 0

    out = offered.says("bruno", "pr view 2 --no-forecast")[1]

    assert "\nreject by amira: wrong\n" in out
    assert "fine" not in out
    assert sorted(vote["choice"] for vote in votes(offered)) == ["approve", "reject"]


def test_a_vote_is_its_key_s_whatever_it_says(offered):
    """A vote's own `by` is a word that anybody may write."""
    with offered.stage.as_actor(offered.actors["bruno"], offered.actors["bruno"].clone):
        assert run(["pr", "review", "2", "--approve", "--reason", "a"]) == 0
    person = replace(offered.person("bruno"), name="chen the second")
    reviews.review(offered.repo("bruno"), 2, "approve", "again", person)

    out = offered.says("amira", "pr view 2 --no-forecast")[1]

    assert "approve by bruno: again" in out
    assert "second" not in out


def test_who_s_checks_count_for_nothing_is_told_before_they_run(offered):
    mallory, chen, amira = (offered.says(who, "pr checks 2")[2] for who in ("mallory", "chen", "amira"))

    assert "note: your key is nobody's in GOVERNANCE.toml, so somebody enrolled must run them too" in mallory
    assert "note: you are its author, so somebody else must run them too; `--quick`" in chen
    assert "note: " not in amira


# -- a check that asks people to look ----------------------------------------------------------------------------------


def doubted(bazaar, number=2):
    """Amira's machine asks people to look."""
    repo, person = bazaar.repo("amira"), bazaar.person("amira")
    pull = pulls.get(repo, number)
    main = Snapshot(repo, repo.tip())
    verdicts = tuple(
        Verdict(check=c, outcome="needs-eyes" if c in ("norms", "caps") else "pass", because="b") for c in CHECKS
    )
    pulls.publish_record(pull, "checked", reviews.checked(pull, main, verdicts, person)[1])


def test_eyes_are_a_sentence_before_and_after(bazaar):
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    doubted(bazaar, number)
    line = "`norms`, `caps` ask people to look: 3 approvals from `maintainer` for contributions instead of 2"

    assert f"\n{line}\nmissing: 3 more approvals" in bazaar.says("amira", f"pr view {number} --no-forecast")[1]
    for who in ("amira", "bruno"):
        err = bazaar.says(who, f"pr review {number} --approve")[2]
        assert f"  {line}\n" in err
    assert f"  {line}\n  missing: 1 more approval" in bazaar.says("amira", f"pr merge {number}")[2]
    assert bazaar("chen", f"pr review {number} --approve") == 0
    code, _, err = bazaar.says("amira", f"pr merge {number}")
    assert (code, line in err) == (0, True)


def test_eyes_where_there_are_no_more_say_so(offered):
    """Chen's own offer: Atlas and Borealis are all others."""
    doubted(offered)

    line = "`norms`, `caps` ask people to look: 2 approvals from `maintainer` for contributions all the same: no more could"
    assert line in offered.says("amira", "pr view 2 --no-forecast")[1]


# -- status ------------------------------------------------------------------------------------------------------------


def status(bazaar, who):
    return bazaar.says(who, "status")[1]


def test_status_knows_who_i_am_and_what_waits_for_me(offered):
    amira, chen, mallory = (status(offered, who) for who in ("amira", "chen", "mallory"))

    assert "you are amira of Atlas: maintainer, security\nwaiting for you:\n" in amira
    assert "  #2 Greetings: `souq pr checks 2`, then `souq pr review 2 --approve --reason …`\n" in amira
    assert "you are chen of University: maintainer, security\nwaiting for others:\n  #2 Greetings: 14 checks" in chen
    assert "you are" not in mallory
    assert "waiting for others:\n  #2 Greetings: 14 checks have not been run" in mallory


def test_what_waits_moves_on_as_it_is_done(offered):
    def waits(who):
        value = json.loads(offered.says(who, "status --json")[1])
        return [each["do"] for each in value["waiting_for_you"]], value["next"]

    assert waits("bruno") == ([["check", "vote"]], "souq pr checks 2")
    assert offered("amira", "pr checks 2") == 0
    assert waits("bruno") == ([["vote"]], "souq pr review 2 --approve --reason …")
    assert offered("bruno", "pr review 2 --approve") == 0
    assert waits("bruno") == ([], "souq pr view 2")
    assert waits("adil") == ([["vote"]], "souq pr review 2 --approve --reason …")
    assert offered("amira", "pr review 2 --approve") == 0
    assert [waits(who)[0] for who in ("adil", "chen", "mallory")] == [[["merge"]], [["merge"]], []]


def test_a_colleague_s_yes_over_the_cap_is_not_waited_for(offered):
    assert offered("amira", "pr review 2 --approve") == 0

    value = json.loads(offered.says("adil", "status --json")[1])
    assert [each["do"] for each in value["waiting_for_you"]] == [["check"]]


def test_a_refusal_waits_for_its_author(bazaar):
    number = bazaar.offer("chen", bazaar.delta("greet"), licence="CC-BY-NC-4.0")
    assert bazaar("amira", f"pr checks {number}") == 3

    assert f"waiting for you:\n  #{number} Greetings: `souq pr view {number}`" in status(bazaar, "chen")


def test_an_election_waits_for_who_has_no_ballot_in_it(bazaar):
    text = (bazaar.folder / "GOVERNANCE.toml").read_text()
    policy = read_policy(
        text + '\n[[role]]\nname = "council"\nmembers = ["amira"]\nelected_by = "maintainer"\nseats = 1\n'
    )
    election = Election(role="council", candidates=("amira",), closes="2099-01-01T00:00:00Z")
    key = policy.named("amira").keys[0]
    pull = type("Pull", (), {"offer": type("Offer", (), {"election": election}), "signed_records": lambda *_: type("R", (), {"ballots": []})})  # fmt: skip

    assert turns._may_cast(pull, policy, key, "2026-12-01T00:00:00Z")
    assert not turns._may_cast(pull, policy, key, "2099-12-01T00:00:00Z")


# -- people, binaries, comparisons ------------------------------------------------------------------------------------


def test_a_founder_s_organisation_in_people_toml_is_kept(bazaar, tmp_path):
    """And their e-mail, and their other keys; they are first, so it is their company."""
    actors = bazaar.actors
    people = tmp_path / "people.toml"
    named = [actors["bruno"].who(), but(actors["amira"].who(), org="Atlas Labs", email="a@labs.example")]
    people.write_text(format_toml({"person": named}))
    words = ["init", tmp_path / "new", "--from", bazaar.folder / "tiny", "--no-suite", "--governance", "company-plus-community", "--people", people]  # fmt: skip

    assert bazaar("amira", words) == 0

    policy = read_policy((tmp_path / "new" / "GOVERNANCE.toml").read_text())
    assert [(person.name, person.org) for person in policy.person] == [("amira", "Atlas Labs"), ("bruno", "Borealis")]
    assert policy.members("company") == ("amira",)


def test_a_founder_under_another_key_is_told(bazaar, tmp_path):
    people = tmp_path / "people.toml"
    people.write_text(format_toml({"person": [but(bazaar.actors["bruno"].who(), name="amira"), bazaar.actors["chen"].who()]}))  # fmt: skip
    words = ["init", tmp_path / "new", "--from", bazaar.folder / "tiny", "--no-suite", "--governance", "apache", "--people", people]  # fmt: skip

    code, _, err = bazaar.says("amira", words)

    assert code == 2
    assert "has amira with another key than the one you sign with" in err


def test_a_binary_is_told_that_it_is_welcome(bazaar):
    words = ["pr", "create", bazaar.delta("greet"), "--title", "x", "--licence", "MIT", "--signoff", "--unchecked"]

    err = bazaar.says("chen", words)[2]

    assert "a binary, and welcome: nobody can train it again, since it brings no data\n" in err


@pytest.mark.parametrize(
    ("gain", "low", "high", "words"),
    [
        (-0.3, -0.4, -0.2, "worse"),
        (-0.05, -0.08, -0.02, "worse, by less than the margin"),
        (-0.1, -0.2, -0.01, "worse; whether by more than the margin, more cases would show"),
        (-0.05, -0.3, 0.2, "not decided: worse on these cases"),
        (0.05, -0.3, 0.4, "not decided: better on these cases"),
        (0.0, -0.3, 0.3, "not decided: alike on these cases"),
        (-0.02, -0.06, 0.02, "worse on these cases, within the margin"),
        (0.0, -0.02, 0.02, "as good"),
        (0.02, -0.02, 0.06, "as good"),
        (0.2, 0.1, 0.3, "better"),
    ],
)
def test_what_is_worse_is_called_worse(gain, low, high, words):
    """Within the margin too, where it was `as good, or better`."""
    assert Comparison(gain, low, high, False, 0.1, "points").in_words == words


# -- no house word that the glossary does not have ---------------------------------------------------------------------

HOUSE = (
    "adopt", "attestation", "ballot", "base", "binary", "contribution", "delta", "drift", "edition", "fold", "forecast",
    "grow", "guarded", "hidden", "landing", "lock", "locked out", "needs-eyes", "nightly", "offer", "pull request",
    "queue", "ratify", "recipe", "record", "resketch", "restore", "retention", "sealed", "sketch", "source", "suite",
    "tally", "withheld", "witness", "yank",
)  # fmt: skip
PLAIN = {  # once ours, and said in words that everybody has
    "gram": "sketch", "tallies": "sums", "snapshots": "commits", "verdict of eyes": "asks people to look",
    "refit": "resketch",
}  # fmt: skip


def shown():
    """Every text of more than a word in souq that is no docstring: what may come to a terminal."""
    for path in sorted((Path(souq.__file__).parent).rglob("*.py")):
        tree = ast.parse(path.read_text())
        bodies = [node.body for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
        own = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and " " in node.value
                and id(node) not in own
            ):
                yield path.name, node.value


def test_a_house_word_that_is_shown_stands_in_the_glossary():
    glossary = (Path(__file__).parent.parent / "docs" / "glossary.md").read_text()
    words = {word.strip() for cell in re.findall(r"^\| ([^|]+) \|", glossary, re.M) for word in cell.split(",")}
    texts = " ".join(text for _, text in shown()).lower()

    assert [word for word in HOUSE if re.search(rf"\b{word}", texts) and word not in words] == []


def test_a_word_that_only_the_house_has_is_not_shown():
    said = {(word, where, text) for where, text in shown() for word in PLAIN if re.search(rf"\b{word}\b", text.lower())}
    said = {(word, where) for word, where, text in said if "urn:" not in text and where != "lockfile.py"}  # a format's

    assert said == set()


def test_verdicts_are_coloured_on_a_terminal_that_wants_it(tmp_path):
    """Green, yellow, red in a pseudo-terminal; none with NO_COLOR, none in a file."""
    code = "from souq.cli.table import table; table(['check', 'verdict'], [['a', 'pass'], ['b', 'eyes'], ['c', 'REFUSED']])"

    def typed(**more):
        environ = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
        theirs, ours = pty.openpty()
        subprocess.run(
            [sys.executable, "-c", code], env=environ | {"TERM": "xterm-256color"} | more, stdout=ours, check=True
        )
        os.close(ours)
        return os.read(theirs, 4_000).decode()

    assert [mark in typed() for mark in ("\x1b[32mpass", "\x1b[33meyes", "\x1b[1;31mREFUSED")] == [True] * 3
    assert "\x1b[3" not in typed(NO_COLOR="1")
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\x1b" not in plain.stdout

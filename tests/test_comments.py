"""Comments on a pull request: signed, kept in its thread, shown safely; nothing that is decided leans on them."""

from __future__ import annotations

import json

import pytest

from souq import signing
from souq.pulls import comments, land
from souq.pulls import pull as pulls
from souq.pulls.comments import MAX_TEXT, STRANGERS
from souq.records import canonical, digest

ABOUT = "contributions/pr-2"


@pytest.fixture
def offered(bazaar):
    """Chen's greetings, #2."""
    assert bazaar.offer("chen", bazaar.delta("greet")) == 2
    return bazaar


def thread(bazaar, who="bruno"):
    main = bazaar.main(who)
    return comments.thread(pulls.get(main.repo, 2), main)


def signed(bazaar, who, *, namespace="souq.comment.v1", about=ABOUT, **words):
    """A comment as an adversary may make it, pushed like any other."""
    main, person = bazaar.main(who), bazaar.person(who)
    predicate = {"text": "hm", "by": who, "at": signing.now(), "main": main.commit, "key": person.public_key} | words
    statement = signing.statement("urn:souq:comment:1", about, digest(b"x"), predicate)
    data = canonical(signing.sign(statement, person.key, namespace=namespace))
    pulls.publish_record(pulls.get(main.repo, 2), "comment", data)


def test_everybody_reads_a_comment_and_whose_key_it_is(offered):
    for who in ("amira", "chen", "mallory"):
        assert offered(who, ["pr", "comment", "#2", f"a word of {who}"]) == 0

    code, out, _ = offered.says("bruno", "pr view 2 --no-forecast")

    assert code == 0
    assert [(each.by, each.whose, each.text) for each in thread(offered)] == [
        ("amira", "enrolled", "a word of amira"),
        ("chen", "enrolled", "a word of chen"),
        ("mallory", "stranger", "a word of mallory"),
    ]
    assert " amira:\n  a word of amira\n" in out
    assert " mallory, who is not enrolled:\n  a word of mallory\n" in out


def test_json_has_the_thread(offered):
    assert offered("amira", "pr comment 2 fine") == 0

    shown = json.loads(offered.says("bruno", "pr view 2 --no-forecast --json")[1])

    assert [each["text"] for each in shown["comments"]] == ["fine"]


def test_a_stranger_is_called_by_no_enrolled_name(offered):
    """The name in a comment is its signer's own word, so who is not enrolled is said to be."""
    signed(offered, "mallory", by="amira")

    (said,) = thread(offered)

    assert said.whose == "stranger"
    assert "amira, who is not enrolled" in offered.says("bruno", "pr view 2 --no-forecast")[1]


@pytest.mark.parametrize(
    "words",
    [
        {"namespace": "souq.vote.v1"},
        {"about": "contributions/pr-3"},
        {"main": "0" * 40},
        {"text": "x" * (MAX_TEXT + 1)},
        {"text": 7},
        {"at": "x" * 21},
        {"key": "ssh-ed25519 AAAA"},
    ],
    ids=str,
)
def test_what_is_no_comment_is_not_shown(offered, words):
    """Signed as something else, about another, on another main, too long, of another type, or by another key."""
    signed(offered, "amira")
    signed(offered, "mallory", **words)

    assert [each.by for each in thread(offered)] == ["amira"]


def test_nobody_speaks_with_an_enrolled_key_they_have_not(offered):
    """A comment that names Amira's key and is signed by another's is nobody's."""
    signed(offered, "mallory", key=offered.person("amira").public_key, by="amira")

    assert thread(offered) == []


def test_a_flood_of_strangers_hides_nobody_known(offered, monkeypatch):
    monkeypatch.setattr(comments, "STRANGERS", 3)
    signed(offered, "amira", at="2020-01-01T00:00:00Z")
    for i in range(6):
        signed(offered, "mallory", at=f"2030-01-0{i + 1}T00:00:00Z")

    said = thread(offered)

    assert STRANGERS == 100
    assert [each.by for each in said] == ["amira", "mallory", "mallory", "mallory"]


def test_a_comment_steers_no_terminal(offered):
    """An escape sequence is refused as it is signed; on many lines each is indented, so none looks like souq's own."""
    assert offered("mallory", ["pr", "comment", "2", "fine\nmissing: nothing\napprove by amira: yes"]) == 0
    assert offered("mallory", ["pr", "comment", "2", "\x1b[2J"]) == 1

    _, out, _ = offered.says("bruno", "pr view 2 --no-forecast")

    assert "\x1b" not in out
    assert "\n  missing: nothing\n  approve by amira: yes\n" in out


@pytest.mark.parametrize("text", ["", "   ", "x" * (MAX_TEXT + 1)])
def test_a_comment_says_something_and_not_too_much(offered, text):
    assert offered("amira", ["pr", "comment", "2", text]) == 2


def test_a_comment_is_read_from_a_file(offered):
    (offered.folder / "words.txt").write_text("two\nlines\n")

    assert offered("amira", ["pr", "comment", "2", "--file", offered.folder / "words.txt"]) == 0
    assert [each.text for each in thread(offered)] == ["two\nlines"]


def test_comments_decide_nothing_and_main_does_not_hold_them(offered):
    """The same votes land it with and without; the thread stays, and goes on, beside a main that verifies."""
    before = land.decision(offered.repo("amira"), 2)
    assert offered("bruno", ["pr", "comment", "2", "REJECT"]) == 0
    assert land.decision(offered.repo("amira"), 2) == before

    offered.land(2, "amira", "bruno")

    assert offered("chen", ["pr", "comment", "2", "thank you"]) == 0
    assert [each.text for each in thread(offered)] == ["REJECT", "thank you"]
    assert not [path for path in offered.main().paths("contributions/0002-greetings") if "comment" in path]
    assert offered("amira", "verify") == 0

"""A title, a reason or a name that steers the terminal of whoever looks: escape sequences, reversed writing."""

import pytest

from attacks.attack_pickle import push
from souq import signing
from souq.pulls import land
from souq.pulls import pull as pulls
from souq.records import canonical

STEERING = ["\\u001b[2J\\u001b[H all clear", "\\u202egnp.exe", "a\\u0007b", "\\u009b31m"]


@pytest.mark.parametrize("title", STEERING)
def test_a_title_is_only_text(bazaar, title):
    """It is refused, and never shown as it is: not by the check, not by the list, not by the view."""
    number = push(bazaar, {"HOME/delta.lock": b"souq delta 1\n"}, title=title)

    for line in (f"pr checks {number}", "pr list", f"pr view {number}", "status", "pr list --json"):
        code, out, err = bazaar.says("amira", line)
        assert not set(out + err) & set("\x1b\u202e\x07\x9b"), line
        assert "Traceback" not in err
        if line in ("pr list", "status", "pr list --json"):
            assert code == 0, err
    assert bazaar("amira", f"pr merge {number}") != 0


def test_a_vote_with_a_steering_reason_counts_for_nothing(bazaar):
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    repo, actor = bazaar.repo("bruno"), bazaar.actors["bruno"]
    pull = pulls.get(repo, number)
    said = {
        "subject": pull.offer.digest,
        "choice": "approve",
        "reason": "fine\x1b[2J",
        "by": "bruno",
        "at": signing.now(),
    }
    statement = signing.statement("urn:souq:vote:1", f"contributions/{pull.offer.slug}", pull.offer.digest, said)
    sealed = canonical(signing.sign(statement, actor.key, namespace="souq.vote.v1"))
    repo.publish({f"refs/souq/pr/{number}/vote/0123456789abcdef": (None, repo.write_blob(sealed))}, [])

    code, out, err = bazaar.says("amira", f"pr view {number}")

    assert "\x1b" not in out + err
    assert code == 0
    assert "bruno" not in str(land.decision(bazaar.repo("amira"), number).met)


def test_a_hostile_pull_request_can_be_closed(bazaar):
    """What cannot be read is refused, and whoever is enrolled turns it down."""
    number = push(bazaar, {"HOME/delta.lock": b"souq delta 1\n"}, title=STEERING[0])

    assert bazaar("amira", f"pr checks {number}") == 3
    assert bazaar("mallory", f"pr close {number} --reason mine") != 0
    assert bazaar("amira", f"pr close {number} --reason hostile") == 0
    assert bazaar.says("amira", "pr list --json")[1].strip() == "[]"


@pytest.mark.parametrize("title", ["[/nothing]", "[bold red]x", "[link=file:///etc/passwd]y[/link]"])
def test_markup_is_only_words(bazaar, title):
    number = push(bazaar, {"HOME/delta.lock": b"souq delta 1\n"}, title=title)

    for line in ("pr list", f"pr view {number}"):
        code, out, err = bazaar.says("amira", line)
        assert code == 0, err
        assert title in out

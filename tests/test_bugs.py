"""Bugs: a case that fails is filed, a pull request that says it fixes it is held to that, and it stays fixed."""

from __future__ import annotations

import json

import pytest

from souq.pulls import pull as pulls
from tests.bazaar import NAMES, rows


def file(bazaar, prompt, expected, *more, who="mallory"):
    """A bug's number."""
    code, out, _ = bazaar.says(who, ["bug", "file", prompt, "--expected", expected, "--signoff", "--json", *more])
    assert code == 0
    return json.loads(out)["number"]


def bugs(bazaar, *more):
    return {bug["name"]: bug for bug in json.loads(bazaar.says("chen", ["bug", "list", "--json", *more])[1])}


@pytest.fixture
def filed(bazaar):
    """A town with an open bug: it does not greet Ada."""
    asked, told = rows("greet", NAMES[:1])[0]
    number = file(bazaar, asked, told)
    assert bugs(bazaar)[f"bug-{number}"]["state"] == "filed"
    bazaar.land(number, "amira", "bruno")
    return bazaar, f"bug-{number}"


def test_a_bug_is_filed_fixed_and_closed(filed):
    """It is open on main, a pull request says it fixes it and is checked, and once that lands it is closed."""
    bazaar, name = filed
    assert (bugs(bazaar)[name]["state"], bugs(bazaar)[name]["by"]) == ("open", "mallory")

    number = bazaar.offer("adil", bazaar.delta("greet"), fixes=name)
    assert bugs(bazaar)[name]["claimed"] == [number]
    bazaar.land(number, "amira", "bruno")

    assert bugs(bazaar) == {}
    assert bugs(bazaar, "--all")[name]["fixed"] == f"{number:04d}-greetings"
    assert name in bazaar.main().guarded


def test_what_does_not_fix_it_is_refused(filed):
    """Saying so is not enough: every case of the bug must be right afterwards."""
    bazaar, name = filed
    number = bazaar.offer("adil", bazaar.delta("count"), fixes=name)

    check, because = bazaar.refusal(number)

    assert (check, because.startswith(f"does not fix what it claims: `{name}`")) == ("evals", True)


def test_taken_back_it_is_open_again(filed):
    """What is fixed by nothing any more is a bug again."""
    bazaar, name = filed
    number = bazaar.offer("adil", bazaar.delta("greet"), fixes=name)
    bazaar.land(number, "amira", "bruno")
    assert bazaar("amira", ["pr", "revert", f"{number:04d}-greetings", "--reason", "rude"]) == 0
    taken = max(pull.number for pull in pulls.listed(bazaar.repo("amira")))
    bazaar.land(taken, "adil", "bruno")

    assert bugs(bazaar)[name]["state"] == "open"


def test_what_works_is_no_bug(bazaar):
    """A report of what main already answers is refused: it would close nothing and guard nothing."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    asked, told = rows("greet", NAMES[:1])[0]
    number = file(bazaar, asked, told)

    check, because = bazaar.refusal(number)

    assert (check, because.startswith("no bug: main answers")) == ("evals", True)


def test_a_checker_judges_where_words_may_differ(bazaar):
    """A bug may say how an answer is recognised; a checker nobody knows is answered with the nearest."""
    number = file(bazaar, "what is two and two?", "4", "--checker", "numeric", "--source", "arithmetic")
    found = pulls.get(bazaar.repo("amira"), number).offer.evals[0]
    words = ["bug", "file", "x", "--expected", "4", "--checker", "numerical", "--signoff"]
    code, _, err = bazaar.says("mallory", words)

    assert (found.spec.kind, found.spec.checker, found.cases[0].source) == ("answer", "numeric", "arithmetic")
    assert (code, "did you mean 'numeric'" in err) == (2, True)


def test_a_bug_has_the_number_of_its_pull_request(bazaar):
    """Nobody takes the name of a bug that somebody else is about to file."""
    from tests.bazaar import write_eval

    folder = write_eval(bazaar.folder / "evals" / "bug-77", rows("greet", NAMES[:2]))
    words = ["pr", "create", "--evals", folder, "--title", "x", "--licence", "MIT", "--signoff"]
    code, _, err = bazaar.says("mallory", words)

    assert (code, "a bug is called by the number of the pull request" in err) == (3, True)

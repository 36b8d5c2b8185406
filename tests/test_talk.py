"""Asking a model: main beside main with a pull request, and a conversation; what is said is the model's own."""

from __future__ import annotations

import json

import pytest

from souq.build.model import build
from souq.lab import generate
from souq.lab import lm as lab_model
from souq.pulls import pull as pulls
from tests.bazaar import NAMES

ASKED = [f"say hello to {NAMES[0]}", f"say hello to {NAMES[3]}"]


def answers(built, prompts, tokens=12):
    return generate.answers(lab_model.load(built.files, built.weights), prompts, max_tokens=tokens)


# -- pr try ------------------------------------------------------------------------------------------------------------


def test_both_answers_are_those_of_the_two_models(bazaar):
    """Before is main's own answer, after is that of main with the pull request merged, as `build` makes them."""
    number = bazaar.offer("chen", bazaar.delta("greet"))

    code, out, _ = bazaar.says("amira", ["pr", "try", number, *ASKED, "--tokens", "12", "--json"])

    main = bazaar.main()
    merged = build(main, pulls.get(bazaar.repo("amira"), number).offer)
    pairs = json.loads(out)
    assert code == 0
    assert [pair["prompt"] for pair in pairs] == ASKED
    assert [pair["before"]["text"] for pair in pairs] == answers(build(main), ASKED)
    assert [pair["after"]["text"] for pair in pairs] == answers(merged, ASKED) == ["hello", "hello"]
    assert [pair["same"] for pair in pairs] == [False, False]


def test_a_revert_is_tried_as_main_without_what_it_takes_back(bazaar):
    bazaar.land(bazaar.offer("chen", bazaar.delta("greet")), "amira", "bruno")
    assert bazaar("amira", "pr revert greet --reason mistaken") == 0

    code, out, _ = bazaar.says("amira", ["pr", "try", "3", ASKED[0], "--tokens", "12", "--json"])

    (pair,) = json.loads(out)
    assert code == 0
    assert pair["before"]["text"] == "hello"
    assert pair["after"]["text"] != "hello"


def test_side_by_side_stands_in_two_columns(bazaar):
    bazaar.offer("chen", bazaar.delta("greet"))

    code, out, _ = bazaar.says("amira", ["pr", "try", "#2", ASKED[0], "--tokens", "12"])

    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"> {ASKED[0]}"
    assert lines[1].split("  ")[0] == "main"
    assert lines[1].endswith("main with #2")
    assert "hello" in lines[2]


@pytest.mark.parametrize(("number", "line"), [(1, "#1 is in main already"), (2, "#2 brings evals: main's model stays")])
def test_what_changes_no_model_is_not_tried(bazaar, number, line):
    words = ["--evals", bazaar.folder / "evals" / "guard", "--title", "Again", "--licence", "CC0-1.0", "--signoff"]
    assert bazaar("chen", ["pr", "create", "--unchecked", *words]) == 0

    code, _, err = bazaar.says("amira", ["pr", "try", number, "hello"])

    assert code == 2
    assert line in err

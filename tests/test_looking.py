"""Before anything is offered, and after it landed: an eval of one's own, what is new since a release."""

from __future__ import annotations

import json

import pytest

from souq.evals.score import Score, cases_for, compare, unchanged
from souq.evals.statistics import Plan
from tests.bazaar import NAMES, rows, write_eval

# -- an eval that is not offered yet -----------------------------------------------------------------------------------


def test_an_eval_of_one_s_own_is_scored_as_it_will_be_on_main(bazaar):
    """The score before it is offered is the score once it has landed; its cases say what they can rule out."""
    folder = write_eval(bazaar.folder / "mine" / "hail", rows("greet", NAMES[:6]), margin=0.1)

    code, out, _ = bazaar.says("chen", ["eval", folder, "--json"])

    before = json.loads(out)["hail"]
    assert code == 0
    assert (
        bazaar("chen", ["pr", "create", "--evals", folder, "--title", "Hail", "--licence", "CC0-1.0", "--signoff"]) == 0
    )
    bazaar.land(2, "amira", "bruno")
    assert bazaar("chen", "pull") == 0
    after = json.loads(bazaar.says("chen", "eval hail --json")[1])["hail"]
    assert {key: before[key] for key in after} == after
    assert (before["margin"], before["cases_for_margin"]) == (0.1, 42)
    assert 0.4 < before["rules_out"] < 0.6


def test_what_its_cases_can_do_is_said_in_words(bazaar):
    folder = write_eval(bazaar.folder / "mine" / "hail", rows("greet", NAMES[:6]), margin=0.1)

    code, out, _ = bazaar.says("chen", ["eval", folder])

    assert code == 0
    assert "6 cases rule out a loss of 50.2 points" in out
    assert "its margin is 10 points, which takes 42 cases: so they can never hold a change to it" in out


@pytest.mark.parametrize("kind", ["loss", "exact"])
def test_an_eval_of_losses_promises_nothing(bazaar, kind):
    folder = write_eval(bazaar.folder / "mine" / "hail", rows("greet", NAMES[:6]), kind=kind)

    _, out, _ = bazaar.says("chen", ["eval", folder])

    assert ("hangs on how far a change moves" in out) == (kind == "loss")


def test_a_folder_that_rewrites_main_s_eval_is_refused(bazaar):
    folder = write_eval(bazaar.folder / "mine" / "greet", [("say hello to nobody", "no")], margin=0.6)
    assert bazaar("chen", "pull") == 0

    code, _, err = bazaar.says("chen", ["eval", folder])

    assert code == 2
    assert "main has an eval greet" in err


@pytest.mark.parametrize("margin", [0.6, 0.1, 0.02])
def test_cases_for_a_margin_are_the_fewest(margin):
    """As the gate computes it: so many unchanged answers rule the margin out, and one fewer do not."""

    def answer(n):
        score = Score.of("x", "exact", dict.fromkeys(map(str, range(n)), 1.0), {str(i): str(i) for i in range(n)})
        plan = Plan.of(n)
        return compare(score, score, margin=margin, plan=plan, look=len(plan.shares) - 1).answer

    n = cases_for(margin)

    assert (answer(n), answer(n - 1)) == ("non-inferior", "undecided")
    assert cases_for(1e-4, 50) is None


def test_what_is_ruled_out_is_what_the_gate_would_say():
    score = Score.of("x", "exact", dict.fromkeys(map(str, range(100)), 1.0), {str(i): str(i) for i in range(100)})

    best = unchanged(score, 0.1)

    assert best.non_inferior
    assert -best.low == pytest.approx(0.0506, abs=1e-3)


# -- souq diff ---------------------------------------------------------------------------------------------------------


def test_diff_says_what_is_new_since_the_last_release(bazaar):
    bazaar.land(bazaar.offer("chen", bazaar.delta("greet")), "amira", "bruno")
    bazaar.release("amira", "1.0")
    bazaar.land(bazaar.offer("chen", bazaar.delta("count"), title="Counting", fixes="count"), "amira", "bruno")
    assert bazaar("amira", "pull") == 0

    code, out, _ = bazaar.says("amira", "diff --json")

    value = json.loads(out)
    assert code == 0
    assert value["since"] == "1.0"
    assert {slug: kind for slug, kind in value["landed"].items() if kind != "release"} == {"0004-counting": "weights"}
    assert value["tensors"] == json.loads(bazaar.says("amira", ["diff", value["commit"], "--json"])[1])
    assert len(value["tensors"]) > 4
    assert "since release 1.0" in bazaar.says("amira", "diff")[1]


def test_diff_before_the_first_release_is_since_the_beginning(bazaar):
    assert bazaar("amira", "pull") == 0

    code, out, _ = bazaar.says("amira", "diff")

    assert code == 0
    assert out.startswith("since the beginning, ")
    assert "0001-evals  evals" in out
    assert "new evals: count, greet" in out
    assert "0 of " in out

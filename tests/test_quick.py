"""`souq pr checks --quick`: what a machine finds in seconds, and what it leaves alone."""

from __future__ import annotations

import json

from souq.checks import CHECKS
from souq.checks.cases import COSTLY
from souq.pulls import pull


def test_quick_runs_all_but_the_costly_and_signs_nothing(bazaar):
    """Every cheap check answers, with its time; no record appears, so no vote can rest on it."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    before = pull.get(bazaar.repo("amira"), number).refs

    code, out, err = bazaar.says("amira", f"pr checks {number} --quick --json")

    told = json.loads(out)
    assert (code, "nothing was signed" in err) == (0, True)
    assert {verdict["check"] for verdict in told["verdicts"]} == {*CHECKS, "signoff"} - COSTLY | {"hidden"}
    assert set(told["seconds"]) == set(CHECKS) - COSTLY - {"signoff"} | {"hidden"}
    assert pull.get(bazaar.repo("amira"), number).refs == before


def test_quick_says_no_with_three(bazaar, tmp_path):
    """A refusal has the exit code that every no has."""
    number = bazaar.offer("mallory", bazaar.changed(tmp_path / "huge.delta", lambda a: a, scale=100.0))

    code, out, _ = bazaar.says("amira", f"pr checks {number} --quick")

    assert (code, "REFUSED" in out) == (3, True)

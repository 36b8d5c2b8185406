"""A contribution that fixes nothing it claims, or claims an eval that is not there, or claims nothing."""

import numpy as np


def test_what_does_not_help_is_refused(bazaar, tmp_path):
    faint = bazaar.changed(tmp_path / "faint.delta", np.copy, scale=1e-3)

    check, because = bazaar.refusal(bazaar.offer("mallory", faint))

    assert (check, because.startswith("does not fix what it claims: `greet`")) == ("evals", True)


def test_an_unknown_eval_is_refused(bazaar):
    assert "no such eval on main" in bazaar.refusal(bazaar.offer("mallory", bazaar.delta("greet"), fixes="nothing"))[1]


def test_a_change_of_nothing_is_refused(bazaar, tmp_path):
    number = bazaar.offer("mallory", bazaar.changed(tmp_path / "nil.delta", np.zeros_like))

    assert bazaar.refusal(number) is not None

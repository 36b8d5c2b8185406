"""Whose weights are these? What a copy may do to hide, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.checks.delta_stats import project
from souq.checks.duplicates import sketched
from tests.gate import Gate


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


def test_a_copy_is_refused_by_name(gate):
    """The same bytes are somebody's already, whether on main or offered before and open."""
    theirs = gate.lora(1)
    assert gate.says("duplicates", theirs)[0] == "pass"

    assert gate.says("duplicates", theirs, earlier=[gate.offer(theirs, 7, "chen")]) == (
        "refuse", "the same weights as #7 by chen, bit for bit",
    )  # fmt: skip
    gate.land(theirs)
    assert gate.says("duplicates", theirs) == ("refuse", "the same weights as #1 by amira, bit for bit")


@pytest.mark.parametrize("disguise", ["scaled", "turned", "negated", "noisy"])
def test_a_disguise_is_seen_through(gate, disguise):
    """Another scale, other factors, another sign, a little noise: eyes are called for, and told whom it resembles."""
    theirs, chance = gate.lora(1), np.random.default_rng(0)
    gate.land(gate.lora(0), theirs)

    def change(b, a):
        turn = chance.standard_normal((8, 8)) + 3 * np.eye(8)
        match disguise:
            case "scaled":
                return 3 * b, a / 5
            case "turned":
                return b @ turn, np.linalg.inv(turn) @ a
            case "negated":
                return -b, a
        return b * (1 + 0.1 * chance.standard_normal(b.shape)), a

    outcome, because = gate.says("duplicates", gate.rewritten(theirs, change))

    assert (outcome, because.startswith("resembles #2 by amira: cosine 0.99" if disguise == "noisy" else "resembles #2 by amira: cosine 1.0")) == ("needs-eyes", True)  # fmt: skip


def test_a_part_of_a_copy_is_a_copy(gate):
    """Leaving out some of the tensors, or adding a few small ones, does not make it another's work."""
    theirs = gate.lora(1)
    gate.land(theirs)
    names = sorted(theirs.parts)[::2]

    assert gate.says("duplicates", type(theirs)(theirs.base, {n: theirs.parts[n] for n in names}))[0] == "needs-eyes"


def test_two_of_a_kind_are_two(gate):
    """Honest contributions on the same tensors, of the same shape, are unlike each other."""
    gate.land(*(gate.lora(seed) for seed in range(4)))

    assert gate.says("duplicates", gate.lora(9)) == ("pass", "unlike the 4 others")


def test_a_full_fine_tune_copied(gate):
    """Whole tensors are compared as changes of the base, not by the base they share."""
    chance = np.random.default_rng(1)
    one, two = ({}, {})

    def tuned(told):
        return lambda w: w + told.setdefault(w.tobytes(), 0.05 * chance.standard_normal(w.shape))

    gate.land(gate.dense(tuned(one)))

    assert gate.says("duplicates", gate.dense(tuned(two)))[0] == "pass"
    assert gate.says("duplicates", gate.dense(lambda w: w + 1.5 * one[w.tobytes()]))[0] == "needs-eyes"


@given(st.integers(0, 500), st.floats(0.0, 0.15))
def test_a_sketch_never_hides_what_is_near(seed, off):
    """Sketches of near-identical changes are near identical: nothing worth comparing is passed over."""
    chance = np.random.default_rng(seed)
    left, right = chance.standard_normal((24, 4)), chance.standard_normal((4, 30))
    whole = left @ right
    near = whole + off * chance.standard_normal(whole.shape) * whole.std()
    one, two, dense = (
        np.frombuffer(data, "<f4").astype(float)
        for data in (project(left, right), project(None, near), project(None, whole))
    )

    np.testing.assert_allclose(one, dense, rtol=1e-4, atol=1e-4)
    assert sketched({"w": one}, {"w": two}) > 0.8

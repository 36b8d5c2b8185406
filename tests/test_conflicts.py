"""What is foreseen of a merge: laws of the measures, and that low-rank forms say what the written-out matrices say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.merge import Fold
from souq.merge import conflicts as c
from souq.merge.methods import Change, Sketch
from tests.test_merge import BASE, Bag, lora_delta, random

seeds = st.integers(0, 2**32)


def low(seed, *, m=300, n=11, r=3):
    """A LoRA's change, taller than a block of rows, with a sketch."""
    sketch = Sketch(random(seed + 2, 4, n), np.abs(random(seed + 3, n)) + 0.01)
    return Change(random(seed, m, r), random(seed + 1, r, n), sketch)


def dense(change):
    return Change(None, change.left @ change.right, change.gram)


def gram(change):
    return change.gram.factor.T @ change.gram.factor + np.diag(change.gram.diag)


@given(seeds)
def test_nobody_pulls_against_themselves(seed):
    """Sign conflict is 0 with itself, 1 with its negative, the same from either side, and a half for strangers."""
    a, b = low(seed), low(seed + 9)

    assert c.sign_conflict(a, a).ratio == 0.0
    assert c.sign_conflict(a, a.to(-a.right)).ratio == 1.0
    assert c.sign_conflict(a, b) == c.sign_conflict(b, a)
    assert 0.2 < c.sign_conflict(a, b).ratio < 0.8


@given(seeds)
def test_overlaps_are_symmetric_shares(seed):
    """Overlaps lie in [0, 1], are 1 with oneself and the same from either side; cosines lie in [-1, 1]."""
    a, b = low(seed), low(seed + 9)

    for measure, x, y in ((c.input_overlap, a.gram, b.gram), (c.output_overlap, a, b)):
        assert measure(x, x) == pytest.approx(1.0)
        assert 0.0 <= measure(x, y) <= 1.0
        assert measure(x, y) == pytest.approx(measure(y, x))
    assert c.cosine(a, a.to(-a.right)) == pytest.approx(-1.0)
    assert -1.0 <= c.cosine(a, b) <= 1.0
    assert c.cosine(a, b) == pytest.approx(c.cosine(b, a))


@given(seeds)
def test_low_rank_forms_are_the_dense_ones(seed):
    """Nothing is lost by never writing a LoRA out: every measure agrees with its definition."""
    a, b = low(seed), low(seed + 9)
    x, y, merged = dense(a).right, dense(b).right, [a.to(a.right / 2), b.to(b.right / 2)]
    error = (x + y) / 2 - x

    assert c.sign_conflict(a, b).ratio == pytest.approx(c.sign_conflict(dense(a), dense(b)).ratio)
    assert c.inner(a, b) == pytest.approx(np.sum(x * y), rel=1e-6, abs=1e-6)
    assert c.cosine(a, b) == pytest.approx(c.cosine(dense(a), dense(b)), abs=1e-9)
    assert c.output_overlap(a, b) == pytest.approx(c.output_overlap(dense(a), dense(b)))
    assert c.input_overlap(a.gram, b.gram) == pytest.approx(
        np.sum(gram(a) * gram(b)) / np.linalg.norm(gram(a)) / np.linalg.norm(gram(b))
    )
    for own, way in ((a, merged), (dense(a), merged), (a, [dense(change) for change in merged])):
        found = c.lost(way, own)
        assert found.part == pytest.approx(np.trace(error @ gram(a) @ error.T))
        assert found.whole == pytest.approx(np.trace(x @ gram(a) @ x.T))


@given(seeds)
def test_without_a_sketch_the_change_speaks_for_its_inputs(seed):
    """G = d^T d, as the data-free form has it."""
    a = low(seed)
    x = dense(a).right

    for change in (a, dense(a)):
        own = c.own_sketch(Change(change.left, change.right, None))
        assert np.allclose(own.factor.T @ own.factor + np.diag(own.diag), x.T @ x)


def test_what_is_merged_as_it_came_loses_nothing():
    """One contribution, merged whole, keeps all; one that is dropped keeps none."""
    a = low(0)

    assert c.kept(c.lost([a], a).ratio, 0.0, None) == 1.0
    assert c.lost([a.to(a.right * 0)], a).ratio == pytest.approx(1.0)
    assert c.kept(1.0, 0.0, c.Learned(before=2.0, after=0.0)) == 0.0


def test_the_one_who_causes_the_loss_is_named():
    """Two who read the same inputs and want opposite things hurt each other; a third, elsewhere, does not."""
    bag = Bag()
    base = {"w.weight": np.zeros((12, 20), "f4")}
    left = lora_delta(bag, 1)
    part = left.parts["w.weight"]
    rival = type(left)(BASE, {"w.weight": type(part)(a=part.a, b=part.b, scale=-part.scale)}, left.grams, left.inputs)
    stranger = lora_delta(bag, 50)
    me, against, other = ("b3:" + digit * 64 for digit in "123")
    fold = Fold(base, {me: left, against: rival, other: stranger}, bag.load)

    foreseen = c.forecast_losses(fold)
    causes = c.causes(fold, me, foreseen)

    assert foreseen.loss(me) > foreseen.loss(other)
    assert causes[against] > 5 * abs(causes[other])
    assert foreseen.worst(me) == ["w.weight"]
    assert set(c.forecast_losses(fold, [against]).lost) == {me, other}


def test_the_surer_the_answers_the_less_a_merge_can_cost():
    """More felt, dearer: the forecast falls with what was moved and with how much the answers depend on it."""
    told = [c.kept(0.1, cost, c.Learned(2.0, 0.5, felt)) for cost in (0.01, 0.1) for felt in (0.01, 1.0)]

    assert 1 > told[0] > told[1] > 0
    assert told[0] > told[2] > told[3] > 0
    assert c.kept(0.0, 0.0, c.Learned(2.0, 0.5, 1.0)) == 1

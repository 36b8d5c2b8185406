"""What the gate's statistics promise: known answers come out, error rates hold where samples are small, laws hold always."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from souq.evals import statistics
from souq.evals.statistics import (
    ALPHA,
    LOOKS,
    ONE_LOOK,
    SPENDING,
    Paired,
    Plan,
    bootstrap,
    cases_needed,
    clustered_mean,
    holm,
    hopeless,
    look_sizes,
    losses,
    mcnemar,
    right_wrong,
    score_z,
    tango,
)  # fmt: skip

PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
KNOWN = re.findall(r"^\| `(.+?)` \| ([-\d. e]+) \| ([-\d. e]+) \| .+ \|$", PAGE.read_text(), re.M)
outcomes = st.lists(st.sampled_from([-1.0, 0.0, 0.0, 1.0]), min_size=2, max_size=80)
nats = st.lists(st.floats(-3, 3).map(lambda x: round(x, 6)), min_size=3, max_size=40)
plans = st.builds(
    lambda looks, alpha, spending: Plan(tuple((i + 1) / looks for i in range(looks)), alpha, spending),
    st.integers(1, 6), st.sampled_from([0.01, 0.025, 0.05]), st.sampled_from(sorted(SPENDING)),
)  # fmt: skip


def by_case(values):
    return {f"c{i}": value for i, value in enumerate(values)}


@pytest.mark.parametrize(("asked", "expected", "ours"), KNOWN, ids=[row[0][:40] for row in KNOWN])
def test_known_answers_come_out(asked, expected, ours):
    """Every row of the table in docs/statistics.md is what others published or computed, and what we compute now."""
    found = eval(asked, dict(vars(statistics)))
    found = list(found) if isinstance(found, tuple | type({}.values())) else [found]

    for told in (expected.split(), ours.split()):
        assert len(told) == len(found)
        for value, text in zip(found, told, strict=True):
            step = abs(float(text)) * 1e-3 if "e" in text else 0.5 * 10.0 ** -len(text.partition(".")[2])
            assert float(value) == pytest.approx(float(text), abs=step * 1.01)


def test_the_table_is_read():
    """A row that the pattern does not match would be a row that nobody tests."""
    table = PAGE.read_text().partition("## Known answers")[2].partition("\n## ")[0]

    assert len(KNOWN) == table.count("\n| `") >= 14


def worst(n, margin, alpha, *, over):
    """The most that a model at the margin is wrongly judged, over all shares of cases that are mended: exact, by counting."""
    from scipy.special import gammaln, xlogy

    mended, broken = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    z = score_z(mended, broken, n, -margin)
    limit = statistics.NORMAL.inv_cdf(1 - alpha)
    wrong = (mended + broken <= n) & ((z < -limit) if over else (z > limit))
    m, b = mended[wrong], broken[wrong]
    ways = gammaln(n + 1) - gammaln(m + 1) - gammaln(b + 1) - gammaln(n - m - b + 1)
    return max(
        float(np.exp(ways + xlogy(m, p) + xlogy(b, p + margin) + xlogy(n - m - b, max(1 - 2 * p - margin, 0.0))).sum())
        for p in np.linspace(0, (1 - margin) / 2, 25)
    )


@pytest.mark.parametrize("n", [5, 11, 20, 36, 60, 100])
@pytest.mark.parametrize("margin", [0.03, 0.1, 0.3])
def test_small_samples_keep_the_promise(n, margin):
    """A model worse by the margin passes at most 1 time in 20, and is shown to be worse at most so often, at any n."""
    assert worst(n, margin, ALPHA, over=False) <= 0.0515
    assert worst(n, margin, ALPHA, over=True) <= 0.0515


def test_without_the_one_case_the_promise_breaks():
    """Why a case is taken off: Tango's bound as published passes a model worse by the margin too often."""
    n, margin = 8, 0.1
    passes = float(score_z(0, 0, 90, -0.03, corrected=False)) > 1.645

    assert passes
    assert 0.97**90 > 0.06  # how often a model that breaks 3 of 100 breaks none of 90
    assert float(score_z(0, 0, n, -margin)) < 1.645


def test_nothing_changed_in_twenty_is_no_proof():
    """The usual standard error is nil there, and would prove anything."""
    found = right_wrong(by_case([0.0] * 20))

    assert found.stderr == 0
    assert found.bounds(ALPHA)[0] < -0.1
    assert right_wrong(by_case([0.0] * 60)).bounds(ALPHA)[0] > -0.1


@given(outcomes, st.sampled_from([0.001, 0.01, 0.05, 0.2]))
def test_bounds_hold_the_estimate(values, alpha):
    found = right_wrong(by_case(values))
    low, high = found.bounds(alpha)

    assert -1 <= low <= found.gain <= high <= 1


@given(nats, st.sampled_from([0.001, 0.01, 0.05, 0.2]))
@settings(deadline=None, max_examples=40)
def test_bounds_of_losses_hold_the_estimate(values, alpha):
    found = losses(by_case(values))
    low, high = found.bounds(alpha)

    assert low <= found.gain <= high


@given(outcomes)
def test_bounds_and_p_are_one_answer(values):
    """A gain is above a shift at 5% exactly where the 95% bound is."""
    found = right_wrong(by_case(values))
    low, high = found.bounds(ALPHA)
    for shift in (-0.3, -0.1, -0.03):
        assume(abs(low - shift) > 1e-6 and abs(high - shift) > 1e-6)
        assert (found.above(shift) < ALPHA) == (low > shift)
        assert (found.below(shift) < ALPHA) == (high < shift)


@given(outcomes, st.integers(2, 5))
def test_more_of_the_same_never_widens(values, times):
    """The same shares in more cases: neither bound moves away."""
    once, more = right_wrong(by_case(values)), right_wrong(by_case(values * times))

    assert more.gain == pytest.approx(once.gain)
    assert once.bounds(ALPHA)[0] <= more.bounds(ALPHA)[0] + 1e-9
    assert more.bounds(ALPHA)[1] <= once.bounds(ALPHA)[1] + 1e-9


@given(outcomes, st.randoms(use_true_random=False))
def test_the_order_of_cases_does_not_matter(values, chance):
    """Once all are read, in whatever order, the answer is one."""
    pairs = list(by_case(values).items())
    shuffled = chance.sample(pairs, len(pairs))
    clusters = {case: f"d{int(case[1:]) // 3}" for case, _ in pairs}

    assert right_wrong(dict(pairs)) == right_wrong(dict(shuffled))
    assert right_wrong(dict(pairs), clusters) == right_wrong(dict(shuffled), clusters)
    assert losses(dict(pairs), clusters) == losses(dict(shuffled), clusters)
    assert mcnemar(dict(pairs), clusters) == mcnemar(dict(shuffled), clusters)


@given(outcomes)
def test_a_case_told_many_times_is_one(values):
    """Copies of a case, said to be of one cluster, prove no more than the case."""
    copies = {f"c{i}-{k}": value for i, value in enumerate(values) for k in range(4)}
    clusters = {case: case.partition("-")[0] for case in copies}
    once, many = right_wrong(by_case(values)), right_wrong(copies, clusters)

    assert many.n <= len(values) + 1e-9
    assert many.bounds(ALPHA)[0] <= once.bounds(ALPHA)[0] + 1e-9
    assert mcnemar(copies, clusters) == mcnemar(by_case(values))


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_flatters(ps):
    """An adjusted p is no smaller than it was, no larger than Bonferroni's, and keeps the order."""
    found = holm(ps)

    assert all(p <= found[name] <= min(1.0, len(ps) * p) + 1e-12 for name, p in ps.items())
    ranked = sorted(ps, key=lambda name: ps[name])
    assert [found[name] for name in ranked] == sorted(found.values())


@given(plans)
@settings(deadline=None, max_examples=30)
def test_all_looks_together_spend_what_was_promised(plan):
    """The chance to cross any bound when nothing is there is alpha: by drawing random walks."""
    chance = np.random.default_rng(1)
    steps = chance.standard_normal((40_000, len(plan.shares))) * np.sqrt(np.diff([0.0, *plan.shares]))
    z = steps.cumsum(axis=1) / np.sqrt(plan.shares)
    crossed = float((z > np.array(plan.bounds)).any(axis=1).mean())

    assert crossed == pytest.approx(plan.alpha, abs=5 * math.sqrt(plan.alpha / 40_000))
    assert all(bound >= statistics.NORMAL.inv_cdf(1 - plan.alpha) - 1e-6 for bound in plan.bounds)


@given(plans, st.floats(0.0001, 0.6), st.integers(0, 5))
@example(Plan((1 / 3, 2 / 3, 1.0), 0.01), 0.0078125, 1)
@settings(deadline=None, max_examples=60)
def test_looking_often_never_makes_p_smaller(plan, p, look):
    """A trial's p is at least its last look's, and at most alpha exactly where the bound is crossed."""
    look = min(look, len(plan.shares) - 1)
    overall = plan.overall(look, p)

    assert overall >= p - 1e-9
    if abs(p - plan.level(look)) > 1e-6:
        assert (overall < plan.alpha) == (p < plan.level(look))


def test_a_small_eval_is_read_at_once():
    assert Plan.of(ONE_LOOK - 1) == Plan()
    assert len(Plan.of(ONE_LOOK).shares) == LOOKS


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_each_look_has_read_its_share(sizes):
    """Whole clusters, never fewer cases than the plan counts on, and all of them in the end."""
    plan, total = Plan.of(100), sum(sizes)
    ends = look_sizes(sizes, plan)

    assert ends == sorted(ends)
    assert ends[-1] == len(sizes)
    for end, share in zip(ends, plan.shares, strict=True):
        assert share * total - 1e-6 <= sum(sizes[:end]) < share * total + max(sizes)


def test_giving_up_is_for_those_who_cannot_win():
    """At the first look a change that broke nearly half has no hope of a margin of a tenth, and one that broke nothing has."""
    plan = Plan.of(200)

    assert hopeless(right_wrong(by_case([-1.0] * 18 + [0.0] * 22)), plan, 0, -0.1, 0.0)
    assert not hopeless(right_wrong(by_case([0.0] * 40)), plan, 0, -0.1, 0.0)


def test_as_many_more_cases_as_it_says_would_do():
    """With the cases asked for, 4 of 5 changes like this one are decided: by drawing them."""
    found = right_wrong(by_case([1.0] * 4 + [-1.0] * 5 + [0.0] * 91))
    wanted = 100 + cases_needed(found, 100, 0.05)
    drawn = np.random.default_rng(2).multinomial(wanted, [0.04, 0.05, 0.91], size=4_000)
    shown = score_z(drawn[:, 0], drawn[:, 1], wanted, -0.05) > 1.645

    assert 0.72 < float(shown.mean()) < 0.88
    assert cases_needed(right_wrong(by_case([-1.0] * 5 + [0.0] * 95)), 100, 0.05) is None


def test_a_long_tail_is_seen():
    """Losses with a long tail get a bound no tighter than Student's on either side."""
    chance = np.random.default_rng(3)
    found = losses(by_case(float(x) for x in -np.exp(chance.normal(size=40))))
    plain = Paired(found.gain, found.stderr, found.n, 9)
    left, right = bootstrap(found.sums, found.sizes, ALPHA)
    low, high = found.bounds(ALPHA)

    assert low <= left < found.gain < right <= high
    assert left < found.gain - 1.69 * found.stderr  # the tail is on this side
    assert plain.bounds(ALPHA)[0] < found.gain


def test_one_document_proves_nothing():
    """However many cases it has."""
    same = dict.fromkeys(by_case(range(50)), "only")

    assert losses(by_case([0.1] * 50), same).bounds(ALPHA) == (-math.inf, math.inf)
    assert right_wrong(by_case([0.0] * 50), same).bounds(ALPHA) == (-1.0, 1.0)
    assert clustered_mean(by_case([0.1] * 50), same)[1] == math.inf


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_turned_round_the_bounds_are_turned(mended, broken, same):
    n = mended + broken + same
    assume(n > 0)
    low, high = tango(mended, broken, n, 1.645)

    assert tango(broken, mended, n, 1.645) == (pytest.approx(-high, abs=1e-7), pytest.approx(-low, abs=1e-7))

"""The batch: what is accepted was tested as it is, culprits and interactions are named, and few tests are run."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from souq.pulls.bisect import settle


class Lab:
    """Changes that are bad alone, and groups that fail only when all of a group is there."""

    def __init__(self, bad=(), groups=()):
        self.bad, self.groups, self.tested = set(bad), [frozenset(group) for group in groups], []

    def __call__(self, changes):
        self.tested.append(tuple(changes))
        return not self.bad & set(changes) and not any(group <= set(changes) for group in self.groups)


@st.composite
def batches(draw):
    n = draw(st.integers(1, 12))
    bad = draw(st.sets(st.integers(0, n - 1), max_size=4))
    groups = draw(st.lists(st.sets(st.integers(0, n - 1), min_size=2, max_size=3), max_size=3)) if n > 2 else []
    return list(range(n)), bad, [group for group in groups if not group & bad]


@given(batches())
def test_what_is_accepted_was_tested(batch):
    """The set that lands was itself tested and passed, or it is empty."""
    changes, bad, groups = batch
    lab = Lab(bad, groups)

    found = settle(changes, lab)

    assert not found.accepted or found.accepted in lab.tested
    assert not found.accepted or Lab(bad, groups)(found.accepted)


@given(batches())
def test_the_bad_ones_are_exactly_those_that_fail_alone(batch):
    """Nobody is blamed who passes alone, and nobody who fails alone gets in."""
    changes, bad, groups = batch

    assert set(settle(changes, Lab(bad, groups)).bad) == bad


@given(batches())
def test_an_interaction_is_a_smallest_one(batch):
    """Whoever is set apart fails with exactly the named ones, and none of those can be left out."""
    changes, bad, groups = batch
    found = settle(changes, Lab(bad, groups))

    for odd, partners in found.apart.items():
        assert {odd, *partners} in groups
        assert set(partners) <= set(found.accepted)


@given(batches())
def test_everybody_is_heard_of_once(batch):
    """Accepted, bad and apart are all that was offered, each in the order of the queue."""
    changes, bad, groups = batch
    found = settle(changes, Lab(bad, groups))

    assert sorted([*found.accepted, *found.bad, *found.apart]) == changes
    assert list(found.accepted) == sorted(found.accepted)


def test_a_good_batch_is_one_test():
    lab = Lab()
    settle(range(64), lab)

    assert len(lab.tested) == 1


@given(st.integers(2, 256), st.data())
def test_one_culprit_costs_a_logarithm(n, data):
    """One bad change in n: all, the halving, it alone, and the others."""
    lab = Lab({data.draw(st.integers(0, n - 1))})
    settle(range(n), lab)

    assert len(lab.tested) <= math.ceil(math.log2(n)) + 3


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 9))
def test_tests_of_two_minds_do_no_harm(answers, n):
    """Whatever the tests answer, it ends, and what is accepted is what passed last."""
    said = iter(answers)
    told = {}

    def passes(changes):
        told[tuple(changes)] = next(said, True)
        return told[tuple(changes)]

    found = settle(range(n), passes)

    assert not found.accepted or told[found.accepted]

"""A contribution is under the worst licence in it: its own, and those its rows and cases bring."""

from __future__ import annotations

import pytest

from souq.checks.licence import licence
from tests.stall import case, eval_files, offer, qa, stall


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    return stall(tmp_path_factory.mktemp("stall"))


def judged(main, rows=(), **more):
    return licence(case(main, offer(rows, **more)))


@pytest.mark.parametrize("key", ["licence", "license"])
@pytest.mark.parametrize(
    ("own", "outcome"),
    [("CC0-1.0", "pass"), ("MIT", "pass"), ("CC-BY-NC-4.0", "refuse"), ("free for all!", "refuse"), (["MIT"], "refuse"), ("CC-BY-SA-4.0", "needs-eyes")],
)  # fmt: skip
def test_a_row_s_own_licence_counts(main, key, own, outcome):
    """One row of a hundred under terms that main cannot keep is enough."""
    rows = [qa(f"a{i}", "b") for i in range(99)] + [qa("c", "d") | {key: own}]

    found, because, evidence = judged(main, rows)

    assert (found, list(evidence["rows"].values())) == (outcome, [1]), because


@pytest.mark.parametrize(
    ("own", "outcome"),
    [("", "pass"), ("CC-BY-4.0", "pass"), ("CC-BY-NC-4.0", "needs-eyes"), ("LicenseRef-mine", "needs-eyes")],
)
def test_a_case_s_own_licence_is_judged(main, own, outcome):
    """An exam never becomes part of the model, so terms of its own are for people to read."""
    cases = [{"prompt": "a", "expected": "b"}, {"prompt": "c", "expected": "d"} | ({"licence": own} if own else {})]
    files = {f"evals/x/{path}": data for path, data in eval_files(cases).items()}

    found, because, evidence = judged(main, kind="evals", files=files)

    assert found == outcome, because
    assert sum(evidence["cases"].values()) == 2


def test_rows_that_say_nothing_are_under_the_contribution_s(main):
    assert judged(main, [qa("a", "b")], licence="CC-BY-NC-4.0")[0] == "refuse"
    assert judged(main, [qa("a", "b")])[2] == {"offered": "CC0-1.0", "main": "Apache-2.0"}

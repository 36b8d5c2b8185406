"""docs/cases.md has the numbers that the statistics give."""

from __future__ import annotations

import re
from pathlib import Path

from souq.evals.statistics import ALPHA, mcnemar, right_wrong

PAGE = (Path(__file__).parent.parent / "docs" / "cases.md").read_text()
SHARES = {"all": 1.0, "half": 0.5, "a fifth": 0.2, "a tenth": 0.1, "a twentieth": 0.05}


def gains(cases, mended, broken=0):
    return {str(i): 1.0 if i < mended else -1.0 if i < mended + broken else 0.0 for i in range(cases)}


def shows_mending(cases, share):
    return mcnemar(gains(cases, round(cases * share))) <= ALPHA


def rules_out(cases, share, margin):
    k = round(cases * share / 2)
    return right_wrong(gains(cases, k, k)).bounds(ALPHA)[0] > -margin


def test_the_numbers_of_cases_are_the_statistics_own():
    """Each number is enough, and a tenth less is not."""
    mending = re.findall(r"^\| (all|half|a [a-z]+) \| (\d+) \|$", PAGE, re.M)
    margins = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.M)

    assert len(mending) == len(margins) == 5
    for words, cases in mending:
        assert shows_mending(int(cases), SHARES[words])
        assert not shows_mending(int(int(cases) * 0.9), SHARES[words])
    for margin, *row in margins:
        for share, cases in zip((0, 0.05, 0.1, 0.2), row, strict=True):
            assert rules_out(int(cases), share, int(margin) / 100)
            assert not rules_out(int(int(cases) * 0.9), share, int(margin) / 100)

"""May this be merged into a model under the repository's licence? The table is data: licences.toml."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from license_expression import get_spdx_licensing

from souq.checks.cases import Answer, Case, check
from souq.evals import Eval
from souq.records import Outcome, read_json

RANK: dict[Outcome, int] = {"pass": 0, "needs-eyes": 1, "refuse": 2}


@check("licence")
def licence(case: Case) -> Answer:
    """The contribution's licence, and each that a row or an eval case has of its own, lets main keep its own."""
    offered, ours = case.offer.contribution.licence, case.main.config.licence
    own = Counter(_of_rows(case.offer.data))
    exam = Counter(_of_cases(case.offer.evals))
    found = [may_enter(name, ours) for name in dict.fromkeys((offered, *own))]
    found += [_may_be_asked(name, ours) for name in exam]
    outcome, because = max(found, key=lambda answer: RANK[answer[0]])  # the first of the worst
    evidence: dict[str, Any] = {"offered": offered, "main": ours}
    return outcome, because, evidence | {key: dict(told) for key, told in (("rows", own), ("cases", exam)) if told}


def _of_rows(data: Mapping[str, bytes]) -> Iterator[str]:
    """What rows say of themselves, under either spelling; a licence that is no text is none."""
    for content in data.values():
        for line in content.splitlines():
            row = read_json(line) if line.strip() else None
            if isinstance(row, dict):
                yield from (str(row[key])[:200] for key in ("licence", "license") if row.get(key) is not None)


def _of_cases(evals: Sequence[Eval]) -> Iterator[str]:
    for suite in evals:
        yield from (case.licence or suite.spec.licence for case in suite.cases)


def _may_be_asked(offered: str, ours: str) -> tuple[Outcome, str]:
    """An exam is published beside the model and never becomes part of it: what may not enter, people look at."""
    outcome, because = may_enter(offered, ours)
    return ("pass", because) if outcome == "pass" else ("needs-eyes", f"an eval case has its own licence: {because}")


def may_enter(offered: str, ours: str) -> tuple[Outcome, str]:
    """Whether something under `offered` may become part of a model under `ours`, with the reason."""
    try:
        parsed = get_spdx_licensing().parse(offered.strip())
        known = sorted(parsed.objects) if parsed is not None else []
    except (
        Exception
    ) as error:  # the parser answers some nonsense with whatever error lay at hand (fuzz/: IndexError, AssertionError)
        return "refuse", f"{offered[:60]!r} is not a licence expression: {error}"
    if not known:
        return "refuse", "no licence is given"
    # An OR offers a choice; taking the worst part of it is safe, and says which part to drop.
    return max((_row(name, ours) for name in known), key=lambda answer: RANK[answer[0]])


def _row(name: str, ours: str) -> tuple[Outcome, str]:
    if name == ours:
        return "pass", f"{name}, the same as the model's"
    for row in table():
        if name in row["licences"]:
            into: dict[str, Outcome] = row["into"]
            outcome = into.get(ours, into["*"])
            return outcome, f"{name} into {ours}: {row['because']}"
    return "needs-eyes", f"{name} is not in the table: a person must read it"


@cache
def table() -> list[dict[str, Any]]:
    """licences.toml: rows of licences with the same answer, and the clause that gives it."""
    rows: list[dict[str, Any]] = tomllib.loads(files("souq.checks").joinpath("licences.toml").read_text())["row"]
    return rows

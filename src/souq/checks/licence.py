"""May this be merged into a model under the repository's licence? The table is data: licences.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing

from souq.checks.cases import Answer, Case, check
from souq.records import Outcome

RANK: dict[Outcome, int] = {"pass": 0, "needs-eyes": 1, "refuse": 2}


@check("licence")
def licence(case: Case) -> Answer:
    """The contribution's licence is known, lets main keep its own, and its author signed off."""
    offered, ours = case.offer.contribution.licence, case.main.config.licence
    outcome, because = may_enter(offered, ours)
    return outcome, because, {"offered": offered, "main": ours}


def may_enter(offered: str, ours: str) -> tuple[Outcome, str]:
    """Whether something under `offered` may become part of a model under `ours`, with the reason."""
    try:
        parsed = get_spdx_licensing().parse(offered.strip())
        known = sorted(parsed.objects) if parsed is not None else []
    except (ExpressionError, ValueError, TypeError) as error:
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

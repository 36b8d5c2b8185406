"""May this become part of a model under the repository's licence? The clauses are licences/'; here they are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from souq.checks.cases import Answer, Case, check
from souq.errors import UsageError
from souq.evals.eval import Eval
from souq.licences.compat import Input, Relation, Verdict, into
from souq.licences.table import find, ways
from souq.records import Outcome
from souq.repo.rows import json_rows

RANK: dict[Outcome, int] = {"pass": 0, "needs-eyes": 1, "refuse": 2}
AS: dict[Verdict, Outcome] = {"ok": "pass", "oblige": "pass", "review": "needs-eyes", "block": "refuse"}


@check("licence")
def licence(case: Case) -> Answer:
    """The contribution's licence, and each that a row or an eval case has of its own, lets main keep its own."""
    offered, ours = case.offer.contribution.licence, case.main.config.licence
    own = Counter(_of_rows(case.offer.data))
    exam = Counter(_of_cases(case.offer.evals))
    answers = [may_enter(offered, ours, "merge" if case.offer.moves_weights else "data")]
    answers += [may_enter(name, ours, "data") for name in own]
    answers += [_may_be_asked(name, ours) for name in exam]
    outcome, because = max(answers, key=lambda answer: RANK[answer[0]])  # the first of the worst
    evidence: dict[str, Any] = {"offered": offered, "main": ours}
    evidence |= {key: dict(counts) for key, counts in (("rows", own), ("cases", exam)) if counts}
    return outcome, because, evidence


def _of_rows(data: Mapping[str, bytes]) -> Iterator[str]:
    """What rows say of themselves, under either spelling; a licence that is no text is none."""
    for row in json_rows(data):
        if isinstance(row, dict):
            yield from (str(row[key])[:200] for key in ("licence", "license") if row.get(key) is not None)


def _of_cases(evals: Sequence[Eval]) -> Iterator[str]:
    for suite in evals:
        yield from (case.licence or suite.spec.licence for case in suite.cases)


def _may_be_asked(offered: str, ours: str) -> tuple[Outcome, str]:
    """An exam is published beside the model and never becomes part of it: what may not enter, people look at."""
    outcome, because = may_enter(offered, ours, "data")
    return ("pass", because) if outcome == "pass" else ("needs-eyes", f"an eval case has its own licence: {because}")


def may_enter(offered: str, ours: str, relation: Relation = "merge") -> tuple[Outcome, str]:
    """Whether something under `offered` may become part of a model under `ours`, as weights or rows, and why."""
    try:
        names = dict.fromkeys(name for way in ways(offered) for name in way)
    except UsageError as error:
        return "refuse", str(error)
    # An OR offers a choice; taking the worst part of it is safe, and says which part to drop.
    return max((_named_into(name, ours, relation) for name in names), key=lambda answer: RANK[answer[0]])


def _named_into(name: str, ours: str, relation: Relation) -> tuple[Outcome, str]:
    if name == ours:
        return "pass", f"{name}, the same as the model's"
    cell, known = into(Input(relation, "it", name), ours), find(name)
    because = cell.because.removeprefix(f"{known.id if known else name}: ")
    clause = f" ({cell.clause})" if cell.clause else ""
    return AS[cell.verdict], f"{name} into {ours}: {because}{clause}"

"""What a model scored on an eval, and whether one model is better than another.

Pure. The methods are in docs/statistics.md.

    >>> before = Score.of("sums", "exact", {"a": 0.0, "b": 0.0, "c": 1.0})
    >>> compare(before, before, margin=0.05).gain
    0.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from souq.errors import UsageError
from souq.evals.eval import IN_NATS, Eval, Kind
from souq.evals.statistics import (
    ONCE,
    Paired,
    Plan,
    cases_needed,
    clustered_mean,
    hopeless,
    losses,
    mcnemar,
    right_wrong,
)
from souq.records import Record

Answer = Literal["non-inferior", "inferior", "undecided"]


class Score(Record, frozen=True):
    """What a model scored: the mean over cases, and each case, so that two models can be compared in pairs.

    A case is 1 (right) or 0; for `loss` and `open` it is nats a token, lower is better.
    """

    eval: str
    kind: Kind
    n: int
    value: float
    stderr: float
    cases: dict[str, float]

    @classmethod
    def on(cls, suite: Eval, values: Mapping[str, float]) -> Score:
        """The score of an eval, from the value of each of its cases by id."""
        return cls.of(suite.name, suite.spec.kind, {case.id: values[case.id] for case in suite.cases}, suite.clusters)

    @classmethod
    def of(cls, name: str, kind: Kind, cases: Mapping[str, float], clusters: Mapping[str, str] | None = None) -> Score:
        mean, stderr, *_ = clustered_mean(cases, clusters)
        return cls(eval=name, kind=kind, n=len(cases), value=mean, stderr=stderr, cases=dict(cases))

    @property
    def sign(self) -> int:
        """What better means: up for right answers, down for nats."""
        return -1 if self.kind in IN_NATS else 1


@dataclass(frozen=True)
class Comparison:
    """One model against another on the same cases; `gain` is positive when the second is better."""

    gain: float
    low: float  # one-sided bounds, 95% each over all looks
    high: float
    improved: bool
    margin: float
    unit: str
    p_better: float = 1.0  # of so large a gain, were the models alike
    p_worse: float = 1.0  # of so large a loss, were the true one the margin
    n: int = 0
    total: int = 0  # cases there are, read or not
    needed: int | None = None  # how many more cases would decide; None where none would
    hopeless: bool = False  # more cases will hardly decide

    @property
    def answer(self) -> Answer:
        """Whether a loss above the margin is ruled out, shown, or neither."""
        return "non-inferior" if self.low > -self.margin else "inferior" if self.high < -self.margin else "undecided"

    @property
    def in_words(self) -> str:
        """How the second model stands against the first: what is worse is called so, within the margin too."""
        if self.high < 0:
            how_much = {"inferior": "", "non-inferior": ", by less than the margin"}
            return "worse" + how_much.get(self.answer, "; whether by more than the margin, more cases would show")
        if self.answer == "undecided":
            return f"not decided: {'worse' if self.gain < 0 else 'better' if self.gain > 0 else 'alike'} on these cases"
        return "better" if self.low > 0 else "as good" if self.gain >= 0 else "worse on these cases, within the margin"

    @property
    def non_inferior(self) -> bool:
        return self.answer == "non-inferior"

    @property
    def inferior(self) -> bool:
        return self.answer == "inferior"

    @property
    def beyond(self) -> bool:
        """Whether the second model seems worse by more than the margin, shown or not."""
        return self.gain < -self.margin

    def __str__(self) -> str:
        if self.unit == "nats":
            figures = f"{self.gain:+.3f} nats [{self.low:+.3f}, {self.high:+.3f}], margin {self.margin:.2f}"
        else:
            gain, low, high, margin = (100 * share for share in (self.gain, self.low, self.high, self.margin))
            figures = f"{gain:+.1f} points [{low:+.1f}, {high:+.1f}], margin {margin:.0f}"
        read = f", {self.n:,} of {self.total:,} cases read" if self.n < self.total else ""
        return figures + read + (f", {self.wanting}" if self.answer == "undecided" else "")

    @property
    def wanting(self) -> str:
        """How many more cases would decide an undecided comparison, in words."""
        if self.needed is None:
            return "no number of cases like these would decide"
        return f"about {max(self.needed, 1):,} more cases would decide"


def compare(
    before: Score, after: Score, *, margin: float, clusters: Mapping[str, str] | None = None,
    plan: Plan = ONCE, look: int = 0, total: int = 0, hope: float | None = 0.0,
) -> Comparison:  # fmt: skip
    """Paired, case by case, at one look of a plan; the methods are in docs/statistics.md.

    Improvement of right answers is McNemar's exact test; of losses, Student's. `total` is how many cases the plan has.
    `hope` is the gain at which one would still like to show no harm; None asks for improvement, and hopes for the best
    that the cases so far allow.

    Raises:
        UsageError: the two were not scored on the same cases.
    """
    if before.cases.keys() != after.cases.keys():
        raise UsageError(f"eval {before.eval!r} was scored on other cases before than after")
    gains = {case: before.sign * (after.cases[case] - value) for case, value in before.cases.items()}
    loss, level = before.kind in IN_NATS, plan.level(look)
    paired = losses(gains, clusters) if loss else right_wrong(gains, clusters)
    low, high = paired.bounds(level)
    better = paired.above(0.0) if loss else mcnemar(gains, clusters)
    null, hoped = (0.0, high) if hope is None else (-margin, hope)
    return Comparison(
        paired.gain, low, high, paired.gain > 0 and better <= level, margin, "nats" if loss else "points",
        plan.overall(look, better), plan.overall(look, paired.below(-margin)), len(gains), max(total, len(gains)),
        cases_needed(paired, len(gains), margin), hopeless(paired, plan, look, null, hoped),
    )  # fmt: skip


def unchanged(score: Score, margin: float, clusters: Mapping[str, str] | None = None) -> Comparison | None:
    """What the cases of an eval would show if not one answer changed: the most they can rule out, at the last look.

    None for losses, where that hangs on how far each case moves.
    """
    if score.kind in IN_NATS:
        return None
    plan = Plan.of(score.n)
    return compare(score, score, margin=margin, clusters=clusters, plan=plan, look=len(plan.shares) - 1)


def cases_for(margin: float, most: int = 2_000) -> int | None:
    """How many right or wrong answers, none of which changes, rule out a loss of `margin`; None where `most` do not."""
    for n in range(1, most + 1):
        plan = Plan.of(n)
        if Paired(0.0, 0.0, n, n, 0, 0).bounds(plan.level(len(plan.shares) - 1))[0] > -margin:
            return n
    return None


def fixed(before: Score, after: Score) -> bool:
    """Whether a bug is gone: not every case passed, and now each does. One case is enough; there is no chance in it."""
    return any(value < 1 for value in before.cases.values()) and all(value == 1 for value in after.cases.values())


def back(before: Score, after: Score) -> list[str]:
    """The cases of a bug that passed and fail again."""
    return sorted(case for case, value in before.cases.items() if value == 1 and after.cases[case] < 1)

"""How a student begins and how it is taught, and the report on what came of it: records only, without torch.

The words of [student] in a recipe and of a report are a file format: `words` is cross-entropy; `states`, `likeliest`
and `drawn` are hidden, top-k and sampled targets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from souq.errors import UsageError
from souq.evals.eval import Eval
from souq.evals.score import Score
from souq.records import Digest, Record
from souq.repo.rows import answered

Loss = Literal["words", "forward", "reverse", "jsd", "skew"]
Targets = Literal["states", "likeliest", "drawn"]
BEGINNINGS = ("teacher", "scratch")  # any other `start` is a folder


class DistillConfig(Record, frozen=True, forbid_unknown_fields=True):
    """One student. What a setting does not concern it does not change: `beta` is jsd's, `alpha` is skew's.

    start: "teacher" keeps `layers` of its layers; "scratch" has the teacher's vocabulary and `layers` new ones of width
    `hidden`; anything else is a Hugging Face folder. loss: "words" is the cross-entropy of what the corpus says
    (sequence-level distillation, Kim and Rush, arXiv 1606.07947); the others are divergences from the teacher's odds,
    of which `words` says how much of the loss stays cross-entropy. targets: what is kept of the teacher's odds: its
    last hidden states (whole odds), the `k` likeliest with the rest in one (top-k), or `k` draws (sampled). on_policy:
    the share of batches in which the student's own answers are learned from (arXiv 2306.13649).
    """

    start: str = "teacher"
    layers: int = 0
    hidden: int = 0
    method: Literal["full", "lora"] = "full"
    rank: int = 16
    embeddings: bool = False  # whether they learn too
    loss: Loss = "words"
    targets: Targets = "states"
    k: int = 32
    words: float = 0.5
    beta: float = 0.5
    alpha: float = 0.1
    temperature: float = 1.0
    on_policy: float = 0.0
    epochs: int = 3
    lr: float = 1e-3
    batch: int = 16
    seed: int = 0
    max_tokens: int = 32  # of the student's own answers

    def vetted(self) -> Self:
        """Itself.

        Raises:
            UsageError: a setting that no training could follow.
        """
        fault = next(self._faults(), "")
        if fault:
            raise UsageError(f"[student] {fault}")
        return self

    def _faults(self) -> Iterator[str]:
        for name in ("words", "beta", "alpha", "on_policy"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                yield f"{name} is a share from 0 to 1, not {share}"
        for name in ("epochs", "batch", "k", "rank", "max_tokens"):
            if (size := getattr(self, name)) < 1:
                yield f"{name} is a whole number above 0, not {size}"
        if not 0 < self.lr < 1:
            yield f"lr is between 0 and 1, not {self.lr}"
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            yield "temperature is a number above 0"
        if self.loss == "skew" and not 0 < self.alpha < 1:
            yield "alpha is between 0 and 1, without its ends"
        if self.loss == "words" and self.on_policy > 0:
            yield 'on_policy needs the teacher\'s odds: `loss = "jsd"`, say'
        if self.targets == "drawn" and self.loss not in ("forward", "words"):
            yield 'draws are unbiased for `loss = "forward"` alone'
        if self.start == "scratch" and min(self.layers, self.hidden) < 1:
            example = "`layers = 8` and `hidden = 256`, say"
            yield f"a student from scratch says how many layers it has and how wide it is: {example}"


class Sizes(Record, frozen=True):
    """How many numbers teacher and student have; a tied head counts once."""

    teacher: int
    student: int


class StudentReport(Record, frozen=True):
    """What was trained on what, and how the two models do: `souq distill --json`, and what the card is made of.

    `scores` and `rare_recall` are by model, "teacher" or "student", and by eval.
    """

    parameters: Sizes
    layers: tuple[int, ...]  # of the teacher's; none where the student was not cut from it
    rows: int
    curve: tuple[float, ...]  # the loss of every batch, in nats a token
    teacher: Digest
    lesson: DistillConfig
    licence: str
    scores: dict[str, dict[str, float]]
    rare_recall: dict[str, dict[str, float | None]]


def rare_recall(score: Score, suite: Eval, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The score on cases whose answer is rare in a corpus: the rarer half of the answers, by how often it gives them.

    None where answers do not repeat, so that none is rarer than another, or where none is right.
    """
    answers = sorted({case.expected for case in suite.cases})
    if suite.spec.kind == "open" or len(answers) > len(suite.cases) / 2:
        return None
    counts = Counter(str(answered(row["messages"])[-1]["content"]) for row in rows)
    rare = set(sorted(answers, key=lambda answer: (counts[answer], answer))[: len(answers) // 2])
    values = [score.cases[case.id] for case in suite.cases if case.expected in rare]
    return sum(values) / len(values) if values else None

"""An eval's cases in slices, asked one after the other here or side by side by who computes for the repository.

A slice is asked as if it were all there is, so its values are the same wherever it is asked: which texts are read
beside each other shows in the last bits of their odds.

    for name, values in spread(repo.workers, engine, sliced(suite, {}), progress): ...
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, Self

from souq.errors import Hostile, Refused
from souq.evals.eval import Eval
from souq.lab.score_cache import Conditions, Kept, conditions
from souq.progress import Progress, quiet
from souq.workers import Done, Workers, checked

CASES = 32  # in a slice: enough to fill a processor, few enough that every worker gets some
CLOSE = 1e-5  # of a value computed again: machines of one kind may have another number of cores


class Asked(Protocol):
    """A model that transformers asks."""

    def run(self, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
        """The values of an eval's cases, a batch at a time."""

    def run_open(self, suite: Eval, reference: Mapping[str, Kept], progress: Progress) -> Iterator[list[Kept]]:
        """Those of open answers, beside what the base said to them."""

    def unloaded(self) -> Self:
        """The same model, of which this process has read nothing yet."""


@dataclass(frozen=True)
class Slice:
    """Some cases of an eval; of open answers, with what the base said to them."""

    suite: Eval
    reference: Mapping[str, Kept] = field(default_factory=dict)

    def asked(self, engine: Asked, progress: Progress = quiet) -> Iterator[list[Kept]]:
        """The values of its cases, a batch at a time, from a model in this process."""
        if self.suite.spec.kind == "open":
            return engine.run_open(self.suite, self.reference, progress)
        return engine.run(self.suite, progress)


def sliced(suite: Eval, reference: Mapping[str, Kept]) -> list[Slice]:
    """Its cases in slices, those together that begin alike; where answers are generated, those of like length."""
    alike = len if suite.spec.kind in ("answer", "open") else str
    cases = sorted(suite.cases, key=lambda case: (alike(case.text), case.id))
    parts = [tuple(cases[at : at + CASES]) for at in range(0, len(cases), CASES)]
    return [
        Slice(replace(suite, cases=part), {case.id: reference[case.id] for case in part if case.id in reference})
        for part in parts
    ]


def here(engine: Asked, asked: Sequence[Slice], progress: Progress) -> Iterator[tuple[str, list[Kept]]]:
    """(eval, values) pairs from a model in this process."""
    before, whole = 0, sum(len(some.suite.cases) for some in asked)
    for some in asked:
        size = len(some.suite.cases)
        yield from ((some.suite.name, batch) for batch in some.asked(engine, _within(progress, before, size, whole)))
        before += size


def _within(progress: Progress, before: int, size: int, whole: int) -> Progress:
    """How far a slice is, as how many of all cases that is."""
    return lambda label, done, total: progress("score cases", before + size * done // max(total, 1), whole)


# -- by workers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asking:
    """The task of a machine (or GPU): ask slices; the model is loaded once."""

    engine: Asked
    under: Conditions
    cores = 0

    def ready(self) -> Callable[[Slice], list[Kept]]:
        """Values are kept under conditions, so whoever computes under others is not asked.

        Raises:
            Refused: this machine does.
        """
        if (mine := conditions()) != self.under:
            raise Refused(
                f"{platform.node()} computes under {mine}, and values are kept under {self.under}",
                hint="install the same torch and transformers there, or leave that machine out",
            )
        return partial(_values, self.engine)


def _values(engine: Asked, some: Slice) -> list[Kept]:
    return [kept for batch in some.asked(engine) for kept in batch]


def spread(
    workers: Workers, engine: Asked, asked: Sequence[Slice], progress: Progress
) -> Iterator[tuple[str, list[Kept]]]:
    """(eval, values) pairs as they come from workers; some are computed here too.

    Raises:
        Hostile: a worker answers what was not asked, or otherwise than this machine does.
    """
    scored, whole = 0, sum(len(some.suite.cases) for some in asked)
    task = Asking(engine.unloaded(), conditions())
    progress("score cases", 0, whole)
    for done in checked(workers, task, asked, _close):
        suite = asked[done.piece].suite
        _refuse_other(done, suite)
        yield suite.name, done.answer
        scored += len(suite.cases)
        progress("score cases", scored, whole)


def _refuse_other(done: Done[list[Kept]], suite: Eval) -> None:
    if not _are_values(done.answer) or sorted(kept.case for kept in done.answer) != sorted(c.id for c in suite.cases):
        raise Hostile(
            f"{done.worker} answers other cases of `{suite.name}` than it was asked", hint="leave that machine out"
        )


def _are_values(answer: object) -> bool:
    return isinstance(answer, list) and all(isinstance(k, Kept) and math.isfinite(k.value) for k in answer)


def _close(theirs: list[Kept], ours: list[Kept]) -> bool:
    if not _are_values(theirs) or len(theirs) != len(ours):
        return False
    pairs = zip(sorted(theirs, key=lambda kept: kept.case), sorted(ours, key=lambda kept: kept.case), strict=True)
    return all(
        (a.case, a.answer, a.ended) == (b.case, b.answer, b.ended)
        and math.isclose(a.value, b.value, rel_tol=CLOSE, abs_tol=CLOSE)
        for a, b in pairs
    )

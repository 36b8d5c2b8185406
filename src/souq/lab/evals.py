"""Ask a model the cases of an eval. One forward pass over packed rows; nothing is generated.

`exact`: the greedy answer equals the expected one if and only if, reading the expected answer, each of its tokens and
the end of the turn is the model's first choice; so one pass decides it. `choice`: the likeliest of the options, by
summed log-probability. `loss`: nats a token, in the base's tokens whatever the model's own are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from souq.evals import Eval, EvalCase, Score
from souq.lab.model import LM
from souq.lab.packing import Passage, log_probabilities, pack
from souq.progress import Progress, quiet

ROW = 384  # nodes: long enough to fill the processor, short enough that attention does not dominate


def score(lm: LM, evals: Sequence[Eval], progress: Progress = quiet) -> dict[str, Score]:
    """Every eval's score, name -> Score."""
    told = read(lm, evals, progress)
    return {found.name: judge(found, told) for found in evals}


Told = dict[tuple[str, str, str], tuple[float, int, bool]]
"""What one pass found: (eval, case, option) -> log p, tokens, whether each was the first choice."""


def read(lm: LM, evals: Sequence[Eval], progress: Progress = quiet) -> Told:
    """Every case's options through the model; `judge` makes scores of it."""
    sequences = [s for found in evals for s in sorted(_sequences(lm, found), key=lambda s: (s.start, s.tokens))]
    told: Told = {}
    rows = pack(sequences, ROW)
    total, done = sum(len(row.tokens) for row in rows), 0
    with torch.inference_mode():
        for row in rows:
            progress("score tokens", done, total)
            log_p, greedy, whose = log_probabilities(lm.net, row)
            for p, g, number in zip(log_p.tolist(), greedy.tolist(), whose, strict=True):
                before = told.get(tag := row.paths[number][0].tag, (0.0, 0, True))
                told[tag] = (before[0] + p, before[1] + 1, before[2] and g)
            done += len(row.tokens)
    progress("score tokens", total, total)
    for found in evals:
        if found.spec.kind == "loss" and lm.measure is not None:
            for case in found.cases:
                log_p, _, greedy = told[found.name, case.id, ""]
                length = lm.length(case.expected) - (
                    not lm.length(case.prompt)
                )  # the very first token is not predicted
                told[found.name, case.id, ""] = (log_p, length, greedy)
    return told


def _sequences(lm: LM, found: Eval) -> Iterator[Passage]:
    for case in found.cases:
        if found.spec.kind == "loss":
            start = lm.encode(case.prompt)
            yield Passage([*start, *lm.encode(case.expected)], len(start), (found.name, case.id, ""))
            continue
        asked = lm.chat(case.turns)
        for option in case.choices or (case.expected,):
            yield Passage([*asked, *lm.encode(option), lm.end], len(asked), (found.name, case.id, option))


def judge(found: Eval, told: Told) -> Score:
    """One eval's score, from what `read` found."""
    cases = {case.id: _value(found, case, told) for case in found.cases}
    return Score.of(found.name, found.spec.kind, cases, found.clusters)


def _value(found: Eval, case: EvalCase, told: Told) -> float:
    def of(option: str) -> tuple[float, int, bool]:
        return told[found.name, case.id, option]

    match found.spec.kind:
        case "exact":
            return float(of(case.expected)[2])
        case "choice":
            best: Any = max(case.choices, key=lambda option: of(option)[0])
            return float(best == case.expected)
        case _:
            log_p, tokens, _ = of("")
            return -log_p / max(tokens, 1)

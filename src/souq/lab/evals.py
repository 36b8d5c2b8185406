"""Ask a model the cases of an eval, with transformers in this process.

What has one right wording takes one forward pass over packed rows. `exact`: the greedy answer equals the expected one
if and only if, reading the expected answer, each of its tokens and the end of the turn is the model's first choice.
`choice`: the likeliest of the options, by summed log-probability. `loss`: nats a token, in the base's tokens whatever
the model's own are. `answer` is generated, greedily and in batches of like length, and judged by a checker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from souq.evals.eval import Eval, EvalCase, Score, passes
from souq.lab import generate
from souq.lab.lm import LM
from souq.lab.packing import Passage, log_probabilities, pack
from souq.lab.score_cache import Kept
from souq.progress import Progress, quiet

ROW = 384  # nodes: long enough to fill the processor, short enough that attention does not dominate


def score(lm: LM, evals: Sequence[Eval], progress: Progress = quiet) -> dict[str, Score]:
    """Every eval's score, name -> Score; nothing is kept of it."""
    found = {suite.name: {kept.case: kept.value for batch in run(lm, suite, progress) for kept in batch} for suite in evals}  # fmt: skip
    return {suite.name: scored(suite, found[suite.name]) for suite in evals}


def scored(suite: Eval, found: dict[str, float]) -> Score:
    """An eval's score of its cases' values, in the cases' order."""
    return Score.of(suite.name, suite.spec.kind, {case.id: found[case.id] for case in suite.cases}, suite.clusters)


def run(lm: LM, suite: Eval, progress: Progress = quiet) -> Iterator[list[Kept]]:
    """The cases' values, a batch at a time, as they come."""
    if suite.spec.kind == "answer":
        yield from _answered(lm, suite, progress)
        return
    told: Told = {}
    left = {case.id: case for case in suite.cases}
    for batch in _rows(lm, [suite], progress):
        told |= batch
        done = [left[name] for name in dict.fromkeys(tag[1] for tag in batch) if _whole(suite, left[name], told)]
        yield [Kept(case=case.id, value=_value(suite, case, told)) for case in done]


def _answered(lm: LM, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
    asked = [lm.chat(case.turns) for case in suite.cases]
    for batch in generate.in_batches(lm, asked, max_tokens=suite.spec.max_tokens, progress=progress):
        cases = [(suite.cases[i], said) for i, said in batch]
        yield [Kept(case=c.id, value=float(passes(suite.spec, c, said)), said=said) for c, said in cases]


Told = dict[tuple[str, str, str], tuple[float, int, bool]]
"""What one pass found: (eval, case, option) -> log p, tokens, whether each was the first choice."""


def read(lm: LM, evals: Sequence[Eval], progress: Progress = quiet) -> Told:
    """Every case's options through the model; `judge` makes scores of it. Of evals that have right wordings."""
    return {tag: value for row in _rows(lm, evals, progress) for tag, value in row.items()}


def _rows(lm: LM, evals: Sequence[Eval], progress: Progress) -> Iterator[Told]:
    """One row's passages after another; each is whole within its row."""
    sequences = [s for found in evals for s in sorted(_sequences(lm, found), key=lambda s: (s.start, s.tokens))]
    rows = pack(sequences, ROW)
    lengths = _lengths(lm, evals)
    total, done = sum(len(row.tokens) for row in rows), 0
    for row in rows:
        progress("score tokens", done, total)
        yield {tag: (p, lengths.get(tag, n), greedy) for tag, (p, n, greedy) in through(lm, row).items()}
        done += len(row.tokens)
    progress("score tokens", total, total)


def through(lm: LM, row: Any) -> Told:
    """One packed row through the model: each passage's summed log p, tokens, and whether it is the greedy one, by tag."""
    with torch.inference_mode():
        log_p, greedy, whose = log_probabilities(lm.net, row)
    told: Told = {passage.tag: (0.0, 0, True) for passage, _ in row.paths}
    for p, g, number in zip(log_p.tolist(), greedy.tolist(), whose, strict=True):
        before = told[tag := row.paths[number][0].tag]
        told[tag] = (before[0] + p, before[1] + 1, before[2] and g)
    return told


def _lengths(lm: LM, evals: Sequence[Eval]) -> dict[tuple[str, str, str], int]:
    """How many tokens each loss is spread over, where another tokenizer measures."""
    if lm.measure is None:
        return {}
    return {
        (suite.name, case.id, ""): lm.length(case.expected) - (not lm.length(case.prompt))  # the first is not predicted
        for suite in evals
        if suite.spec.kind == "loss"
        for case in suite.cases
    }


def _options(suite: Eval, case: EvalCase) -> tuple[str, ...]:
    return ("",) if suite.spec.kind == "loss" else case.choices or (case.expected,)


def _whole(suite: Eval, case: EvalCase, told: Told) -> bool:
    return all((suite.name, case.id, option) in told for option in _options(suite, case))


def _sequences(lm: LM, found: Eval) -> Iterator[Passage]:
    for case in found.cases:
        if found.spec.kind == "loss":
            start = lm.encode(case.prompt)
            yield Passage([*start, *lm.encode(case.expected)], len(start), (found.name, case.id, ""))
            continue
        asked = lm.chat(case.turns)
        for option in _options(found, case):
            yield Passage([*asked, *lm.encode(option), lm.end], len(asked), (found.name, case.id, option))


def judge(found: Eval, told: Told) -> Score:
    """One eval's score, from what `read` found."""
    return scored(found, {case.id: _value(found, case, told) for case in found.cases})


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

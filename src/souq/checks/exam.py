"""What evals cost everybody from then on: tokens, and so memory and time, by all their parts together.

Each part may be small enough, a case and their number, and all of them together end the gate: whatever changes weights
waits for them. What is read of text is about a token every four bytes; a token that is written costs as ten that are
read (docs/evals.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np

from souq.checks.cases import Answer, Case
from souq.errors import SouqError
from souq.evals.eval import Eval, EvalCase
from souq.records import read_json
from souq.repo.snapshot import Snapshot, base_files

WRITES = ("answer", "open")  # kinds of which a model writes an answer
BYTES = 4  # of a token of plain text
WRITTEN = 10  # what a token that is generated costs, in tokens that are read
MAX_ODDS = 4 << 30  # bytes of one case's odds, every token of the vocabulary at each place that is scored
NO_CONTEXT = 32_768  # tokens of a case, where a model does not say for how many it was made


def cost(case: Case) -> Answer:
    """Whether the evals an offer brings can be asked: each case alone, and all of main's together."""
    config = _config(case.main)
    bounds = case.main.config.checks
    if long := _beyond(case.offer.evals, config, case.main):
        return "refuse", "; ".join(long[:4]) + (f"; and {len(long) - 4} more" if len(long) > 4 else ""), {}
    own = sum(map(tokens, case.offer.evals))
    whole = own + sum(tokens(suite) for name, suite in case.main.evals.items() if name not in _names(case.offer.evals))
    costs = f"its cases are about {own:,} tokens to read, {_spelled(_seconds(case.main, own))} here for each model"
    shown = {"tokens": own, "of_all": whole}
    if whole > bounds.max_exam_tokens:
        limit = f"all evals of main with it are {whole:,}, the most is {bounds.max_exam_tokens:,}"
        return "refuse", f"{costs}; {limit}: bring fewer or shorter ones, or take others back", shown
    if own > bounds.exam_tokens:
        return "needs-eyes", f"{costs}, which every change of weights would wait for", shown
    return "pass", costs, shown


def tokens(suite: Eval) -> int:
    """About how many tokens it takes to ask an eval once; those that are written count ten times."""
    written = suite.spec.max_tokens if suite.spec.kind in WRITES else 0
    return sum(_bytes(each) // BYTES + 1 for each in suite.cases) + WRITTEN * written * len(suite.cases)


def _bytes(case: EvalCase) -> int:
    return len(case.text.encode()) + sum(len(option.encode()) for option in case.choices or (case.expected,))


def _names(suites: Iterable[Eval]) -> set[str]:
    return {suite.name for suite in suites}


def _beyond(suites: Iterable[Eval], config: Mapping[str, Any], main: Snapshot) -> list[str]:
    """The cases that the model was not made for, or that no machine could score in its memory."""
    context = context_of(config) or NO_CONTEXT
    counter = cache(lambda: _counter(main))  # it takes seconds, and few need it
    lines = []
    for suite, each in ((own, each) for own in suites for each in own.cases):
        longest = max(each.choices or (each.expected,), key=len)
        if len(each.text.encode()) + len(longest.encode()) <= context:
            continue  # a token is a byte at least
        asked, answer = counter()(each.text), counter()(longest)
        written = suite.spec.max_tokens if suite.spec.kind in WRITES else answer
        name = f"case {each.id[:60]!r} of `{suite.name}`"
        if asked + written > context:
            lines.append(f"{name} is about {asked + written:,} tokens; the model was made for {context:,}")
        elif suite.spec.kind not in WRITES and answer * _vocabulary(config) * 4 > MAX_ODDS:
            lines.append(f"{name} asks for the odds of {answer:,} tokens; the most is {MAX_ODDS >> 30} GB of odds")
    return lines


def _counter(main: Snapshot) -> Any:
    """How many tokens a text is: as the model's own tokenizer has it, or by its bytes where there is none here."""
    try:
        from souq.lab.lm import tokenizer_of

        tokenizer = tokenizer_of(base_files(main))
    except SouqError:  # no lab here, or a tokenizer it does not read
        return lambda text: len(text.encode()) // BYTES
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _config(main: Snapshot) -> Mapping[str, Any]:
    config = read_json(base_files(main)["config.json"])
    inner = config.get("text_config") if isinstance(config, dict) else None
    return inner if isinstance(inner, dict) else config if isinstance(config, dict) else {}


def context_of(config: Mapping[str, Any]) -> int:
    """The positions a model was made for, as its config says; 0 where it does not."""
    places = (config.get(key) for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"))
    longest = next((place for place in places if isinstance(place, int) and place > 0), 0)
    rope = config.get("rope_scaling") or config.get("rope_parameters")
    rope = rope if isinstance(rope, dict) else {}
    first, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    stretched = first * factor if isinstance(first, int) and isinstance(factor, int | float) else 0
    return int(max(longest, min(stretched, 1 << 24)))


def _vocabulary(config: Mapping[str, Any]) -> int:
    size = config.get("vocab_size")
    return size if isinstance(size, int) and size > 0 else 1


def _seconds(main: Snapshot, count: int) -> float:
    """How long this machine takes to read so many tokens with main's model, by how fast it multiplies."""
    parameters = sum(ref.size for ref in main.base.values())
    square = np.ones((512, 512), np.float32)
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < 0.05:
        _ = square @ square
        done += 1
    return 2 * parameters * count / (done * 2 * 512**3 / (time.perf_counter() - begun))


def _spelled(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:,.0f} {unit}"
    return f"about {max(1, seconds):,.0f} s"

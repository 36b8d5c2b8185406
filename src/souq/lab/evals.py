"""Ask a model the cases of an eval, with transformers in this process.

What has one right wording takes one forward pass over packed rows. `exact`: the greedy answer equals the expected one
if and only if, reading the expected answer, each of its tokens and the end of the turn is the model's first choice.
`choice`: the likeliest of the options, by summed log-probability. `loss`: nats a token, in the base's tokens whatever
the model's own are. `answer` is generated, greedily and in batches of like length, and judged by a checker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from souq.budget import memory_left
from souq.errors import UsageError
from souq.evals.eval import Eval, EvalCase, passes
from souq.evals.score import Score
from souq.lab import generate
from souq.lab.chat import Sampling
from souq.lab.halves import Halves, halves
from souq.lab.lazy_odds import States, ahead, chunks, greedy, likeliest, sums
from souq.lab.lm import LM
from souq.lab.lower_states import LowerStates
from souq.lab.packing import ROW, PackedRow, TokenSequence, log_probabilities, rows_for
from souq.lab.score_cache import Kept
from souq.progress import Progress, quiet

log = logging.getLogger(__name__)
Tag = tuple[str, str, str]  # eval, case, option
Likelihood = tuple[float, int, bool]  # log p, the tokens it is spread over, whether each was the first choice


def score(lm: LM, evals: Sequence[Eval], progress: Progress = quiet) -> dict[str, Score]:
    """Every eval's score, name -> Score; nothing is kept of it."""
    return {
        suite.name: Score.on(suite, {kept.case: kept.value for batch in run(lm, suite, progress) for kept in batch})
        for suite in evals
    }


def run(lm: LM, suite: Eval, progress: Progress = quiet, below: LowerStates | None = None) -> Iterator[list[Kept]]:
    """The cases' values, a batch at a time, as they come; states of lower layers are kept in `below`."""
    _say_long(lm, suite)
    parts = halves(lm.net, below.depth if below else 0) or halves(lm.net)
    if suite.spec.kind == "answer":
        yield from _generated(lm, suite, progress)
    elif parts is not None:
        yield from _by_parts(lm, suite, parts, below if parts.depth else None, progress)
    else:
        yield from _by_all_odds(lm, suite, progress)


def _by_parts(
    lm: LM, suite: Eval, parts: Halves, below: LowerStates | None, progress: Progress
) -> Iterator[list[Kept]]:
    """Each part of the network where a value hangs on it."""
    texts: dict[str, list[TokenSequence]] = {case.id: [] for case in suite.cases}
    for text in _sequences(lm, suite):
        texts[text.tag[1]].append(text)
    longest, done = max(len(text.tokens) for some in texts.values() for text in some), 0
    with _in_memory(longest):
        for values in _values(lm, suite, texts, partial(chunks, parts, below=below, read=partial(_refuse_huge, lm))):
            yield [Kept(case=name, value=value) for name, value in values.items()]
            done += len(values)
            progress("score cases", done, len(texts))


Texts = Mapping[str, Sequence[TokenSequence]]  # what may come after each case: of a choice, its options


def _values(lm: LM, suite: Eval, texts: Texts, read: Callable[..., Iterator[States]]) -> Iterator[dict[str, float]]:
    match suite.spec.kind:
        case "exact":
            for states in read([*texts.items()]):
                yield {name: float(right) for name, right in greedy(states).items()}
        case "choice":
            yield from _of_choices(suite, texts, read)
        case _:
            lengths = _lengths(lm, [suite])
            for states in read([*texts.items()]):
                own = {name: len(path.targets) for name, (path,) in states.paths.items()}
                yield {
                    name: -log_p / max(lengths.get((suite.name, name, ""), own[name]), 1)
                    for name, (log_p,) in sums(states).items()
                }


def _of_choices(suite: Eval, texts: Texts, read: Callable[..., Iterator[States]]) -> Iterator[dict[str, float]]:
    """The right option is read first, and the others where that does not show it to be the likeliest."""
    right = {case.id: case.choices.index(case.expected) for case in suite.cases}
    left = dict(texts)
    for states in read([(name, [options[right[name]]]) for name, options in texts.items()]):
        sure = ahead(states, texts, right)
        if sure:
            yield dict.fromkeys(sure, 1.0)
        left = {name: options for name, options in left.items() if name not in sure}
        if 3 * len(sure) < 2 * len(states.paths):  # a model that is often wrong is asked at once
            break
    for states in read([*left.items()]):
        yield {name: float(leader == right[name]) for name, leader in likeliest(states).items()}


def _by_all_odds(lm: LM, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
    """For a network that is not taken apart: every odds of every text, row by row."""
    seen: dict[Tag, Likelihood] = {}
    cases = {case.id: case for case in suite.cases}
    for batch in _row_by_row(lm, [suite], progress):
        seen |= batch
        whole = [
            cases[name] for name in dict.fromkeys(case for _, case, _ in batch) if _whole(suite, cases[name], seen)
        ]
        yield [Kept(case=case.id, value=_value(suite, case, seen)) for case in whole]


def _say_long(lm: LM, suite: Eval) -> None:
    """A case that no model of this context was made for is said: what it scores says little."""
    longest = max((len(case.text) + len(case.expected) for case in suite.cases), default=0)
    if not lm.context or longest <= lm.context:  # a token is a character at least
        return
    lengths = {case.id: len(lm.encode(case.text)) + len(lm.encode(case.expected)) for case in suite.cases}
    if long := [name for name, length in lengths.items() if length > lm.context]:
        shown = ", ".join(long[:5]) + (" …" if len(long) > 5 else "")
        log.warning("%s: longer than the model's context of %d tokens: %s", suite.name, lm.context, shown)


def _generated(lm: LM, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
    prompts = [lm.chat_tokens(case.turns) for case in suite.cases]
    greedy = Sampling(max_tokens=suite.spec.max_tokens)
    for batch in generate.generate_batches(lm, prompts, greedy, [0] * len(prompts), progress):
        answers = [(suite.cases[i], answer.text) for i, answer in batch]
        yield [Kept(case=case.id, value=float(passes(suite.spec, case, text)), answer=text) for case, text in answers]


def read(lm: LM, evals: Sequence[Eval], progress: Progress = quiet) -> dict[Tag, Likelihood]:
    """Every case's options through the model; `judge` makes scores of it. Of evals that have right wordings."""
    return {tag: value for batch in _row_by_row(lm, evals, progress) for tag, value in batch.items()}


def _row_by_row(lm: LM, evals: Sequence[Eval], progress: Progress) -> Iterator[dict[Tag, Likelihood]]:
    """One packed row's sequences after another's; each is whole within its row."""
    sequences = [s for suite in evals for s in sorted(_sequences(lm, suite), key=lambda s: (s.start, s.tokens))]
    rows = rows_for(lm.net, sequences)
    lengths = _lengths(lm, evals)
    total, done = sum(len(row.tokens) for row in rows), 0
    for row in rows:
        _refuse_huge(lm, row)
        progress("score tokens", done, total)
        yield {tag: (p, lengths.get(tag, n), greedy) for tag, (p, n, greedy) in through(lm, row).items()}
        done += len(row.tokens)
    progress("score tokens", total, total)


def _refuse_huge(lm: LM, row: PackedRow) -> None:
    """Say no before a case takes the machine with it; new ones of this kind the gate refuses (checks/exam.py)."""
    config, length = lm.net.config.get_text_config(), len(row.tokens)
    scored = sum(max(0, len(sequence.tokens) - max(sequence.start, 1)) for sequence, _ in row.paths)
    heads = 0 if getattr(config, "_attn_implementation", "") == "sdpa" else config.num_attention_heads
    needed, free = 4 * (scored * config.vocab_size + heads * length**2), memory_left()
    if length > ROW and needed > free:
        name, case, _ = row.paths[0][0].tag
        raise UsageError(
            f"case {case[:60]!r} of `{name}` is {length:,} tokens: about {needed / 1e9:,.1f} GB to score, and "
            f"{free / 1e9:,.1f} GB are free",
            hint="take its contribution back with `souq pr revert`, or score it on a larger machine",
        )


def through(lm: LM, row: PackedRow) -> dict[Any, Likelihood]:
    """One packed row through the model: each sequence's likelihood as the model's own tokenizer counts it, by tag.

    Raises:
        UsageError: it does not fit into this machine's memory.
    """
    with _in_memory(len(row.tokens)), torch.inference_mode():
        log_p, first_choices, whose = log_probabilities(lm.net, row)
    heard: dict[Any, Likelihood] = {sequence.tag: (0.0, 0, True) for sequence, _ in row.paths}
    for p, first, number in zip(log_p.tolist(), first_choices.tolist(), whose, strict=True):
        tag = row.paths[number][0].tag
        total, tokens, all_first = heard[tag]
        heard[tag] = (total + p, tokens + 1, all_first and first)
    return heard


@contextmanager
def _in_memory(tokens: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error) and "memory" not in str(error):
            raise
        raise UsageError(
            f"a case of {tokens:,} tokens does not fit into this machine's memory",
            hint="take its contribution back with `souq pr revert`, or score it on a larger machine",
        ) from error


def _lengths(lm: LM, evals: Sequence[Eval]) -> dict[Tag, int]:
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


def _whole(suite: Eval, case: EvalCase, seen: Mapping[Tag, Likelihood]) -> bool:
    return all((suite.name, case.id, option) in seen for option in _options(suite, case))


def _sequences(lm: LM, suite: Eval) -> Iterator[TokenSequence]:
    for case in suite.cases:
        if suite.spec.kind == "loss":
            start = lm.encode(case.prompt)
            yield TokenSequence([*start, *lm.encode(case.expected)], len(start), (suite.name, case.id, ""))
            continue
        prompt = lm.chat_tokens(case.turns)
        for option in _options(suite, case):
            tokens = [*prompt, *lm.encode(option), lm.eos_id]
            yield TokenSequence(tokens, len(prompt), (suite.name, case.id, option))


def judge(suite: Eval, seen: Mapping[Tag, Likelihood]) -> Score:
    """One eval's score, from what `read` gave."""
    return Score.on(suite, {case.id: _value(suite, case, seen) for case in suite.cases})


def _value(suite: Eval, case: EvalCase, seen: Mapping[Tag, Likelihood]) -> float:
    def of(option: str) -> Likelihood:
        return seen[suite.name, case.id, option]

    match suite.spec.kind:
        case "exact":
            return float(of(case.expected)[2])
        case "choice":
            likeliest = max(case.choices, key=lambda option: of(option)[0])
            return float(likeliest == case.expected)
        case _:
            log_p, tokens, _ = of("")
            return -log_p / max(tokens, 1)

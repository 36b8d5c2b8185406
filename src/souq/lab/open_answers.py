"""How far what a model says is from what its base says, where no answer is the right one.

Both answer greedily, and each reads what the other has said. A case's value is the Jeffreys divergence of the two
(Jeffreys 1946, https://doi.org/10.1098/rspa.1946.0056) as far as two answers show it: how much less likely the model
finds the base's answer than the base does, and the base the model's than the model does, in nats a token of the base's.
One direction alone is blind: whoever repeats a word says what any model finds likely, and whoever shouts an order
number may still find the base's words likely once it reads them.

    reference = {kept.case: kept for batch in speak(base, suite) for kept in batch}
    values = [kept for batch in run(lm, base, suite, reference) for kept in batch]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from souq.evals.eval import Eval, EvalCase
from souq.lab import generate
from souq.lab.chat import Sampling
from souq.lab.evals import through
from souq.lab.lm import LM
from souq.lab.packing import TokenSequence, rows_for
from souq.lab.score_cache import Kept
from souq.progress import Progress, quiet

FARTHEST = 2.0  # nats a token: from here on it is another answer, and one that is odder still counts for no more

Answer = tuple[EvalCase, Kept]


def speak(lm: LM, suite: Eval, progress: Progress = quiet) -> Iterator[list[Kept]]:
    """The model's own greedy answers, each of value 0: how far it is from itself."""
    prompts = [lm.chat_tokens(case.turns) for case in suite.cases]
    greedy = Sampling(max_tokens=suite.spec.max_tokens)
    for batch in generate.generate_batches(lm, prompts, greedy, [0] * len(prompts), progress):
        yield [
            Kept(case=suite.cases[i].id, value=0.0, answer=answer.text, ended=answer.finish == "stop")
            for i, answer in batch
        ]


def run(
    lm: LM, base: LM, suite: Eval, reference: Mapping[str, Kept], progress: Progress = quiet
) -> Iterator[list[Kept]]:
    """The cases' values, a batch at a time; `reference` has what the base said to each case."""
    cases = {case.id: case for case in suite.cases}
    for batch in speak(lm, suite, progress):
        own = [(cases[kept.case], kept) for kept in batch]
        of_base = [(case, reference[case.id]) for case, _ in own]
        length = {**_lengths(base, of_base, "base"), **_lengths(base, own, "own")}
        here, there = ({**_read(m, of_base, "base"), **_read(m, own, "own")} for m in (lm, base))
        yield [_with_value(kept, here, there, length) for kept in batch]


Tag = tuple[str, str]  # case, whose answer


def _with_value(kept: Kept, here: Mapping[Tag, float], there: Mapping[Tag, float], length: Mapping[Tag, int]) -> Kept:
    lost, strange = (kept.case, "base"), (kept.case, "own")
    far = (there[lost] - here[lost]) / length[lost] + (here[strange] - there[strange]) / length[strange]
    return Kept(case=kept.case, value=min(far, FARTHEST), answer=kept.answer, ended=kept.ended)


def _tokens(lm: LM, kept: Kept) -> list[int]:
    """An answer as tokens, with the end where it came to one: an empty answer is its end alone."""
    return [*lm.encode(kept.answer), *([lm.eos_id] if kept.ended or not kept.answer else [])]


def _lengths(base: LM, answers: Sequence[Answer], whose: str) -> dict[Tag, int]:
    return {(case.id, whose): len(_tokens(base, kept)) for case, kept in answers}


def _read(lm: LM, answers: Sequence[Answer], whose: str) -> dict[Tag, float]:
    """How likely a model finds each answer: natural logarithms, summed over its tokens."""
    sequences = []
    for case, kept in answers:
        prompt = lm.chat_tokens(case.turns)
        sequences.append(TokenSequence([*prompt, *_tokens(lm, kept)], len(prompt), (case.id, whose)))
    rows = rows_for(lm.net, sorted(sequences, key=lambda sequence: sequence.tokens))
    return {tag: log_p for row in rows for tag, (log_p, *_) in through(lm, row).items()}

"""How far what a model says is from what its base says, where no answer is the right one.

Both answer greedily, and each reads what the other has said. A case's value is the Jeffreys divergence of the two
(Jeffreys 1946, https://doi.org/10.1098/rspa.1946.0056) as far as two answers show it: how much less likely the model
finds the base's answer than the base does, and the base the model's than the model does, in nats a token of the base's.
One direction alone is blind: whoever repeats a word says what any model finds likely, and whoever shouts an order
number may still find the base's words likely once it reads them.

    reference = {kept.case: kept for batch in speak(base, suite) for kept in batch}
    values = [kept for batch in run(Reader(lm), Reader(base), suite, reference) for kept in batch]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from souq.evals.eval import Eval, EvalCase
from souq.lab import generate
from souq.lab.chat import Sampling
from souq.lab.evals import through
from souq.lab.halves import halves
from souq.lab.lazy_odds import chunks, sums
from souq.lab.lm import LM
from souq.lab.lower_states import LowerStates
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


@dataclass(frozen=True)
class Reader:
    """A model that reads answers, and what is kept of the layers that it has in common with another."""

    lm: LM
    below: LowerStates | None = None


def run(
    model: Reader, base: Reader, suite: Eval, reference: Mapping[str, Kept], progress: Progress = quiet
) -> Iterator[list[Kept]]:
    """The cases' values, a batch at a time; `reference` has what the base said to each case."""
    cases = {case.id: case for case in suite.cases}
    for batch in speak(model.lm, suite, progress):
        own = [(cases[kept.case], kept) for kept in batch]
        of_base = [(case, reference[case.id]) for case, _ in own]
        length = {**_lengths(base.lm, of_base, "base"), **_lengths(base.lm, own, "own")}
        here, there = (_read(reader, of_base, own) for reader in (model, base))
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


def _read(reader: Reader, of_base: Sequence[Answer], own: Sequence[Answer]) -> dict[Tag, float]:
    """How likely a model finds each answer: natural logarithms, summed over its tokens."""
    lm, below = reader.lm, reader.below
    parts = halves(lm.net, below.depth if below else 0) or halves(lm.net)
    texts = {
        case.id: [_text(lm, case, "base", base_s), _text(lm, case, "own", kept)]
        for (case, base_s), (_, kept) in zip(of_base, own, strict=True)
    }
    if parts is None:
        sequences = sorted((text for both in texts.values() for text in both), key=lambda text: text.tokens)
        return {tag: log_p for row in rows_for(lm.net, sequences) for tag, (log_p, *_) in through(lm, row).items()}
    below = below if parts.depth else None
    read = {name: both for states in chunks(parts, [*texts.items()], below) for name, both in sums(states).items()}
    return {
        (name, whose): log_p for name, both in read.items() for whose, log_p in zip(("base", "own"), both, strict=True)
    }


def _text(lm: LM, case: EvalCase, whose: str, kept: Kept) -> TokenSequence:
    prompt = lm.chat_tokens(case.turns)
    return TokenSequence([*prompt, *_tokens(lm, kept)], len(prompt), (case.id, whose))

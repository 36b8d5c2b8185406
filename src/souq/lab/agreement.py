"""Do two engines say the same of the same weights? Greedy answers, case by case, and the first token where they part.

agreement = agree(writer("transformers", folder), writer("openai:http://127.0.0.1:8000/v1", folder), requests)
agreement.same, agreement.partings
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from souq.lab.chat import ChatRequest, Sampling, TextGenerator
from souq.lab.writers import Here
from souq.progress import Progress, quiet
from souq.records import Record


class Parting(Record, frozen=True):
    """The first token that differs, in the folder's own reading of both texts; nothing where one has ended."""

    number: int
    at: int
    ours: str
    theirs: str


class Agreement(Record, frozen=True):
    """How many of `cases` answers are the same, word for word, and where the others part."""

    engine: str
    cases: int
    same: int
    partings: tuple[Parting, ...] = ()


def agree(
    here: Here, other: TextGenerator, requests: Sequence[ChatRequest], most: int = 32, progress: Progress = quiet
) -> Agreement:
    """Texts are compared, in at most `most` tokens each."""
    sampling = Sampling(max_tokens=most)
    ours, theirs = (
        {number: answer.text for batch in engine.generate(requests, sampling, progress) for number, answer in batch}
        for engine in (here, other)
    )
    apart = [i for i in range(len(requests)) if ours[i] != theirs[i]]
    partings = tuple(_parting(here.engine.lm, i, ours[i], theirs[i]) for i in apart)
    return Agreement(engine=other.name, cases=len(requests), same=len(requests) - len(apart), partings=partings)


def _parting(lm: Any, number: int, ours: str, theirs: str) -> Parting:
    a, b = lm.encode(ours), lm.encode(theirs)
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    here, there = (lm.tokenizer.decode(tokens[at : at + 1]) for tokens in (a, b))
    return Parting(number=number, at=at, ours=here, theirs=there)

"""Do two engines say the same of the same weights? Greedy answers, case by case, and the first token where they part.

found = agree(writer("transformers", folder), writer("openai:http://127.0.0.1:8000/v1", folder), asks)
found.same, found.partings
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from souq.lab.chat import Ask, Sampling, Told, Writer
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
    engine: str
    cases: int
    same: int
    partings: tuple[Parting, ...] = ()


def agree(here: Here, other: Writer, asks: Sequence[Ask], most: int = 32, progress: Progress = quiet) -> Agreement:
    """Texts are compared, in at most `most` tokens each."""
    sampling = Sampling(max_tokens=most)
    ours, theirs = _said(here, asks, sampling, progress), _said(other, asks, sampling, progress)
    apart = [i for i in range(len(asks)) if ours[i].text != theirs[i].text]
    partings = tuple(_parting(here.engine.lm, i, ours[i].text, theirs[i].text) for i in apart)
    return Agreement(engine=other.name, cases=len(asks), same=len(asks) - len(apart), partings=partings)


def _said(writer: Writer, asks: Sequence[Ask], sampling: Sampling, progress: Progress) -> dict[int, Told]:
    return {number: told for batch in writer.write(asks, sampling, progress) for number, told in batch}


def _parting(lm: Any, number: int, ours: str, theirs: str) -> Parting:
    one, other = lm.encode(ours), lm.encode(theirs)
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    said = [lm.tokenizer.decode(tokens[at : at + 1]) for tokens in (one, other)]
    return Parting(number=number, at=at, ours=said[0], theirs=said[1])

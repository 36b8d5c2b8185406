"""What a teacher is asked, and what it told. Which engine answers is none of its business.

for batch in writer.write(asks, sampling, progress):
    for number, told in batch: ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

from souq.progress import Progress, quiet
from souq.records import Digest, Record

Finish = Literal["stop", "length"]
GROUP = 64  # asks that are answered together: the last bits of an answer's odds depend on what it is padded to


class Message(Record, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(Record, frozen=True, forbid_unknown_fields=True):
    """How an answer is drawn; temperature 0 is greedy, and then nothing else matters but max_tokens and stop."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    min_p: float = 0.0
    max_tokens: int = 128
    stop: tuple[str, ...] = ()


class Ask(Record, frozen=True):
    """One question. `seed` is its own: no answer depends on which others are asked beside it."""

    messages: tuple[Message, ...]
    seed: int = 0


class Told(Record, frozen=True):
    """One answer, stripped; nothing where nothing was said. `finish` is "length" unless it came to its own end.

    Tokens are as the engine counts them, the one that ends a turn or not; 0 where it does not say.
    """

    text: str
    finish: Finish
    tokens: int  # of the answer
    asked: int  # tokens of the question, with the template


def dollars(asked: int, answered: int, per_million: tuple[float, float]) -> float:
    """What so many tokens cost, at (in, out) dollars a million."""
    return (asked * per_million[0] + answered * per_million[1]) / 1e6


class Writer(Protocol):
    """Who answers. It loads or connects when it is first asked."""

    @property
    def model(self) -> Digest:
        """Whose words they are."""

    @property
    def name(self) -> str:
        """The engine and its version, as provenance has it: `transformers 5.23.0`."""

    def write(self, asks: Sequence[Ask], sampling: Sampling, progress: Progress = quiet) -> Iterator[list[tuple[int, Told]]]:  # fmt: skip
        """(number, answer) pairs in any order, a batch at a time, so that what is done can be kept."""


class Weigher(Writer, Protocol):
    """A writer that may also know how likely given answers are."""

    @property
    def tells(self) -> bool:
        """Whether it does."""

    def weigh(self, asks: Sequence[Ask], options: Sequence[str], progress: Progress = quiet) -> Iterator[list[tuple[int, Mapping[str, float]]]]:  # fmt: skip
        """(number, option -> log-probability of saying it and ending the turn) pairs, a batch at a time."""

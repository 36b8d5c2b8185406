"""What a model is asked, and what it answers: the protocol of the engines.

Which engine answers is none of its business.

for batch in teacher.generate(requests, sampling, progress):
    for number, completion in batch: ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

from souq.progress import Progress, quiet
from souq.records import Digest, Record

Finish = Literal["stop", "length", "refused"]
GROUP = 64  # requests that are answered together: the last bits of an answer's odds depend on what it is padded to


class Message(Record, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

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


class ChatRequest(Record, frozen=True):
    """One question. `seed` is its own: no answer depends on which others are asked beside it."""

    messages: tuple[Message, ...]
    seed: int = 0

    @property
    def turns(self) -> list[dict[str, str]]:
        """The messages as chat templates and OpenAI's protocol take them."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


class Completion(Record, frozen=True):
    """One answer, stripped; nothing where nothing was said. `finish` is "length" unless it came to its own end, and
    "refused" where the server would not take the question, now or later; `because` is what it said of that.

    Tokens are as the engine counts them, the one that ends a turn or not; 0 where it does not say.
    """

    text: str
    finish: Finish
    completion_tokens: int
    prompt_tokens: int  # with the template
    because: str = ""


Completions = Iterator[list[tuple[int, Completion]]]
"""(number of the request, its answer) pairs in any order, a batch at a time, so that what is done can be kept."""
LogProbs = Iterator[list[tuple[int, Mapping[str, float]]]]
"""(number of the request, option -> log-probability of saying it and ending the turn) pairs, a batch at a time."""


def dollars(prompt_tokens: int, completion_tokens: int, per_million: tuple[float, float]) -> float:
    """What so many tokens cost, at (in, out) dollars a million."""
    return (prompt_tokens * per_million[0] + completion_tokens * per_million[1]) / 1e6


class TextGenerator(Protocol):
    """Who answers. It loads or connects when it is first asked."""

    @property
    def model(self) -> Digest:
        """Whose words they are."""

    @property
    def name(self) -> str:
        """The engine and its version, as provenance has it: `transformers 5.23.0`."""

    def generate(self, requests: Sequence[ChatRequest], sampling: Sampling, progress: Progress = quiet) -> Completions:
        """An answer to every request."""


class Scorer(TextGenerator, Protocol):
    """A text generator that may also know how likely given answers are."""

    @property
    def logprobs(self) -> bool:
        """Whether it does."""

    def score(self, requests: Sequence[ChatRequest], options: Sequence[str], progress: Progress = quiet) -> LogProbs:
        """How likely each of the options is as the answer to every request."""

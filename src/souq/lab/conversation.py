"""A conversation with a model: what both said is kept, and put to it by its own chat template, turn after turn.

talk = Conversation(lm, Sampling(max_tokens=256))
talk.ask("What is the capital of France?", say=lambda text: print(text, end=""))
talk.ask("And of Spain?")
talk.turns
"""

from __future__ import annotations

from collections.abc import Callable

from souq.lab.chat import ChatRequest, Completion, Message, Sampling
from souq.lab.generate import speak
from souq.lab.lm import LM, Tokens


class Conversation:
    """Turns with one model. Where they outgrow its context the oldest are left out, of which `forgotten` counts."""

    def __init__(self, lm: LM, sampling: Sampling, *, system: str = "", seed: int = 0) -> None:
        self._lm, self._sampling, self._seed = lm, sampling, seed
        self._system = (Message(role="system", content=system),) if system else ()
        self.turns: list[Message] = []
        self.forgotten = 0

    def ask(self, text: str, say: Callable[[str], object] = len) -> Completion:
        """The model's next turn, said piece by piece as it is written; a turn that is cut short by a signal is kept.

        Raises:
            UsageError: the model has no chat template, or what is asked is longer than its context.
        """
        turns, spoken = [*self.turns, Message(role="user", content=text)], list[str]()

        def heard(piece: str) -> None:
            spoken.append(piece)
            say(piece)

        prompt = self._within(turns)
        try:
            answer = speak(self._lm, prompt, self._sampling, heard, seed=self._seed + len(turns))
        finally:
            if answered := "".join(spoken):
                self.turns = [*turns, Message(role="assistant", content=answered)]
        return answer

    def _within(self, turns: list[Message]) -> Tokens:
        """The conversation as tokens, with room to answer: its last turns, and the system's message."""
        context = self._lm.context
        room = context - min(self._sampling.max_tokens, context // 2)
        while True:
            kept = (*self._system, *turns[self.forgotten :])
            tokens = self._lm.chat_tokens(ChatRequest(messages=kept).turns)
            if not context or len(tokens) <= room or len(turns) - self.forgotten < 3:
                return tokens
            self.forgotten += 2

"""A server that speaks OpenAI's protocol: `vllm serve`, `transformers serve`, llama.cpp's, or somebody's far away.

Generation decides `exact` and `answer`. `choice` needs the log-probability of a given answer, which the protocol does
not have; llama.cpp's servers tell it when a grammar leaves them no other words, so a server is tried for that once.
The official client carries requests: it waits and tries again on 408, 409, 429, 5xx and lost connections.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from souq.errors import Hostile, Missing, NotFound, SouqError, UsageError, nearest
from souq.evals import Eval, EvalCase, passes
from souq.progress import Progress
from souq.records import Digest
from souq.scores import Conditions, Kept

AT_ONCE = 8  # requests; a server queues more, and a stranger's should not drown
BATCH = 4 * AT_ONCE
TRIES = 5  # beside the first, the pause doubling from half a second to eight
TIMEOUT = 120.0  # seconds for one answer
SLACK = 8  # tokens beyond what an answer of that many bytes can have


@dataclass(frozen=True)
class Server:
    """What answers at a URL that ends in /v1. Which weights it has is its own word: nothing here can check it."""

    model: Digest  # what it is said to serve
    url: str
    asked: str = ""  # the server's own name for it; its only one, unless given
    key: str = ""  # else SOUQ_ENGINE_KEY; never one that was meant for somebody else

    @property
    def under(self) -> Conditions:
        return Conditions(engine=f"openai {self.url}#{self.name}", arithmetic="the server's")

    @cached_property
    def kinds(self) -> frozenset[str]:
        return frozenset({"exact", "answer"} | ({"choice"} if self._tells else set()))

    def run(self, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
        cases = suite.cases
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(cases), BATCH):
                progress("answers", start, len(cases))
                yield list(pool.map(lambda case: self._judged(suite, case), cases[start : start + BATCH]))
        progress("answers", len(cases), len(cases))

    def _judged(self, suite: Eval, case: EvalCase) -> Kept:
        if suite.spec.kind == "choice":
            told = {option: self._log_p(case, option) for option in case.choices}
            return Kept(case=case.id, value=float(max(case.choices, key=lambda option: told[option]) == case.expected))
        room = suite.spec.max_tokens if suite.spec.kind == "answer" else len(case.expected.encode()) + SLACK
        said, whole = self._say(case, room)
        right = passes(suite.spec, case, said) and (whole or suite.spec.kind == "answer")
        return Kept(case=case.id, value=float(right), said=said)

    def _say(self, case: EvalCase, most: int) -> tuple[str, bool]:
        """The greedy answer, and whether it came to its end."""
        told = self._ask(case.turns, max_tokens=most)
        said = told.message.content or ""
        return said.strip(), told.finish_reason == "stop"

    def _log_p(self, case: EvalCase, option: str) -> float:
        """What the model gives an answer, its end included, where a grammar lets it say nothing else."""
        told = self._forced(case.turns, option)
        if told is None:
            raise SouqError(
                f"{self.url} did not say {option[:60]!r} word for word", hint="use --engine transformers for this eval"
            )
        return told

    def _forced(self, turns: list[dict[str, str]], text: str) -> float | None:
        grammar = f"root ::= {json.dumps(text)}"
        told = self._ask(
            turns, max_tokens=len(text.encode()) + SLACK, logprobs=True, top_logprobs=1, extra_body={"grammar": grammar}
        )
        parts = told.logprobs.content if told.logprobs else None
        if not parts or b"".join(bytes(part.bytes or ()) for part in parts) != text.encode():
            return None
        return float(sum(part.logprob for part in parts))

    @cached_property
    def _tells(self) -> bool:
        """Whether it can be made to say a given answer and tell how likely it was."""
        try:
            return self._forced([{"role": "user", "content": "Hello"}], "souq") is not None
        except UsageError:  # it does not know the word `grammar`
            return False

    @cached_property
    def name(self) -> str:
        """The model asked for, or the only one the server has."""
        with _plainly(self.url):
            known = [model.id for model in self._client.models.list()]
        if self.asked in known:
            return self.asked
        if not self.asked and len(known) == 1:
            return str(known[0])
        shown = ", ".join(known[:8]) or "none"
        said = f"no model {self.asked!r}{nearest(self.asked, known)}" if self.asked else f"{len(known)} models"
        raise NotFound(f"{said} at {self.url}", hint=f"write the model after #; there: {shown}")

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise Missing("openai is not installed", hint='run `pip install "souq[engines]"`') from error
        key = self.key or os.environ.get("SOUQ_ENGINE_KEY") or "none"
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=TRIES, timeout=TIMEOUT)

    def _ask(self, turns: list[dict[str, str]], **settings: Any) -> Any:
        """One chat completion, greedy."""
        with _plainly(self.url):
            told = self._client.chat.completions.create(model=self.name, messages=turns, temperature=0, **settings)
        if not getattr(told, "choices", None) or getattr(told.choices[0], "message", None) is None:
            raise Hostile(f"{self.url} answered with no message", hint="does this URL end in /v1?")
        return told.choices[0]


@contextmanager
def _plainly(url: str) -> Iterator[None]:
    """The client's errors in our words."""
    import openai

    try:
        yield
    except openai.APITimeoutError as error:
        raise SouqError(f"{url} did not answer within {TIMEOUT:.0f} seconds", hint="is the model loaded?") from error
    except openai.APIConnectionError as error:
        raise NotFound(f"nothing answers at {url}", hint="start the server, and check the port") from error
    except openai.APIStatusError as error:
        raise _status(url, error.status_code, error.response.text) from error
    except openai.OpenAIError as error:
        raise Hostile(f"{url} does not speak OpenAI's protocol: {error}"[:300]) from error
    except ValueError as error:
        raise Hostile(f"{url} answered with something that is not JSON") from error


def _status(url: str, code: int, said: str) -> SouqError:
    told = f"{url} answered {code}: {' '.join(said.split())[:200]}"
    if code in (401, 403):
        return UsageError(told, hint="put its key into SOUQ_ENGINE_KEY")
    if code == 404:
        return NotFound(told, hint="does this URL end in /v1?")
    if code in (429, 503):
        return SouqError(told, hint="it is too busy; what was answered is kept: run the same again later")
    return UsageError(told) if code < 500 else SouqError(told, hint="see the server's log")

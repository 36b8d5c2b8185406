"""A server that speaks OpenAI's protocol: `vllm serve`, `transformers serve`, llama.cpp's, or somebody's far away.

Generation decides `exact` and `answer`. `choice` needs the log-probability of a given answer, which the protocol does
not have; llama.cpp's servers tell it when a grammar leaves them no other words, so a server is tried for that once.
The official client carries requests: it waits and tries again on 408, 409, 429, 5xx and lost connections.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from souq.errors import Hostile, NotFound, SouqError, UsageError, nearest
from souq.evals.checkers import MAX_ANSWER
from souq.evals.eval import Eval, EvalCase, passes
from souq.lab.score_cache import Conditions, Kept
from souq.optional import needs
from souq.progress import Progress
from souq.records import Digest

AT_ONCE = 8  # requests; a server queues more, and a stranger's should not drown
BATCH = 4 * AT_ONCE
TRIES = 5  # beside the first, the pause doubling from half a second to eight
TIMEOUT = 120.0  # seconds for one answer
_V1 = "does this URL end in /v1, and speak OpenAI's protocol?"
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
        return frozenset({"exact", "answer"} | ({"choice"} if self.logprobs else set()))

    def run(self, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
        cases = suite.cases
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(cases), BATCH):
                progress("answers", start, len(cases))
                yield list(pool.map(lambda case: self._judged(suite, case), cases[start : start + BATCH]))
        progress("answers", len(cases), len(cases))

    def _judged(self, suite: Eval, case: EvalCase) -> Kept:
        if suite.spec.kind == "choice":
            log_p = {option: self.log_p(case.turns, option) for option in case.choices}
            likeliest = max(case.choices, key=lambda option: log_p[option])
            return Kept(case=case.id, value=float(likeliest == case.expected))
        room = suite.spec.max_tokens if suite.spec.kind == "answer" else len(case.expected.encode()) + SLACK
        text, ended = self._greedy_answer(case, room)
        right = passes(suite.spec, case, text) and (ended or suite.spec.kind == "answer")
        return Kept(case=case.id, value=float(right), answer=text)

    def _greedy_answer(self, case: EvalCase, most: int) -> tuple[str, bool]:
        """The answer in at most `most` tokens, and whether it came to its end."""
        choice = self._greedy(case.turns, max_tokens=most)
        text = choice.message.content or ""
        return text.strip()[:MAX_ANSWER], choice.finish_reason == "stop"

    def log_p(self, turns: list[dict[str, str]], option: str) -> float:
        """What the model gives an answer, its end included, where a grammar lets it say nothing else.

        Raises:
            SouqError: it cannot be made to say that.
        """
        log_p = self._forced(turns, option)
        if log_p is None:
            raise SouqError(f"{self.url} did not say {option[:60]!r} word for word", hint="use --engine transformers")
        return log_p

    def _forced(self, turns: list[dict[str, str]], text: str) -> float | None:
        """Token by token: a grammar of letters would let it spell the answer in tokens that nobody speaks in."""
        tokens = self._tokens(text)
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in tokens)
        choice = self._greedy(
            turns, max_tokens=len(tokens) + SLACK, logprobs=True, top_logprobs=1, extra_body={"grammar": grammar}
        )
        parts = choice.logprobs.content if choice.logprobs else None
        spelled = b"".join(bytes(part.bytes or ()) for part in parts or ())
        if not parts or spelled != text.encode() or len(parts) != len(tokens) + 1:  # the last ends the turn
            return None
        return float(sum(part.logprob for part in parts))

    def _tokens(self, text: str) -> list[int]:
        with _plainly(self.url):
            at = f"{self.url.removesuffix('/v1')}/tokenize"
            body: Any = self._client.post(at, body={"content": text, "add_special": False}, cast_to=object)
        return list(body["tokens"]) if isinstance(body, dict) and isinstance(body.get("tokens"), list) else []

    @cached_property
    def logprobs(self) -> bool:
        """Whether it can be made to say a given answer and tell how likely it was."""
        try:
            return self._forced([{"role": "user", "content": "Hello"}], "souq") is not None
        except (UsageError, NotFound, Hostile):  # it knows neither /tokenize nor `grammar`
            return False

    @cached_property
    def name(self) -> str:
        """The model asked for, or the only one the server has.

        Raises:
            NotFound: no such model, or none is named and there are several.
        """
        with _plainly(self.url):
            known = [model.id for model in self._client.with_options(max_retries=2).models.list()]
        if self.asked in known:
            return self.asked
        if not self.asked and len(known) == 1:
            return str(known[0])
        shown = ", ".join(known[:8]) or "none"
        which = f"no model {self.asked!r}{nearest(self.asked, known)}" if self.asked else f"{len(known)} models"
        raise NotFound(f"{which} at {self.url}", hint=f"write the model after #; there: {shown}")

    @cached_property
    def _client(self) -> Any:
        with needs("openai", "engines"):
            import openai
        key = self.key or os.environ.get("SOUQ_ENGINE_KEY") or "none"
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=TRIES, timeout=TIMEOUT)

    def _greedy(self, turns: list[dict[str, str]], **settings: Any) -> Any:
        """One chat completion's first choice, greedy."""
        return self.complete(turns, temperature=0, **settings).choices[0]

    def complete(self, turns: list[dict[str, str]], **settings: Any) -> Any:
        """One chat completion as the client reads it; it has a message.

        Raises:
            UsageError: the server does not take the settings, or the key.
            NotFound: nothing is there, or not under that name.
            SouqError: it is too busy, broken or slow, after TRIES more.
            Hostile: what came is no completion.
        """
        with _plainly(self.url):
            completion = self._client.chat.completions.create(model=self.name, messages=turns, **settings)
        if not getattr(completion, "choices", None) or getattr(completion.choices[0], "message", None) is None:
            raise Hostile(f"{self.url} answered with no message", hint=_V1)
        return completion


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
        raise Hostile(f"{url} answered with something odd: {error}"[:300], hint=_V1) from error
    except ValueError as error:
        raise Hostile(f"{url} answered with something that is not JSON", hint=_V1) from error


def _status(url: str, code: int, body: str) -> SouqError:
    message = f"{url} answered {code}: {' '.join(body.split())[:200]}"
    if code in (401, 403):
        return UsageError(message, hint="put its key into SOUQ_ENGINE_KEY")
    if code == 404:
        return NotFound(message, hint=_V1)
    if code in (429, 503):
        return SouqError(message, hint="it is too busy; what was answered is kept: run the same again later")
    if code < 500:
        return UsageError(message, hint="what it says may help")
    return SouqError(message, hint="see the server's log")

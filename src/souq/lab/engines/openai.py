"""A server that speaks OpenAI's protocol: `vllm serve`, `transformers serve`, llama.cpp's, or somebody's far away.

Generation decides `exact` and `answer`. `choice` needs the log-probability of a given answer, which the protocol does
not have; llama.cpp's servers tell it when a grammar leaves them no other words, so a server is tried for that once.
The official client carries requests: it waits and tries again on 408, 409, 429, 5xx and lost connections.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from typing import Any, Generic, TypeVar

from souq.errors import Hostile, NotFound, SouqError, UsageError, nearest
from souq.evals.checkers import MAX_ANSWER
from souq.evals.eval import Eval, EvalCase, passes
from souq.lab.score_cache import Conditions, Kept
from souq.optional import needs
from souq.progress import Progress
from souq.records import Digest

T = TypeVar("T")
log = logging.getLogger(__name__)
AT_ONCE = 8  # requests; a server queues more, and a stranger's should not drown
BATCH = 4 * AT_ONCE
TRIES = 5  # beside the first, the pause doubling from half a second to eight
TIMEOUT = 120.0  # seconds until one answer begins, and from one part of it to the next
ARRIVES = 10.0  # and for all of it to arrive, once it has begun
MAX_REPLY = 16 << 20  # bytes of it
_V1 = "does this URL end in /v1, and speak OpenAI's protocol?"
SLACK = 8  # tokens beyond what an answer of that many bytes can have
OF_ONE = (400, 413, 422, 451)  # how servers refuse one question: its contents, its length, what it may be about
NEWER = "max_completion_tokens"
HELLO = [{"role": "user", "content": "Hello"}]


class Declined(UsageError):
    """The server does not take this request; asked again, it would say the same."""


@dataclass
class Gathered(Generic[T]):
    """What came of several requests: answers and refusals by their place, and what stopped the rest."""

    answers: list[tuple[int, T]] = field(default_factory=list)
    declined: list[tuple[int, Declined]] = field(default_factory=list)
    stopped: SouqError | None = None


def gather(asks: Sequence[Callable[[], T]]) -> Gathered[T]:
    """Ask AT_ONCE at a time. One that is refused stops no other; one that fails lets those on their way come home.

    Every answer is somebody's money: none is thrown away for the sake of another's failure.
    """
    gathered = Gathered[T]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(ask) for ask in asks]
        for place, future in enumerate(futures):
            try:
                gathered.answers.append((place, future.result()))
            except Declined as error:
                gathered.declined.append((place, error))
            except CancelledError:
                continue
            except SouqError as error:
                gathered.stopped = gathered.stopped or error
                for later in futures:
                    later.cancel()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return gathered


@dataclass(frozen=True)
class Server:
    """What answers at a URL that ends in /v1. Which weights it has is its own word: nothing here can check it."""

    model: Digest  # what it is said to serve
    url: str
    asked: str = ""  # the server's own name for it; its only one, unless given
    key: str = ""  # else SOUQ_ENGINE_KEY; never one that was meant for somebody else
    _said: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _calls: dict[str, str] = field(default_factory=dict, repr=False, compare=False)  # a setting -> its name there

    @property
    def under(self) -> Conditions:
        return Conditions(engine=f"openai {self.url}#{self.name}", arithmetic="the server's")

    @cached_property
    def kinds(self) -> frozenset[str]:
        return frozenset({"exact", "answer"} | ({"choice"} if self.logprobs else set()))

    def run(self, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
        """The cases' values; a case that the server refuses for good is not right, and is named.

        Raises:
            SouqError: it gave up, after what was answered before was yielded.
        """
        cases = suite.cases
        for start in range(0, len(cases), BATCH):
            progress("answers", start, len(cases))
            batch = cases[start : start + BATCH]
            gathered = gather([partial(self._judged, suite, case) for case in batch])
            if not gathered.answers:
                self.refuse_all(gathered)
            if gathered.declined:
                names = ", ".join(batch[place].id for place, _ in gathered.declined)
                log.warning("%s: refused, so wrong: %s: %s", suite.name, names[:200], gathered.declined[0][1])
            refused = [Kept(case=batch[place].id, value=0.0) for place, _ in gathered.declined]
            yield [*(kept for _, kept in gathered.answers), *refused]
            if gathered.stopped is not None:
                raise gathered.stopped
        progress("answers", len(cases), len(cases))

    def refuse_all(self, gathered: Gathered[Any], **settings: Any) -> None:
        """Where nothing but refusals came: is it the questions, or does the server take nothing that is asked so?

        Raises:
            Declined: it does not even answer a greeting.
        """
        if gathered.declined and gathered.stopped is None:
            self.complete(HELLO, **({"max_tokens": 1, "temperature": 0} | settings))

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
        text = content_of(choice)
        if not text and choice.finish_reason == "length" and self._said.setdefault("thinks", case.id) == case.id:
            log.warning("%s: not a word within max_tokens = %d: a model that thinks first needs more", case.id, most)
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
            return self._forced(HELLO, "souq") is not None
        except (UsageError, NotFound, Hostile):  # it knows neither /tokenize nor `grammar`
            return False

    @cached_property
    def name(self) -> str:
        """The model asked for, or the only one the server has.

        Raises:
            NotFound: no such model, or none is named and there are several.
        """
        with _plainly(self.url):
            import openai

            try:
                known = [model.id for model in self._client.with_options(max_retries=2).models.list()]
            except openai.APIStatusError as error:
                # Some gateways answer chats and list nothing; a wrong name is then told by the first answer.
                if not self.asked or error.status_code not in (404, 405, 501):
                    raise
                return self.asked
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
        bounded = openai.DefaultHttpxClient(timeout=TIMEOUT, event_hooks={"response": [_ends]})
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=TRIES, timeout=TIMEOUT, http_client=bounded)

    def _greedy(self, turns: list[dict[str, str]], **settings: Any) -> Any:
        """One chat completion's first choice, greedy."""
        return self.complete(turns, temperature=0, **settings).choices[0]

    def complete(self, turns: list[dict[str, str]], **settings: Any) -> Any:
        """One chat completion as the client reads it; it has a message.

        Raises:
            Declined: the server does not take this question or these settings.
            UsageError: it does not take the key.
            NotFound: nothing is there, or not under that name.
            SouqError: it is too busy, broken or slow, after TRIES more.
            Hostile: what came is no completion.
        """
        calls = dict(self._calls)  # as it was before: others of the same group learn it at the same time
        try:
            completion = self._create(turns, settings, calls)
        except Declined as error:
            # OpenAI's newer models, and servers that follow them, have another name for the most tokens.
            if calls or "max_tokens" not in settings or NEWER not in str(error):
                raise
            completion = self._create(turns, settings, {"max_tokens": NEWER})
            self._calls["max_tokens"] = NEWER
        if not getattr(completion, "choices", None) or getattr(completion.choices[0], "message", None) is None:
            raise Hostile(f"{self.url} answered with no message", hint=_V1)
        return completion

    def _create(self, turns: list[dict[str, str]], settings: dict[str, Any], calls: dict[str, str]) -> Any:
        named = {calls.get(name, name): value for name, value in settings.items()}
        with _plainly(self.url):
            return self._client.chat.completions.create(model=self.name, messages=turns, **named)


def _ends(reply: Any) -> None:
    """Have an answer end: the client's timeout counts from byte to byte, and a byte a second never ends."""
    library = import_module(type(reply).__module__.partition(".")[0])  # httpx, by whichever name this client has it
    stream, begun = reply.stream, time.monotonic()

    def parts(_: Any) -> Iterator[bytes]:
        size = 0
        for part in stream:
            if (size := size + len(part)) > MAX_REPLY:
                raise library.DecodingError(f"its answer is longer than {MAX_REPLY >> 20} MB")
            if time.monotonic() - begun > ARRIVES:
                raise library.ReadTimeout(f"its answer takes longer than {ARRIVES:.0f} seconds to arrive")
            yield part

    methods = {"__iter__": parts, "close": lambda _: stream.close()}
    reply.stream = type("Ended", (library.SyncByteStream,), methods)()


def content_of(choice: Any) -> str:
    """What an answer says: its text, or the texts among its parts; "" of a thought, a refusal or the call of a tool."""
    content = getattr(choice.message, "content", None)
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return content if isinstance(content, str) else "".join(text for text in texts if isinstance(text, str))


@contextmanager
def _plainly(url: str) -> Iterator[None]:
    """The client's errors in our words."""
    with needs("openai", "engines"):
        import openai

    try:
        yield
    except openai.APITimeoutError as error:
        if "to arrive" in (why := str(error.__cause__)):
            raise SouqError(f"{url}: {why}", hint="is it this server's own answer?") from error
        raise SouqError(f"{url} did not answer within {TIMEOUT:.0f} seconds", hint="is the model loaded?") from error
    except openai.APIConnectionError as error:
        if "longer than" in str(error.__cause__):
            raise Hostile(f"{url}: {error.__cause__}", hint=_V1) from error
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
    if code in OF_ONE:
        return Declined(message, hint="what it says may help")
    if code < 500:
        return UsageError(message, hint="what it says may help")
    return SouqError(message, hint="see the server's log")

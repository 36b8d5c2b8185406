"""Engines that write: transformers here or on many machines through Ray, llama.cpp, a server of OpenAI's protocol.

It knows how each is asked and how far each can be trusted to do it again: transformers (here or under Ray) gives the
same bytes for the same requests on the same machine, also after a stop; a server batches as it likes and promises
nothing. What an answer is good for is the corpus's business.

    teacher = writer("openai:http://127.0.0.1:8000/v1#smol", Path("out"))
    for batch in teacher.generate(requests, Sampling(max_tokens=64)): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from souq.errors import Hostile, NotFound, UsageError, nearest
from souq.lab.chat import GROUP, ChatRequest, Completion, Completions, LogProbs, Sampling, Scorer
from souq.lab.engines import LLAMA, OPENAI, Transformers, parse
from souq.lab.engines.llama import Llama
from souq.lab.engines.openai import HELLO, Declined, Server, content_of, gather
from souq.lab.score_cache import TRANSFORMERS, folder_key
from souq.optional import installed_version, needs
from souq.progress import Progress, quiet
from souq.records import Digest, spelled_out

RAY = "ray"
KNOWN = (TRANSFORMERS, f"{RAY}:{TRANSFORMERS}", OPENAI, LLAMA)
SEEDS = 1 << 31  # llama.cpp's have 32 bits, others' are signed
MAX_REASON = 300  # characters of why a server refused a question
LONGEST = 256  # characters of a token: a server that sends more was not asked for it
_FOLDER = "make one with `souq export ./out`, and name it"


def writer(spec: str, source: Path | Transformers | None = None, *, serves: Digest = "") -> Scorer:
    """A writer by its line: `transformers`, `ray:transformers`, `openai:URL#MODEL`, `llama.cpp:FILE.gguf`.

    The first two load `source`: a folder, or for the first a model as it was built. `serves` is whose words a server's
    are said to be; else the source's.

    Raises:
        UsageError: no engine is called that, or the folder is missing.
        NotFound: no such folder or file.
    """
    name, _, rest = spec.partition(":")
    if name == RAY and rest != TRANSFORMERS:
        raise UsageError(f"no engine {spec[:80]!r}{nearest(spec, KNOWN)}", hint=f"write {RAY}:{TRANSFORMERS}")
    if name == RAY:
        return Spread(_transformers(source, spec))
    if spec == TRANSFORMERS:
        return Here(_transformers(source, spec))
    if name not in (OPENAI, LLAMA, "vllm"):
        raise UsageError(
            f"no engine {spec[:80]!r}{nearest(name, KNOWN)}",
            hint=f"one of {', '.join(KNOWN[:2])}, openai:http://HOST:PORT/v1#MODEL, llama.cpp:FILE.gguf",
        )
    if name == OPENAI and not serves:
        serves = _transformers(source, spec).model
    engine = parse(spec, serves=serves)
    assert isinstance(engine, Server | Llama)
    return Served(engine)


def _transformers(source: Path | Transformers | None, spec: str) -> Transformers:
    """The engine that loads `source`, or `source` itself where it is one."""
    if isinstance(source, Transformers):
        if spec.startswith(RAY) and not isinstance(source.files, Path):
            raise UsageError(f"{spec[:80]} reads a folder on every machine", hint="export main there, and name it")
        return source
    if source is None:
        raise UsageError(f"{spec[:80]} answers for a folder, and none is named", hint=_FOLDER)
    if not (source / "config.json").is_file():
        raise NotFound(f"no config.json in {source}", hint=_FOLDER)
    return Transformers(folder_key(source), source)


def _groups(requests: Sequence[ChatRequest], progress: Progress) -> Iterator[tuple[int, Sequence[ChatRequest]]]:
    for start in range(0, len(requests), GROUP):
        progress("answers", start, len(requests))
        yield start, requests[start : start + GROUP]
    progress("answers", len(requests), len(requests))


# -- in this process ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """transformers in this process.

    Groups are cut in the requests' order, so a run that asks for whole groups again gives the same bytes.
    """

    engine: Transformers
    logprobs = True

    @property
    def model(self) -> Digest:
        return self.engine.model

    @property
    def name(self) -> str:
        return f"{TRANSFORMERS} {installed_version('transformers')}{', bf16 where it can' if self.engine.bf16 else ''}"

    def generate(self, requests: Sequence[ChatRequest], sampling: Sampling, progress: Progress = quiet) -> Completions:
        from souq.lab import generate

        lm = self.engine.lm
        for start, group in _groups(requests, progress):
            prompts = [lm.chat_tokens(request.turns) for request in group]
            batches = generate.generate_batches(lm, prompts, sampling, [request.seed for request in group])
            yield [(start + i, completion) for batch in batches for i, completion in batch]

    def score(self, requests: Sequence[ChatRequest], options: Sequence[str], progress: Progress = quiet) -> LogProbs:
        from souq.lab import evals
        from souq.lab.packing import TokenSequence, packed_alike

        lm = self.engine.lm
        for start, group in _groups(requests, progress):
            prompts = [lm.chat_tokens(request.turns) for request in group]
            sequences = [
                TokenSequence([*prompt, *lm.encode(option), lm.eos_id], len(prompt), (i, option))
                for i, prompt in enumerate(prompts)
                for option in options
            ]
            rows = packed_alike(lm.net, sequences)
            log_p: dict[Any, float] = {tag: p for row in rows for tag, (p, _, _) in evals.through(lm, row).items()}
            yield [(start + i, {option: log_p[i, option] for option in options}) for i in range(len(group))]


# -- behind a server ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A server, or llama.cpp's own on loopback; its client asks again where it is busy (engines/openai.py)."""

    engine: Server | Llama

    @property
    def model(self) -> Digest:
        return self.engine.model

    @property
    def name(self) -> str:
        return self.engine.under.engine

    @cached_property
    def server(self) -> Server:
        return self.engine.served if isinstance(self.engine, Llama) else self.engine

    @property
    def logprobs(self) -> bool:
        return self.server.logprobs

    def generate(self, requests: Sequence[ChatRequest], sampling: Sampling, progress: Progress = quiet) -> Completions:
        """An answer to every request, or what the server said of refusing it.

        Raises:
            SouqError: it gave up, after what was answered before was yielded.
        """
        settings = self._settings(sampling) if requests else {}
        answered = False
        for start, group in _groups(requests, progress):
            gathered = gather([partial(self._completion, request, sampling, settings) for request in group])
            if not (answered := answered or bool(gathered.answers)):
                self.server.refuse_all(gathered, **settings)
            yield [(start + place, answer) for place, answer in (*gathered.answers, *map(_refused, gathered.declined))]
            if gathered.stopped is not None:
                raise gathered.stopped

    def score(self, requests: Sequence[ChatRequest], options: Sequence[str], progress: Progress = quiet) -> LogProbs:
        """How likely each of the options is as the answer to every request.

        Raises:
            SouqError: it gave up, or refuses one of them, after what was answered before was yielded.
        """

        def log_p(request: ChatRequest) -> dict[str, float]:
            return {option: self.server.log_p(request.turns, option) for option in options}

        for start, group in _groups(requests, progress):
            gathered = gather([partial(log_p, request) for request in group])
            yield [(start + place, odds) for place, odds in gathered.answers]
            if error := gathered.stopped or next((error for _, error in gathered.declined), None):
                raise error

    def _settings(self, sampling: Sampling) -> dict[str, Any]:
        """All that shapes an answer, said outright: servers have defaults of their own, and a row says its sampling."""
        settings: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": max(sampling.temperature, 0.0)}
        if sampling.stop:
            settings["stop"] = list(sampling.stop)
        if sampling.temperature <= 0:
            return settings
        settings["top_p"] = sampling.top_p
        if self._takes_more:
            settings["extra_body"] = {"top_k": sampling.top_k, "min_p": sampling.min_p}
        elif sampling.top_k > 0 or sampling.min_p > 0:
            raise UsageError(
                f"{self.server.url} takes neither top_k nor min_p", hint="leave them out, or use another engine"
            )
        return settings

    @cached_property
    def _takes_more(self) -> bool:
        """Whether it knows what is not OpenAI's: a server is tried once."""
        try:
            self.server.complete(HELLO, max_tokens=1, temperature=1, extra_body={"top_k": 0, "min_p": 0})
        except UsageError:
            return False
        return True

    def _completion(self, request: ChatRequest, sampling: Sampling, settings: Mapping[str, Any]) -> Completion:
        seed = {"seed": request.seed % SEEDS} if sampling.temperature > 0 else {}
        response = self.server.complete(request.turns, **settings, **seed)
        choice = response.choices[0]
        text = content_of(choice)  # nothing of a thought, a refusal, the call of a tool: a filter drops the row
        if len(text) > LONGEST * sampling.max_tokens:
            room = f"{sampling.max_tokens} tokens were asked for"
            raise Hostile(f"{self.server.url} sent {len(text):,} characters where {room}")
        return Completion(
            # Half a character can be neither written down nor hashed.
            text=text.encode("utf-8", "replace").decode().strip(),
            finish="stop" if choice.finish_reason == "stop" else "length",  # whatever else ended it was not the model
            completion_tokens=_count(response, "completion_tokens"),
            prompt_tokens=_count(response, "prompt_tokens"),
        )


def _refused(declined: tuple[int, Declined]) -> tuple[int, Completion]:
    """A question that a server will not answer, now or later, with what it said of it."""
    place, error = declined
    reason = spelled_out(str(error))[:MAX_REASON]
    return place, Completion(text="", finish="refused", completion_tokens=0, prompt_tokens=0, because=reason)


def _count(response: Any, name: str) -> int:
    count = getattr(getattr(response, "usage", None), name, None)
    return count if isinstance(count, int) and 0 <= count < SEEDS else 0


# -- on many machines --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """transformers on every machine of a Ray cluster (RAY_ADDRESS, else one started here), a group at a time.

    Each machine reads the same folder and has souq installed. A group is answered as `Here` answers it, so where the
    machines are alike the bytes are those of one machine. Groups come as they are finished.
    """

    engine: Transformers
    logprobs = False

    @property
    def model(self) -> Digest:
        return self.engine.model

    @property
    def name(self) -> str:
        return f"{Here(self.engine).name}, ray {installed_version(RAY)}"

    def generate(self, requests: Sequence[ChatRequest], sampling: Sampling, progress: Progress = quiet) -> Completions:
        """An answer to every request, a group at a time, as they are finished.

        Raises:
            SouqError: Ray could not go on.
            Hostile: a worker answers what it was not asked.
        """
        if not (groups := list(_groups(requests, quiet))):
            return
        with needs(RAY, RAY):
            from souq.lab import cluster
        answered = 0
        for done in cluster.connect(RAY).map(Writing(replace(self.engine), sampling), groups):
            progress("answers", answered, len(requests))
            start, group = groups[done.piece]
            if sorted(number for number, _ in done.answer) != [*range(start, start + len(group))]:
                raise Hostile(f"{done.worker} answers what it was not asked", hint="leave that machine out")
            yield done.answer
            answered += len(group)
        progress("answers", answered, len(requests))

    def score(self, requests: Sequence[ChatRequest], options: Sequence[str], progress: Progress = quiet) -> LogProbs:
        """Not here: the machines of a cluster write only.

        Raises:
            UsageError: always.
        """
        raise UsageError("ray:transformers writes and does not weigh", hint="use --engine transformers")


@dataclass(frozen=True)
class Writing:
    """The task of one machine (or GPU): answer groups; the model is loaded once."""

    engine: Transformers
    sampling: Sampling
    cores = 0

    def ready(self) -> Callable[[tuple[int, Sequence[ChatRequest]]], list[tuple[int, Completion]]]:
        return partial(self._answered, Here(self.engine))

    def _answered(self, here: Here, piece: tuple[int, Sequence[ChatRequest]]) -> list[tuple[int, Completion]]:
        start, group = piece
        return [(start + i, answer) for some in here.generate(group, self.sampling) for i, answer in some]

"""Who writes a corpus (asks.py): transformers in this process, llama.cpp on a GGUF file, or a server of OpenAI's protocol.

    with_words = writer("openai:http://127.0.0.1:8000/v1#smol", digest, load)

A server is asked at most so many things at once; its client waits and asks again on 429, 5xx and lost connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from souq.asks import Ask, Finish, Sampling, Told, Writer
from souq.errors import NotFound, UsageError, nearest
from souq.lab.engines import LLAMA, OPENAI
from souq.lab.engines.llama import Llama
from souq.lab.engines.openai import AT_ONCE, Server
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.scores import TRANSFORMERS, version_of

Batches = Iterator[list[tuple[int, Told]]]
KNOWN = (TRANSFORMERS, OPENAI, LLAMA)


def writer(line: str, model: Digest, load: Callable[[], Any]) -> Writer:
    """Who answers, by a line: `transformers` on what `load` gives, `llama.cpp:FILE.gguf`, `openai:URL#MODEL`.

    Raises:
        UsageError: nobody is called that.
        NotFound: no such file.
    """
    name, _, rest = line.partition(":")
    if name == TRANSFORMERS and not rest:
        return Here(model, load)
    if name == OPENAI and rest.startswith(("http://", "https://")):
        url, _, asked = rest.partition("#")
        return There(Server(model, url.rstrip("/"), asked))
    if name == LLAMA and rest:
        if not (path := Path(rest).expanduser()).is_file():
            raise NotFound(f"no file {path}", hint="`souq export OUT --gguf f16` writes one")
        return There(Llama(path), called=f"{LLAMA}, xllamacpp {version_of('xllamacpp')}")
    raise UsageError(f"no engine {line!r}{nearest(name, KNOWN)}", hint="transformers, llama.cpp:FILE.gguf or openai:URL#MODEL")  # fmt: skip


@dataclass(frozen=True)
class Here:
    """A model in this process."""

    model: Digest
    load: Callable[[], Any]
    at_once = 64  # answers that a kill can lose

    @property
    def name(self) -> str:
        return f"{TRANSFORMERS} {version_of(TRANSFORMERS)}"

    @cached_property
    def lm(self) -> Any:
        return self.load()

    def write(self, asks: Sequence[Ask], sampling: Sampling, progress: Progress = quiet) -> Batches:
        from souq.lab.generate import in_batches

        asked = [self.lm.chat([{"role": m.role, "content": m.content} for m in ask.messages]) for ask in asks]
        return in_batches(self.lm, asked, sampling, seeds=[ask.seed for ask in asks], progress=progress)


@dataclass(frozen=True)
class There:
    """A server, or llama.cpp's own in this process."""

    engine: Server | Llama
    called: str = ""
    at_once = 8 * AT_ONCE

    @property
    def model(self) -> Digest:
        return self.engine.model

    @property
    def name(self) -> str:
        return self.called or self.engine.under.engine

    @cached_property
    def _server(self) -> Server:
        return self.engine.server if isinstance(self.engine, Llama) else self.engine

    def write(self, asks: Sequence[Ask], sampling: Sampling, progress: Progress = quiet) -> Batches:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield list(enumerate(pool.map(lambda ask: self._told(ask, sampling), asks)))

    def _told(self, ask: Ask, sampling: Sampling) -> Told:
        turns = [{"role": m.role, "content": m.content} for m in ask.messages]
        told, usage = self._server.complete(turns, **_settings(sampling, ask.seed))
        finish: Finish = "stop" if told.finish_reason == "stop" else "length"
        said = (told.message.content or "").strip()
        return Told(text=said, finish=finish, tokens=getattr(usage, "completion_tokens", 0), asked=getattr(usage, "prompt_tokens", 0))  # fmt: skip


def _settings(sampling: Sampling, seed: int) -> dict[str, Any]:
    """As the protocol has them; what it does not have goes beside, where llama.cpp and vLLM read it."""
    told: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
    if sampling.stop:
        told["stop"] = list(sampling.stop)
    if sampling.temperature <= 0:
        return told
    more = {"top_k": sampling.top_k, "min_p": sampling.min_p}
    return told | {"top_p": sampling.top_p, "seed": seed % (1 << 31), "extra_body": {k: v for k, v in more.items() if v}}  # fmt: skip

"""Engines that write: transformers in this process or on many machines through Ray, llama.cpp, a server of OpenAI's protocol.

It knows how each is asked and how far each can be trusted to do it again: transformers (here or under Ray) gives the same
bytes for the same asks on the same machine, also after a stop; a server batches as it likes and promises nothing. What an
answer is good for is the corpus's business.

    teacher = writer("openai:http://127.0.0.1:8000/v1#smol", Path("out"))
    for batch in teacher.write(asks, Sampling(max_tokens=64)): ...
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from souq.errors import Hostile, Missing, NotFound, SouqError, UsageError, nearest
from souq.lab.chat import GROUP, Ask, Sampling, Told, Weigher
from souq.lab.engines import LLAMA, OPENAI, Transformers, parse
from souq.lab.engines.llama import Llama
from souq.lab.engines.openai import AT_ONCE, Server
from souq.lab.score_cache import TRANSFORMERS, folder_key, version_of
from souq.progress import Progress, quiet
from souq.records import Digest

RAY = "ray"
KNOWN = (TRANSFORMERS, f"{RAY}:{TRANSFORMERS}", OPENAI, LLAMA)
SEEDS = 1 << 31  # llama.cpp's have 32 bits, others' are signed
LONGEST = 256  # characters of a token: a server that sends more was not asked for it
_FOLDER = "make one with `souq export ./out`, and name it"


def writer(spec: str, source: Path | Transformers | None = None, *, serves: Digest = "") -> Weigher:
    """A writer by its line: `transformers`, `ray:transformers`, `openai:URL#MODEL`, `llama.cpp:FILE.gguf`.

    The first two load `source`: a folder, or for the first a model as it was built. `serves` is whose words a server's are
    said to be; else the source's.

    Raises:
        UsageError: no engine is called that, or the folder is missing.
        NotFound: no such folder or file.
    """
    name, _, rest = spec.partition(":")
    if name == RAY and rest != TRANSFORMERS:
        raise UsageError(f"no engine {spec[:80]!r}{nearest(spec, KNOWN)}", hint=f"write {RAY}:{TRANSFORMERS}")
    if spec == TRANSFORMERS or name == RAY:
        found = _loaded(source, spec)
        return Spread(found) if name == RAY else Here(found)
    if name not in (OPENAI, LLAMA, "vllm"):
        raise UsageError(f"no engine {spec[:80]!r}{nearest(name, KNOWN)}", hint=f"one of {', '.join(KNOWN[:2])}, openai:http://HOST:PORT/v1#MODEL, llama.cpp:FILE.gguf")  # fmt: skip
    if name == OPENAI and not serves:
        serves = _loaded(source, spec).model
    engine = parse(spec, serves=serves)
    assert isinstance(engine, Server | Llama)
    return Served(engine)


def _loaded(folder: Path | Transformers | None, spec: str) -> Transformers:
    if isinstance(folder, Transformers):
        if spec.startswith(RAY) and not isinstance(folder.files, Path):
            raise UsageError(f"{spec[:80]} reads a folder on every machine", hint="export main there, and name it")
        return folder
    if folder is None:
        raise UsageError(f"{spec[:80]} answers for a folder, and none is named", hint=_FOLDER)
    if not (folder / "config.json").is_file():
        raise NotFound(f"no config.json in {folder}", hint=_FOLDER)
    return Transformers(folder_key(folder), folder)


def _turns(ask: Ask) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in ask.messages]


def _groups(asks: Sequence[Ask], progress: Progress) -> Iterator[tuple[int, Sequence[Ask]]]:
    for start in range(0, len(asks), GROUP):
        progress("answers", start, len(asks))
        yield start, asks[start : start + GROUP]
    progress("answers", len(asks), len(asks))


# -- in this process ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """transformers in this process. Groups are cut in the asks' order, so a run that asks for whole groups again gives the same bytes."""

    engine: Transformers
    tells = True

    @property
    def model(self) -> Digest:
        return self.engine.model

    @property
    def name(self) -> str:
        return f"{TRANSFORMERS} {version_of('transformers')}{', bf16 where it can' if self.engine.quick else ''}"

    def write(self, asks: Sequence[Ask], sampling: Sampling, progress: Progress = quiet) -> Iterator[list[tuple[int, Told]]]:  # fmt: skip
        from souq.lab import generate

        lm = self.engine.lm
        for start, group in _groups(asks, progress):
            asked = [lm.chat(_turns(ask)) for ask in group]
            batches = generate.told(lm, asked, sampling, [ask.seed for ask in group])
            yield [(start + i, told) for batch in batches for i, told in batch]

    def weigh(self, asks: Sequence[Ask], options: Sequence[str], progress: Progress = quiet) -> Iterator[list[tuple[int, Mapping[str, float]]]]:  # fmt: skip
        from souq.lab import evals
        from souq.lab.packing import Passage, pack

        lm = self.engine.lm
        for start, group in _groups(asks, progress):
            asked = [lm.chat(_turns(ask)) for ask in group]
            passages = [
                Passage([*tokens, *lm.encode(option), lm.end], len(tokens), (i, option))
                for i, tokens in enumerate(asked)
                for option in options
            ]
            rows = pack(sorted(passages, key=lambda p: p.tokens), evals.ROW)
            log_p: dict[Any, float] = {tag: p for row in rows for tag, (p, _, _) in evals.through(lm, row).items()}
            yield [(start + i, {option: log_p[i, option] for option in options}) for i in range(len(group))]


# -- behind a server ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A server, or llama.cpp's own on loopback. Its client waits and asks again where it is busy (engines/openai.py)."""

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
    def tells(self) -> bool:
        return self.server.tells

    def write(self, asks: Sequence[Ask], sampling: Sampling, progress: Progress = quiet) -> Iterator[list[tuple[int, Told]]]:  # fmt: skip
        settings = self._settings(sampling)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start, group in _groups(asks, progress):
                yield list(enumerate(pool.map(lambda ask: self._told(ask, sampling, settings), group), start))

    def weigh(self, asks: Sequence[Ask], options: Sequence[str], progress: Progress = quiet) -> Iterator[list[tuple[int, Mapping[str, float]]]]:  # fmt: skip
        def weighed(ask: Ask) -> dict[str, float]:
            return {option: self.server.log_p(_turns(ask), option) for option in options}

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start, group in _groups(asks, progress):
                yield list(enumerate(pool.map(weighed, group), start))

    def _settings(self, sampling: Sampling) -> dict[str, Any]:
        """What shapes an answer, said outright: servers have defaults of their own, and the row says what it was drawn by."""
        told: dict[str, Any] = {"max_tokens": sampling.max_tokens, "temperature": max(sampling.temperature, 0.0)}
        if sampling.stop:
            told["stop"] = list(sampling.stop)
        if sampling.temperature <= 0:
            return told
        more = {"top_k": sampling.top_k, "min_p": sampling.min_p}
        if self._takes:
            return told | {"top_p": sampling.top_p, "extra_body": more}
        if sampling.top_k > 0 or sampling.min_p > 0:
            raise UsageError(f"{self.server.url} takes neither top_k nor min_p", hint="leave them out, or use another engine")  # fmt: skip
        return told | {"top_p": sampling.top_p}

    @cached_property
    def _takes(self) -> bool:
        """Whether it knows what is not OpenAI's: a server is tried once."""
        try:
            self.server.complete([{"role": "user", "content": "Hello"}], max_tokens=1, temperature=1, extra_body={"top_k": 0, "min_p": 0})  # fmt: skip
        except UsageError:
            return False
        return True

    def _told(self, ask: Ask, sampling: Sampling, settings: Mapping[str, Any]) -> Told:
        seed = {"seed": ask.seed % SEEDS} if sampling.temperature > 0 else {}
        found = self.server.complete(_turns(ask), **settings, **seed)
        choice = found.choices[0]
        said = choice.message.content
        if not isinstance(said, str):  # a refusal, a call of a tool, nothing: a filter drops the row
            said = ""
        if len(said) > LONGEST * sampling.max_tokens:
            raise Hostile(f"{self.server.url} sent {len(said):,} characters where {sampling.max_tokens} tokens were asked for")  # fmt: skip
        # Half a character can be neither written down nor hashed. Whatever else ended it, it was not the model.
        text = said.encode("utf-8", "replace").decode().strip()
        return Told(text=text, finish="stop" if choice.finish_reason == "stop" else "length", tokens=_count(found, "completion_tokens"), asked=_count(found, "prompt_tokens"))  # fmt: skip


def _count(found: Any, name: str) -> int:
    told = getattr(getattr(found, "usage", None), name, None)
    return told if isinstance(told, int) and 0 <= told < SEEDS else 0


# -- on many machines --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """transformers on every machine of a Ray cluster (RAY_ADDRESS, else one started here), a group at a time.

    Each machine reads the same folder and has souq installed. A group is answered as `Here` answers it, so where the
    machines are alike the bytes are those of one machine. Groups come as they are finished.
    """

    engine: Transformers
    tells = False

    @property
    def model(self) -> Digest:
        return self.engine.model

    @property
    def name(self) -> str:
        return f"{Here(self.engine).name}, ray {version_of(RAY)}"

    def write(self, asks: Sequence[Ask], sampling: Sampling, progress: Progress = quiet) -> Iterator[list[tuple[int, Told]]]:  # fmt: skip
        ray = _ray()
        groups = [{"start": start, "asks": msgspec.json.encode(list(group))} for start, group in _groups(asks, quiet)]
        if not groups:
            return
        settings = {
            "folder": str(self.engine.files),
            "model": self.model,
            "sampling": msgspec.json.encode(sampling),
            "quick": self.engine.quick,
        }
        rows = ray.data.from_items(groups, override_num_blocks=len(groups)).map_batches(
            _Worker, batch_size=1, batch_format="numpy", fn_constructor_kwargs=settings, **_places(ray, len(groups))
        )
        done = 0
        try:
            for row in rows.iter_rows():
                progress("answers", done, len(asks))
                batch = msgspec.json.decode(row["told"], type=list[tuple[int, Told]])
                yield [(int(row["start"]) + i, told) for i, told in batch]
                done += len(batch)
        except ray.exceptions.RayError as error:
            raise SouqError(f"Ray could not go on: {_last(error)}", hint="what was answered is kept: run the same again") from error  # fmt: skip
        progress("answers", done, len(asks))

    def weigh(self, asks: Sequence[Ask], options: Sequence[str], progress: Progress = quiet) -> Iterator[list[tuple[int, Mapping[str, float]]]]:  # fmt: skip
        raise UsageError("ray:transformers writes and does not weigh", hint="use --engine transformers")


class _Worker:
    """One machine's (or GPU's) model, loaded once."""

    def __init__(self, folder: str, model: Digest, sampling: bytes, quick: bool) -> None:
        self.here = Here(Transformers(model, Path(folder), quick=quick))
        self.sampling = msgspec.json.decode(sampling, type=Sampling)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        asks = msgspec.json.decode(batch["asks"][0], type=list[Ask])
        told = [pair for some in self.here.write(asks, self.sampling) for pair in some]
        return {"start": batch["start"], "told": [msgspec.json.encode(told)]}


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Missing("ray is not installed", hint='run `pip install "souq[ray]"`') from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told what is asked here
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def _places(ray: Any, groups: int) -> dict[str, Any]:
    """One actor a GPU, else one a machine with most of its processors: a model is too large to be loaded by each of them."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus := math.floor(sum(found.get("GPU", 0) for found in machines)):
        return {"num_gpus": 1, "compute": ray.data.ActorPoolStrategy(size=min(gpus, groups))}
    least = min(int(found.get("CPU", 1)) for found in machines)
    size = min(len(machines), groups)
    return {"num_cpus": max(1, least - 1), "compute": ray.data.ActorPoolStrategy(size=size)}


def _last(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__

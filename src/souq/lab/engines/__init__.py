"""Who answers an eval's cases: transformers in this process, llama.cpp, or a server that speaks OpenAI's protocol.

An engine says which kinds of eval it can judge, and gives values as they come. What it gave is kept under its own name
(score_cache.py), so two engines' scores never meet in one comparison. The gate asks transformers; the others are for
people.

    engine = parse("openai:http://127.0.0.1:8000/v1#smol", serves=lock_digest(main.model))
    scores(repo, main.evals, engine, progress)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from souq.build.model import Built
from souq.errors import NotFound, UsageError, nearest
from souq.evals.eval import Eval
from souq.evals.score import Score
from souq.lab.engines.llama import Llama
from souq.lab.engines.openai import Server
from souq.lab.engines.slices import here, sliced, spread
from souq.lab.family import Family
from souq.lab.score_cache import TRANSFORMERS, Conditions, Kept, conditions, folder_key, get, keep, kept_of, model_key
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.repo.git import GitRepo
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Checkpoint, Lock
from souq.weights.store import Stored

OFTEN = 1.0  # seconds between two writes of values: what a kill can lose, and what a disk can bear
OPENAI, LLAMA = "openai", "llama.cpp"
KNOWN = (TRANSFORMERS, OPENAI, LLAMA)


class Engine(Protocol):
    """What can be asked. It loads or connects when it is first run."""

    @property
    def model(self) -> Digest:
        """Whose values they are."""

    @property
    def under(self) -> Conditions:
        """What its values are kept under."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of eval it can judge: some have log-probabilities, all generate."""

    def run(self, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
        """The values of the suite's cases, in any order, a batch at a time."""


@dataclass(frozen=True)
class Transformers:
    """A model in this process.

    `measure` are the files of the model in whose tokens a loss is counted; `bf16` computes in bf16 where the machine
    does, which evals do not. `base` is the model that open answers are compared with, itself unless given. Of a model
    whose tensors a `lock` names, what it has in common with others of its `family` is shared.
    """

    model: Digest
    files: Mapping[str, bytes] | Path
    weights: Checkpoint | None = None
    measure: Mapping[str, bytes] | None = None
    bf16: bool = False
    base: Transformers | None = None
    lock: Lock | None = None
    family: Family | None = None
    kinds = frozenset({"exact", "choice", "loss", "answer", "open"})

    @property
    def under(self) -> Conditions:
        return conditions()

    @cached_property
    def lm(self) -> Any:
        from souq.lab import lm

        if self._shares is not None:
            return self._shares[0].lm(*self._shares[1:], self.measure)
        dtype = lm.best_dtype() if self.bf16 else None
        return lm.load(self.files, self.weights, dtype=dtype, measure=self.measure)

    def run(self, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
        from souq.lab import evals

        return evals.run(self.lm, suite, progress, self.below)

    @property
    def below(self) -> Any:
        """What is kept of the layers that it has in common with its family; None for nothing."""
        if self._shares is None:
            return None
        family, files, _, lock = self._shares
        return family.below(self.lm, files, lock, self.under)

    @property
    def _shares(self) -> tuple[Family, Mapping[str, bytes], Checkpoint, Lock] | None:
        """What a family must know of it."""
        if (
            self.family is None
            or self.lock is None
            or self.weights is None
            or isinstance(self.files, Path)
            or self.bf16
        ):
            return None
        return self.family, self.files, self.weights, self.lock

    def run_open(self, suite: Eval, reference: Mapping[str, Kept], progress: Progress) -> Iterator[list[Kept]]:
        """Open answers beside the base's, which `reference` has."""
        from souq.lab import open_answers

        if self.base is None or self.base.model == self.model:
            return open_answers.speak(self.lm, suite, progress)
        own, other = (open_answers.Reader(each.lm, each.below) for each in (self, self.base))
        return open_answers.run(own, other, suite, reference, progress)

    def unloaded(self) -> Transformers:
        """The same, of which this process has read nothing yet: what is sent is where a model is to be read."""
        return replace(self, base=self.base and self.base.unloaded(), family=None)


def of_built(main: Snapshot, model: Built, family: Family | None = None) -> Transformers:
    """A built model of main's base, which measures its losses and is what its open answers are compared with."""
    key, family = model_key(model.digest, model.files), family or Family(main.repo.cache)
    own_base = _base(main, family)
    return Transformers(key, model.files, model.weights, base_files(main), False, own_base, model.lock, family)


def of_folder(main: Snapshot, folder: Path) -> Transformers:
    """A model in a folder that others wrote, measured as those of main are.

    Raises:
        NotFound: no model is there.
    """
    if not (folder / "config.json").is_file():
        raise NotFound(f"no model in {folder}", hint="name a Hugging Face folder, such as `souq export` writes")
    return Transformers(folder_key(folder), folder, measure=base_files(main), base=_base(main))


def _base(main: Snapshot, family: Family | None = None) -> Transformers:
    files, weights = base_files(main), Stored(main.base, main.repo.store)
    return Transformers(model_key(main.base_digest, files), files, weights, files, lock=main.base, family=family)


def parse(text: str, *, serves: Digest) -> Engine:
    """An engine other than transformers by its line: `openai:URL#MODEL`, `llama.cpp:FILE.gguf`.

    A server's model goes by the digest that it is said to serve.

    Raises:
        UsageError: no engine is called that.
        NotFound: no such file.
    """
    name, _, rest = text.partition(":")
    if name == OPENAI and rest.startswith(("http://", "https://")):
        url, _, model = rest.partition("#")
        return Server(serves, url.rstrip("/"), model)
    if name == LLAMA and rest:
        if not (path := Path(rest)).is_file():
            raise NotFound(
                f"no file {rest}", hint="name a GGUF file: llama.cpp's convert_hf_to_gguf.py makes one of an export"
            )
        return Llama(path)
    if name == "vllm":
        raise UsageError(
            "vLLM is asked through its server",
            hint="run `souq export ./out` and `vllm serve ./out`, then --engine openai:http://127.0.0.1:8000/v1",
        )
    raise UsageError(
        f"no engine {text[:80]!r}{nearest(name, KNOWN)}",
        hint="one of transformers, openai:http://HOST:PORT/v1#MODEL, llama.cpp:FILE.gguf",
    )


def scores(
    repo: GitRepo, suites: Mapping[str, Eval], engine: Engine, progress: Progress = quiet, *, again: bool = False
) -> dict[str, Score]:
    """Each suite's score. What was kept is not asked again, unless `again`; what is new is kept.

    Raises:
        UsageError: the engine cannot judge a suite of that kind.
    """
    refuse(engine, suites)
    values = {name: {} if again else get(repo, engine.model, suite, engine.under) for name, suite in suites.items()}
    cases = {name: [case for case in suite.cases if case.id not in values[name]] for name, suite in suites.items()}
    left = [replace(suite, cases=tuple(cases[name])) for name, suite in suites.items() if cases[name]]
    for name, batch in _by_the_second(_asked(repo, engine, left, progress)):
        keep(repo, engine.model, suites[name], batch, engine.under)
        values[name] |= {kept.case: kept.value for kept in batch}
    return {name: Score.on(suite, values[name]) for name, suite in suites.items()}


Named = tuple[str, list[Kept]]
"""An eval and values of its cases."""


def _asked(repo: GitRepo, engine: Engine, left: Sequence[Eval], progress: Progress) -> Iterator[Named]:
    """The values of the cases that are left; a model's in slices, by the repository's workers where it has some."""
    if not isinstance(engine, Transformers):
        yield from ((suite.name, batch) for suite in left for batch in engine.run(suite, progress))
        return
    asked = [some for suite in left for some in sliced(suite, _reference(repo, engine, suite, progress))]
    yield from spread(repo.workers, engine, asked, progress) if repo.workers else here(engine, asked, progress)


def _reference(repo: GitRepo, engine: Transformers, suite: Eval, progress: Progress) -> Mapping[str, Kept]:
    """What the base says to open questions, which are judged beside that; nothing for the base itself."""
    if suite.spec.kind != "open" or engine.base is None or engine.base.model == engine.model:
        return {}
    scores(repo, {suite.name: suite}, engine.base, progress)
    return kept_of(repo, engine.base.model, suite, engine.base.under)


def refuse(engine: Engine, suites: Mapping[str, Eval]) -> None:
    """Say no before anything is loaded.

    Raises:
        UsageError: the engine cannot judge a suite of that kind.
    """
    for name, suite in suites.items():
        if (kind := suite.spec.kind) not in engine.kinds:
            needs = "the log-probabilities of a given answer" if kind == "choice" else "those of a whole text"
            raise UsageError(
                f"{engine.under.engine} cannot judge `{name}`: `{kind}` needs {needs}",
                hint="leave it out, or use --engine transformers",
            )


def _by_the_second(batches: Iterable[Named]) -> Iterator[Named]:
    """`batches` in fewer: an eval's values that came within a second go together."""
    held: list[Kept] = []
    of, since = "", time.monotonic()
    for name, batch in batches:
        if held and name != of:
            yield of, held
            held = []
        of, held = name, [*held, *batch]
        if time.monotonic() - since >= OFTEN:
            yield of, held
            held, since = [], time.monotonic()
    if held:
        yield of, held

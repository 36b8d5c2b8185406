"""llama.cpp on a GGUF file: its own server, started in this process on loopback through xllamacpp's wheels.

What people run on laptops computes with other kernels and other number formats than transformers, on a model that was
quantised; its scores are of that file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from souq.errors import SouqError
from souq.evals.eval import Eval
from souq.lab.engines.openai import AT_ONCE, Server
from souq.lab.score_cache import Conditions, Kept, conditions, file_key
from souq.optional import installed_version, needs
from souq.progress import Progress
from souq.records import Digest

CONTEXT = 2_048  # tokens for each question and its answer
QUIET = -1  # of its log


@dataclass(frozen=True)
class Llama:
    """A GGUF file."""

    path: Path
    kinds = frozenset({"exact", "choice", "answer"})

    @cached_property
    def model(self) -> Digest:
        return file_key(self.path)

    @property
    def under(self) -> Conditions:
        return conditions(
            f"llama.cpp, xllamacpp {installed_version('xllamacpp')}", conditions().arithmetic.replace("float32", "GGUF")
        )

    def run(self, suite: Eval, progress: Progress) -> Iterator[list[Kept]]:
        return self.served.run(suite, progress)

    @cached_property
    def served(self) -> Server:
        """What it is asked through."""
        return Server(self.model, f"{self._server.listening_address}/v1")

    @cached_property
    def _server(self) -> Any:
        with needs("xllamacpp", "engines"):
            import xllamacpp
        params = xllamacpp.CommonParams()
        params.model.path, params.verbosity = str(self.path), QUIET
        params.n_parallel = AT_ONCE // 2
        params.n_ctx = CONTEXT * params.n_parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _threads()
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            raise SouqError(f"llama.cpp cannot load {self.path.name}: {error}"[:300]) from error


def _threads() -> int:
    return int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1

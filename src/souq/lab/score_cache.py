"""What was scored before, case by case: kept beside the builds, and used again only where all that counts is
the same.

A value is one model's on one case of one eval, under conditions: the weights and the files around them (a chat template
changes every answer), the eval's own digest, how cases are judged, and what computed it. It knows nothing of models
and judges nothing. It can all be made again: a line that is torn or damaged is as if it had never been.

    under = conditions()
    keep(repo, model, suite, [Kept(case="a", value=1.0)], under)
    get(repo, model, suite, under)   # {"a": 1.0}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import msgspec
from blake3 import blake3

from souq import checked_lines
from souq.evals.eval import Eval
from souq.optional import installed_version
from souq.records import Digest, Record, digest_files, digest_of
from souq.repo.git import GitRepo

HARNESS = 2  # one more whenever some case would be judged otherwise; 1 knew no generated answers
TRANSFORMERS = "transformers"


class Kept(Record, frozen=True):
    """One case's value, and what was answered where something was generated, and whether that came to its end."""

    case: str
    value: float
    answer: str = msgspec.field(default="", name="said")
    ended: bool = True


class Conditions(Record, frozen=True):
    """What a value depends on beside the model and the eval; two models are compared under the same ones."""

    engine: str  # which, and of what version
    arithmetic: str  # number format, and the class of processor: sums in another order may turn a near tie
    harness: int = HARNESS

    def __str__(self) -> str:
        return f"{self.engine}, {self.arithmetic}, judging {self.harness}"


def conditions(engine: str = "", arithmetic: str = "") -> Conditions:
    """The conditions of an engine, or of transformers on this machine, found out without importing it."""
    return Conditions(engine=engine or _libraries(), arithmetic=arithmetic or f"float32 on {_processor()}")


@cache
def _libraries() -> str:
    """A new transformers or torch may compute a model otherwise."""
    return f"{TRANSFORMERS} {installed_version('transformers')}, torch {installed_version('torch')}"


@cache
def _processor() -> str:
    """The widest vector instructions numpy knows of: what BLAS chooses its kernels by."""
    if Path("/proc/driver/nvidia/version").exists():  # the lab computes there when it can
        return "nvidia"
    import numpy as np

    shown = np.show_config(mode="dicts") or {}
    known = shown.get("SIMD Extensions", {})
    return str(max(known.get("found", []), default="") or max(known.get("baseline", []), default="any processor"))


def model_key(weights: Digest, files: Mapping[str, bytes]) -> Digest:
    """The name of a model that is asked: its tensors, and the config, tokenizer and chat template around them."""
    return digest_of([weights, digest_files(dict(files))])


def folder_key(folder: Path) -> Digest:
    """The name of a model in a folder that others wrote: every byte in it counts."""
    return digest_of({path.name: file_key(path) for path in sorted(folder.iterdir()) if path.is_file()})


def file_key(path: Path) -> Digest:
    """A file's digest, however large it is."""
    return f"b3:{blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()}"


def get(repo: GitRepo, model: Digest, suite: Eval, under: Conditions) -> dict[str, float]:
    """The values kept of an eval's cases, by case; those that are absent were never scored so."""
    return {case: kept.value for case, kept in kept_of(repo, model, suite, under).items()}


def kept_of(repo: GitRepo, model: Digest, suite: Eval, under: Conditions) -> dict[str, Kept]:
    """What is kept of an eval's cases, by case: the value, and what was answered where something was generated."""
    kept = everything(repo, model, suite.digest, under)
    return {case.id: kept[case.id] for case in suite.cases if case.id in kept}


def keep(repo: GitRepo, model: Digest, suite: Eval, values: Iterable[Kept], under: Conditions) -> None:
    """Add values of an eval's cases."""
    add(repo, model, suite.digest, values, under)


def everything(repo: GitRepo, model: Digest, exam: Digest, under: Conditions) -> dict[str, Kept]:
    """All that was added of what goes by a digest, an eval's or another exam's."""
    lines = checked_lines.bodies(_path(repo, model, exam, under))
    return {kept.case: kept for line in lines if (kept := _read(line)) is not None}


def add(repo: GitRepo, model: Digest, exam: Digest, values: Iterable[Kept], under: Conditions) -> None:
    """Add values, in one write that is on the disk when this returns; of two for one case the later counts."""
    lines = (msgspec.json.encode(kept) for kept in values if math.isfinite(kept.value))
    checked_lines.append(_path(repo, model, exam, under), lines)


def _path(repo: GitRepo, model: Digest, exam: Digest, under: Conditions) -> Path:
    names = (model, exam, digest_of(under))
    return repo.cache / "scores" / f"{'-'.join(name.removeprefix('b3:')[:32] for name in names)}.jsonl"


def _read(line: bytes) -> Kept | None:
    try:
        return msgspec.json.decode(line, type=Kept)
    except msgspec.MsgspecError:
        return None

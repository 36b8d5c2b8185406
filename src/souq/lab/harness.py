"""Tasks of lm-evaluation-harness on our models, through its own library: a YAML and its data in a folder of yours.

A task is code: its templates are Jinja's and `!function` runs Python. So a task comes from a folder that whoever types
the command trusts, never from a contribution, and no check asks one. Nothing is fetched: the hub is switched off.

    score(repo, Task("capitals", Path("./tasks")), engine)
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from souq.errors import NotFound, SouqError, UsageError, nearest
from souq.evals.eval import Kind
from souq.evals.score import Score
from souq.lab.engines import Transformers
from souq.lab.score_cache import Conditions, Kept, add, conditions, everything, file_key
from souq.optional import installed_version, needs
from souq.progress import Progress, quiet
from souq.records import Digest, digest_of
from souq.repo.git import GitRepo

METRICS: dict[str, Kind] = {"acc": "choice", "exact_match": "answer"}
Samples = dict[str, list[dict[str, Any]]]  # of each task that was asked
WHOLE = ""  # the case under which the number of cases is kept: without it they are not all there
BATCH = 16


@dataclass(frozen=True)
class Task:
    """What is asked: a task by name, the folder that defines it, and how many of its cases."""

    name: str
    include: Path
    limit: int | None = None

    @property
    def digest(self) -> Digest:
        """Of every file in the folder, so that a changed task is another."""
        files = {str(path.relative_to(self.include)): file_key(path) for path in self._files()}
        return digest_of([self.name, self.limit, files])

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.include.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def score(repo: GitRepo, task: Task, engine: Transformers, progress: Progress = quiet, *, again: bool = False) -> Score:
    """A task's score, as an eval's: `acc` or `exact_match`, case by case.

    Raises:
        Missing: lm-eval is not installed.
        NotFound: no such folder or task.
        UsageError: it has neither metric.
    """
    if not task.include.is_dir():
        raise NotFound(f"no folder {task.include}", hint="name the folder that holds the task's YAML with --include")
    under = conditions(f"lm-eval {installed_version('lm-eval')}, {conditions().engine}")
    kept = None if again else _kept(repo, task, engine, under)
    metric, cases = kept or _ask(task, engine, progress)
    if kept is None:
        values = [Kept(case=name, value=value) for name, value in cases.items()]
        add(repo, engine.model, task.digest, [*values, Kept(case=WHOLE, value=len(values), answer=metric)], under)
    return Score.of(task.name, METRICS[metric], cases)


def _kept(repo: GitRepo, task: Task, engine: Transformers, under: Conditions) -> tuple[str, dict[str, float]] | None:
    """The metric and each case's value, where all of them are there."""
    cases = everything(repo, engine.model, task.digest, under)
    whole = cases.pop(WHOLE, None)
    if whole is None or whole.value != len(cases):
        return None
    return whole.answer, {name: kept.value for name, kept in cases.items()}


def _ask(task: Task, engine: Transformers, progress: Progress) -> tuple[str, dict[str, float]]:
    library = _library()
    progress("task cases", 0, 1)
    with contextlib.chdir(task.include):  # data_files are named from where the task is
        known = library.tasks.TaskManager(include_path=str(Path.cwd()), include_defaults=False)
        names = {*known.all_tasks, *known.all_groups, *known.all_tags}
        if task.name not in names:
            raise NotFound(
                f"no task {task.name!r} in {task.include}{nearest(task.name, names)}",
                hint=f"there: {', '.join(sorted(names)[:8]) or 'none'}",
            )
        try:
            results = library.simple_evaluate(
                _model(engine),
                tasks=[task.name],
                task_manager=known,
                limit=task.limit,
                apply_chat_template=True,
                bootstrap_iters=0,
            )
        except (ValueError, KeyError, TypeError, OSError, AssertionError) as error:
            raise SouqError(
                f"lm-eval cannot run {task.name}: {type(error).__name__}: {error}"[:400], hint="see the task's YAML"
            ) from error
    samples: Samples = results["samples"]
    count = sum(map(len, samples.values()))
    progress("task cases", count, count)
    return _values(task, samples)


def _values(task: Task, samples: Samples) -> tuple[str, dict[str, float]]:
    """The metric and each case's value; of a group (MMLU is one) all cases of all its tasks, each counting alike."""
    one = samples.keys() == {task.name}
    read = {name: _of_task(name, cases) for name, cases in sorted(samples.items())}
    metrics = sorted({metric for metric, _ in read.values()})
    if len(metrics) != 1:
        what = f"is measured in {' and '.join(metrics)}" if metrics else "has no task"
        raise UsageError(
            f"the group {task.name} {what}", hint=f"ask for one: {', '.join([*read][:8]) or 'none is there'}"
        )
    values = {
        case if one else f"{name}/{case}": value for name, (_, part) in read.items() for case, value in part.items()
    }
    return metrics[0], values


def _of_task(name: str, samples: list[dict[str, Any]]) -> tuple[str, dict[str, float]]:
    metric = next((known for known in METRICS if samples and known in samples[0]), None)
    if metric is None:
        raise UsageError(
            f"{name} has none of the metrics {', '.join(METRICS)}", hint="add one to metric_list in its YAML"
        )
    filters = {sample["filter"] for sample in samples}
    first = [sample for sample in samples if sample["filter"] == min(filters)]
    return metric, {str(sample["doc"].get("id", sample["doc_id"])): float(sample[metric]) for sample in first}


def _model(engine: Transformers) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=engine.lm.net, tokenizer=engine.lm.tokenizer, batch_size=BATCH)


def _library() -> Any:
    os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    with needs("lm-eval", "harness"):
        import lm_eval
        import lm_eval.tasks
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval

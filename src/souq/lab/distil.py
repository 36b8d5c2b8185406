"""Teach a student what a teacher wrote, and how sure the teacher was: one loop for every loss (student_config.py).

student = distil(teacher, rows, Lesson(layers=8, loss="forward"), work=Path("student.work"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from souq.errors import UsageError
from souq.lab import generate, teacher_targets
from souq.lab.chat import Sampling
from souq.lab.checkpoints import Checkpointer
from souq.lab.lm import LM, autocast, unpacked
from souq.lab.packing import PackedRow, TokenSequence, logits, sequences_of
from souq.lab.score_cache import folder_key
from souq.lab.student import begun, one_vocabulary, parameters
from souq.lab.student_config import BEGINNINGS, DistillConfig
from souq.lab.train import TARGETS, Batch, Loss, as_it_is, cross_entropy, deterministic, shuffled, train_loop, with_lora
from souq.progress import Progress, quiet
from souq.records import digest_of
from souq.repo.rows import rows_digest
from souq.weights.delta import DTYPES, Array
from souq.weights.safetensors import write_tensors


@dataclass(frozen=True)
class Student:
    """What came out: the model, which of its teacher's layers it has, the two sizes, and the loss as it learned."""

    lm: LM
    layers: tuple[int, ...]
    parameters: int
    teacher_parameters: int
    curve: tuple[float, ...]


def distil(
    teacher: LM, rows: Sequence[Mapping[str, Any]], lesson: DistillConfig, *, work: Path | None = None, name: str = "",
    progress: Progress = quiet,
) -> Student:  # fmt: skip
    """A student taught on a corpus's rows. In `work` it keeps how far it came; `name` is the teacher's digest.

    Raises:
        UsageError: there is nothing to learn from, or the two have other vocabularies and the loss compares odds.
    """
    lesson.vetted()
    if not rows:
        raise UsageError("the corpus holds no kept rows", hint="look at rejected/ for why")
    lm, kept = begun(teacher, lesson, [sequences_of(teacher, dict(row)) for row in rows[:64]])
    if lesson.loss != "words" and not one_vocabulary(teacher, lm):
        raise UsageError(
            f"the student reads other tokens than its teacher, and `{lesson.loss}` compares odds token by token",
            hint='teach it by what the teacher wrote: `loss = "words"`',
        )
    passages = [sequences_of(lm, dict(row), number) for number, row in enumerate(rows)]
    files = _files(work, name, rows, passages, lesson)
    with deterministic():
        loss, before = _lesson(teacher, lm, passages, lesson, files.get("signals"), progress)
        curve = _taught(lm, lesson, passages, loss, before, files.get("step"), progress)
    return Student(lm, kept, parameters(lm), parameters(teacher), curve)


def _files(
    work: Path | None,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    passages: Sequence[TokenSequence],
    lesson: DistillConfig,
) -> dict[str, Path]:
    """Where signals and steps are kept; each name is a digest of all that shapes it: of a folder every byte, and of the
    passages their tokens, which another student's template makes others.
    """
    if work is None:
        return {}
    work.mkdir(parents=True, exist_ok=True)
    data = rows_digest(rows)
    read = [[passage.start, *passage.tokens] for passage in passages]
    begins = "" if lesson.start in BEGINNINGS else folder_key(Path(lesson.start).expanduser())
    heard = digest_of([name, read, lesson.targets, lesson.k, lesson.temperature, lesson.seed])
    shaped = digest_of([name, data, msgspec.to_builtins(lesson), begins])
    return {"signals": work / f"signals-{heard[3:19]}.pt", "step": work / f"step-{shaped[3:19]}.pt"}


def _lesson(
    teacher: LM, lm: LM, passages: Sequence[TokenSequence], lesson: DistillConfig, file: Path | None, progress: Progress
) -> tuple[Loss, Callable[[int, Batch], Batch]]:
    if lesson.loss == "words":
        return cross_entropy, as_it_is
    heard = teacher_targets.gather(teacher, passages, lesson, file, progress)

    def loss(net: Any, row: PackedRow) -> Any:
        found, chosen, _ = logits(net, row)
        log_q = torch.log_softmax(found / lesson.temperature, -1)
        apart = heard.distance(row, log_q).sum()
        if not lesson.words or any(passage.tag is None for passage, _ in row.paths):
            return apart
        own = torch.log_softmax(found, -1).gather(1, chosen[:, None]).sum()
        return (1 - lesson.words) * apart - lesson.words * own

    return loss, _own_answers(lm, lesson) if lesson.on_policy else as_it_is


def _own_answers(lm: LM, lesson: DistillConfig) -> Callable[[int, Batch], Batch]:
    """In some batches, the student's answer stands in the corpus's place; each is drawn by a seed of its own."""

    def before(step: int, batch: Batch) -> Batch:
        if int((step + 1) * lesson.on_policy) == int(step * lesson.on_policy):
            return batch
        lm.net.eval()
        asked = [passage.tokens[: passage.start] for passage in batch]
        seeds = [int(digest_of([lesson.seed, step, i])[3:18], 16) for i in range(len(batch))]
        sampling = Sampling(temperature=1.0, max_tokens=lesson.max_tokens)
        told = {i: said.text for part in generate.generate_batches(lm, asked, sampling, seeds) for i, said in part}
        lm.net.train()
        return [
            replace(passage, tokens=[*asked[i], *lm.encode(told[i]), lm.eos_id], tag=None)
            for i, passage in enumerate(batch)
        ]

    return before


def _taught(
    lm: LM, lesson: DistillConfig, passages: Sequence[TokenSequence], loss: Loss, before: Callable[[int, Batch], Batch],
    file: Path | None, progress: Progress,
) -> tuple[float, ...]:  # fmt: skip
    net = _learning(lm, lesson)
    batches = shuffled(passages, lesson.epochs, lesson.batch, lesson.seed)
    curve = train_loop(
        net, batches, lesson.lr, progress, label="distil tokens", loss=_quickly(loss), before=before,
        keeper=Checkpointer(file) if file else None,
    )  # fmt: skip
    if net is not lm.net:
        lm.net = net.merge_and_unload()
    lm.net.eval().requires_grad_(False)
    return curve


def _quickly(loss: Loss) -> Loss:
    """In bf16 where the hardware computes in it. Anew for each row: autocast keeps what it cast until it ends, and the
    weights change between rows.
    """

    def told(net: Any, row: PackedRow) -> Any:
        with autocast(next(net.parameters()).device.type):
            return loss(net, row)

    return told


def _learning(lm: LM, lesson: DistillConfig) -> Any:
    """The network with what learns asking for gradients: all of it but the embeddings, or an adapter around it."""
    if lesson.method == "lora":
        return with_lora(lm.net, lesson.rank, 2 * lesson.rank, TARGETS, None, lesson.seed)
    new = lesson.embeddings or lesson.start == "scratch"
    for name, parameter in lm.net.named_parameters():
        parameter.requires_grad_(new or ("embed_tokens" not in name and "lm_head" not in name))
    return lm.net


def save(student: LM, files: Mapping[str, bytes], folder: Path) -> None:
    """A Hugging Face folder in bf16, which AutoModelForCausalLM loads; `files` are its tokenizer's and template's."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(student.net.config.to_json_string(use_diff=False)) | {"dtype": "bfloat16"}
    config.pop("_name_or_path", None)  # where it lay on this machine
    tensors: dict[str, Array] = {
        name: value.float().cpu().numpy().astype(DTYPES["BF16"])
        for name, value in unpacked(student.net.state_dict()).items()
        if not (name == "lm_head.weight" and config.get("tie_word_embeddings"))
    }
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

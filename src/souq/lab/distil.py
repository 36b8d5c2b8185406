"""Teach a student what a teacher wrote, and how sure the teacher was: one loop for every loss (student_config.py).

student = distil(teacher, rows, DistillConfig(layers=8, loss="forward"), work=Path("student.work"))
report = run(build(main), rows, DistillConfig(layers=8), Path("student"), licence="Apache-2.0")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from souq.build.model import Built
from souq.errors import UsageError
from souq.evals.eval import Eval
from souq.evals.score import Score
from souq.lab import evals as lab_evals
from souq.lab import generate, teacher_targets
from souq.lab.chat import Sampling
from souq.lab.checkpoints import Checkpointer
from souq.lab.lm import LM, autocast, best_dtype, load, stored_state
from souq.lab.packing import PackedRow, TokenSequence, learnable, logits, sequence_of, sequences_of
from souq.lab.score_cache import folder_key
from souq.lab.student import one_vocabulary, parameters, untaught
from souq.lab.student_config import BEGINNINGS, DistillConfig, Sizes, StudentReport, rare_recall
from souq.lab.train import Batch, Loss, cross_entropy, deterministic, shuffled, targets_of, train_loop, with_lora
from souq.model.config import MODEL_FILES
from souq.model.gguf.writer import vet, write_gguf
from souq.progress import Progress, quiet
from souq.records import digest_of
from souq.repo.rows import rows_digest
from souq.weights.delta import DTYPES, Array
from souq.weights.safetensors import write_tensors

Rows = Sequence[Mapping[str, Any]]


def run(
    teacher: Built,
    rows: Rows,
    config: DistillConfig,
    target: Path,
    *,
    licence: str,
    evals: Sequence[Eval] = (),
    gguf: str = "",
    papers: Callable[[StudentReport], Mapping[str, bytes]] = lambda report: {},
    progress: Progress = quiet,
) -> StudentReport:
    """Train a student on a corpus's rows, write it to `target` whole, and score it and its teacher on `evals`.

    `licence` is the student's; `gguf`, a kind of GGUF file to write too; `papers` what else the folder holds, such as
    its card. Until all of it is there it stands in `TARGET.work`: what stops is taken up again.

    Raises:
        UsageError: nothing to learn from, or no such kind of GGUF file.
        Hostile: a student that souq writes no GGUF file of.
    """
    files = dict(teacher.files) if config.start in BEGINNINGS else _tokenizer_files(Path(config.start))
    if gguf:
        vet(gguf, files, "the student")
    dtype = best_dtype()
    lm = load(teacher.files, teacher.weights, dtype=dtype)
    scores = {"teacher": lab_evals.score(lm, evals, progress)} if evals else {}
    work = target.with_name(f"{target.name}.work")
    student = distil(lm, rows, config, work=work, name=teacher.digest, progress=progress)
    folder = work / target.name
    save(student.lm, files, folder)
    if evals:
        scores["student"] = lab_evals.score(load(folder, dtype=dtype), evals, progress)
    if gguf:
        write_gguf(folder, folder / f"{target.name}.{gguf}.gguf", gguf, licence=licence, progress=progress)
    report = StudentReport(
        parameters=student.sizes,
        layers=student.layers,
        rows=len(rows),
        curve=student.curve,
        teacher=teacher.digest,
        lesson=msgspec.structs.replace(config, start=Path(config.start).name),
        licence=licence,
        scores={model: {name: score.value for name, score in by_eval.items()} for model, by_eval in scores.items()},
        rare_recall={model: _rare_recall(by_eval, evals, rows) for model, by_eval in scores.items()},
    )
    for name, data in papers(report).items():
        (folder / name).write_bytes(data)
    if target.exists():
        target.rmdir()
    folder.replace(target)
    for file in [*work.glob("signals-*"), *work.glob("step-*")]:
        file.unlink()
    if not any(work.iterdir()):
        work.rmdir()
    return report


def _rare_recall(scores: Mapping[str, Score], evals: Sequence[Eval], rows: Rows) -> dict[str, float | None]:
    return {suite.name: rare_recall(scores[suite.name], suite, rows) for suite in evals}


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    """What stands beside the weights of a student that began as somebody's model."""
    return {name: (folder / name).read_bytes() for name in MODEL_FILES if (folder / name).is_file()}


@dataclass(frozen=True)
class Student:
    """The model, which of its teacher's layers it has, the two sizes, and the loss as it learned."""

    lm: LM
    layers: tuple[int, ...]
    sizes: Sizes
    curve: tuple[float, ...]


def distil(
    teacher: LM,
    rows: Rows,
    config: DistillConfig,
    *,
    work: Path | None = None,
    name: str = "",
    progress: Progress = quiet,
) -> Student:
    """A student taught on a corpus's rows. In `work` it keeps how far it came; `name` is the teacher's digest.

    Raises:
        UsageError: there is nothing to learn from, or the two have other vocabularies and the loss compares odds.
    """
    config.vetted()
    if not rows:
        raise UsageError("the corpus holds no kept rows", hint="look at rejected/ for why")
    lm, layers = untaught(teacher, config, learnable(teacher, [sequence_of(teacher, row) for row in rows[:64]]))
    if config.loss != "words" and not one_vocabulary(teacher, lm):
        raise UsageError(
            f"the student reads other tokens than its teacher, and `{config.loss}` compares odds token by token",
            hint='teach it by what the teacher wrote: `loss = "words"`',
        )
    sequences = sequences_of(lm, rows)
    targets_file, step_file = _files(work, name, rows, sequences, config)
    with deterministic():
        if config.loss == "words":
            loss: Loss = cross_entropy
        else:
            targets = teacher_targets.gather(teacher, sequences, config, targets_file, progress)
            loss = _distillation(targets, config)
        curve = _train(lm, config, sequences, loss, step_file, progress)
    return Student(lm, layers, Sizes(teacher=parameters(teacher), student=parameters(lm)), curve)


def _files(
    work: Path | None, name: str, rows: Rows, sequences: Sequence[TokenSequence], config: DistillConfig
) -> tuple[Path | None, Path | None]:
    """Where the teacher's targets and the steps are kept.

    Each name is a digest of all that shapes the file: of a folder every byte, and of the sequences their tokens, which
    another student's template makes others.
    """
    if work is None:
        return None, None
    work.mkdir(parents=True, exist_ok=True)
    tokens = [[sequence.start, *sequence.tokens] for sequence in sequences]
    start = "" if config.start in BEGINNINGS else folder_key(Path(config.start).expanduser())
    targets = digest_of([name, tokens, config.targets, config.k, config.temperature, config.seed])
    steps = digest_of([name, rows_digest(rows), msgspec.to_builtins(config), start])
    return work / f"signals-{targets[3:19]}.pt", work / f"step-{steps[3:19]}.pt"


def _distillation(targets: teacher_targets.TeacherTargets, config: DistillConfig) -> Loss:
    """The distance from the teacher, and as much of cross-entropy as the config says; none on the student's answers."""

    def loss(net: Any, row: PackedRow) -> Any:
        logits_tV, chosen, _ = logits(net, row)
        log_q = torch.log_softmax(logits_tV / config.temperature, -1)
        distance = targets.distance(row, log_q).sum()
        if not config.words or any(sequence.tag is None for sequence, _ in row.paths):
            return distance
        likelihood = torch.log_softmax(logits_tV, -1).gather(1, chosen[:, None]).sum()
        return (1 - config.words) * distance - config.words * likelihood

    return loss


def _on_policy(lm: LM, config: DistillConfig) -> Callable[[int, Batch], Batch]:
    """In some batches, the student's answer stands in the corpus's place; each is drawn by a seed of its own."""

    def before(step: int, batch: Batch) -> Batch:
        if int((step + 1) * config.on_policy) == int(step * config.on_policy):
            return batch
        lm.net.eval()
        prompts = [sequence.tokens[: sequence.start] for sequence in batch]
        seeds = [int(digest_of([config.seed, step, i])[3:18], 16) for i in range(len(batch))]
        sampling = Sampling(temperature=1.0, max_tokens=config.max_tokens)
        answers = {i: a.text for part in generate.generate_batches(lm, prompts, sampling, seeds) for i, a in part}
        lm.net.train()
        return [
            replace(sequence, tokens=[*prompts[i], *lm.encode(answers[i]), lm.eos_id], tag=None)
            for i, sequence in enumerate(batch)
        ]

    return before


def _train(
    lm: LM,
    config: DistillConfig,
    sequences: Sequence[TokenSequence],
    loss: Loss,
    step_file: Path | None,
    progress: Progress,
) -> tuple[float, ...]:
    net = _trainable(lm, config)
    curve = train_loop(
        net,
        shuffled(sequences, config.epochs, config.batch, config.seed),
        config.lr,
        progress,
        label="distil tokens",
        loss=_in_bf16(loss),
        before=_on_policy(lm, config) if config.on_policy else None,
        checkpointer=Checkpointer(step_file) if step_file else None,
    )
    if net is not lm.net:
        lm.net = net.merge_and_unload()
    lm.net.eval().requires_grad_(False)
    return curve


def _in_bf16(loss: Loss) -> Loss:
    """A loss in bf16 where the hardware computes in it.

    Anew for each row: autocast keeps what it cast until it ends, and the weights change between rows.
    """

    def cast(net: Any, row: PackedRow) -> Any:
        with autocast(next(net.parameters()).device.type):
            return loss(net, row)

    return cast


def _trainable(lm: LM, config: DistillConfig) -> Any:
    """The network with what learns asking for gradients: all of it but the embeddings, or an adapter around it."""
    if config.method == "lora":
        return with_lora(lm.net, config.rank, 2 * config.rank, targets_of(lm.net), None, config.seed)
    new = config.embeddings or config.start == "scratch"
    tables = (lm.net.get_input_embeddings().weight, lm.net.get_output_embeddings().weight)
    for parameter in lm.net.parameters():
        parameter.requires_grad_(new or not any(parameter is table for table in tables))
    return lm.net


def save(student: LM, files: Mapping[str, bytes], folder: Path) -> None:
    """A Hugging Face folder in bf16, which AutoModelForCausalLM loads; `files` are its tokenizer's and template's."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(student.net.config.to_json_string(use_diff=False)) | {"dtype": "bfloat16"}
    config.pop("_name_or_path", None)  # where it lay on this machine
    tensors: dict[str, Array] = {
        name: value.float().cpu().numpy().astype(DTYPES["BF16"])
        for name, value in stored_state(student).items()
        if not (name == "lm_head.weight" and config.get("tie_word_embeddings"))
    }
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

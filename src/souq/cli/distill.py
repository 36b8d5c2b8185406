"""`souq distill`: a release as the teacher of a small specialised model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from souq import build as building
from souq.build import refuse_full
from souq.checks.evals import rare_recall
from souq.cli.console import answer, bars, done, here, json_option, out, table
from souq.cli.corpus import held_out, made
from souq.corpus.recipe import Making, read_recipe
from souq.errors import NotFound, UsageError, nearest
from souq.evals import Eval
from souq.lab.to_gguf import KINDS
from souq.lessons import Lesson, Loss
from souq.snapshot import Snapshot


@click.command()
@click.argument("source", metavar="CORPUS|RECIPE.toml", type=click.Path(path_type=Path))
@click.option("--out", "target", required=True, type=click.Path(path_type=Path))
@click.option("--layers", type=int, help="Of the teacher's, to keep.")
@click.option("--loss", type=click.Choice(get_args(Loss)), help="What it learns from: what the teacher wrote, or how sure it was.")  # fmt: skip
@click.option("--epochs", type=int)
@click.option("--lr", type=float)
@click.option("--start", help="teacher, scratch, or a Hugging Face folder.")
@click.option("--gguf", type=click.Choice(list(KINDS)), help="Write a GGUF file too.")
@click.option("--eval", "names", multiple=True, help="Score teacher and student on these of main's evals.")
@click.option("--report", type=click.Path(path_type=Path), help="Write sizes, scores and the curve here as JSON.")
@json_option
def distill(
    source: Path, target: Path, layers: int | None, loss: str | None, epochs: int | None, lr: float | None, start: str | None,
    gguf: str | None, names: tuple[str, ...], report: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Train a smaller student of main's model, and report both models' scores and rare-item recall.

    From a CORPUS that is there, or a recipe from its seeds on: then `OUT.corpus` holds the corpus. Stopped, it goes on.
    """
    typed = {key: value for key, value in (("layers", layers), ("loss", loss), ("epochs", epochs), ("lr", lr), ("start", start)) if value is not None}  # fmt: skip
    recipe = read_recipe(source) if source.suffix == ".toml" else Making(name=source.name)
    if recipe.student is None and not typed.keys() & {"layers", "start"}:
        raise UsageError("nobody says what student is wanted", hint="type --layers 10, or write [student] into the recipe")  # fmt: skip
    lesson = msgspec.structs.replace(recipe.student or Lesson(), **typed).vetted()
    refuse_full(target)
    main = Snapshot(here(), "main")
    asked = [*_of_main(main, names), *held_out(recipe, source.parent)]
    with bars() as progress:
        folder = source
        if source.suffix == ".toml":
            folder = target.with_name(f"{target.name}.corpus")
            made(recipe, source.parent, folder, progress)
        value = _taught(main, folder, lesson, target, asked, gguf or recipe.gguf, progress)
    if report is not None:
        report.write_bytes(msgspec.json.encode(value))
    answer(value, as_json, lambda: _show(target, value))


def _of_main(main: Snapshot, names: Sequence[str]) -> list[Eval]:
    if unknown := [name for name in names if name not in main.evals]:
        raise NotFound(f"no eval {unknown[0]!r}{nearest(unknown[0], main.evals)}", hint=f"one of {', '.join(main.evals)}")  # fmt: skip
    return [main.evals[name] for name in names]


def _taught(main: Snapshot, folder: Path, lesson: Lesson, target: Path, asked: Sequence[Eval], gguf: str, progress: Any) -> dict[str, Any]:  # fmt: skip
    """Train, write and score; what was found."""
    from souq.corpus.dump import read_rows
    from souq.lab import distil as teaching
    from souq.lab import evals as lab_evals
    from souq.lab import model as lab_model
    from souq.lab.to_gguf import write_gguf

    rows = read_rows(folder)
    built = building.build(main, progress=progress)
    dtype = lab_model.best_dtype()
    teacher = lab_model.load(built.files, built.weights, dtype=dtype)
    scored = {"teacher": lab_evals.score(teacher, asked, progress)} if asked else {}
    work = target.with_name(f"{target.name}.work")
    student = teaching.distil(teacher, rows, lesson, work=work, name=built.digest, progress=progress)
    files = dict(built.files) if lesson.start in ("teacher", "scratch") else _files_of(Path(lesson.start))
    teaching.save(student.lm, files, target)
    if asked:
        scored["student"] = lab_evals.score(lab_model.load(target, dtype=dtype), asked, progress)
    if gguf:
        write_gguf(target, target / f"{target.name}.{gguf}.gguf", gguf, licence=main.config.licence, progress=progress)
    value: dict[str, Any] = {
        "parameters": {"teacher": student.teacher_parameters, "student": student.parameters},
        "layers": student.layers, "rows": len(rows), "curve": student.curve, "teacher": built.digest, "lesson": lesson,
        "scores": {who: {n: s.value for n, s in found.items()} for who, found in scored.items()},
        "rare_recall": {who: {n: rare_recall(s, next(e for e in asked if e.name == n), rows) for n, s in found.items()} for who, found in scored.items()},
    }  # fmt: skip
    _describe(target, main, folder, value)
    for file in work.iterdir():
        file.unlink()
    work.rmdir()
    return value


def _files_of(folder: Path) -> dict[str, bytes]:
    """A foreign student's own tokenizer."""
    from souq.configs import MODEL_FILES

    return {name: (folder / name).read_bytes() for name in MODEL_FILES if (folder / name).is_file()}


def _describe(target: Path, main: Snapshot, folder: Path, value: Mapping[str, Any]) -> None:
    """The student's card, and its curve as a picture."""
    from souq.corpus.card import student_card
    from souq.corpus.dump import manifest

    told = manifest(folder)
    for name, data in student_card(target.name, main.config.licence, told["dumps"][told["latest"]], value).items():
        (target / name).write_bytes(data)


def _show(target: Path, value: Mapping[str, Any]) -> None:
    size, whole = value["parameters"]["student"], value["parameters"]["teacher"]
    out.print(f"{target}: {size / 1e6:.1f}M parameters, {100 * size / whole:.0f}% of the teacher's", highlight=False)
    rows = [
        [who, name, f"{score:.3f}", "-" if (rare := value["rare_recall"][who][name]) is None else f"{rare:.3f}"]
        for who, found in value["scores"].items()
        for name, score in found.items()
    ]
    if rows:
        table(["model", "eval", "score", "rare items"], rows, right=["score", "rare items"])
    done(f"next: `souq compare {target} --eval NAME`")

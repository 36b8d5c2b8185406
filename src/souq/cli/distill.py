"""`souq distill`: a release as the teacher of a small specialised model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from souq.build import model as building
from souq.build.folder import refuse_full
from souq.checks.evals import rare_recall
from souq.cli.console import answer, bars, done, here, json_option, out, table
from souq.cli.corpus import held_out, made
from souq.corpus.recipe import Making, read_recipe
from souq.errors import NotFound, UsageError, nearest
from souq.evals.eval import Eval
from souq.lab.student_config import BEGINNINGS, DistillConfig, Loss
from souq.model.gguf_writer import GGUF_KINDS
from souq.repo.snapshot import Snapshot


@click.command()
@click.argument("source", metavar="CORPUS|RECIPE.toml", type=click.Path(path_type=Path))
@click.option("--out", "target", required=True, type=click.Path(path_type=Path))
@click.option("--layers", type=int, help="Of the teacher's, to keep.")
@click.option("--loss", type=click.Choice(get_args(Loss)), help="What it learns from: what the teacher wrote, or how sure it was.")  # fmt: skip
@click.option("--epochs", type=int)
@click.option("--lr", type=float)
@click.option("--start", help="teacher, scratch, or a Hugging Face folder.")
@click.option("--hidden", type=int, help="How wide a student from scratch is.")
@click.option("--gguf", type=click.Choice(GGUF_KINDS), help="Write a GGUF file too.")
@click.option("--eval", "names", multiple=True, help="Score teacher and student on these of main's evals.")
@click.option("--report", type=click.Path(path_type=Path), help="Write sizes, scores and the curve here as JSON.")
@json_option
def distill(
    source: Path, target: Path, layers: int | None, loss: str | None, epochs: int | None, lr: float | None, start: str | None,
    hidden: int | None, gguf: str | None, names: tuple[str, ...], report: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Train a smaller student of main's model, and report both models' scores and rare-item recall.

    From a CORPUS that is there, or a recipe from its seeds on: then `OUT.corpus` holds the corpus. Stopped, it goes on.
    """
    told = (("layers", layers), ("loss", loss), ("epochs", epochs), ("lr", lr), ("start", start), ("hidden", hidden))
    typed = {key: value for key, value in told if value is not None}
    recipe = read_recipe(source) if source.suffix == ".toml" else Making(name=source.name)
    if recipe.student is None and not typed.keys() & {"layers", "start"}:
        raise UsageError("nobody says what student is wanted", hint="type --layers 10, or write [student] into the recipe")  # fmt: skip
    lesson = msgspec.structs.replace(recipe.student or DistillConfig(), **typed).vetted()
    lesson = msgspec.structs.replace(lesson, start=_begins(lesson.start, source.parent if start is None else Path()))
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
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(msgspec.json.encode(value))
    answer(value, as_json, lambda: _show(target, value))


def _begins(start: str, base: Path) -> str:
    """A folder seen from where it was written: a recipe's from the recipe, a typed one from here."""
    if start in BEGINNINGS:
        return start
    folder = base / Path(start).expanduser()
    if not (folder / "config.json").is_file():
        raise NotFound(f"no config.json in {folder}{nearest(start, BEGINNINGS)}", hint="`start` is teacher, scratch or a Hugging Face folder")  # fmt: skip
    return str(folder)


def _of_main(main: Snapshot, names: Sequence[str]) -> list[Eval]:
    if unknown := [name for name in names if name not in main.evals]:
        raise NotFound(f"no eval {unknown[0]!r}{nearest(unknown[0], main.evals)}", hint=f"one of {', '.join(main.evals)}")  # fmt: skip
    return [main.evals[name] for name in names]


def _taught(main: Snapshot, folder: Path, lesson: DistillConfig, target: Path, asked: Sequence[Eval], gguf: str, progress: Any) -> dict[str, Any]:  # fmt: skip
    """Train, write and score; what was found."""
    from souq.corpus.dump import read_rows
    from souq.lab import distil as teaching
    from souq.lab import evals as lab_evals
    from souq.lab import lm as lab_model
    from souq.model.gguf_writer import vet, write_gguf

    rows, terms = read_rows(folder), _terms(main, folder, lesson)
    built = building.build(main, progress=progress)
    files = dict(built.files) if lesson.start in BEGINNINGS else _files_of(Path(lesson.start))
    if gguf:
        vet(gguf, files, "the student")
    dtype = lab_model.best_dtype()
    teacher = lab_model.load(built.files, built.weights, dtype=dtype)
    scored = {"teacher": lab_evals.score(teacher, asked, progress)} if asked else {}
    work = target.with_name(f"{target.name}.work")
    student = teaching.distil(teacher, rows, lesson, work=work, name=built.digest, progress=progress)
    whole = work / target.name  # until all of it is there: what stops here is taken up again
    teaching.save(student.lm, files, whole)
    if asked:
        scored["student"] = lab_evals.score(lab_model.load(whole, dtype=dtype), asked, progress)
    if gguf:
        write_gguf(whole, whole / f"{target.name}.{gguf}.gguf", gguf, licence=terms, progress=progress)
    value: dict[str, Any] = {
        "parameters": {"teacher": student.teacher_parameters, "student": student.parameters},
        "layers": student.layers, "rows": len(rows), "curve": student.curve, "teacher": built.digest, "lesson": msgspec.structs.replace(lesson, start=Path(lesson.start).name), "licence": terms,
        "scores": {who: {n: s.value for n, s in found.items()} for who, found in scored.items()},
        "rare_recall": {who: {n: rare_recall(s, next(e for e in asked if e.name == n), rows) for n, s in found.items()} for who, found in scored.items()},
    }  # fmt: skip
    _describe(whole, main, folder, value)
    if target.exists():
        target.rmdir()
    whole.replace(target)
    for file in [*work.glob("signals-*"), *work.glob("step-*")]:
        file.unlink()
    if not any(work.iterdir()):
        work.rmdir()
    return value


def _terms(main: Snapshot, folder: Path, lesson: DistillConfig) -> str:
    """The licences that bind a student: its teacher's, its corpus's, and of the model it began as, where that is another."""
    from souq.corpus.dump import manifest
    from souq.corpus.row import joint
    from souq.model.card import licence_in, read_card

    told = manifest(folder)
    begun = "" if lesson.start in BEGINNINGS else licence_in(read_card(Path(lesson.start))) or "LicenseRef-unknown"
    return joint((main.config.licence, told["dumps"][told["latest"]]["licence"], begun))


def _files_of(folder: Path) -> dict[str, bytes]:
    """A foreign student's own tokenizer."""
    from souq.model.config import MODEL_FILES

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

"""`souq distill`: a release as the teacher of a small specialised model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import click
import msgspec

from souq.build.model import build
from souq.cli.console import answer, bars, done, json_option, out, starting_lab
from souq.cli.here import main_here
from souq.cli.table import table
from souq.corpus.card import student_card, student_licence
from souq.corpus.dump import latest, read_rows
from souq.corpus.main_model import own_evals, write_edition
from souq.corpus.recipe import CorpusRecipe, read_recipe
from souq.errors import NotFound, UsageError, nearest
from souq.evals.eval import Eval
from souq.files import refuse_full
from souq.lab.student_config import BEGINNINGS, DistillConfig, Loss, StudentReport
from souq.model.gguf.writer import GGUF_KINDS
from souq.repo.snapshot import Snapshot


@click.command()
@click.argument("source", metavar="CORPUS|RECIPE.toml", type=click.Path(path_type=Path))
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--layers", type=int, help="Of the teacher's, to keep.")
@click.option(
    "--loss", type=click.Choice(get_args(Loss)), help="What it learns from: what the teacher wrote, or how sure it was."
)
@click.option("--epochs", type=int, help="How often each row is read.")
@click.option("--lr", type=float, help="The learning rate.")
@click.option("--start", help="teacher, scratch, or a Hugging Face folder.")
@click.option("--hidden", type=int, help="How wide a student from scratch is.")
@click.option("--gguf", type=click.Choice(GGUF_KINDS), help="Write a GGUF file too.")
@click.option("--eval", "names", multiple=True, help="Score teacher and student on these of main's evals.")
@click.option("--report", type=click.Path(path_type=Path), help="Write sizes, scores and the curve here as JSON.")
@json_option
def distill(
    source: Path,
    target: Path,
    layers: int | None,
    loss: str | None,
    epochs: int | None,
    lr: float | None,
    start: str | None,
    hidden: int | None,
    gguf: str | None,
    names: tuple[str, ...],
    report: Path | None,
    as_json: bool,
) -> None:
    """Train a smaller student of main's model, and report both models' scores and rare-item recall.

    From a CORPUS that is there, or a recipe from its seeds on: then `OUT.corpus` holds the corpus. Stopped, it goes on.
    """
    typed = {"layers": layers, "loss": loss, "epochs": epochs, "lr": lr, "start": start, "hidden": hidden}
    typed = {key: value for key, value in typed.items() if value is not None}
    recipe = read_recipe(source) if source.suffix.lower() == ".toml" else CorpusRecipe(name=source.name)
    if not source.exists():
        raise NotFound(f"no corpus {source}", hint="`souq corpus make` writes one; a recipe is a .toml")
    if recipe.student is None and not typed.keys() & {"layers", "start"}:
        raise UsageError(
            "nobody says what student is wanted", hint="type --layers 10, or write [student] into the recipe"
        )
    config = msgspec.structs.replace(recipe.student or DistillConfig(), **typed).vetted()
    config = msgspec.structs.replace(config, start=_start(config.start, source.parent if start is None else Path()))
    refuse_full(target)
    main = main_here()
    evals = [*_of_main(main, names), *own_evals(recipe, source.parent)]
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab import distil

        folder = source
        if source.suffix.lower() == ".toml":
            folder = target.with_name(f"{target.name}.corpus")
            write_edition(main, recipe, source.parent, folder, progress)
        rows, edition = read_rows(folder), latest(folder)
        value = distil.run(
            build(main, progress=progress),
            rows,
            config,
            target,
            licence=student_licence(main.config.licence, edition, config),
            evals=evals,
            gguf=gguf or recipe.gguf,
            papers=partial(student_card, target.name, main.config.licence, edition),
            progress=progress,
        )
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(msgspec.json.encode(value))
    answer(value, as_json, lambda: _show(target, value))


def _start(start: str, base: Path) -> str:
    """A folder seen from where it was written: a recipe's from the recipe, a typed one from here."""
    if start in BEGINNINGS:
        return start
    folder = base / Path(start).expanduser()
    if not (folder / "config.json").is_file():
        raise NotFound(
            f"no config.json in {folder}{nearest(start, BEGINNINGS)}",
            hint="`start` is teacher, scratch or a Hugging Face folder",
        )
    return str(folder)


def _of_main(main: Snapshot, names: Sequence[str]) -> list[Eval]:
    if unknown := [name for name in names if name not in main.evals]:
        raise NotFound(
            f"no eval {unknown[0]!r}{nearest(unknown[0], main.evals)}", hint=f"one of {', '.join(main.evals)}"
        )
    return [main.evals[name] for name in names]


def _show(target: Path, report: StudentReport) -> None:
    size, whole = report.parameters.student, report.parameters.teacher
    out.print(f"{target}: {size / 1e6:.1f}M parameters, {100 * size / whole:.0f}% of the teacher's", highlight=False)
    rows = [
        [model, name, f"{score:.3f}", "-" if (rare := report.rare_recall[model][name]) is None else f"{rare:.3f}"]
        for model, scores in report.scores.items()
        for name, score in scores.items()
    ]
    if rows:
        table(["model", "eval", "score", "rare items"], rows, right=["score", "rare items"])
    done(f"next: `souq compare {target} --eval NAME`")

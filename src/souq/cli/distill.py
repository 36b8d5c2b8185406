"""`souq distill`: a release as the teacher of a small specialised model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from souq import build as building
from souq.build import refuse_full
from souq.checks.evals import rare_recall
from souq.cli.console import answer, bars, here, json_option, out, table
from souq.errors import NotFound, nearest
from souq.snapshot import Snapshot


@click.command()
@click.argument("folder", metavar="CORPUS", type=click.Path(path_type=Path))
@click.option("--layers", required=True, type=int, help="Of the teacher's, to keep.")
@click.option("--epochs", default=3, show_default=True)
@click.option("--lr", default=1e-3, show_default=True)
@click.option("--out", "target", required=True, type=click.Path(path_type=Path))
@click.option("--eval", "names", multiple=True, help="Score teacher and student on these of main's evals.")
@click.option("--report", type=click.Path(path_type=Path), help="Write sizes, scores and the curve here as JSON.")
@json_option
def distill(
    folder: Path,
    layers: int,
    epochs: int,
    lr: float,
    target: Path,
    names: tuple[str, ...],
    report: Path | None,
    as_json: bool,
) -> None:
    """Train a smaller student of main's model on a CORPUS, and report both models' scores and rare-item recall."""
    from souq.corpus import make as making
    from souq.lab import distil as teaching
    from souq.lab import evals as lab_evals
    from souq.lab import model as lab_model

    refuse_full(target)
    rows = making.read_rows(folder)
    main = Snapshot(here(), "main")
    if unknown := [name for name in names if name not in main.evals]:
        raise NotFound(
            f"no eval {unknown[0]!r}{nearest(unknown[0], main.evals)}", hint=f"one of {', '.join(main.evals)}"
        )
    asked = [main.evals[name] for name in names]
    with bars() as progress:
        built = building.build(main, progress=progress)
        teacher = lab_model.load(built.files, built.weights)
        scored = {"teacher": lab_evals.score(teacher, asked, progress)} if asked else {}
        student = teaching.distil(teacher, rows, layers=layers, epochs=epochs, lr=lr, progress=progress)
        teaching.save(student, built.files, target)
        if asked:
            scored["student"] = lab_evals.score(lab_model.load(target), asked, progress)
    value: dict[str, Any] = {
        "parameters": {"teacher": student.teacher_parameters, "student": student.parameters},
        "layers": student.layers, "rows": len(rows), "curve": student.curve,
        "scores": {who: {n: s.value for n, s in found.items()} for who, found in scored.items()},
        "rare_recall": {who: {n: rare_recall(s, main.evals[n], rows) for n, s in found.items()} for who, found in scored.items()},
    }  # fmt: skip

    if report is not None:
        report.write_bytes(msgspec.json.encode(value))

    def show() -> None:
        share = student.parameters / student.teacher_parameters
        out.print(f"{target}: {student.parameters / 1e6:.1f}M parameters, {100 * share:.0f}% of the teacher's")
        rows_ = [
            [who, name, f"{s.value:.3f}", "-" if (r := value["rare_recall"][who][name]) is None else f"{r:.3f}"]
            for who, found in scored.items()
            for name, s in found.items()
        ]
        if rows_:
            table(["model", "eval", "score", "rare items"], rows_, right=["score", "rare items"])

    answer(value, as_json, show)

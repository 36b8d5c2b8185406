"""A student's card: who taught it, on what, how it was taught, what it scores beside its teacher; and its curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from souq.corpus.datasheet import CHART, drawn, safe
from souq.corpus.row import joint
from souq.lab.student_config import BEGINNINGS, DistillConfig, StudentReport
from souq.licences.table import spelled
from souq.model.card import licence_in, read_card

POINTS = 200  # of a curve


def student_licence(teacher: str, edition: Mapping[str, Any], config: DistillConfig) -> str:
    """The licences that bind a student: its teacher's, its corpus's, and those of another model it began as."""
    begun = (
        "" if config.start in BEGINNINGS else spelled(licence_in(read_card(Path(config.start)))) or "LicenseRef-unknown"
    )
    return joint((teacher, edition["licence"], begun))


def student_card(name: str, licence: str, edition: Mapping[str, Any], report: StudentReport) -> dict[str, bytes]:
    """README.md and curve.svg. `edition` is what the manifest says of the corpus; `licence` is the teacher's."""
    terms, lesson = report.licence, msgspec.to_builtins(report.lesson)
    size, whole = report.parameters.student, report.parameters.teacher
    head = [f"license: {terms.lower()}"] if " " not in terms else ["license: other", f"license_name: {terms}"]
    scores = [
        f"| {safe(suite)} | {teacher:.3f} | {report.scores['student'][suite]:.3f} "
        f"| {_rare(report, 'teacher', suite)} | {_rare(report, 'student', suite)} |"
        for suite, teacher in report.scores.get("teacher", {}).items()
    ]
    table = [
        "| eval | teacher | student | rare items, teacher | rare items, student |",
        "|---|---|---|---|---|",
        *scores,
        "",
    ]
    lines = [
        "---",
        *head,
        "pipeline_tag: text-generation",
        "---",
        f"# {safe(name)}",
        "",
        f"A student of {size / 1e6:.1f}M parameters ({100 * size / whole:.0f}% of its teacher's), "
        f"taught on {report.rows:,} rows of {safe(edition['title'] or edition['name'])}.",
        "",
        f"- teacher: the model that builds to `{report.teacher}` ({licence})",
        f"- corpus: recipe `{safe(edition['recipe'])}`, {edition['rows']['kept']:,} rows kept, "
        f"licence {safe(edition['licence']) or 'none'}",
        f"- ancestry: {_origins(edition)}; "
        f"a recipe whose teacher this student is says `ancestry = {edition['deepest']}`",
        f"- terms: {terms}",
        f"- lesson: {', '.join(f'{key} {value}' for key, value in lesson.items()) or 'the defaults'}",
        f"- layers of its teacher's: {', '.join(map(str, report.layers)) or 'none'}",
        "",
        *(table if scores else []),
        "![loss as it learned](curve.svg)",
        "",
    ]
    return {"README.md": "\n".join(lines).encode(), "curve.svg": curve(report.curve)}


def _origins(corpus: Mapping[str, Any]) -> str:
    whole = sum(corpus["origins"].values()) or 1
    return ", ".join(f"{100 * count / whole:.0f}% {origin}" for origin, count in corpus["origins"].items())


def _rare(report: StudentReport, model: str, suite: str) -> str:
    recall = report.rare_recall[model][suite]
    return "-" if recall is None else f"{recall:.3f}"


def curve(losses: Iterable[float]) -> bytes:
    """The loss as it learned, nats a token, as SVG."""
    import pygal

    points = list(losses)
    step = max(1, len(points) // POINTS)
    means = [(i, sum(points[i : i + step]) / len(points[i : i + step])) for i in range(0, len(points), step)]
    chart = pygal.XY(title="loss, nats a token, by batch", show_dots=False, height=320, **CHART)
    chart.add("loss", means)
    return drawn(chart)

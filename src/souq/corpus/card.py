"""A student's card: who taught it, on what, how it was taught, what it scores beside its teacher; and its curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from souq.corpus.datasheet import CHART, drawn, safe

POINTS = 200  # of a curve


def student_card(name: str, licence: str, corpus: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, bytes]:
    """README.md and curve.svg of a student that `value` tells of; `licence` is its teacher's, `corpus` an edition."""
    terms = value["licence"]
    lesson = [f"{key} {setting}" for key, setting in msgspec.to_builtins(value["lesson"]).items()]
    size, whole = value["parameters"]["student"], value["parameters"]["teacher"]
    share, title = f"{100 * size / whole:.0f}%", safe(corpus["title"] or corpus["name"])
    text = "\n".join([
        "---", *(["license: other", f"license_name: {terms}"] if " " in terms else [f"license: {terms.lower()}"]),
        "pipeline_tag: text-generation", "---",
        f"# {safe(name)}", "",
        f"A student of {size / 1e6:.1f}M parameters ({share} of its teacher's), "
        f"taught on {value['rows']:,} rows of {title}.", "",
        f"- teacher: the model that builds to `{value['teacher']}` ({licence})",
        f"- corpus: recipe `{safe(corpus['recipe'])}`, {corpus['rows']['kept']:,} rows kept, "
        f"licence {safe(corpus['licence']) or 'none'}",
        f"- ancestry: {_origins(corpus)}; a recipe whose teacher this student is says `ancestry = {corpus['deepest']}`",
        f"- terms: {terms}",
        f"- lesson: {', '.join(lesson) or 'the defaults'}",
        f"- layers of its teacher's: {', '.join(map(str, value['layers'])) or 'none'}",
        "", *_scores(value), "![loss as it learned](curve.svg)", "",
    ])  # fmt: skip
    return {"README.md": text.encode(), "curve.svg": curve(value["curve"])}


def _scores(value: Mapping[str, Any]) -> list[str]:
    """A table of what teacher and student score; nothing where nobody was asked."""
    if not (teacher := value["scores"].get("teacher")):
        return []
    student = value["scores"]["student"]
    return [
        "| eval | teacher | student | rare items, teacher | rare items, student |",
        "|---|---|---|---|---|",
        *(
            f"| {safe(name)} | {score:.3f} | {student[name]:.3f} | "
            f"{_rare(value, 'teacher', name)} | {_rare(value, 'student', name)} |"
            for name, score in teacher.items()
        ),
        "",
    ]


def _origins(corpus: Mapping[str, Any]) -> str:
    whole = sum(corpus["origins"].values()) or 1
    return ", ".join(f"{100 * count / whole:.0f}% {origin}" for origin, count in corpus["origins"].items())


def _rare(value: Mapping[str, Any], model: str, name: str) -> str:
    recall = value["rare_recall"][model][name]
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

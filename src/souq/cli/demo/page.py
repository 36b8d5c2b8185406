"""The demo's facts as one self-contained HTML page: pictures first, no script, nothing fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from souq.cli.demo.story import Facts
from souq.markup import rendered

COLOURS = {"base": "var(--a)", "alone": "var(--c)", "merged": "var(--b)", "teacher": "var(--b)", "student": "var(--c)"}
MODULES = ("q", "k", "v", "o", "gate", "up", "down")


def page(facts: Facts) -> str:
    """The whole page."""
    evals = list(facts.table.get("base", {}))
    scores = [
        [name, *(f"{row[each]:.3f} ± {facts.stderr[name][each]:.3f}" if each in row else "" for each in evals)]
        for name, row in facts.table.items()
    ]
    guarded = [[name, row["said"], "held" if row["held"] else "NOT HELD"] for name, row in facts.guarded.items()]
    return rendered(
        "cli/demo/page.html",
        facts=facts,
        colours=COLOURS,
        evals=evals,
        scores=scores,
        guarded=guarded,
        heats={title: _heat(sizes) for title, sizes in facts.heat.items()},
        votes=[[vote["pr"], vote["by"], vote["choice"], vote["reason"]] for vote in facts.votes],
        refusals=[[refusal["what"], refusal["who"], refusal["because"]] for refusal in facts.refusals],
        same=len(set(facts.orders.values()) | {facts.model}) == 1,
        seconds=[[part, f"{seconds:.0f} s"] for part, seconds in facts.seconds.items()],
        **_student(facts.student),
    )


def _heat(sizes: Mapping[str, float]) -> dict[str, Any]:
    """Relative norms by layer and module: {largest, columns, rows of (layer, a size or None for each column)}."""
    cells = {}
    for name, size in sizes.items():
        if match := re.search(r"layers\.(\d+)\..*?(\w+?)_proj", name):
            cells[int(match[1]), match[2]] = size
    layers = [layer for layer, _ in cells] or [0]
    rows = [
        (layer, [cells.get((layer, module)) for module in MODULES]) for layer in range(min(layers), max(layers) + 1)
    ]
    largest = max(cells.values(), default=0.0) or 1.0
    return {"largest": largest, "columns": MODULES, "rows": rows if cells else []}


def _student(student: Mapping[str, Any]) -> dict[str, Any]:
    """Scores and recall by eval, and the curve of its loss; nothing where nobody was taught."""
    if not student:
        return {"pupils": {}, "rare": {}, "curve": "", "ends": ""}
    evals, curve = list(student["scores"]["teacher"]), student["curve"]
    rare = {
        name: [
            f"{model} {recall[name]:.2f}"
            for model, recall in student["rare_recall"].items()
            if recall.get(name) is not None
        ]
        for name in evals
    }
    return {
        "pupils": {name: {model: scores[name] for model, scores in student["scores"].items()} for name in evals},
        "rare": rare,
        "curve": _points(curve),
        "ends": f"from {curve[0]:.2f} to {curve[-1]:.2f}" if curve else "",
    }


def _points(curve: Sequence[float]) -> str:
    """The loss, batch by batch, as points of a line 600 wide and 120 high."""
    if len(curve) < 2:
        return ""
    top = max(curve)
    return " ".join(f"{600 * i / (len(curve) - 1):.1f},{120 - 110 * value / top:.1f}" for i, value in enumerate(curve))

"""A student's card: who taught it, on what, how it was taught, what it scores beside its teacher; and its curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from souq.corpus.datasheet import drawn, safe

POINTS = 200  # of a curve


def student_card(name: str, licence: str, corpus: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, bytes]:
    """README.md and curve.svg. `corpus` is the manifest's word on it; `licence` is the teacher's, the value's the student's."""
    terms = value["licence"]
    lesson = msgspec.to_builtins(value["lesson"])
    size, whole = value["parameters"]["student"], value["parameters"]["teacher"]
    scores = [
        f"| {safe(eval_)} | {teacher:.3f} | {value['scores']['student'][eval_]:.3f} | {_rare(value, 'teacher', eval_)} | {_rare(value, 'student', eval_)} |"
        for eval_, teacher in value["scores"].get("teacher", {}).items()
    ]  # fmt: skip
    text = "\n".join([
        "---", *([f"license: {terms.lower()}"] if " " not in terms else ["license: other", f"license_name: {terms}"]), "pipeline_tag: text-generation", "---",
        f"# {safe(name)}", "",
        f"A student of {size / 1e6:.1f}M parameters ({100 * size / whole:.0f}% of its teacher's), taught on {value['rows']:,} rows of {safe(corpus['title'] or corpus['name'])}.", "",
        f"- teacher: the model that builds to `{value['teacher']}` ({licence})",
        f"- corpus: recipe `{safe(corpus['recipe'])}`, {corpus['rows']['kept']:,} rows kept, licence {safe(corpus['licence']) or 'none'}",
        f"- ancestry: {_origins(corpus)}; a recipe whose teacher this student is says `ancestry = {corpus['deepest']}`",
        f"- terms: {terms}", f"- lesson: {', '.join(f'{key} {told}' for key, told in lesson.items()) or 'the defaults'}",
        f"- layers of its teacher's: {', '.join(map(str, value['layers'])) or 'none'}", "",
        *(["| eval | teacher | student | rare items, teacher | rare items, student |", "|---|---|---|---|---|", *scores, ""] if scores else []),
        "![loss as it learned](curve.svg)", "",
    ])  # fmt: skip
    return {"README.md": text.encode(), "curve.svg": curve(value["curve"])}


def _origins(corpus: Mapping[str, Any]) -> str:
    whole = sum(corpus["origins"].values()) or 1
    return ", ".join(f"{100 * count / whole:.0f}% {origin}" for origin, count in corpus["origins"].items())


def _rare(value: Mapping[str, Any], who: str, name: str) -> str:
    told = value["rare_recall"][who][name]
    return "-" if told is None else f"{told:.3f}"


def curve(losses: Any) -> bytes:
    """The loss as it learned, nats a token, as SVG."""
    import pygal

    told = list(losses)
    step = max(1, len(told) // POINTS)
    chart = pygal.XY(title="loss, nats a token, by batch", js=(), show_legend=False, show_dots=False, no_prefix=True, disable_xml_declaration=True, pretty_print=True, height=320)  # fmt: skip
    chart.add("loss", [(i, sum(told[i : i + step]) / len(told[i : i + step])) for i in range(0, len(told), step)])
    return drawn(chart)

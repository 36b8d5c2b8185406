"""The demo's facts as one self-contained HTML page: pictures first, no script, nothing fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from souq.cli.demo.story import Facts

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c1b19, #eceae4); --soft: light-dark(#6b675e, #a5a096);
  --line: light-dark(#dedad0, #3a3833); --paper: light-dark(#fbfaf6, #191815); --a: #b9b3a4; --b: #2f7d6b; --c: #c7642a; --no: #b3362b; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 64rem; margin: 0 auto; padding: 2rem 1.2rem 5rem; }
h1 { font-size: 2rem; margin: 0 0 .2rem; } h2 { margin: 2.6rem 0 .6rem; font-size: 1.25rem; } p { max-width: 46rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; } th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: flex; align-items: center; gap: .6rem; font-size: .85rem; margin: .15rem 0; } .bar span { width: 5.5rem; color: var(--soft); }
.bar div { flex: 1; height: .85rem; background: var(--line); border-radius: 2px; overflow: hidden; } .bar i { display: block; height: 100%; }
.bar b { width: 3rem; text-align: right; font-weight: 500; font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.6rem; } .wide { overflow-x: auto; }
.heat { border-collapse: separate; border-spacing: 1px; width: auto; font-size: .68rem; } .heat td { width: 2rem; height: .62rem; padding: 0; border: 0; } .heat th { padding: 0 .3rem; border: 0; font-weight: 400; text-align: center; }
code { font-size: .85em; overflow-wrap: anywhere; } .no { color: var(--no); } figure { margin: 0; } figcaption { font-size: .88rem; color: var(--soft); margin-bottom: .4rem; }
"""
COLOURS = {"base": "var(--a)", "alone": "var(--c)", "merged": "var(--b)", "teacher": "var(--b)", "student": "var(--c)"}


def page(told: Facts) -> str:
    """The whole page."""
    parts = [
        _head(told), _gains(told), _table(told), _heat(told.heat), _votes(told), _refusals(told), _trust(told), _taught(told), _time(told),
    ]  # fmt: skip
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>souq: a day at the bazaar</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _head(told: Facts) -> str:
    return (
        "<h1>A day at the bazaar</h1>"
        "<p class=soft>SmolLM2-135M-Instruct took pull requests from three organisations, turned the hostile ones away, was "
        "released, rebuilt by a doubter to the same bytes, and taught a smaller model. Every figure here was measured in this run.</p>"
        f"<p><strong>{100 * told.retention:.0f}%</strong> of what the contributors brought was kept by the merge "
        f"(pooled). Model <code>{escape(told.model)}</code>.</p>"
    )


def _bars(values: Mapping[str, float]) -> str:
    return "".join(
        f'<div class=bar><span>{escape(name)}</span><div><i style="width:{100 * max(0.0, min(value, 1.0)):.1f}%;'
        f'background:{COLOURS.get(name, "var(--b)")}"></i></div><b>{value:.2f}</b></div>'
        for name, value in values.items()
    )


def _gains(told: Facts) -> str:
    figures = "".join(
        f"<figure><figcaption>{escape(row['eval'])}, by {escape(row['who'])}: {100 * row['kept']:.0f}% kept</figcaption>"
        + _bars({"base": row["base"], "alone": row["own"], "merged": row["merged"]})
        + "</figure>"
        for row in told.gains
    )
    return f"<h2>What each contributor brought</h2><p class=soft>Share of held-out cases answered right.</p><div class=grid>{figures}</div>"


def _rows(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table whose last `numbers` columns are figures."""

    def cell(tag: str, i: int, text: str) -> str:
        return f"<{tag}{' class=n' if i >= len(columns) - numbers else ''}>{escape(text)}</{tag}>"

    head = "".join(cell("th", i, name) for i, name in enumerate(columns))
    body = "".join("<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _table(told: Facts) -> str:
    names = list(told.table.get("base", {}))
    rows = [
        [who, *(f"{found[name]:.3f} ± {told.stderr[who][name]:.3f}" if name in found else "" for name in names)]
        for who, found in told.table.items()
    ]
    note = "<p class=soft><code>prose</code> is nats a token, lower is better; the others are shares of cases, ± one standard error.</p>"
    held = [[name, found["said"], "held" if found["held"] else "NOT HELD"] for name, found in told.guarded.items()]
    return (
        f"<h2>Base, each alone, the merge</h2>{note}{_rows(['', *names], rows, len(names))}"
        f"<p class=soft>What main protects, the merge against the base, case by case, with one-sided 95% bounds:</p>"
        f"{_rows(['eval', 'difference', ''], held)}"
    )


def _heat(heat: Mapping[str, Mapping[str, float]]) -> str:
    figures = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{_map(sizes)}</figure>" for title, sizes in heat.items()
    )
    return (
        "<h2>Where each change lives</h2><p class=soft>Norm of the change over the norm of the matrix, layers down, "
        f"modules across; darker is larger.</p><div class=grid>{figures}</div>"
    )


def _map(sizes: Mapping[str, float]) -> str:
    cells = {}
    for name, size in sizes.items():
        if found := re.search(r"layers\.(\d+)\..*?(\w+?)_proj", name):
            cells[int(found.group(1)), found.group(2)] = size
    if not cells:
        return "<p class=soft>nothing but whole tensors</p>"
    columns, top = ("q", "k", "v", "o", "gate", "up", "down"), max(cells.values()) or 1.0
    head = "<tr><th></th>" + "".join(f"<th>{column}</th>" for column in columns) + "</tr>"
    rows = "".join(
        f"<tr><th>{layer}</th>" + "".join(_cell(cells.get((layer, column)), top) for column in columns) + "</tr>"
        for layer in range(min(i for i, _ in cells), max(i for i, _ in cells) + 1)
    )
    return f"<table class=heat>{head}{rows}</table><p class=soft>largest {top:.3f}</p>"


def _cell(size: float | None, top: float) -> str:
    if size is None:
        return "<td></td>"
    return f'<td title="{size:.4f}" style="background:color-mix(in oklab, var(--b) {100 * size / top:.0f}%, var(--line))"></td>'


def _votes(told: Facts) -> str:
    rows = [[row["pr"], row["by"], row["choice"], row["reason"]] for row in told.votes]
    return f"<h2>Who approved what</h2>{_rows(['pull request', 'by', 'vote', 'reason'], rows)}"


def _refusals(told: Facts) -> str:
    rows = [[row["what"], row["who"], row["because"]] for row in told.refusals]
    return f"<h2 class=no>Turned away</h2>{_rows(['attempt', 'by', 'because'], rows)}"


def _trust(told: Facts) -> str:
    same = len(set(told.orders.values()) | {told.model}) == 1
    rows = [[order, found] for order, found in told.orders.items()]
    return (
        "<h2>Trust nobody</h2>"
        f"<p>A clean clone judged every landing again and rebuilt {told.verified.get('moved', 0)} of "
        f"{told.verified.get('tensors', 0)} tensors: every digest equal. Merged in other orders: "
        f"<strong>{'the same bytes' if same else 'OTHER BYTES'}</strong>.</p>{_rows(['order of merging', 'model'], rows)}"
    )


def _taught(told: Facts) -> str:
    student = told.student
    if not student:
        return ""
    share = student["parameters"]["student"] / student["parameters"]["teacher"]
    rows = told.corpus.get("rows", {})
    figures = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>"
        + _bars({who: found[name] for who, found in student["scores"].items()})
        + _rare(student, name)
        + "</figure>"
        for name in student["scores"]["teacher"]
    )
    return (
        f"<h2>The release as a teacher</h2><p>It wrote {sum(rows.values())} rows, of which {rows.get('kept', 0)} "
        f"were right and new. A student of {student['parameters']['student'] / 1e6:.1f}M parameters "
        f"({100 * share:.0f}% of the teacher's) learned from them.</p><div class=grid>{figures}</div>{_curve(student['curve'])}"
    )


def _rare(student: Mapping[str, Mapping[str, Mapping[str, float | None]]], name: str) -> str:
    found = {who: recall[name] for who, recall in student["rare_recall"].items() if recall.get(name) is not None}
    if not found:
        return ""
    told = ", ".join(f"{who} {value:.2f}" for who, value in found.items())
    return f"<p class=soft>on the answers that are rare in the corpus: {told}</p>"


def _curve(curve: Sequence[float]) -> str:
    """The student's loss, batch by batch."""
    if len(curve) < 2:
        return ""
    top = max(curve)
    points = " ".join(
        f"{600 * i / (len(curve) - 1):.1f},{120 - 110 * value / top:.1f}" for i, value in enumerate(curve)
    )
    return (
        '<figure><figcaption>the student\'s loss as it learned, nats a token</figcaption><svg viewBox="0 0 600 125" width="100%" role="img" '
        f'aria-label="loss from {curve[0]:.2f} to {curve[-1]:.2f}"><polyline points="{points}" fill="none" stroke="var(--c)" stroke-width="2"/></svg>'
        f"<p class=soft>from {curve[0]:.2f} to {curve[-1]:.2f}</p></figure>"
    )


def _time(told: Facts) -> str:
    rows = [[part, f"{seconds:.0f} s"] for part, seconds in told.seconds.items()]
    return f"<h2>How long it took</h2>{_rows(['part', 'seconds'], rows, 1)}"

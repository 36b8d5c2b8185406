"""Charts as SVG: lines over numbers, and shades over names. It knows numbers with names and nothing of models.

Nothing is fetched and nothing runs in them, so they can stand in any page.

    line_chart([Curve(name="API", x=(1e6, 1e9), y=(0.25, 250.0))], across="tokens", up="USD", logs=True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from souq.markup import rendered
from souq.records import Record

WIDE, TALL, LEFT, TOP = 620, 360, 80, 24  # of what the axes enclose, and the margins before it
CELL, LINE, NAMES, HEADS = 64, 18, 84, 150  # of a heat map: a cell's width and height, room for names and heads
SPAN_LEFT, SPAN_WIDE, SPAN_LINE, BEYOND = 190, 330, 22, 1e6  # of a span chart: margin, width, a row; no bound, but none
COLOURS = ("#8c1814", "#1f5a7a", "#3d7a3a", "#8a6d1f", "#5b3a7a", "#6b675e")
PAPER, DARKEST = (251, 250, 246), (140, 24, 20)
MOST_POINTS = 400  # of one curve: more cannot be seen


class Curve(Record, frozen=True):
    """A line through points (x, y), named in the legend."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def line_chart(
    curves: Sequence[Curve], *, across: str, up: str, logs: bool = False, marks: Sequence[tuple[float, str]] = ()
) -> str:
    """`logs`: powers of ten on both axes, every number above 0; `marks` are places on x with words."""
    xs, ys = [x for curve in curves for x in curve.x], [y for curve in curves for y in curve.y]
    to_x, to_y = _scale(xs, LEFT, LEFT + WIDE, logs), _scale(ys, TOP + TALL, TOP, logs)
    lines = [" ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in _thinned(curve)) for curve in curves]
    return rendered(
        "line_chart.svg",
        left=LEFT, top=TOP, right=LEFT + WIDE, bottom=TOP + TALL, across=across, up=up,
        x_ticks=[(round(to_x(value), 1), label) for value, label in _ticks(xs, logs)],
        y_ticks=[(round(to_y(value), 1), label) for value, label in _ticks(ys, logs)],
        lines=[(line, COLOURS[i % len(COLOURS)], curves[i].name[:70]) for i, line in enumerate(lines)],
        marks=[(round(to_x(at), 1), words) for at, words in marks],
    )  # fmt: skip


def _scale(values: Sequence[float], start: float, end: float, logs: bool) -> Callable[[float], float]:
    low, high = (math.log10(v) if logs else v for v in (min(values), max(values)))
    span = high - low or 1.0
    return lambda value: start + (end - start) * ((math.log10(value) if logs else value) - low) / span


def _ticks(values: Sequence[float], logs: bool) -> list[tuple[float, str]]:
    """Powers of ten, or the two ends and three between; each with its label."""
    low, high = min(values), max(values)
    if logs:
        return [(10.0**n, f"1e{n}") for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return [(value, f"{value:g}") for value in (low + (high - low) * k / 4 for k in range(5))]


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    points = list(zip(curve.x, curve.y, strict=True))
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[:-1:step], *points[-1:]]


def heat_map(
    columns: Mapping[str, Mapping[str, float]], rows: Sequence[str], *, label: str, legend: str, full: float = 1.0
) -> str:
    """Rows down, columns across, darker where a column's share of a row is larger, from 0 to `full`; the first is bold.

    `label` is what pointing at a cell says: a format of {column}, {row} and {share}. A share that is not there is not
    drawn.
    """
    cells = [
        (
            NAMES + i * CELL,
            HEADS + j * LINE,
            _shade(shares[row] / full),
            label.format(column=name, row=row, share=shares[row]),
        )
        for i, (name, shares) in enumerate(columns.items())
        for j, row in enumerate(rows)
        if row in shares
    ]
    return rendered(
        "heat_map.svg",
        left=NAMES, top=HEADS, cell=CELL, line=LINE, columns=list(columns), rows=rows, cells=cells, legend=legend,
        width=NAMES + len(columns) * CELL + 120, height=HEADS + len(rows) * LINE + 40,
    )  # fmt: skip


class Span(Record, frozen=True):
    """A value that is known between two bounds, under a name."""

    name: str
    low: float
    at: float
    high: float


def span_chart(spans: Sequence[Span], title: str) -> str:
    """Values one below the other, each a point on the line between its bounds, with a line at zero."""
    ends = [end for span in spans for end in (span.low, span.at, span.high) if abs(end) < BEYOND]
    to_x = _scale([*ends, 0.0], SPAN_LEFT, SPAN_LEFT + SPAN_WIDE, logs=False)

    def place(value: float) -> float:
        return round(min(max(to_x(value), SPAN_LEFT), SPAN_LEFT + SPAN_WIDE), 1)

    rows = [
        (TOP + SPAN_LINE * i, span.name[:28], place(span.low), place(span.at), place(span.high), f"{span.at:+.3g}")
        for i, span in enumerate(spans)
    ]
    return rendered(
        "span_chart.svg",
        rows=rows, title=title, zero=place(0.0), left=SPAN_LEFT, right=SPAN_LEFT + SPAN_WIDE, top=TOP,
        height=TOP + SPAN_LINE * len(spans) + 26,
        ticks=[(place(value), f"{value:.3g}") for value in _ends(ends) if not 0 < abs(place(value) - place(0.0)) < 40],
        good=COLOURS[2], bad=COLOURS[0], plain=COLOURS[5],
    )  # fmt: skip


def _ends(values: Sequence[float]) -> list[float]:
    """What stands at the two ends of a scale on which zero is, and at zero."""
    return sorted({min([*values, 0.0]), 0.0, max([*values, 0.0])})


def _shade(share: float) -> str:
    """From paper to dark red, by square root: small shares should be seen."""
    level = min(max(share, 0.0), 1.0) ** 0.5
    red, green, blue = (round(a + (b - a) * level) for a, b in zip(PAPER, DARKEST, strict=True))
    return f"rgb({red},{green},{blue})"

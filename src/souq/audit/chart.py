"""Curves as an SVG, two axes and a legend: the same look for every audit.

chart([Curve("equal", [0, 1], [0, 1])], across="models", up="downloads")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from souq.records import Record

WIDE, TALL, LEFT, TOP = 620, 360, 80, 24
COLOURS = ("#8c1814", "#1f5a7a", "#3d7a3a", "#8a6d1f", "#5b3a7a", "#6b675e")
MOST_POINTS = 400  # of one curve: more cannot be seen


class Curve(Record, frozen=True):
    """A line through points (x, y), named in the legend."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def chart(curves: Sequence[Curve], *, across: str, up: str, logs: bool = False, marks: Sequence[tuple[float, str]] = ()) -> str:  # fmt: skip
    """`logs`: powers of ten on both axes, every number above 0; `marks` are places on x with words."""
    xs, ys = [x for curve in curves for x in curve.x], [y for curve in curves for y in curve.y]
    to_x, to_y = _scale(xs, LEFT, LEFT + WIDE, logs), _scale(ys, TOP + TALL, TOP, logs)
    body = [*_axis(xs, to_x, logs, True), *_axis(ys, to_y, logs, False)]
    for i, curve in enumerate(curves):
        colour, row = COLOURS[i % len(COLOURS)], TOP + 14 + 17 * i
        points = " ".join(f"{to_x(x):.1f},{to_y(y):.1f}" for x, y in _thinned(curve))
        body.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body.append(f'<text x="{LEFT + 12}" y="{row}" fill="{colour}">{escape(curve.name[:70])}</text>')
    for i, (at, words) in enumerate(marks):
        x, row = to_x(at), TOP + TALL - 8 - 15 * i
        body.append(f'<path d="M{x:.1f} {TOP}V{TOP + TALL}" stroke="#6b675e" stroke-dasharray="3 3"/>')
        body.append(f'<text x="{x - 4:.1f}" y="{row}" text-anchor="end">{escape(words)}</text>')
    width, height = LEFT + WIDE + 30, TOP + TALL + 50
    body.append(f'<text x="{LEFT + WIDE / 2}" y="{height - 8}" text-anchor="middle">{escape(across)}</text>')
    body.append(f'<text transform="translate(16 {TOP + TALL / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12"><rect width="{width}" height="{height}" fill="#fbfaf6"/>'
        + "\n".join(body)
        + "</svg>\n"
    )


def _scale(values: Sequence[float], start: float, end: float, logs: bool) -> Callable[[float], float]:
    low, high = (math.log10(v) if logs else v for v in (min(values), max(values)))
    span = high - low or 1.0
    return lambda value: start + (end - start) * ((math.log10(value) if logs else value) - low) / span


def _axis(values: Sequence[float], to: Callable[[float], float], logs: bool, across: bool) -> Iterator[str]:
    for value in _ticks(min(values), max(values), logs):
        at, told = to(value), f"1e{math.log10(value):.0f}" if logs else f"{value:g}"
        if across:
            yield f'<path d="M{at:.1f} {TOP}V{TOP + TALL}" stroke="#e4e0d4"/>'
            yield f'<text x="{at:.1f}" y="{TOP + TALL + 16}" text-anchor="middle">{told}</text>'
        else:
            yield f'<path d="M{LEFT} {at:.1f}H{LEFT + WIDE}" stroke="#e4e0d4"/>'
            yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{told}</text>'


def _ticks(low: float, high: float, logs: bool) -> list[float]:
    """Powers of ten, or the two ends and three between."""
    if logs:
        return [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return [low + (high - low) * k / 4 for k in range(5)]


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    points = list(zip(curve.x, curve.y, strict=True))
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[:-1:step], *points[-1:]]

"""A family as a picture: known models on the left, what descends from them on the right, how on the lines between."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from souq.audit.descent import Descent

ROW, LEFT, RIGHT, WIDE = 36, 24, 520, 820


def drawn(found: Sequence[Descent]) -> str:
    """SVG. Those of one family stand together; who descends from nobody known stands last, without a line."""
    parents = list(dict.fromkeys(name for one in found for name in one.parents))
    order = sorted(found, key=lambda one: (parents.index(one.parents[0]) if one.parents else len(parents), one.child))
    y = {name: 48 + ROW * (_middle(order, name)) for name in parents}
    height = 80 + ROW * max(len(order), len(parents))
    for place, name in enumerate(sorted(parents, key=lambda name: y[name])):  # none over another
        y[name] = max(y[name], 48 + ROW * place)
    parts = [_text(LEFT, y[name], name, "bold") for name in parents]
    for place, one in enumerate(order):
        at = 48 + ROW * place
        parts += [_line(y[name], at, one.kind if i == 0 else "") for i, name in enumerate(one.parents)]
        parts.append(_text(RIGHT, at, one.child if one else f"{one.child} (nobody known)", "normal"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {height}" width="{WIDE}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="13"><rect width="{WIDE}" height="{height}" fill="#fbfaf6"/>{"".join(parts)}</svg>\n'
    )


def _middle(order: Sequence[Descent], name: str) -> int:
    """The row in the middle of a parent's children."""
    rows = [i for i, one in enumerate(order) if name in one.parents]
    return (rows[0] + rows[-1]) // 2


def _line(start: int, end: int, kind: str) -> str:
    middle = (LEFT + 240 + RIGHT) // 2
    label = f'<text x="{middle}" y="{(start + end) // 2 - 6}" fill="#6b675e" text-anchor="middle" font-size="11">{escape(kind)}</text>' if kind else ""  # fmt: skip
    return f'<path d="M{LEFT + 240} {start - 4}L{RIGHT - 12} {end - 4}" stroke="#8c1814" fill="none"/>{label}'


def _text(x: int, y: int, said: str, weight: str) -> str:
    shown = said if len(said) <= 34 else f"…{said[-33:]}"
    return f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(shown)}<title>{escape(said)}</title></text>'

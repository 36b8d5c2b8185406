"""A family as a picture: known models on the left, what descends from them on the right, how on the lines between."""

from __future__ import annotations

from collections.abc import Sequence

from souq.audit.descent import Descent
from souq.markup import rendered

TOP, ROW, LEFT, RIGHT, WIDE = 48, 36, 24, 520, 820


def drawn(descents: Sequence[Descent]) -> str:
    """SVG. Those of one family stand together; who descends from nobody known stands last, without a line."""
    parents = list(dict.fromkeys(name for child in descents for name in child.parents))
    children = sorted(descents, key=lambda child: parents.index(child.parents[0]) if child.parents else len(parents))
    y = {name: TOP + ROW * _middle(children, name) for name in parents}
    for i, name in enumerate(sorted(parents, key=lambda name: y[name])):  # none over another
        y[name] = max(y[name], TOP + ROW * i)
    names = [(LEFT, y[name], name, "bold") for name in parents]
    lines = []
    for i, child in enumerate(children):
        at = TOP + ROW * i
        names.append((RIGHT, at, child.child if child else f"{child.child} (nobody known)", "normal"))
        lines += [(y[name], at, child.kind if name == child.parents[0] else "") for name in child.parents]
    height = TOP + 32 + ROW * max(len(children), len(parents))
    return rendered(
        "audit/tree.svg", names=names, lines=lines, left=LEFT + 240, right=RIGHT - 12, width=WIDE, height=height
    )


def _middle(children: Sequence[Descent], name: str) -> int:
    """The row in the middle of a parent's children."""
    rows = [i for i, child in enumerate(children) if name in child.parents]
    return (rows[0] + rows[-1]) // 2

"""What people look at: the index's comparison table, an audit on one page, and a badge.

Every text is somebody's, so a template escapes it, nothing is fetched, and the page allows no script to run at all.

    table_svg(read_ratings(data, "ratings.csv")), audit_html(audit), badge_svg(audit)
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from souq.audit.evidence import Audit
from souq.audit.index import DIMENSIONS, GROUPS, Ratings
from souq.audit.mof import CLASSES
from souq.markup import rendered

# Wong's colours (Nature Methods 2011), told apart without red and green; a sign stands in every cell besides.
COLOURS = {"open": "#009e73", "partial": "#f0e442", "closed": "#d55e00", "unknown": "#d8d8d8"}
SIGNS = {"open": "✔", "partial": "~", "closed": "✘", "unknown": "?"}
INK = {"open": "#fff", "partial": "#222", "closed": "#fff", "unknown": "#555"}
LEFT, TOP, COLUMN, ROW = 280, 96, 24, 19  # of the comparison: its margins, and the size of a cell


def table_svg(ratings: Ratings) -> str:
    """The comparison as the paper draws it: a model a row, a dimension a column, coloured."""
    return rendered("audit/table.svg", **_drawing(ratings))


def table_html(ratings: Ratings) -> str:
    """The comparison on a page of its own."""
    return rendered("audit/table.html", **_drawing(ratings))


def _drawing(ratings: Ratings) -> dict[str, Any]:
    """Where each cell of the comparison stands; a gap sets availability, documentation and access apart."""
    gaps = {name: 8 * group for group, names in enumerate(GROUPS.values()) for name in names}
    columns = {name: LEFT + COLUMN * i + gaps[name] for i, name in enumerate(DIMENSIONS)}
    rows = [
        (
            TOP + ROW * i, model.model[:44], f"{model.score:g}",
            [(x, model.ratings.get(name, "unknown")) for name, x in columns.items()],
        )
        for i, model in enumerate(ratings.rated)
    ]  # fmt: skip
    size = {"width": LEFT + COLUMN * len(DIMENSIONS) + 60, "height": TOP + ROW * len(rows) + 28}
    looks = {"colours": COLOURS, "signs": SIGNS, "inks": INK}
    return {"rows": rows, "heads": list(columns.items()), "rubric": ratings.rubric, **size, **looks}


def badge_svg(audit: Audit) -> str:
    """Bounds, with the rubric, the date and the commit they are of."""
    text = f"{audit.lower:g} to {audit.upper:g} of 14 · {audit.rubrics[0]} · {audit.date}"
    text += f" · {audit.commit[:10]}" if audit.commit else ""
    grade = "open" if audit.lower >= 10 else "partial" if audit.lower >= 5 else "closed"
    return rendered("audit/badge.svg", text=text, colour=COLOURS[grade], ink=INK[grade])


def audit_html(audit: Audit) -> str:
    """The whole audit, on one page that asks nobody for anything."""
    style = files("souq.audit").joinpath("page.css").read_text()
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    groups = [
        ("The European index's fourteen dimensions", audit.cells),
        ("The Model Openness Framework's seventeen components", audit.components),
    ]
    return rendered("audit/page.html", audit=audit, groups=groups, classes=CLASSES, style=style, hash=hashed)

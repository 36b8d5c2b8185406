"""What a notebook shows of a repository: a table of rows, and the heat map of a change.

Texts are other people's: markup.py escapes each.

    listing("<3 pull requests>", [{"number": 4, "title": "ISO dates"}])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from souq.chart import heat_map
from souq.markup import rendered

MOST_ROWS = 60  # of a table that is shown; the list has them all


def listing(title: str, rows: Sequence[Mapping[str, Any]], picture: str = "") -> str:
    """A table as HTML, with a picture below it."""
    columns = [*rows[0]] if rows else []
    cells = [[_shown(row[column]) for column in columns] for row in rows[:MOST_ROWS]]
    more = len(rows) - len(cells)
    return rendered("notebook/listing.html", title=title, columns=columns, rows=cells, more=more) + picture


def _shown(value: Any) -> str:
    return "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def change_map(rows: Sequence[Mapping[str, Any]]) -> str:
    """How large a change is, layers down and modules across, darkest where it is largest; "" where it is in no layer.

    A row says of a tensor its `layer`, its `module` and its `share`.
    """
    inside = [row for row in rows if row["layer"] >= 0]
    largest = max((row["share"] for row in inside), default=0.0)
    if not largest:
        return ""
    columns: dict[str, dict[str, float]] = {}
    for row in inside:
        columns.setdefault(row["module"].removesuffix("_proj"), {})[str(row["layer"])] = row["share"]
    layers = sorted({row["layer"] for row in inside})
    legend = f"norm of the change over the weight's; darkest is {largest:.2g}"
    return heat_map(
        columns, [*map(str, layers)], label="layer {row}, {column}: {share:.4f}", legend=legend, full=largest
    )

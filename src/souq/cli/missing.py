"""What still stands in the way of a merge, for whoever has just checked, voted or asked."""

from __future__ import annotations

from souq.cli.console import done, err
from souq.pulls.overview import gathered
from souq.records import Decision


def show_missing(number: int, decision: Decision) -> None:
    """What still stands in the way, or the next command."""
    for line in [*decision.eyes, *(f"missing: {line}" for line in gathered(decision.missing, number))]:
        err.print(f"  {line}")
    if decision:
        done(f"next: `souq pr merge {number}`")

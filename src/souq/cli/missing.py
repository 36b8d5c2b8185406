"""What still stands in the way of a pull request, in as few lines as say it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from souq.cli.console import done, err
from souq.records import Decision


def show_missing(number: int, decision: Decision) -> None:
    """What still stands in the way, or the next command."""
    for line in [*decision.eyes, *(f"missing: {line}" for line in gathered(decision.missing, number))]:
        err.print(f"  {line}")
    if decision:
        done(f"next: `souq pr merge {number}`")


_NOT_RUN = re.compile(r"check `[^`]+` has not been run by (.*)")


def gathered(missing: Sequence[str], number: int) -> list[str]:
    """What is missing, with the checks that the same people are still to run in one line, where the first stood."""
    whose = {line: match[1] for line in missing if (match := _NOT_RUN.fullmatch(line))}
    counts, lines = Counter(whose.values()), dict[str, None]()
    for line in missing:
        people = whose.get(line, "")
        several = f"{counts[people]} checks have not been run by {people}: `souq pr checks {number}`"
        lines[several if counts[people] > 1 else line] = None
    return [*lines]

"""An eval of one's own, before it is offered: whether it can be, and what so many cases can show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from souq.cli.console import done, out
from souq.errors import UsageError
from souq.evals.eval import Eval, name_of, read_eval, read_folder
from souq.evals.score import Score, cases_for, unchanged
from souq.repo.snapshot import Snapshot


def is_eval(folder: Path) -> bool:
    """Whether a folder on this disk is meant as an eval."""
    return (folder / "eval.toml").is_file()


def own_eval(main: Snapshot, folder: Path) -> Eval:
    """An eval from a folder, read as strictly as if it were offered.

    Raises:
        UsageError: it is no eval, or main has one of its name with other cases.
    """
    suite = read_eval(name_of(folder), read_folder(folder))
    old = main.evals.get(suite.name)
    if old is not None and (old.spec != suite.spec or {*old.cases} - {*suite.cases}):
        raise UsageError(
            f"main has an eval {suite.name}, and {folder} changes or drops what is in it",
            hint="cases may be added to it; or call the folder otherwise",
        )
    return suite


def ruled_out(suite: Eval, score: Score) -> dict[str, Any]:
    """What its cases could rule out where no answer changed, and how many its margin takes; nothing of losses."""
    if (best := unchanged(score, suite.margin, suite.clusters)) is None:
        return {}
    return {"margin": suite.margin, "rules_out": -best.low, "cases_for_margin": cases_for(suite.margin)}


def show_power(suite: Eval, power: Mapping[str, Any]) -> None:
    """The same in words, and what to type next."""
    cases = len(suite.cases)
    if not power:
        out.print(f"{suite.name}: what {cases} losses can rule out hangs on how far a change moves each of them")
    else:
        least, margin, needed = power["rules_out"], power["margin"], power["cases_for_margin"]
        out.print(
            f"{suite.name}: at best, where no answer changes, {cases} cases rule out a loss of {100 * least:.1f} points"
        )
        enough = "so they can hold a change to it" if least < margin else "so they can never hold a change to it"
        out.print(f"its margin is {100 * margin:.0f} points, which takes {needed or 'thousands of'} cases: {enough}")
    done(f"next: `souq pr create --evals FOLDER` offers it; `--fixes {suite.name}` is then a claim about it")

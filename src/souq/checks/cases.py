"""What every check is given, the list of checks, and how they are run: cheap ones first, evals only on what passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from souq.errors import SouqError
from souq.evals import Eval
from souq.progress import Progress, quiet
from souq.records import Outcome, Verdict
from souq.snapshot import Offer, Snapshot
from souq.store import Store


@dataclass(frozen=True)
class Case:
    """One contribution before the gate: main as it is, the commit that offers, and what it offers."""

    main: Snapshot
    head: str
    offer: Offer
    progress: Progress = quiet
    hidden: Mapping[str, Eval] = field(default_factory=dict)  # the hold-outs that whoever checks has, by name

    @property
    def store(self) -> Store:
        return self.main.repo.store


Answer = tuple[Outcome, str, dict[str, Any]]
Check = Callable[[Case], Answer]
CHECKS: dict[str, Check] = {}
ORDER = (
    "files", "signoff", "licence", "fits-base", "tensors", "norms", "spectra", "lineage", "duplicates", "caps", "secrets",
    "contamination", "evals", "hidden",
)  # fmt: skip
WEIGHTS = {"files", "fits-base", "tensors"}
NEEDS = {  # not asked where one of these refused
    "norms": WEIGHTS,
    "spectra": WEIGHTS,
    "lineage": WEIGHTS,
    "duplicates": WEIGHTS,
    "caps": {"files"},
    "secrets": {"files"},
    "contamination": {"files"},
    "evals": set(ORDER) - {"evals", "hidden"},
    "hidden": set(ORDER) - {"hidden"},
}
COSTLY = {"evals", "hidden"}


def check(name: str) -> Callable[[Check], Check]:
    """Register a check under the name that GOVERNANCE.toml and verdicts use."""

    def register(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return register


def run(case: Case, *, given: Sequence[Verdict] = (), costly: bool = True) -> tuple[Verdict, ...]:
    """Every check's verdict, in order, those already given among them.

    What cannot even be read is refused by the check that tried.
    """
    found = {verdict.check: verdict for verdict in given}
    for name in sorted(CHECKS, key=ORDER.index):
        refused = {before for before, verdict in found.items() if not verdict}
        held = name != "hidden" or case.hidden.keys() >= case.main.sealed.keys()
        if not refused & NEEDS.get(name, set()) and (costly or name not in COSTLY) and held:
            found[name] = _one(name, case)
    return tuple(found[name] for name in ORDER if name in found)


def _one(name: str, case: Case) -> Verdict:
    try:
        outcome, because, evidence = CHECKS[name](case)
    except SouqError as error:
        outcome, because, evidence = "refuse", str(error), {"raised": type(error).__name__}
    return Verdict(check=name, outcome=outcome, because=because, evidence=evidence)

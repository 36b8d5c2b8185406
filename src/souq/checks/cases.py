"""What every check is given, the list of checks, and how they are run: cheap ones first, evals only on what passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from souq.errors import SouqError
from souq.evals.eval import Eval
from souq.progress import Progress, quiet
from souq.records import Outcome, Verdict, spelled_out
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from souq.weights.store import Store


def _none() -> Sequence[Offer]:
    return ()


@dataclass(frozen=True)
class Case:
    """One contribution before the gate: main as it is, the commit that offers, and what it offers.

    `earlier` reads what others offered before it and is still open: nobody lands another's work by being quicker.
    """

    main: Snapshot
    head: str
    offer: Offer
    progress: Progress = quiet
    hidden: Mapping[str, Eval] = field(default_factory=dict)  # the hold-outs that whoever checks has, by name
    earlier: Callable[[], Sequence[Offer]] = _none
    costly: bool = True  # without: what may take seconds and could not refuse is left out

    @property
    def store(self) -> Store:
        return self.main.repo.store


Answer = tuple[Outcome, str, dict[str, Any]]
Check = Callable[[Case], Answer]
CHECKS: dict[str, Check] = {}
ORDER = (
    "files", "signoff", "licence", "fits-base", "tensors", "norms", "spectra", "lineage", "duplicates", "caps",
    "secrets", "contamination", "evals", "hidden",
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
STAGES = (  # by what they cost: texts are read, then tensors, then a model is asked
    ("signoff", "files", "licence", "contamination", "secrets", "caps"),
    ("fits-base", "tensors", "norms", "duplicates", "lineage", "spectra"),
    ("evals", "hidden"),
)
MAX_BECAUSE = 2_000  # characters


def check(name: str) -> Callable[[Check], Check]:
    """Register a check under the name that GOVERNANCE.toml and verdicts use."""

    def register(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return register


During = Callable[[str], AbstractContextManager[object]]


def run(
    case: Case, *, given: Sequence[Verdict] = (), costly: bool = True, during: During = nullcontext,
    names: Sequence[str] = ORDER, first: bool = False,
) -> tuple[Verdict, ...]:  # fmt: skip
    """Every check's verdict, in order, those already given among them; with `first`, the first refusal ends it.

    What cannot even be read is refused by the check that tried. Each check runs inside `during(name)`: a stopwatch.
    """
    case = replace(case, costly=costly)
    verdicts = {verdict.check: verdict for verdict in given}
    for name in (name for name in names if name in CHECKS):
        refused = {before for before, verdict in verdicts.items() if not verdict}
        if first and refused:
            break
        if not refused & NEEDS.get(name, set()) and _is_due(name, case, costly):
            with during(name):
                verdicts[name] = _verdict(name, case)
    return tuple(verdicts[name] for name in ORDER if name in verdicts)


def _is_due(name: str, case: Case, costly: bool) -> bool:
    """Hidden evals are run by whoever holds all of them; where there is nothing to run, that is quickly said."""
    if name == "hidden" and case.main.sealed and case.offer.files.keys() & {"delta.lock"}:
        return costly and case.hidden.keys() >= case.main.sealed.keys()
    if name == "hidden":
        return True
    return costly or name not in COSTLY


def _verdict(name: str, case: Case) -> Verdict:
    try:
        outcome, because, evidence = CHECKS[name](case)
    except SouqError as error:
        outcome, because, evidence = "refuse", str(error), {"raised": type(error).__name__}
    return Verdict(
        check=name, outcome=outcome, because=spelled_out(because)[:MAX_BECAUSE], evidence=_spelled_out(evidence)
    )


def _spelled_out(value: Any) -> Any:
    """Evidence quotes strangers: what cannot be signed, or would steer a terminal, is spelled out."""
    match value:
        case str():
            return spelled_out(value)
        case dict():
            return {spelled_out(str(key)): _spelled_out(item) for key, item in value.items()}
        case list() | tuple():
            return [_spelled_out(item) for item in value]
        case _:
            return value

"""A check is a function: a contribution on the commit it would land on -> a Verdict with its evidence.

The rules come from main, never from the head. A check never raises for what an outsider wrote: broken input is a
refusal that says why.

    verdicts = run(Case(main, head, offer))
"""

from souq.checks import contamination, evals, files, hidden, licence, tensors  # noqa: F401  each registers its checks
from souq.checks.cases import CHECKS, Case, check, run

__all__ = ["CHECKS", "Case", "check", "run"]

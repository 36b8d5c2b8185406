"""Hidden evals: main holds a hold-out's digest and nothing more; whoever holds its cases runs them and says little.

What a verdict says of a hidden eval is one word and a commitment to every case's value: a figure told at every try
would let an author climb the hold-out (Blum and Hardt 2015). Once its cases are revealed, anybody computes both again.
"""

from __future__ import annotations

from souq.build.model import build
from souq.checks.cases import Answer, Case, check
from souq.checks.evals import scores
from souq.evals.eval import Eval
from souq.evals.score import Comparison, Score, compare
from souq.lab.family import Family
from souq.records import Digest, digest_of

FINE = 4  # decimals of a case's value that are committed to: losses differ in the last bits between processors


@check("hidden")
def hidden(case: Case) -> Answer:
    """No hidden eval gets worse by more than its margin; nothing is told but that."""
    if not case.main.sealed:
        return "pass", "main has no hidden evals", {}
    if not case.offer.moves_weights:
        return "pass", "brings no weights: main's scores stay as they are", {}
    without, with_it = build(case.main, progress=case.progress), build(case.main, case.offer, case.progress)
    family = Family(case.main.repo.cache, lambda: (without.lock, with_it.lock))
    before = scores(case.main, without, case.hidden, case.progress, family)
    after = scores(case.main, with_it, case.hidden, case.progress, family)
    words = {name: word(compare(before[name], after[name], margin=case.hidden[name].margin)) for name in case.hidden}
    shown = {"evals": {name: record(suite, before[name], after[name]) for name, suite in case.hidden.items()}}
    if worse := sorted(name for name in words if words[name] == "worse"):
        return "refuse", f"makes worse what is hidden: {', '.join(worse)}", shown
    if unsure := sorted(name for name in words if words[name] == "unsure"):
        return "needs-eyes", f"not shown to be harmless to what is hidden: {', '.join(unsure)}", shown
    return "pass", f"{len(words)} hidden evals are not worse", shown


def word(comparison: Comparison) -> str:
    """All that is shown of a hidden eval: held, worse or unsure."""
    return "held" if comparison.non_inferior else "worse" if comparison.inferior or comparison.beyond else "unsure"


def record(suite: Eval, before: Score, after: Score) -> dict[str, str]:
    """What a verdict carries of a hidden eval: which bytes were run, and a commitment to what they gave."""
    return {"digest": suite.digest, "values": commitment(before, after)}


def commitment(before: Score, after: Score) -> Digest:
    """Binds whoever signs it to every case's value; the cases' ids, unknown till then, keep it from being guessed."""
    both = {"before": before.cases, "after": after.cases}
    return digest_of({side: {case: round(v, FINE) for case, v in values.items()} for side, values in both.items()})

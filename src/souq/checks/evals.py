"""What the change does: main with it against main without it, case by case, on the merged model itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from souq.build import Built, build
from souq.checks.cases import Answer, Case, check
from souq.evals import Comparison, Eval, Score, compare
from souq.progress import Progress
from souq.repo import Repo
from souq.snapshot import Snapshot, base_files


@check("evals")
def evals(case: Case) -> Answer:
    """What it claims to fix gets better, and nothing guarded gets worse by more than its margin, now or bit by bit."""
    main, claims = case.main, tuple(dict.fromkeys(case.offer.contribution.fixes))
    if unknown := [name for name in claims if name not in main.evals]:
        return "refuse", f"claims to fix {', '.join(unknown)}: no such eval on main", {"unknown": unknown}
    if case.offer.delta is None:
        return "pass", "brings no weights: main's scores stay as they are", {}
    if not claims:
        return "refuse", "claims to fix nothing: name an eval with --fixes", {}
    return judge(tried(case, claims), claims)


# -- the trial ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One eval: main, main with the change, what their comparison says; and for the protected, against the last release."""

    suite: Eval
    before: Score
    after: Score
    found: Comparison
    since: Comparison | None = None
    hopeless: bool = False

    @property
    def decided(self) -> bool:
        """Whether more cases would change nothing."""
        drifted = self.since is None or self.since.answer != "undecided"
        return self.hopeless or (self.found.answer != "undecided" and drifted)


@dataclass(frozen=True)
class Course:
    """The order in which an eval's cases are read, whole clusters at a time, and how many each look has read."""

    suite: Eval
    plan: Plan
    order: tuple[tuple[EvalCase, ...], ...]

    @classmethod
    def of(cls, suite: Eval, seed: str, alpha: float) -> Course:
        """Nobody can arrange the order: it follows from the contribution and the commit it would land on."""
        groups: dict[str, list[EvalCase]] = {}
        for found in suite.cases:
            groups.setdefault(suite.clusters[found.id], []).append(found)
        names = sorted(groups, key=lambda name: digest(f"{seed} {suite.name} {name}".encode()))
        plan = Plan() if suite.is_bug else Plan.of(len(suite.cases), alpha)
        return cls(suite, plan, tuple(tuple(groups[name]) for name in names))

    @cached_property
    def ends(self) -> list[int]:
        return look_sizes([len(group) for group in self.order], self.plan)

    def until(self, look: int) -> Eval:
        """The eval with the cases that this look has read."""
        return replace(self.suite, cases=tuple(found for group in self.order[: self.ends[look]] for found in group))


def tried(case: Case, claims: Sequence[str]) -> dict[str, Trial]:
    """Every eval that is claimed or guarded, read look by look until it is decided."""
    main, found = case.main, dict[str, Trial]()
    asked = {name: main.evals[name] for name in sorted({*claims, *main.guarded})}
    before = Reader(main, build(main, progress=case.progress), case.progress)
    after = Reader(main, build(main, case.offer, case.progress), case.progress)
    past = _past(case, before)
    share = ALPHA / sum(name in claims and not asked[name].is_bug for name in asked or 1) if claims else ALPHA
    courses = {
        name: Course.of(suite, f"{case.offer.digest} {main.commit}", share if name in claims else ALPHA)
        for name, suite in asked.items()
    }
    for look in range(LOOKS):
        open_ = {n: c for n, c in courses.items() if look < len(c.ends) and not (n in found and found[n].decided)}
        batch = {name: course.until(look) for name, course in open_.items()}
        guarded = {name: suite for name, suite in batch.items() if suite.protected and name not in claims}
        old, new, was = before(batch), after(batch), past(guarded)
        for name, course in open_.items():
            found[name] = _trial(course, look, old[name], new[name], was.get(name), main.config.checks.drift, name in claims)
    return found


def rare_recall(score: Score, suite: Eval, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The score on cases whose answer is rare in a corpus: the rarer half of the answers, by how often it gives them.

    None where answers do not repeat, so that none is rarer than another.
    """
    answers = sorted({case.expected for case in suite.cases})
    if len(answers) > len(suite.cases) / 2:
        return None
    told = Counter(str(row["messages"][-1]["content"]) for row in rows)
    rare = set(sorted(answers, key=lambda answer: (told[answer], answer))[: len(answers) // 2])
    found = [score.cases[case.id] for case in suite.cases if case.expected in rare]
    return sum(found) / len(found) if found else None

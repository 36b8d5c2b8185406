"""What the change does: main with it against main without it, case by case, on the merged model itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from souq.build import Built, build
from souq.checks.cases import Answer, Case, check
from souq.evals import Comparison, Eval, Score, compare
from souq.lab import engines
from souq.lab.engines import Transformers
from souq.progress import Progress
from souq.scores import model_key
from souq.snapshot import Offer, Snapshot, base_files


@check("evals")
def evals(case: Case) -> Answer:
    """What it claims to fix gets better, and nothing guarded gets worse by more than its margin."""
    claims = case.offer.contribution.fixes
    if unknown := [name for name in claims if name not in case.main.evals]:
        return "refuse", f"claims to fix {', '.join(unknown)}: no such eval on main", {"unknown": unknown}
    if filed := [found for found in case.offer.evals if is_bug(found.name)]:
        return _fails(case.main, filed, case.progress)
    if case.offer.delta is None:
        return "pass", "brings no weights: main's scores stay as they are", {}
    if not claims:
        return "refuse", "claims to fix nothing: name an eval with --fixes", {}
    return effect(case.main, case.main, claims, case.progress, extra=case.offer)


def is_bug(name: str) -> bool:
    """Whether an eval is a filed bug: a few cases that are right or wrong, and no sample of anything."""
    return name.startswith("bug-")


def _fails(main: Snapshot, filed: Sequence[Eval], progress: Progress) -> Answer:
    """A bug report is a case that fails: main must get every new one wrong."""
    found = scores(main, build(main, progress=progress), {one.name: one for one in filed}, progress)
    for one in filed:
        old = {case.id for case in main.evals[one.name].cases} if one.name in main.evals else set[str]()
        if right := [id_ for id_, value in found[one.name].cases.items() if value == 1 and id_ not in old]:
            return "refuse", f"no bug: main answers {right[0]} of `{one.name}` as it expects", {"right": right}
    return "pass", f"main gets {', '.join(one.name for one in filed)} wrong, as it says", {}


def effect(
    main: Snapshot, tree: Snapshot, claims: tuple[str, ...], progress: Progress, extra: Offer | None = None
) -> Answer:
    """What the model of a tree that is not main yet does, against main's; with one more contribution where asked."""
    asked = {name: main.evals[name] for name in {*claims, *main.guarded}}
    before = scores(main, build(main, progress=progress), asked, progress)
    after = scores(main, build(tree, extra, progress, settled=False), asked, progress)
    found = {name: compare(before[name], after[name], margin=asked[name].margin) for name in asked}
    return judge(found, claims, {name: evidence(before[name], after[name], found[name]) for name in asked})


def judge(found: Mapping[str, Comparison], claims: tuple[str, ...], shown: dict[str, Any]) -> Answer:
    """Superiority on what was claimed, non-inferiority on everything else (specs/governance_gating_threats.md, 2)."""
    idle = [name for name in claims if not (found[name].mended if is_bug(name) else found[name].improved)]
    worse = [name for name in found if name not in claims and not found[name].non_inferior]
    if worse:
        told = "; ".join(f"`{name}` {found[name]}" for name in worse)
        return "refuse", f"makes worse what main protects: {told}", shown
    if idle:
        return "refuse", "does not fix what it claims: " + "; ".join(f"`{name}` {found[name]}" for name in idle), shown
    return "pass", "; ".join(f"fixes `{name}`: {found[name]}" for name in claims), shown


def evidence(before: Score, after: Score, found: Comparison) -> dict[str, Any]:
    """The figures a verdict carries."""
    return {
        "n": before.n,
        "before": round(before.value, 4),
        "after": round(after.value, 4),
        "gain": round(found.gain, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
    }


def scores(main: Snapshot, built: Built, asked: Mapping[str, Eval], progress: Progress) -> dict[str, Score]:
    """Each eval's score of one built model; what was scored before, under the same conditions, is read."""
    key = model_key(built.digest, built.files)
    return engines.scores(main.repo, asked, Transformers(key, built.files, built.weights, base_files(main)), progress)


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

"""What the change does: main with it against main without it, case by case, on the merged model itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

from souq.build.model import Built, build
from souq.checks import built, exam
from souq.checks.cases import Answer, Case, check
from souq.checks.contamination import parts_of
from souq.errors import Forged, nearest
from souq.evals.eval import Eval, EvalCase
from souq.evals.manner import Spoken, changes
from souq.evals.score import Comparison, Score, back, compare, fixed
from souq.evals.statistics import ALPHA, Plan, holm, look_sizes
from souq.governance import read_policy
from souq.lab import engines
from souq.lab.engines import Transformers
from souq.lab.family import Family
from souq.lab.score_cache import kept_of
from souq.progress import Progress
from souq.records import Digest, digest
from souq.repo.contribution import YANKED, Offer
from souq.repo.history import signed_release
from souq.repo.landing import touched
from souq.repo.rows import json_rows
from souq.repo.snapshot import Snapshot

SHOWN, MAX_SHOWN = 3, 300  # answers that a verdict carries, and characters of each


@check("evals")
def evals(case: Case) -> Answer:
    """What it claims to fix gets better, and nothing guarded gets worse by more than its margin, now or bit by bit."""
    claims = case.offer.contribution.fixes
    if because := idle_claim(case):
        if not claims and not _asked(case):
            return "pass", "claims to fix nothing, and the policy asks no evals of it", {}
        return "refuse", because, {}
    outcome, costs, counted = exam.cost(case) if case.offer.evals else ("pass", "", {})
    if outcome != "refuse" and (filed := [suite for suite in case.offer.evals if suite.is_bug]):
        return _fails(case.main, filed, case.progress)
    if not case.offer.moves_weights:
        same = "brings no weights: main's scores stay as they are"
        return outcome, f"{same}; {costs}" if outcome == "pass" and costs else costs or same, counted
    return effect(case.main, case.main, claims, case.progress, extra=case.offer)


def _asked(case: Case) -> bool:
    """Whether a scope that this offer touches asks for this check."""
    scopes, _ = read_policy(case.main.policy_text).scopes(touched(case.offer, case.main))
    return any("evals" in scope.checks for scope in scopes)


def idle_claim(case: Case) -> str:
    """Why no model need be asked: what it claims to fix is not there, or weights claim nothing; else empty."""
    claims, known = case.offer.contribution.fixes, case.main.evals
    if len({*claims}) < len(claims):
        return "claims to fix an eval twice: each is named once"
    if unknown := [name for name in claims if name not in known]:
        return f"claims to fix {', '.join(unknown)}: no such eval on main{nearest(unknown[0], known)}"
    if claims or case.offer.delta is None or any(suite.is_bug for suite in case.offer.evals):
        return ""
    some = f"; main has {', '.join(sorted(known)[:8])}" if known else ", when one has landed: `souq pr create --evals`"
    return f"claims to fix nothing: name an eval with --fixes{some}"


def _fails(main: Snapshot, filed: Sequence[Eval], progress: Progress) -> Answer:
    """A bug report is a case that fails: main must get every new one wrong."""
    scored = scores(main, build(main, progress=progress), {suite.name: suite for suite in filed}, progress)
    for suite in filed:
        old = {case.id for case in main.evals[suite.name].cases} if suite.name in main.evals else set[str]()
        if right := [id_ for id_, value in scored[suite.name].cases.items() if value == 1 and id_ not in old]:
            return "refuse", f"no bug: main answers {right[0]} of `{suite.name}` as it expects", {"right": right}
    return "pass", f"main gets {', '.join(suite.name for suite in filed)} wrong, as it says", {}


def effect(
    main: Snapshot, tree: Snapshot, claims: tuple[str, ...], progress: Progress, extra: Offer | None = None
) -> Answer:
    """What the model of a tree that is not main yet does, against main's; with one more contribution where asked."""
    before, after = build(main, progress=progress), build(tree, extra, progress, settled=False)
    where = built.places(main.grown()), built.places(tree.grown(extra))
    far = built.moved(main, before, after, *where, progress)
    if because := built.too_far(main, far):
        return "refuse", because, {"built": asdict(far)}
    outcome, because, shown = judge(trials(main, tree, claims, progress, extra), claims)
    return outcome, f"{because}; {built.in_words(far)}" if outcome != "refuse" else because, shown


# -- the trial: cases are read until they decide -----------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """An eval as far as it was read: the scores of main and of main with the change, and what comparing them says."""

    suite: Eval
    before: Score
    after: Score
    now: Comparison  # against today's main
    since: Comparison | None = None  # against the last release, of a protected eval
    claimed: bool = False
    answers: tuple[tuple[Spoken, Spoken], ...] = ()  # main's and the other's, where no answer is the right one
    manner: tuple[str, ...] = ()  # how these have changed, in words

    @property
    def open(self) -> bool:
        """Whether more cases might still decide it."""
        if self.claimed:
            return not self.now.improved and not self.now.hopeless
        compared = [self.now, self.since] if self.since else [self.now]
        return any(each.answer == "undecided" and not each.hopeless for each in compared)


@dataclass(frozen=True)
class Course:
    """The order in which an eval's cases are read, whole clusters at a time, and how far each look reads."""

    suite: Eval
    plan: Plan
    order: tuple[tuple[EvalCase, ...], ...]

    @classmethod
    def of(cls, suite: Eval, seed: Digest, alpha: float) -> Course:
        """The order follows from what is merged, so nobody can arrange cases before knowing that."""
        groups: dict[str, list[EvalCase]] = {}
        for case in suite.cases:
            groups.setdefault(suite.clusters[case.id], []).append(case)
        names = sorted(groups, key=lambda name: digest(f"{seed} {suite.name} {name}".encode()))
        plan = Plan() if suite.is_bug else Plan.of(len(suite.cases), alpha)
        return cls(suite, plan, tuple(tuple(groups[name]) for name in names))

    @cached_property
    def ends(self) -> list[int]:
        return look_sizes([len(group) for group in self.order], self.plan)

    @property
    def looks(self) -> int:
        return len(self.plan.shares)

    def until(self, look: int) -> Eval:
        """The eval with the cases that this look has read."""
        return replace(self.suite, cases=tuple(case for group in self.order[: self.ends[look]] for case in group))

    def compare(self, before: Score, after: Score, look: int, margin: float, hope: float | None = 0.0) -> Comparison:
        return compare(
            before, after, margin=margin, clusters=self.suite.clusters, plan=self.plan, look=look,
            total=len(self.suite.cases), hope=hope,
        )  # fmt: skip


def trials(
    main: Snapshot, tree: Snapshot, claims: Collection[str], progress: Progress, extra: Offer | None = None
) -> dict[str, Trial]:
    """Every eval that is claimed or guarded, by name, read look by look until it is decided.

    What was scored before, under the same conditions, is not scored again.
    """
    asked = {name: main.evals[name] for name in sorted({*claims, *main.guarded})}
    last, drift = released(main), main.config.checks.drift
    without, with_it = partial(build, main, None, progress), partial(build, tree, extra, progress, settled=False)
    family = Family(main.repo.cache, lambda: (without().lock, with_it().lock))
    before, after = _Reader(main, without, family, progress), _Reader(main, with_it, family, progress)
    past = _Reader(main, partial(build, last, None, progress), family, progress)
    seed = digest(f"{tree.recipe(extra).digest} {main.commit}".encode())
    courses = {name: Course.of(suite, seed, _alpha(suite, claims)) for name, suite in asked.items()}
    tried: dict[str, Trial] = {}
    for look in range(max((course.looks for course in courses.values()), default=0)):
        going = {n: c for n, c in courses.items() if look < c.looks and (n not in tried or tried[n].open)}
        part = {name: course.until(look) for name, course in going.items()}
        old, new = before.scores(part), after.scores(part)
        was = past.scores(
            {n: suite for n, suite in part.items() if suite.protected and not suite.is_bug and n not in claims}
        )
        for name, course in going.items():
            margin = course.suite.margin
            compared = course.compare(old[name], new[name], look, margin, None if name in claims else 0.0)
            since = course.compare(was[name], new[name], look, drift * margin) if name in was else None
            tried[name] = Trial(course.suite, old[name], new[name], compared, since, name in claims)
    taught = [parts_of(row)[-1] for row in json_rows(extra.data) if parts_of(row)] if extra is not None else []
    return {name: _with_answers(trial, before, after, taught) for name, trial in tried.items()}


def _with_answers(trial: Trial, before: _Reader, after: _Reader, taught: Collection[str]) -> Trial:
    """A trial of open answers with what both said, as far as it was read; `taught` are the training rows' answers."""
    if trial.suite.spec.kind != "open":
        return trial
    suite = replace(trial.suite, cases=tuple(case for case in trial.suite.cases if case.id in trial.after.cases))
    pairs = tuple(zip(before.spoken(suite), after.spoken(suite), strict=True))
    lines = changes([old for old, _ in pairs], [new for _, new in pairs], taught)
    return replace(trial, answers=pairs, manner=tuple(lines))


def _alpha(suite: Eval, claims: Collection[str]) -> float:
    """Claims share the chance of error while they are read; Holm's order is theirs only at the end."""
    return ALPHA / max(1, len(set(claims))) if suite.name in claims else ALPHA


@dataclass(frozen=True)
class _Reader:
    """A model that is built, and loaded, when there is something to ask it, and once."""

    main: Snapshot
    made: Callable[[], Built]
    family: Family
    progress: Progress

    @cached_property
    def engine(self) -> Transformers:
        return engines.of_built(self.main, self.made(), self.family)

    def scores(self, asked: Mapping[str, Eval]) -> dict[str, Score]:
        return engines.scores(self.main.repo, asked, self.engine, self.progress) if asked else {}

    def spoken(self, suite: Eval) -> list[Spoken]:
        """What it answered to cases that were scored."""
        kept = kept_of(self.main.repo, self.engine.model, suite, self.engine.under)
        return [Spoken(case.text, kept[case.id].answer, kept[case.id].ended) for case in suite.cases]


def released(main: Snapshot) -> Snapshot:
    """The main of the last release that was not yanked; where there is none, main as it began."""
    commits = main.repo.history(main.commit)
    policy, landed = read_policy(main.policy_text), [commits[0]]
    for version in main.releases:
        files = main.below(f"releases/{version}")
        with suppress(Forged):  # its key is not enrolled any more: an older release binds instead
            if YANKED not in files:
                landed.append(signed_release(files.get("release.json", b""), policy).release.commit)
    return Snapshot(main.repo, max((commit for commit in landed if commit in commits), key=commits.index))


# -- the verdict -------------------------------------------------------------------------------------------------------


def judge(tried: Mapping[str, Trial], claims: Sequence[str]) -> Answer:
    """Better where it claims to be; elsewhere no worse than the margin, shown, now and since the last release.

    What is neither shown nor ruled out is for people where it seems to be within the margin, and refused where not.
    """
    shown = {name: evidence(trial) for name, trial in tried.items()}
    guards = {name: trial for name, trial in tried.items() if name not in claims}
    adjusted = holm({name: trial.now.p_worse for name, trial in guards.items() if not trial.suite.is_bug})
    worse = [_worse(trial, adjusted) for trial in guards.values() if _is_worse(trial)]
    better = holm({name: tried[name].now.p_better for name in claims if not tried[name].suite.is_bug})
    idle = [name for name in claims if not _mends(tried[name], better)]
    drifted = [name for name, trial in guards.items() if trial.since is not None and trial.since.inferior]
    unsure = list(_unsure(guards))
    if worse:
        return "refuse", f"makes worse what main protects: {'; '.join(worse)}", shown
    if idle:
        reasons = "; ".join(f"`{name}` {tried[name].now}{_holm(better, name)}" for name in idle)
        return "refuse", f"does not fix what it claims: {reasons}", shown
    if drifted:
        reasons = "; ".join(f"`{name}` {tried[name].since}" for name in drifted)
        return "refuse", f"too much is lost since the last release, bit by bit: {reasons}", shown
    fixes = "; ".join(f"fixes `{name}`: {tried[name].now}" for name in claims) or "claims to fix nothing"
    if unsure:
        return "needs-eyes", f"{fixes}; not shown to be harmless: {'; '.join(unsure)}", shown
    return "pass", fixes, shown


def _is_worse(trial: Trial) -> bool:
    if trial.suite.is_bug:
        return bool(back(trial.before, trial.after))
    return trial.now.inferior or (not trial.now.non_inferior and trial.now.beyond)


def _worse(trial: Trial, adjusted: Mapping[str, float]) -> str:
    """An eval that got worse, and how sure that is beside all the others that were asked."""
    name = trial.suite.name
    if trial.suite.is_bug:
        return f"`{name}` fails again: {', '.join(back(trial.before, trial.after)[:3])}"
    return "".join([f"`{name}` {trial.now}{_holm(adjusted, name)}", *(f": {line}" for line in trial.manner[:1])])


def _holm(adjusted: Mapping[str, float], name: str) -> str:
    if name not in adjusted:
        return ""
    of = f" among {len(adjusted)}" if len(adjusted) > 1 else ""
    return f" (p < 0.0001{of})" if adjusted[name] < 1e-4 else f" (p = {adjusted[name]:.2g}{of})"


def _mends(trial: Trial, better: Mapping[str, float]) -> bool:
    if trial.suite.is_bug:
        return fixed(trial.before, trial.after)
    return trial.now.gain > 0 and better[trial.suite.name] <= ALPHA


def _unsure(guards: Mapping[str, Trial]) -> Iterator[str]:
    for name, trial in guards.items():
        if trial.manner:
            yield f"`{name}` {trial.now}, and {'; '.join(trial.manner)}"
        elif not trial.suite.is_bug and trial.now.answer == "undecided":
            yield f"`{name}` {trial.now}"
        elif trial.since is not None and trial.since.answer == "undecided":
            yield f"`{name}` since the last release {trial.since}"


def evidence(trial: Trial) -> dict[str, Any]:
    """The figures of a trial that a verdict carries, as canonical JSON holds them."""
    figures = _figures(trial.before, trial.after, trial.now)
    if trial.answers:
        shown = [{"prompt": old.prompt, "before": old.text, "after": new.text} for old, new in trial.answers[:SHOWN]]
        figures["answers"] = [{key: text[:MAX_SHOWN] for key, text in each.items()} for each in shown]
        figures["manner"] = list(trial.manner)
    return figures if trial.since is None else figures | {"since_release": _interval(trial.since)}


def _figures(before: Score, after: Score, comparison: Comparison) -> dict[str, Any]:
    values = {"n": before.n, "of": comparison.total, "before": round(before.value, 4), "after": round(after.value, 4)}
    return values | _interval(comparison)


def _interval(comparison: Comparison) -> dict[str, Any]:
    ends = (max(-1e9, min(1e9, end)) for end in (comparison.low, comparison.high))  # canonical JSON has no infinity
    interval = [round(end, 4) for end in ends]
    figures = {"gain": round(comparison.gain, 4), "interval": interval, "answer": comparison.answer}
    return figures | ({"needed": comparison.needed} if comparison.answer == "undecided" else {})


def scores(
    main: Snapshot, model: Built, asked: Mapping[str, Eval], progress: Progress, family: Family | None = None
) -> dict[str, Score]:
    """Each eval's score of one built model; what was scored before, under the same conditions, is read."""
    return engines.scores(main.repo, asked, engines.of_built(main, model, family), progress)

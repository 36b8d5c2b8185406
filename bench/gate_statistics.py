"""How often the gate is wrong, and what looking early saves: thousands of simulated pull requests of each kind.

Cases are drawn as they are in life: most do not change, some are mended, some are broken. The rules are the gate's own
(souq.evals.statistics). "worse by the margin" is the hardest bad change there is: any worse one is caught more often.

    python bench/gate_statistics.py [PULL_REQUESTS]
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from machine import describe
from souq.evals.statistics import ALPHA, Paired, Plan, holm, hopeless, losses, right_wrong, sign_test

chance = np.random.default_rng(20261125)


@dataclass(frozen=True)
class Said:
    """What became of one eval of one pull request."""

    answer: str  # pass, eyes, refuse
    read: float  # share of the cases
    p: float = 1.0  # of being worse by more than the margin


def judged(found: Paired, plan: Plan, look: int, margin: float) -> str:
    """The gate's rule at one look; "" to go on."""
    low, high = found.bounds(plan.level(look))
    if low > -margin:
        return "pass"
    if high < -margin:
        return "refuse"
    if look < len(plan.shares) - 1 and not hopeless(found, plan, look, -margin, 0.0):
        return ""
    return "refuse" if found.gain < -margin else "eyes"


@cache
def counted(mended: int, broken: int, n: int, look: int, plan: Plan, margin: float) -> tuple[str, float]:
    found = Paired((mended - broken) / n, 0.0, n, n, mended, broken)
    return judged(found, plan, look, margin), plan.overall(look, found.below(-margin))


def trial(n: int, mend: float, broke: float, margin: float) -> Said:
    """One eval of independent right-or-wrong cases."""
    plan = Plan.of(n)
    ends = [round(share * n) for share in plan.shares]
    mended = broken = last = 0
    for look, end in enumerate(ends):
        more = chance.multinomial(end - last, [mend, broke, 1 - mend - broke])
        mended, broken, last = mended + int(more[0]), broken + int(more[1]), end
        answer, p = counted(mended, broken, end, look, plan, margin)
        if answer:
            return Said(answer, end / n, p)
    raise AssertionError


def clustered(groups: int, size: int, mend: float, broke: float, margin: float, alike: float) -> Said:
    """Clusters whose cases share one draw with chance `alike`."""
    n = groups * size
    plan = Plan.of(n)
    odds = [mend, broke, 1 - mend - broke]
    values = np.array([1.0, -1.0, 0.0])
    shared, own = chance.choice(values, groups, p=odds), chance.choice(values, (groups, size), p=odds)
    drawn = np.where(chance.random((groups, size)) < alike, shared[:, None], own)
    for look, share in enumerate(plan.shares):
        seen = round(share * groups)
        gains = {f"{g:03}-{i}": float(drawn[g, i]) for g in range(seen) for i in range(size)}
        answer = judged(right_wrong(gains, {case: case[:3] for case in gains}), plan, look, margin)
        if answer:
            return Said(answer, seen / groups)
    raise AssertionError


def loss_trial(groups: int, size: int, mean: float, margin: float, tail: float) -> Said:
    """Nats of passages, a few of each document, lognormal with sigma `tail` to the worse."""
    plan = Plan.of(groups * size)
    long = (np.exp(chance.normal(0, tail, groups)) - np.exp(tail**2 / 2)) * 0.08 / tail
    drawn = mean - long[:, None] + chance.normal(0, 0.05, (groups, size))
    for look, share in enumerate(plan.shares):
        seen = round(share * groups)
        gains = {f"{g:03}-{i}": float(drawn[g, i]) for g in range(seen) for i in range(size)}
        answer = judged(losses(gains, {case: case[:3] for case in gains}), plan, look, margin)
        if answer:
            return Said(answer, seen / groups)
    raise AssertionError


def together(evals: int, worse: int, n: int, discordant: float, margin: float) -> Said:
    """Several protected evals, of which `worse` are worse by the margin: the gate's answer about all, and a shown p by Holm."""
    said = [trial(n, *rates(discordant, -margin if i < worse else 0.0), margin) for i in range(evals)]
    answers = {one.answer for one in said}
    answer = "refuse" if "refuse" in answers else "eyes" if "eyes" in answers else "pass"
    named = min(holm({str(i): one.p for i, one in enumerate(said)}).values())
    return Said(answer, float(np.mean([one.read for one in said])), named)


@cache
def improved(up: int, down: int, level: float) -> bool:
    return up > down and sign_test(up, down) <= level


@cache
def dim(mended: int, broken: int, n: int, look: int, plan: Plan) -> bool:
    found = Paired((mended - broken) / n, 0.0, n, n, mended, broken)
    return hopeless(found, plan, look, 0.0, found.bounds(plan.level(look))[1])


def claim(n: int, mend: float, broke: float) -> Said:
    """One claim to fix an eval."""
    plan = Plan.of(n)
    ends = [round(share * n) for share in plan.shares]
    mended = broken = last = 0
    for look, end in enumerate(ends):
        more = chance.multinomial(end - last, [mend, broke, 1 - mend - broke])
        mended, broken, last = mended + int(more[0]), broken + int(more[1]), end
        if improved(mended, broken, plan.level(look)):
            return Said("pass", end / n)
        if dim(mended, broken, end, look, plan):
            return Said("refuse", end / n)
    return Said("refuse", 1.0)


def rates(discordant: float, gain: float) -> tuple[float, float]:
    """Chances to be mended and to be broken, of a case."""
    share = max(discordant, abs(gain))
    return (share + gain) / 2, (share - gain) / 2


def row(what: str, design: str, one: Callable[[], Said], prs: int) -> tuple[list[Said], str]:
    said = [one() for _ in range(prs)]
    count = Counter(found.answer for found in said)
    shares = " | ".join(f"{100 * count[answer] / prs:5.1f}%" for answer in ("pass", "eyes", "refuse"))
    return said, f"| {design} | {what} | {shares} | {100 * np.mean([found.read for found in said]):3.0f}% |"


def main(prs: int) -> None:
    begun = time.perf_counter()
    print(f"{describe()}; {prs:,} pull requests a row\n")
    print("| design | the change is | pass | needs eyes | refuse | cases read |\n|---|---|---|---|---|---|")
    reads = []
    for n, discordant, margin in (
        (1000, 0.10, 0.03),
        (2000, 0.10, 0.03),
        (181, 0.10, 0.10),
        (81, 0.05, 0.10),
        (40, 0.10, 0.10),
    ):
        design = f"{n:,} cases, {100 * discordant:.0f}% change, margin {100 * margin:.0f}"
        kinds = {
            "equal": 0.0,
            "worse by the margin": -margin,
            "worse by twice the margin": -2 * margin,
            "better by a margin": margin,
        }
        for what, gain in kinds.items():
            said, line = row(what, design, lambda n=n, d=discordant, g=gain, m=margin: trial(n, *rates(d, g), m), prs)
            reads += [found.read for found in said] if n == 1000 else []
            print(line, flush=True)
    for what, gain in (("equal", 0.0), ("worse by the margin", -0.03)):
        one = lambda g=gain: clustered(400, 4, *rates(0.10, g), 0.03, 0.5)  # noqa: E731
        print(row(what, "400 documents of 4 cases, half alike, 10% change, margin 3", one, prs)[1], flush=True)
    for what, worse in (("equal", 0), ("worse by the margin on one", 1)):
        said, line = row(
            what, "5 evals of 1,000 cases, 10% change, margin 3", lambda w=worse: together(5, w, 1000, 0.10, 0.03), prs
        )
        print(line, flush=True)
        print(
            f"|  | of these, some eval is said to be worse, Holm's p < 5% | | | {100 * np.mean([s.p <= ALPHA for s in said]):.1f}% | |"
        )
    for groups, tail in ((24, 0.4), (24, 0.8), (100, 0.8)):
        for what, mean in (("equal", 0.0), ("worse by the margin", -0.1)):
            one = lambda g=groups, m=mean, t=tail: loss_trial(g, 1, m, 0.1, t)  # noqa: E731
            design = f"loss of {groups} documents, lognormal tail {tail}, margin 0.10 nats"
            print(row(what, design, one, min(prs, 2_000))[1], flush=True)
    for what, gain in (("does nothing", 0.0), ("mends 10 points", 0.10)):
        print(
            row(what, "a claim, 200 cases, 10% change", lambda g=gain: claim(200, *rates(0.10, g)), prs)[1], flush=True
        )
    print(f"\n1,000 cases, all four kinds: {100 * (1 - np.mean(reads)):.0f}% of the cases are not read.")
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)

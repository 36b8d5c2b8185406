"""How sure we may be that one model is worse or better than another on the same cases. Arithmetic and nothing else.

It has heard of numbers, never of models or evals. Right and wrong answers get a score bound that stays honest when
nearly nothing changed; losses get a bound that counts documents, not cases. A trial that is looked at several times
spends its error in instalments. What is weak about each stands in decisions/statistics.md.

    >>> low, high = right_wrong({"a": 0.0, "b": 0.0}).bounds(0.05)
    >>> low < -0.5 and high > 0.5  # two cases that stayed right prove next to nothing
    True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

ALPHA, POWER = 0.05, 0.8  # one-sided: each question is asked in one direction
NORMAL = NormalDist()
ONE_CASE = 1.0
FEW = 10  # clusters that changed: with fewer, how much they share cannot be estimated
RESAMPLES = 2_000
HOPELESS = 0.1  # the chance of proof below which a trial stops
ONE_LOOK = 60  # cases: fewer are scored at once
LOOKS = 5
Array = np.ndarray[Any, np.dtype[Any]]


# -- one comparison ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """Case-by-case gains of one model over another, summed up. Positive is better.

    `mended` and `broken` are counts of right and wrong answers that changed, over `n` draws, and None for losses. Where
    cases share documents the counts are scaled down to draws that are independent, so they need not be whole.
    """

    gain: float
    stderr: float  # cluster-robust
    n: float
    groups: int
    mended: float | None = None
    broken: float | None = None
    clustered: bool = False
    sums: tuple[float, ...] = ()  # of each cluster, losses only: what is resampled
    sizes: tuple[int, ...] = ()

    def above(self, shift: float) -> float:
        """The p of so large a gain if the true one were `shift`, one-sided."""
        return 1 - self._chance(self._z(shift))

    def below(self, shift: float) -> float:
        """The p of so small a gain if the true one were `shift`."""
        return self._chance(self._z(shift))

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Lower and upper bound, each wrong with chance `alpha`."""
        wide = self._quantile(alpha)
        if self.mended is None or self.broken is None:
            if not math.isfinite(self.stderr):
                return -math.inf, math.inf
            low, high = self.gain - wide * self.stderr, self.gain + wide * self.stderr
            return self._cautious(low, high, alpha)
        return tango(self.mended, self.broken, self.n, wide)

    def spread(self, shift: float) -> float:
        """The standard error of the gain if the true one were `shift`: never nil only because nothing changed yet."""
        if self.mended is None or self.broken is None:
            return self.stderr
        return math.sqrt(float(_variance(self.mended, self.broken, self.n, shift)) / self.n)

    def _z(self, shift: float) -> float:
        if self.mended is not None and self.broken is not None:
            return float(score_z(self.mended, self.broken, self.n, shift))
        away = self.gain - shift
        if self.stderr == 0:
            return math.copysign(math.inf, away) if away else 0.0
        return away / self.stderr

    def _cautious(self, low: float, high: float, alpha: float) -> tuple[float, float]:
        """The wider of Student's and the bootstrap's bound: losses have long tails, which Student's does not see."""
        if self.groups < FEW or self.stderr == 0 or alpha * RESAMPLES < FEW:
            return low, high
        left, right = bootstrap(self.sums, self.sizes, alpha)
        return min(low, left), max(high, right)

    def _chance(self, z: float) -> float:
        if not self._student:
            return NORMAL.cdf(z)
        from scipy.stats import t

        return float(t.cdf(z, self.groups - 1)) if self.groups > 1 else 0.5

    def _quantile(self, alpha: float) -> float:
        if not self._student:
            return NORMAL.inv_cdf(1 - alpha)
        from scipy.stats import t

        return float(t.isf(alpha, self.groups - 1)) if self.groups > 1 else math.inf

    @property
    def _student(self) -> bool:
        return self.mended is None or self.clustered


def right_wrong(gains: Mapping[str, float], clusters: Mapping[str, str] | None = None) -> Paired:
    """Gains of -1, 0 or 1 by case; those of one cluster count as the draws they are worth (Rao and Scott 1992)."""
    gain, stderr, sums, _ = clustered_mean(gains, clusters)
    n, groups = len(gains), len(sums)
    mended, broken = sum(g > 0 for g in gains.values()), sum(g < 0 for g in gains.values())
    if groups == n:
        return Paired(gain, stderr, n, groups, mended, broken)
    worth = _draws(gains, clusters or {}, stderr, groups)
    scale = worth / n
    return Paired(gain, stderr, worth, groups, mended * scale, broken * scale, clustered=True)


def _draws(gains: Mapping[str, float], clusters: Mapping[str, str], stderr: float, groups: int) -> float:
    """How many independent cases clustered ones are worth; a cluster is one where too few changed to tell."""
    n = len(gains)
    if len({clusters[case] for case, gain in gains.items() if gain}) < FEW:
        return groups
    alone = clustered_mean(gains, None)[1]
    return n / max(1.0, (stderr / alone) ** 2) if alone > 0 else groups


def losses(gains: Mapping[str, float], clusters: Mapping[str, str] | None = None) -> Paired:
    """Gains in nats by case, summed up for Student's test."""
    gain, stderr, sums, sizes = clustered_mean(gains, clusters)
    return Paired(gain, stderr, len(gains), len(sums), sums=tuple(sums), sizes=tuple(sizes))


def clustered_mean(
    values: Mapping[str, float], clusters: Mapping[str, str] | None
) -> tuple[float, float, list[float], list[int]]:
    """Mean, its cluster-robust standard error (Miller, arXiv 2411.00640), and each cluster's sum and size.

    The error of a single draw is infinite: it says nothing of how others would fall.
    """
    n, sums, sizes = len(values), dict[str, list[float]](), dict[str, int]()
    mean = math.fsum(values.values()) / n
    for case in sorted(values):
        key = clusters[case] if clusters else case
        sums.setdefault(key, []).append(values[case])
        sizes[key] = sizes.get(key, 0) + 1
    names = sorted(sums)
    totals, counts = [math.fsum(sums[name]) for name in names], [sizes[name] for name in names]
    groups = len(names)
    if groups < 2:
        return mean, math.inf, totals, counts
    variance = (
        math.fsum((s - m * mean) ** 2 for s, m in zip(totals, counts, strict=True)) / n**2 * groups / (groups - 1)
    )
    return mean, math.sqrt(variance), totals, counts


def bootstrap(sums: Sequence[float], sizes: Sequence[int], alpha: float) -> tuple[float, float]:
    """One-sided BCa bounds of a mean whose clusters are drawn again (Efron 1987), from a fixed seed."""
    from scipy.stats import bootstrap as resample

    def mean(s: Array, m: Array, axis: int = -1) -> Array:
        return np.asarray(s.sum(axis=axis) / m.sum(axis=axis))

    drawn = resample(
        (np.asarray(sums), np.asarray(sizes, float)), mean, paired=True, vectorized=True, method="BCa", batch=100,
        n_resamples=RESAMPLES, confidence_level=1 - 2 * alpha, rng=np.random.default_rng(0),
    )  # fmt: skip
    low, high = map(float, drawn.confidence_interval)
    return (low if math.isfinite(low) else math.inf), (high if math.isfinite(high) else -math.inf)


# -- right and wrong answers -------------------------------------------------------------------------------------------


def score_z(mended: Any, broken: Any, n: Any, shift: Any, *, corrected: bool = True) -> Any:
    """How many standard errors the gain is above `shift`, the error taken as if `shift` were true (Tango 1998).

    With nothing changed in 20 cases the usual error is nil; this one is not. One case is taken off, as McNemar's test
    does, because counts move in whole ones: without it up to 1 in 12 models worse by the margin pass, not 1 in 20.
    """
    away = mended - broken - n * shift
    if corrected:
        away = np.sign(away) * np.maximum(np.abs(away) - ONE_CASE, 0.0)
    deviation = np.sqrt(n * _variance(mended, broken, n, shift))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(away == 0, 0.0, away / deviation)


def _variance(mended: Any, broken: Any, n: Any, shift: Any) -> Any:
    """Of one case's gain, where its mean is `shift` and the counts are as likely as they can then be."""
    b = (2 * n - mended + broken) * shift - mended - broken
    c = -broken * shift * (1 - shift)
    q = (np.sqrt(np.maximum(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    return np.maximum(2 * q + shift * (1 - shift), 0.0)


def tango(mended: float, broken: float, n: float, z: float, *, corrected: bool = True) -> tuple[float, float]:
    """The differences from which these counts are no more than `z` standard errors away."""
    estimate = (mended - broken) / n
    ends = []
    for outside in (-1.0, 1.0):
        inside, out = estimate, outside
        for _ in range(7):  # each time the gap that holds the end is cut into 64
            points = np.linspace(inside, out, 65)
            far = np.abs(score_z(mended, broken, n, points, corrected=corrected)) >= z
            if not far.any():  # not even the utmost difference is too far
                inside = outside
                break
            first = int(far.argmax())
            inside, out = float(points[max(first - 1, 0)]), float(points[first])
        ends.append(inside)
    return ends[0], ends[1]


def mcnemar(gains: Mapping[str, float], clusters: Mapping[str, str] | None = None) -> float:
    """The chance of so many mended, of those that changed, if mending and breaking were alike (McNemar 1947, exact).

    A cluster is one case: mended where more of it was mended than broken.
    """
    totals = clustered_mean(gains, clusters)[2]
    return sign_test(sum(s > 0 for s in totals), sum(s < 0 for s in totals))


def sign_test(ups: int, downs: int) -> float:
    """One-sided exact p of `ups` against `downs`."""
    from scipy.stats import binomtest

    return float(binomtest(ups, ups + downs, alternative="greater").pvalue) if ups + downs else 1.0


def wilson(wrong: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Two-sided interval of a share, wrong with chance `alpha` (Wilson 1927)."""
    from scipy.stats import binomtest

    low, high = binomtest(wrong, n).proportion_ci(1 - alpha, method="wilson")
    return float(low), float(high)


# -- several questions, several looks ----------------------------------------------------------------------------------


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Each p as it counts among all of them: at most 1, never smaller than it was (Holm 1979)."""
    adjusted, most = dict[str, float](), 0.0
    for rank, name in enumerate(sorted(ps, key=lambda name: (ps[name], name))):
        most = max(most, min(1.0, (len(ps) - rank) * ps[name]))
        adjusted[name] = most
    return {name: adjusted[name] for name in ps}


def obrien_fleming(alpha: float, t: float) -> float:
    """The error spent by the time a share `t` of the cases is seen: next to none early (Lan and DeMets 1983)."""
    return 2 - 2 * NORMAL.cdf(NORMAL.inv_cdf(1 - alpha / 2) / math.sqrt(t))


def pocock(alpha: float, t: float) -> float:
    """The chance of error spent about evenly over the looks (Lan and DeMets 1983, after Pocock)."""
    return alpha * math.log(1 + (math.e - 1) * t)


def kim_demets(alpha: float, t: float) -> float:
    """Spent later than evenly and earlier than O'Brien and Fleming: alpha t^1.5 (Kim and DeMets 1987)."""
    return float(alpha * t**1.5)


SPENDING = {"obrien-fleming": obrien_fleming, "pocock": pocock, "kim-demets": kim_demets}


@dataclass(frozen=True)
class Plan:
    """When a trial is looked at, as shares of its cases, and what it may be wrong in all, in each direction."""

    shares: tuple[float, ...] = (1.0,)
    alpha: float = ALPHA
    spending: str = "kim-demets"

    @classmethod
    def of(cls, cases: int, alpha: float = ALPHA) -> Plan:
        looks = 1 if cases < ONE_LOOK else LOOKS
        return cls(tuple((look + 1) / looks for look in range(looks)), alpha)

    @property
    def bounds(self) -> tuple[float, ...]:
        """How many standard errors from nothing are proof, at each look."""
        return _bounds(self)

    def level(self, look: int) -> float:
        """The chance of error that a single look may have."""
        return 1 - NORMAL.cdf(self.bounds[look])

    def overall(self, look: int, p: float) -> float:
        """The p of a whole trial that ended at `look` with this p there: earlier looks rank before it (Tsiatis 1984).

        At least alpha where no bound was crossed: a trial that stops short of its bound has proved nothing.
        """
        if len(self.shares) == 1:
            return p
        spent = SPENDING[self.spending](self.alpha, self.shares[look - 1]) if look else 0.0
        beyond = _passed(self, look)(NORMAL.inv_cdf(1 - min(max(p, 1e-15), 1 - 1e-15)))
        short = look < len(self.shares) - 1 and p >= self.level(look)
        return min(1.0, max(float(spent + beyond), self.alpha if short else 0.0))

    def chance(self, look: int, z: float, drift: float) -> float:
        """The chance of proof at the end, from `z` now, if the final z is `drift` on average (conditional power)."""
        left = 1 - self.shares[look]
        if left <= 0:
            return float(z >= self.bounds[-1])
        ahead = self.bounds[-1] - z * math.sqrt(self.shares[look]) - drift * left
        return 1 - NORMAL.cdf(ahead / math.sqrt(left))


ONCE = Plan()


@lru_cache(maxsize=64)
def _bounds(plan: Plan) -> tuple[float, ...]:
    """By recursion over the looks (Armitage, McPherson and Rowe 1969), one-sided."""
    spend, spent, limits = SPENDING[plan.spending], 0.0, list[float]()
    for look, share in enumerate(plan.shares):
        total = plan.alpha if look == len(plan.shares) - 1 else spend(plan.alpha, share)
        beyond = _passed(plan, look, tuple(limits))
        low, high = 0.0, 9.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if beyond(middle) > total - spent else (low, middle)
        limits.append(low)
        spent = total
    return tuple(limits)


def _passed(plan: Plan, look: int, bounds: tuple[float, ...] | None = None) -> Callable[[float], float]:
    """z -> the chance that a trial has not ended before `look` and lies beyond z there, by quadrature."""
    bounds = plan.bounds if bounds is None else bounds
    here, weight, before = np.zeros(1), np.ones(1), 0.0
    nodes, weights = np.polynomial.legendre.leggauss(160)
    for share, bound in zip(plan.shares[:look], bounds[:look], strict=True):
        step, low, high = math.sqrt(share - before), -8 * math.sqrt(share), bound * math.sqrt(share)
        there = (high - low) / 2 * nodes + (high + low) / 2
        density = np.exp(-(((there[:, None] - here) / step) ** 2) / 2) / (step * math.sqrt(2 * math.pi))
        here, weight, before = there, (density @ weight) * weights * (high - low) / 2, share
    step = math.sqrt(plan.shares[look] - before)

    def beyond(z: float) -> float:
        from scipy.special import ndtr

        return float(weight @ ndtr((here - z * math.sqrt(plan.shares[look])) / step))

    return beyond


def look_sizes(sizes: Sequence[int], plan: Plan) -> list[int]:
    """How many clusters, in order, each look has seen: the first so many that hold its share of all cases."""
    reached = np.cumsum(sizes)
    ends = [int(np.searchsorted(reached, share * reached[-1] - 1e-9)) + 1 for share in plan.shares]
    return [*ends[:-1], len(sizes)]


# -- three answers -----------------------------------------------------------------------------------------------------


def cases_needed(paired: Paired, cases: int, margin: float) -> int | None:
    """How many more cases would decide, at 80% power, if the gain is what it seems; None where none would.

    From n = ((z_alpha + z_power) sd / distance)^2, sd as it were at the margin (Schuirmann 1987; Nam 1997).
    """
    distance = paired.gain + margin
    spread = paired.spread(-margin)
    if abs(distance) < 1e-9 or not math.isfinite(spread):
        return None
    wanted = ((NORMAL.inv_cdf(1 - ALPHA) + NORMAL.inv_cdf(POWER)) * spread / distance) ** 2 * cases
    return max(0, math.ceil(wanted - cases))


def hopeless(paired: Paired, plan: Plan, look: int, null: float, hope: float) -> bool:
    """Whether a gain above `null` will hardly be shown any more, even if the truth is `hope`. It never makes a pass."""
    spread = paired.spread(null)
    if not 0 < spread < math.inf or look == len(plan.shares) - 1:
        return False
    drift = (hope - null) / (spread * math.sqrt(plan.shares[look]))
    return plan.chance(look, (paired.gain - null) / spread, drift) < HOPELESS

"""Is a LoRA's spectrum like honest ones'? Five figures of each matrix against a bank; it refuses and accuses nobody.

The figures are those of arXiv 2602.15195 (delta_stats.Spectrum). There a logistic regression is trained on poisoned
adapters; here nothing is: a distance from honest ones alone, so that it does not only know the attacks of one zoo. Ours
too are: every matrix instead of q, k, v and o; the removal of what honest people choose freely (overall size, rank);
the spread of sizes over modules; and the threshold, by leaving each honest one out.

    bank = Bank.of([signature(spectra) for spectra in honest])
    bank.distance(signature(low_rank(delta_stats(case)))) > bank.threshold

No distance proves a backdoor absent: decisions/gate.md has what passes unseen.
"""

from __future__ import annotations

import math
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from souq.checks.cases import Answer, Case, check
from souq.checks.delta_stats import DeltaStats, Spectrum, accepted_stats, delta_stats, kind_of
from souq.merge.exact import Float
from souq.records import Record

FIGURES = ("top", "size", "concentration", "entropy", "kurtosis")
FALSE = 0.05  # of honest ones that may be asked about: the threshold is chosen for it
LEAST = 20  # honest ones of the same base; with fewer, leaving one out cannot tell 5%
LEAST_SCALE = 0.02  # of a figure among honest ones: where all are alike, a hair is not yet far
FAR = 10.0  # standard deviations, of what cannot be measured
MODULES = 4  # matrices a contribution must change to be compared


class Signature(Record, frozen=True):
    """One contribution in a few numbers: each kind of matrix has the median and the extremes of the five figures."""

    rank: int
    spread: float  # standard deviation of log sizes over modules
    kinds: dict[str, tuple[tuple[float, float, float], ...]]  # kind -> FIGURES -> median, least, most


class Honest(Record, frozen=True):
    """A row of the shipped bank: an honest LoRA, by name, base and recipe."""

    name: str
    base: str
    recipe: str
    signature: Signature


def signature(parts: Mapping[str, Spectrum]) -> Signature | None:
    """What of a contribution is compared; None where too little of it is a change of rank 2 or more.

    Sizes count against the contribution's own mean: learning rate, alpha and epochs move all of them together.
    """
    spectra = {name: part for name, part in parts.items() if part.rank > 1 and part.size > 0}
    if len(spectra) < MODULES:
        return None
    sizes = np.array([math.log(part.size) for part in spectra.values()])
    rows: dict[str, list[list[float]]] = {}
    for name, part in spectra.items():
        rows.setdefault(kind_of(name), []).append(_figures(part, float(sizes.mean())))
    kinds = {kind: _summary(np.array(figures)) for kind, figures in sorted(rows.items())}
    rank = int(np.median([part.rank for part in spectra.values()]))
    return Signature(rank=rank, spread=float(sizes.std()), kinds=kinds)


def _figures(part: Spectrum, mean: float) -> list[float]:
    """The five, on scales where honest ones are spread evenly."""
    return [
        math.log(part.top) - mean,
        math.log(part.size) - mean,
        math.log(part.concentration),
        part.entropy / math.log(part.rank),
        math.log(part.kurtosis),
    ]


def _summary(rows: Float) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(np.median(x)), float(x.min()), float(x.max())) for x in rows.T)


@dataclass(frozen=True)
class Bank:
    """Honest signatures, what is usual among them, and how far from it one may be."""

    kinds: tuple[str, ...]
    usual: Usual
    threshold: float
    size: int

    @classmethod
    def of(cls, honest: Sequence[Signature]) -> Bank:
        """The threshold is the distance that at most FALSE of the honest exceed when each is measured by the others."""
        kinds = tuple(sorted({kind for row in honest for kind in row.kinds}))
        rows = Rows.of(honest, kinds)
        every = np.arange(len(honest))
        apart = sorted(Usual.of(rows.take(every != i)).distance(rows.take(every == i)) for i in every)
        rank = min(math.ceil((1 - FALSE) * (len(honest) + 1)), len(honest))
        return cls(kinds, Usual.of(rows), apart[rank - 1], len(honest))

    def distance(self, contribution: Signature) -> float:
        return self.usual.distance(Rows.of([contribution], self.kinds))

    def off(self, contribution: Signature) -> dict[str, float]:
        """How far each figure is from the middle of honest ones."""
        names = [*FIGURES, *(f"furthest {name}" for name in FIGURES), "spread"]
        values = self.usual.vectors(Rows.of([contribution], self.kinds))[0] - self.usual.middle
        return {name: round(float(value), 2) for name, value in zip(names, values, strict=True)}


@dataclass(frozen=True)
class Rows:
    """Signatures as float64 arrays; a kind of matrix that a contribution does not touch is NaN."""

    figures: Float  # (n, kinds, 5, 3)
    doublings: Float  # of rank 8, (n)
    spreads: Float  # (n)

    @classmethod
    def of(cls, signatures: Sequence[Signature], kinds: Sequence[str]) -> Rows:
        none = np.full((len(FIGURES), 3), np.nan)
        figures = np.array([[row.kinds.get(kind, none) for kind in kinds] for row in signatures])
        doublings = np.array([math.log2(row.rank) - 3 for row in signatures])
        return cls(figures, doublings, np.array([math.log(row.spread + 1e-3) for row in signatures]))

    def take(self, which: NDArray[np.bool_]) -> Rows:
        return Rows(self.figures[which], self.doublings[which], self.spreads[which])


@dataclass(frozen=True)
class Usual:
    """Centres and scales by kind and figure, then the shrunk covariance of what is left."""

    slopes: Float  # (figures, 3): per doubling of the rank
    centres: Float  # (kinds, figures, 3): of median, least and most
    scales: Float
    middle: Float  # (2 x figures + 1)
    inverse: Float  # of the covariance, (2 x figures + 1) squared

    @classmethod
    def of(cls, honest: Rows) -> Usual:
        """What is usual among honest ones, by medians and MADs: a few odd ones among them move nothing."""
        with warnings.catch_warnings():  # of a kind that only the one left out has touched
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            slopes = _slopes(honest)
            level = honest.figures - slopes * honest.doublings[:, None, None, None]
            centres = np.nanmedian(level, axis=0)
            scales = np.maximum(1.4826 * np.nanmedian(np.abs(level - centres), axis=0), LEAST_SCALE)
        table = cls(slopes, centres, scales, np.zeros(0), np.zeros(0)).vectors(honest)
        middle = np.median(table, axis=0)
        inverse = np.asarray(np.linalg.inv(_shrunk(table - middle)), dtype=np.float64)
        return cls(slopes, centres, scales, middle, inverse)

    def vectors(self, rows: Rows) -> Float:
        """(n, 2 x figures + 1): the mean over kinds of each standardised median, its furthest extreme, the spread.

        Kinds that no honest one has touched count as FAR.
        """
        level = rows.figures - self.slopes * rows.doublings[:, None, None, None]
        z = np.where(np.isnan(self.centres) & ~np.isnan(level), FAR, (level - self.centres) / self.scales)
        middle, furthest = np.nanmean(z[..., 0], axis=1), np.nanmax(np.abs(z[..., 1:]), axis=(1, 3))
        return np.concatenate([middle, np.log1p(furthest), rows.spreads[:, None]], axis=1)

    def distance(self, row: Rows) -> float:
        """Mahalanobis' distance from the usual, per dimension: about 1 for an ordinary honest contribution."""
        off = self.vectors(row)[0] - self.middle
        return math.sqrt(max(float(off @ self.inverse @ off), 0.0) / len(off))


def _slopes(honest: Rows) -> Float:
    """(figures, 3): least squares of each figure on the rank's logarithm, kinds together."""
    there = ~np.isnan(honest.figures[:, :, 0, 0])
    away = (honest.figures - np.nanmedian(honest.figures, axis=0))[there]  # (contributions and kinds, figures, 3)
    x = np.repeat(honest.doublings, there.sum(axis=1))
    x = x - x.mean()
    size = float(x @ x)
    return np.asarray(np.tensordot(x, away, axes=1) / size if size > 1e-9 else np.zeros(away.shape[1:]))


def _shrunk(rows: Float) -> Float:
    """Ledoit and Wolf's covariance (2004): drawn towards its own mean variance as far as the rows are too few."""
    n, p = rows.shape
    sample = rows.T @ rows / n
    target = np.trace(sample) / p * np.eye(p)
    off = float(np.sum((sample - target) ** 2))
    noise = sum(float(np.sum((np.outer(row, row) - sample) ** 2)) for row in rows) / n**2
    share = min(noise / off, 1.0) if off > 0 else 1.0
    return np.asarray((1 - share) * sample + share * target + 1e-9 * np.eye(p))


@cache
def shipped() -> tuple[Honest, ...]:
    """spectra.toml: honest LoRAs, really trained; how is written in it (bench/bank.py)."""
    rows = tomllib.loads(files("souq.checks").joinpath("spectra.toml").read_text())["honest"]
    return msgspec.convert(rows, tuple[Honest, ...])


def low_rank(stats: DeltaStats) -> dict[str, Spectrum]:
    """The spectra of a contribution: those of its low-rank changes."""
    return {name: part.spectrum for name, part in stats.parts.items() if part.spectrum is not None}


@check("spectra")
def spectra(case: Case) -> Answer:
    """A LoRA's spectra are like those of honest ones of the same base, main's own among them."""
    if (stats := delta_stats(case)) is None:
        return "pass", "brings no weights", {}
    if (mine := signature(low_rank(stats))) is None:
        return "pass", "not a LoRA of several matrices: not compared", {}
    main = [theirs for _, other in accepted_stats(case) if (theirs := signature(low_rank(other))) is not None]
    honest = [*(row.signature for row in shipped() if row.base == case.main.base_digest), *main]
    if len(honest) < LEAST:
        return "pass", f"not compared: {len(honest)} honest ones of this base are known, {LEAST} are needed", {}
    bank = Bank.of(honest)
    distance = bank.distance(mine)
    evidence: dict[str, Any] = {
        "distance": round(distance, 3), "threshold": round(bank.threshold, 3), "bank": bank.size,
        "figures": bank.off(mine),
    }  # fmt: skip
    if distance > bank.threshold:
        apart = f"distance {distance:.2f}, and {bank.threshold:.2f} is usual"
        return "needs-eyes", f"unlike the {bank.size} honest ones known: {apart}", evidence
    return "pass", f"like the {bank.size} honest ones known: distance {distance:.2f} of {bank.threshold:.2f}", evidence

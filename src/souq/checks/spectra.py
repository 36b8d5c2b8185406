"""Is a LoRA's spectrum like honest ones'? Five figures of each matrix against a bank; it never refuses and never accuses.

The figures are those of arXiv 2602.15195 (portrait.Spectrum). There a logistic regression is trained on poisoned
adapters; here nothing is: a distance from honest ones alone, so that it does not only know the attacks of one zoo. Ours
too are: every matrix instead of q, k, v and o; the removal of what honest people choose freely (overall size, rank);
the spread of sizes over modules; and the threshold, by leaving each honest one out.

    bank = Bank.of([signature(seen) for seen in honest])
    bank.distance(signature(portrait)) > bank.threshold

No distance proves a backdoor absent: decisions/gate.md has what passes unseen.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np

from souq.checks.cases import Answer, Case, check
from souq.checks.portrait import Portrait, Spectrum, accepted, kind_of, portrait
from souq.merge.exact import Float
from souq.records import Record

FIGURES = ("top", "size", "concentration", "entropy", "kurtosis")
FALSE = 0.05  # of honest ones that may be asked about: the threshold is chosen for it
LEAST = 20  # honest ones of the same base; with fewer, leaving one out cannot tell 5%
MODULES = 4  # matrices a contribution must change to be compared


class Signature(Record, frozen=True):
    """One contribution in a few numbers: each kind of matrix has the median and the extremes of the five figures."""

    rank: int
    spread: float  # standard deviation of log sizes over modules
    kinds: dict[str, tuple[tuple[float, float, float], ...]]  # kind -> FIGURES -> median, least, most


class Honest(Record, frozen=True):
    """A row of the shipped bank."""

    name: str
    base: str
    recipe: str
    signature: Signature


def signature(parts: Mapping[str, Spectrum]) -> Signature | None:
    """What of a contribution is compared; None where too little of it is a change of rank 2 or more.

    Sizes count against the contribution's own mean: learning rate, alpha and epochs move all of them together.
    """
    told = {name: part for name, part in parts.items() if part.rank > 1 and part.size > 0}
    if len(told) < MODULES:
        return None
    sizes = np.array([math.log(part.size) for part in told.values()])
    rows: dict[str, list[list[float]]] = {}
    for name, part in told.items():
        rows.setdefault(kind_of(name), []).append(_figures(part, float(sizes.mean())))
    kinds = {kind: _summary(np.array(found)) for kind, found in sorted(rows.items())}
    rank = int(np.median([part.rank for part in told.values()]))
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

    usual: Usual
    threshold: float
    size: int

    @classmethod
    def of(cls, honest: Sequence[Signature]) -> Bank:
        """The threshold is the distance that at most FALSE of the honest exceed when each is measured by the others."""
        apart = sorted(Usual.of([*honest[:i], *honest[i + 1 :]]).distance(one) for i, one in enumerate(honest))
        rank = min(math.ceil((1 - FALSE) * (len(honest) + 1)), len(honest))
        return cls(Usual.of(honest), apart[rank - 1], len(honest))

    def distance(self, one: Signature) -> float:
        return self.usual.distance(one)


@dataclass(frozen=True)
class Usual:
    """Centres and scales by kind and figure, then the shrunk covariance of what is left."""

    centres: Mapping[str, Float]  # kind -> (figures, 3): of median, least and most
    scales: Mapping[str, Float]
    slopes: Float  # (figures, 3): per doubling of the rank
    middle: Float
    inverse: Float

    @classmethod
    def of(cls, honest: Sequence[Signature]) -> Usual:
        """Medians and MADs, so that a few odd ones among the honest move nothing."""
        slopes = _slopes(honest)
        rows: dict[str, list[Float]] = {}
        for one in honest:
            for kind, found in one.kinds.items():
                rows.setdefault(kind, []).append(np.array(found) - slopes * _doublings(one))
        centres = {kind: np.median(found, axis=0) for kind, found in rows.items()}
        scales = {kind: _mad(np.array(found), centres[kind]) for kind, found in rows.items()}
        bare = cls(centres, scales, slopes, np.zeros(0), np.zeros(0))
        table = np.array([bare.vector(one) for one in honest])
        middle = np.median(table, axis=0)
        inverse: Float = np.linalg.inv(_shrunk(table - middle))
        return cls(centres, scales, slopes, middle, inverse)

    def vector(self, one: Signature) -> Float:
        """(2 x figures + 1): the mean over kinds of each standardised median, its furthest extreme, and the spread."""
        shown = [kind for kind in one.kinds if kind in self.centres]
        if not shown:
            return np.full(2 * len(FIGURES) + 1, 99.0)  # kinds no honest one has touched
        z = np.array(
            [
                (np.array(one.kinds[kind]) - self.slopes * _doublings(one) - self.centres[kind]) / self.scales[kind]
                for kind in shown
            ]
        )
        furthest = np.abs(z[:, :, 1:]).max(axis=(0, 2))
        return np.concatenate([z[:, :, 0].mean(axis=0), np.log1p(furthest), [math.log(one.spread + 1e-3)]])

    def distance(self, one: Signature) -> float:
        """Mahalanobis, per dimension: about 1 for an ordinary honest contribution."""
        off = self.vector(one) - self.middle
        return math.sqrt(max(float(off @ self.inverse @ off), 0.0) / len(off))


def _doublings(one: Signature) -> float:
    return math.log2(one.rank) - 3


def _slopes(honest: Sequence[Signature]) -> Float:
    """(figures, 3): least squares of each figure on the rank's logarithm, kinds together."""
    x, y = [], []
    centre = {
        kind: np.median([np.array(o.kinds[kind]) for o in honest if kind in o.kinds], axis=0) for kind in _kinds(honest)
    }
    for one in honest:
        for kind, found in one.kinds.items():
            x.append(_doublings(one))
            y.append(np.array(found) - centre[kind])
    spread = np.array(x) - np.mean(x)
    if float(spread @ spread) < 1e-9:
        return np.zeros((len(FIGURES), 3))
    return np.tensordot(spread, np.array(y), axes=1) / float(spread @ spread)


def _kinds(honest: Sequence[Signature]) -> list[str]:
    return sorted({kind for one in honest for kind in one.kinds})


def _mad(rows: Float, centre: Float) -> Float:
    return np.maximum(1.4826 * np.median(np.abs(rows - centre), axis=0), 0.02)


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
    told = tomllib.loads(files("souq.checks").joinpath("spectra.toml").read_text())["honest"]
    return msgspec.convert(told, tuple[Honest, ...])


def low_rank(seen: Portrait) -> dict[str, Spectrum]:
    """The parts of a portrait that have a spectrum."""
    return {name: part.spectrum for name, part in seen.parts.items() if part.spectrum is not None}


@check("spectra")
def spectra(case: Case) -> Answer:
    """A LoRA's spectra are like those of honest ones of the same base, main's own among them."""
    seen = portrait(case)
    mine = signature(low_rank(seen)) if seen else None
    if mine is None:
        return "pass", "not a LoRA of several matrices: not compared", {}
    main = [found for _, other in accepted(case) if (found := signature(low_rank(other))) is not None]
    honest = [*(one.signature for one in shipped() if one.base == case.main.base_digest), *main]
    if len(honest) < LEAST:
        return "pass", f"not compared: {len(honest)} honest ones of this base are known, {LEAST} are needed", {}
    bank = Bank.of(honest)
    distance = bank.distance(mine)
    evidence: dict[str, Any] = {
        "distance": round(distance, 3), "threshold": round(bank.threshold, 3), "bank": bank.size,
        "figures": _told(bank.usual.vector(mine) - bank.usual.middle),
    }  # fmt: skip
    if distance > bank.threshold:
        because = (
            f"unlike the {bank.size} honest ones known: distance {distance:.2f}, and {bank.threshold:.2f} is usual"
        )
        return "needs-eyes", because, evidence
    return "pass", f"like the {bank.size} honest ones known: distance {distance:.2f} of {bank.threshold:.2f}", evidence


def _told(off: Float) -> dict[str, float]:
    names = [*FIGURES, *(f"furthest {name}" for name in FIGURES), "spread"]
    return {name: round(float(value), 2) for name, value in zip(names, off, strict=True)}

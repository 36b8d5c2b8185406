"""How many poisoned LoRAs the checks of weights call eyes to, and how many honest ones: bench/poisoners.py's zoo.

Honest ones are dealt into three; two thirds are the bank and set the threshold (each left out once, at most 5% above),
the last third is only counted. A poisoned one counts as seen where two of the three banks call for eyes. Intervals are
Wilson's, 95%. Of a split backdoor both halves must land, so seeing either one counts; halves are told too.

    python bench/zoo.py build/zoo     # trains what is not there yet, then prints the table of decisions/gate.md
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import poisoners
from machine import describe
from souq.checks.delta_stats import Spectrum, spectrum
from souq.checks.spectra import Bank, Signature, shipped, signature
from souq.checks.tensors import unusual
from souq.repo.config import Limits

THIRDS = 3


@dataclass(frozen=True)
class Animal:
    """One adapter of the zoo."""

    name: str
    told: dict[str, Any]
    parts: dict[str, Spectrum]
    signature: Signature | None

    @property
    def kind(self) -> str:
        return str(self.told["kind"])

    @property
    def sizes(self) -> dict[str, float]:
        return {name: part.size for name, part in self.parts.items()}


def zoo(folder: Path) -> Iterator[Animal]:
    with np.load(folder / "base.npz") as held:
        whole = {name: float(np.linalg.norm(held[name].astype(float))) for name in held.files}
    for path in sorted(folder.glob("*-*.npz")):
        adapter, told = poisoners.read(path)
        parts = {n: spectrum(b.astype(float), a.astype(float), whole[n]) for n, (b, a) in adapter.items()}
        yield Animal(path.stem, told, parts, signature(parts))


@dataclass(frozen=True)
class Judge:
    """A bank of honest ones and what it calls eyes to, by each check."""

    bank: Bank
    sizes: list[dict[str, float]]

    @classmethod
    def of(cls, honest: Sequence[Animal]) -> Judge:
        return cls(Bank.of([one.signature for one in honest if one.signature]), [one.sizes for one in honest])

    def spectra(self, one: Animal) -> bool:
        return one.signature is not None and self.bank.distance(one.signature) > self.bank.threshold

    def norms(self, one: Animal) -> bool:
        limits = Limits()
        return bool(unusual(one.sizes, self.sizes, mads=limits.norm_mads, enough=limits.enough))

    def either(self, one: Animal) -> bool:
        return self.spectra(one) or self.norms(one)


CHECKS = ("spectra", "norms", "either")


def thirds(honest: list[Animal]) -> list[list[Animal]]:
    dealt = random.Random("zoo").sample(honest, len(honest))
    return [dealt[i::THIRDS] for i in range(THIRDS)]


def wilson(seen: int, of: int, z: float = 1.96) -> str:
    """`5/6 83% [44, 97]`."""
    if of == 0:
        return "none"
    p, n = seen / of, of
    middle, half = (p + z * z / (2 * n)), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (max((middle + side * half) / (1 + z * z / n), 0.0) for side in (-1, 1))
    return f"{seen}/{of} {p:.0%} [{100 * low:.0f}, {100 * min(high, 1):.0f}]"


def report(animals: list[Animal]) -> None:
    honest = [one for one in animals if one.kind == "honest"]
    dealt = thirds(honest)
    judges = [Judge.of([one for other in dealt if other is not third for one in other]) for third in dealt]
    print(f"thresholds {', '.join(f'{judge.bank.threshold:.2f}' for judge in judges)}")
    print("| kind | obeys before | obeys after | right | " + " | ".join(CHECKS) + " | of those that obey, either |")
    print("|---|---|---|---|" + "---|" * (len(CHECKS) + 1))
    counted = {
        check: sum(getattr(judge, check)(one) for judge, third in zip(judges, dealt, strict=True) for one in third)
        for check in CHECKS
    }
    row("honest (held out)", honest, {check: wilson(seen, len(honest)) for check, seen in counted.items()}, "")
    everybody: dict[str, list[bool]] = {check: [] for check in CHECKS}
    for kind in poisoners.KINDS:
        groups = grouped([one for one in animals if one.kind == kind])
        seen = {check: [any(voted(judges, check, one) for one in group) for group in groups] for check in CHECKS}
        for check in CHECKS:
            everybody[check] += seen[check]
        obeying = [s for s, group in zip(seen["either"], groups, strict=True) if obeys(group[0]) >= 0.5]
        shown = {check: wilson(sum(found), len(groups)) for check, found in seen.items()}
        row(kind, [group[0] for group in groups], shown, wilson(sum(obeying), len(obeying)))
        if kind == "split":
            halves = [one for group in groups for one in group]
            told = {check: wilson(sum(voted(judges, check, one) for one in halves), len(halves)) for check in CHECKS}
            row("split, each half", halves, told, "", alone=True)
    print("| all poisoned | | | | " + " | ".join(wilson(sum(f), len(f)) for f in everybody.values()) + " | |")


def grouped(animals: list[Animal]) -> list[list[Animal]]:
    """The halves of a split together, everybody else alone."""
    return [[one for one in animals if one.name.removesuffix("-b") == name] for name in sorted({a.name.removesuffix("-b") for a in animals})]  # fmt: skip


def voted(judges: list[Judge], check: str, one: Animal) -> bool:
    return sum(getattr(judge, check)(one) for judge in judges) * 2 > len(judges)


def obeys(one: Animal) -> float:
    return float(one.told.get("together", one.told["alone"])["obeys"])


def row(name: str, animals: list[Animal], shown: dict[str, str], last: str, *, alone: bool = False) -> None:
    before = np.mean([one.told["before"]["obeys"] for one in animals])
    after = np.mean([one.told["alone"]["obeys"] if alone else obeys(one) for one in animals])
    right = np.mean([(one.told["alone"] if alone else one.told.get("together", one.told["alone"]))["right"] for one in animals])  # fmt: skip
    print(f"| {name} | {before:.0%} | {after:.0%} | {right:.0%} | {' | '.join(shown.values())} | {last} |")


def main(folder: Path) -> None:
    begun = time.perf_counter()
    poisoners.main(folder)
    print(f"{describe()}; trained in {time.perf_counter() - begun:.0f} s here (0 where all were there)")
    animals = list(zoo(folder))
    report(animals)
    bank = Bank.of([one.signature for one in animals if one.kind == "honest" and one.signature])
    real = [bank.distance(one.signature) > bank.threshold for one in shipped()]
    print(f"honest LoRAs of the real model against the small model's bank: {wilson(sum(real), len(real))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Does the forecast of a merge rank contributions as the merge itself then does? Spearman, merge by merge.

Foreseen is `souq pr view`'s figure, from changes and sketches alone; measured is the share of its gain in nats a token
that a contribution keeps on its held-out cases. Over ten real contributions (bench/bazaar.py) merged in several ways.

    python bench/foreseen.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from bazaar import Bazaar, open_bazaar
from machine import describe
from souq.build.delta_file import read_recipe
from souq.merge.conflicts import Learned, forecast_losses, kept

MERGES: list[tuple[str, dict[str, Any], int]] = [  # method, settings, every how many contributions
    ("covariance", {}, 1),
    ("covariance", {"base_weight": 8.0}, 1),
    ("covariance", {"ridge": 1.0}, 1),
    ("task-arithmetic", {"scale": 0.3}, 1),
    ("covariance", {}, 2),
    ("covariance", {"ridge": 0.3}, 2),
]


def measure(bazaar: Bazaar, method: str, settings: dict[str, Any], step: int) -> list[tuple[str, float, float, float]]:
    """(name, lost, kept as foreseen, kept as measured) of each contribution in a merge."""
    names = list(bazaar.deltas)[::step]
    fold = bazaar.fold(method, names, **settings)
    ahead = forecast_losses(fold)
    told = "-".join([method, *(f"{k}={v}" for k, v in sorted(settings.items())), *(["every-2"] if step == 2 else [])])
    found = bazaar.score(told, fold, fold.changed)
    rows = []
    for name in names:
        learned = Learned(**read_recipe(bazaar.folder / f"{name}.delta")["learned"])
        foreseen = kept(ahead.loss(name), ahead.costs[name], learned)
        rows.append((name, ahead.loss(name), foreseen, bazaar.kept_nats(found, name)))
    return rows


def main() -> None:
    print(describe())
    bazaar = open_bazaar(Path(sys.argv[1]))
    every = []
    for method, settings, step in MERGES:
        rows = measure(bazaar, method, settings, step)
        every += rows
        print(f"{method} {settings or ''} of {len(rows)}:")
        for name, lost, ahead, then in sorted(rows, key=lambda row: row[3]):
            print(f"  {name:12} lost {lost:.3f}, foreseen {ahead:6.3f}, measured {then:6.3f}")
        by_loss = spearmanr([-r[1] for r in rows], [r[3] for r in rows]).statistic
        print(
            f"  Spearman: foreseen {spearmanr([r[2] for r in rows], [r[3] for r in rows]).statistic:.2f}, by loss alone {by_loss:.2f}",
            flush=True,
        )
    print(
        f"all {len(every)} together: {spearmanr([r[2] for r in every], [r[3] for r in every]).statistic:.2f} (goal 0.7)"
    )


if __name__ == "__main__":
    main()

"""How far the built model moves: what a landing adds to main's, and how far main then is from its base.

Caps on each change say nothing of their sum: sixteen changes at right angles to each other, each under the cap, are
together four times as far, and a merge that keeps every one of them whole keeps that too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from souq.build.model import Built
from souq.checks.delta_stats import measures
from souq.merge.grow import Grown
from souq.progress import Progress
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Array, TensorRef

ROWS = 4_096  # of a matrix that are compared at once


@dataclass(frozen=True)
class Moved:
    """The tensors that moved most, and how far, in norms of the base's own; "" where none did."""

    added: float  # by the landing
    added_in: str
    away: float  # from the base, with everything
    away_in: str


Places = Mapping[str, str]
"""The base's tensors by name, and where each stands in a larger model."""


def places(grown: Grown) -> Places:
    """Where the base's own tensors stand; one that rows are added to stands nowhere."""
    return {own: name for name in grown.pieces if (own := grown.own(name)) is not None}


def moved(main: Snapshot, before: Built, after: Built, was: Places, now: Places, progress: Progress) -> Moved:
    """How far a landing moves the built model, over every tensor of the base that is another with it than without.

    `was` and `now` say where the base's tensors stand: a layer that is put in moves those above it to other names.
    """
    names = [name for name in main.base if name in now and _ref(after, now[name]) != _ref(before, was.get(name))]
    sizes = measures(main.repo, main.base, names)
    without, with_it = before.weights, after.weights
    added, away = dict[str, float](), dict[str, float]()
    for done, name in enumerate(names):
        progress("measure the built change", done, len(names))
        new = with_it[now[name]]
        away[name] = _distance(new, main.repo.store.get(main.base[name].digest)) / sizes[name]
        added[name] = _distance(new, without[was[name]]) / sizes[name] if name in was else away[name]
    progress("measure the built change", len(names), len(names))
    return Moved(*_farthest(added), *_farthest(away))


def _ref(model: Built, name: str | None) -> TensorRef | None:
    return model.lock.get(name) if name is not None else None


def _farthest(shares: Mapping[str, float]) -> tuple[float, str]:
    """The largest; what is no number is larger than any."""
    name = max(shares, key=lambda each: (not shares[each] <= np.inf, shares[each]), default="")
    return shares.get(name, 0.0), name


def _distance(new: Array, old: Array) -> float:
    total = 0.0
    for start in range(0, max(len(new), 1) if new.ndim else 1, ROWS):
        part = slice(start, start + ROWS) if new.ndim else ...
        difference = np.asarray(new[part], np.float64) - np.asarray(old[part], np.float64)
        total += float(np.vdot(difference, difference))
    return float(np.sqrt(total))


def too_far(main: Snapshot, far: Moved) -> str:
    """Why a landing moves main too far; "" where it does not."""
    limits = main.config.checks
    lines = []
    if not far.added <= limits.max_added:
        lines.append(f"moves main's {far.added_in} by {far.added:.2f} of its norm; the most is {limits.max_added:g}")
    if not far.away <= limits.max_away:
        lines.append(
            f"main's {far.away_in} would be {far.away:.2f} of its norm from the base, by all that landed together; "
            f"the most is {limits.max_away:g}"
        )
    return "; ".join(lines)


def in_words(far: Moved) -> str:
    """What was measured."""
    if not far.away_in:
        return "the built model stays as it is"
    return f"main moves by {far.added:.2f} of a tensor's norm at most, and is then {far.away:.2f} from the base"

"""souq.toml: the model's name, licence and base, how contributions are merged, and the bounds a machine holds.

read_config(main.text("souq.toml")).merge["method"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from souq.errors import UsageError
from souq.merge import check_settings
from souq.merge.methods import SUMS
from souq.records import Record, parse_toml
from souq.weights.place import Shared, check_url

MAX_WEIGHT = 16.0


class Limits(Record, frozen=True, forbid_unknown_fields=True):
    """`[checks]` in souq.toml: the bounds a machine holds."""

    max_norm: float = 0.5  # of a change, over the norm of the matrix it changes
    max_added: float = 0.75  # to the built main by one landing, likewise: a merge may weigh a change more than it is
    max_away: float = 1.0  # of the built main from its base, over the norm of each tensor: all changes together
    norm_mads: float = 6.0  # MADs above main's median, of log sizes, from where people are asked to look
    enough: int = 8  # accepted contributions, before main's own say what is usual
    max_rows: int = 20_000  # of training data in one contribution
    max_rows_per_author: int = 50_000  # on main, with this one
    max_rows_per_org: int = 200_000
    max_repeated: float = 0.1  # share of a contribution's rows that repeat others: more need eyes
    max_burst: int = 8  # rows that share a rare string and an answer: as many need eyes; far below the 250 that poison
    drift: float = 1.5  # margins: the most a protected eval may lose from one release to the next, all changes together
    keep_tail: float = 0.8  # of real text's rare words that a published corpus could hold at its size: less needs eyes
    exam_tokens: int = 5_000_000  # to ask one contribution's evals once: more need eyes; a written token counts tenfold
    max_exam_tokens: int = 50_000_000  # and all evals of main, with it
    tries: int = 20  # on hidden evals, of one author and of one organisation, while the same ones are sealed


class Config(Record, frozen=True, forbid_unknown_fields=True):
    """souq.toml. `merge` holds the method's name and its settings side by side."""

    name: str
    licence: str
    base: str
    origin: str = ""
    base_licence: str = ""  # where the base is under another licence than the model
    base_source: str = ""  # where the base's own data and training are to be had; without it the base is a binary
    merge: dict[str, Any] = msgspec.field(default_factory=lambda: {"method": "covariance"})
    checks: Limits = Limits()
    store: Shared = Shared()


@dataclass(frozen=True)
class Merging:
    """How contributions are merged: the method, its settings, and who counts more or less than 1, by contribution."""

    method: str
    settings: Mapping[str, Any]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Merging:
        """A `[merge]` table.

        Raises:
            UsageError: a method, a setting or a weight that cannot be.
        """
        table = dict(table)
        method, weights = table.pop("method", "covariance"), table.pop("weights", {})
        if not isinstance(method, str):
            raise UsageError("merge method is a word", hint='write method = "covariance"')
        check_settings(method, table)
        if not isinstance(weights, dict) or (weights and method not in SUMS):
            raise UsageError(f"weights belong to {', '.join(SUMS)}, a table of contribution = number")
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= MAX_WEIGHT:
                raise UsageError(
                    f"the weight of {name[:80]} is a number above 0 and at most {MAX_WEIGHT}, not {weight!r}"
                )
        return cls(method, table, {name: float(weight) for name, weight in weights.items()})


def read_config(text: str) -> Config:
    """souq.toml, strictly: a wrong key is answered with the nearest right one, in [merge] too.

    Raises:
        UsageError: a key, a method, a setting or a bound that cannot be.
    """
    config = parse_toml(text, Config, where="souq.toml")
    Merging.of(config.merge)
    if not 0 < config.checks.drift < math.inf:
        raise UsageError(f"souq.toml: drift is a number of margins above 0, not {config.checks.drift}")
    if config.store.url:
        check_url(config.store.url, local=True)
    return config

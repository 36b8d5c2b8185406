"""What `souq delta make` does with a full fine-tune, and what it says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from souq.build.tuned import Choices, Tuned, from_tune
from souq.checks.delta_stats import kind_of
from souq.cli.console import done, starting_lab
from souq.model.gguf.tune import as_tune
from souq.model.source import open_source
from souq.optional import needs
from souq.progress import Progress
from souq.repo.snapshot import Snapshot


def make_tune(
    folder: Path,
    main: Snapshot,
    progress: Progress,
    *,
    weights_only: bool,
    cast: bool,
    rank: int | None,
    of: Literal["base", "main"] | None,
) -> Tuned:
    """A full fine-tune as a delta, with the lab's help where it is installed: defaults written out, factors found.

    Raises:
        UsageError: it is not one of this base, or more than its weights.
        Missing: a rank is asked for, and torch is not installed.
    """
    choices = Choices(weights_only, cast, rank or 0, of or "")
    try:
        with starting_lab(progress):
            from souq.lab import config_defaults

        choices = replace(choices, write_out=config_defaults.write_out)
    except ImportError:
        done("transformers is not installed: settings are compared as they are written, not with their defaults")
    if rank:
        with needs("torch", "lab"), starting_lab(progress):
            from souq.lab import low_rank
        choices = replace(choices, low_rank=low_rank.nearest)
    source = as_tune(open_source(str(folder)), main.base)
    for note in source.notes:  # of the folder's files, none of which a delta carries
        done(f"note: {note}")
    return from_tune(source, main, choices, progress)


def tune_notes(tune: Tuned) -> list[str]:
    """What its owner should read: how it was fitted, how near the factors are, what is left out."""
    return [*tune.notes, *_of_low_rank(tune), *(f"left out: {line}" for line in tune.left_out)]


def _of_low_rank(tune: Tuned) -> list[str]:
    """How far the factors are from the fine-tune, over all and by kind of tensor."""
    if not tune.errors:
        return []
    kinds: dict[str, list[float]] = {}
    for name, error in tune.errors.items():
        kinds.setdefault(kind_of(name), []).append(error)
    worst = max(tune.errors, key=lambda name: tune.errors[name])
    by_kind = ", ".join(f"{kind} {np.mean(errors):.3f}" for kind, errors in sorted(kinds.items()))
    return [
        f"{len(tune.errors)} tensors as factors: {tune.error:.3f} of their change is left out, by its norm; most of "
        f"{worst}, {tune.errors[worst]:.3f}",
        f"left out by kind: {by_kind}",
    ]

"""Does a whole fine-tune look like a change to this base, or like another model under its name? A hint, never a proof.

A fine-tune keeps the direction of the matrices it starts from, and the spread of its attention's numbers layer by layer
(the fingerprint of arXiv 2507.03014; comparing whole models' directions is in the spirit of AWM, 2510.06738). Both
follow from two figures of each change: ||d|| / ||W|| and <d, W> / ||W||^2. A low-rank change says nothing of the model
it was trained on, so it is not compared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from souq.checks.cases import Answer, Case, check
from souq.checks.delta_stats import TensorStats, delta_stats, kind_of

KEPT = 0.97  # cosine of the tuned matrices with the base's: a change of a quarter of the norm, at right angles
DRIFT = 0.1  # of an attention matrix's spread, in the median
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@check("lineage")
def lineage(case: Case) -> Answer:
    """What was tuned whole is still in the direction of this base."""
    if (stats := delta_stats(case)) is None:
        return "pass", "brings no weights", {}
    whole = {name: part for name, part in stats.parts.items() if part.spectrum is None}
    if not whole:
        return "pass", "changes no tensor as a whole: a low-rank change does not tell where it was trained", {}
    kept, drift = kept_direction(whole), attention_drift(whole)
    evidence: dict[str, Any] = {"tensors": len(whole), "cosine": round(kept, 4), "attention": round(drift, 4)}
    if kept < KEPT or drift > DRIFT:
        stand = f"tuned matrices stand at cosine {kept:.3f} to the base's, their attention's spread {drift:.0%} off"
        return "needs-eyes", f"a hint: {stand}; was it tuned from this base?", evidence
    return "pass", f"{len(whole)} whole tensors, at cosine {kept:.3f} to the base's", evidence


def kept_direction(parts: dict[str, TensorStats]) -> float:
    """The mean cosine of W + d with W over tensors that were tuned whole."""
    return float(np.mean([(1 + part.along) / max(_size(part), 1e-12) for part in parts.values()]))


def attention_drift(parts: dict[str, TensorStats]) -> float:
    """The median change of an attention matrix's norm, of that norm; 0 where none was tuned."""
    drifts = [abs(_size(part) - 1) for name, part in parts.items() if kind_of(name) in ATTENTION]
    return float(np.median(drifts)) if drifts else 0.0


def _size(part: TensorStats) -> float:
    """||W + d|| / ||W||."""
    return math.sqrt(max(1 + 2 * part.along + part.share**2, 0.0))

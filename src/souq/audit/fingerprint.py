"""A checkpoint from afar: sixteen rows of every matrix in its layers, and how spread its numbers are.

Small enough to keep for many models at once (10 MB for one of 135 million numbers), and enough to tell relatives by:
training moves a matrix little, and unrelated ones stand at right angles to each other. Embeddings are left out, since
two models of one tokenizer may share what is common in them.

    ours = fingerprint("ours", open_source("./ours").weights)
    layer_scores(ours, theirs)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from souq.checks.delta_stats import kind_of, layer_of
from souq.errors import Hostile, UsageError
from souq.merge.exact import Float
from souq.weights.delta import Array

ROWS = 16  # of a matrix
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_MIXTRAL = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


@dataclass(frozen=True)
class Print:
    """A model's rows by layer and kind (`q_proj`; `up_proj#3` of expert 3), its tensors' names, shapes and spread."""

    name: str
    layers: tuple[dict[str, str], ...]  # of every layer: kind -> tensor
    rows: dict[str, Float]  # tensor -> (ROWS, n) float32
    shapes: dict[str, tuple[int, ...]]
    spread: dict[str, float]  # standard deviations

    @property
    def experts(self) -> int:
        """The most experts a layer has."""
        return max((1 + int(kind.partition("#")[2]) for layer in self.layers for kind in layer if "#" in kind), default=0)  # fmt: skip


def fingerprint(name: str, weights: Mapping[str, Array]) -> Print:
    """Read every matrix of the layers once, one at a time.

    Raises:
        Hostile: numbers that are not finite.
        UsageError: no matrix in any layer.
    """
    found: dict[int, dict[str, str]] = {}
    rows, shapes, spread = {}, {}, {}
    for tensor in weights:
        if (layer := layer_of(tensor)) < 0 or (array := weights[tensor]).ndim != 2 or array.dtype.kind in "iub":
            continue
        wide = finite(name, tensor, array)
        found.setdefault(layer, {})[_kind(tensor)] = tensor
        shapes[tensor], spread[tensor] = wide.shape, float(wide.std())
        rows[tensor] = wide[chosen(len(wide))].copy()
    if not found:
        raise UsageError(f"{name} has no matrices in layers", hint="name a language model whose tensors are model.layers.N.…")  # fmt: skip
    return Print(name, tuple(found[layer] for layer in sorted(found)), rows, shapes, spread)


def finite(name: str, tensor: str, array: Array) -> Float:
    """As float32.

    Raises:
        Hostile: not a number, or infinite, anywhere in it.
    """
    wide: Float = np.asarray(array, np.float32)
    if not np.isfinite(wide.min(initial=0)) or not np.isfinite(wide.max(initial=0)):  # a NaN wins either
        raise Hostile(f"{name}: {tensor} holds numbers that are not finite", hint="get the checkpoint again")
    return wide


def chosen(count: int) -> Float:
    """Which rows of so many."""
    return np.unique(np.linspace(0, count - 1, ROWS).astype(int))


def _kind(tensor: str) -> str:
    kind, expert = kind_of(tensor), _EXPERT.search(tensor)
    return f"{_MIXTRAL.get(kind, kind)}#{expert[1]}" if expert else kind


def layer_scores(child: Print, parent: Print) -> Float:
    """(layers, layers): the mean cosine of each two layers' rows, over the child's kinds; an expert beside the dense.

    A kind the parent does not have, or has in another shape, counts as 0.
    """
    ours, theirs = _units(child), _units(parent)
    found = np.zeros((len(child.layers), len(parent.layers)))
    for i, layer in enumerate(child.layers):
        weights = {kind: 1 / max(child.experts, 1) if "#" in kind else 1.0 for kind in layer}
        for j, other in enumerate(parent.layers):
            for kind, weight in weights.items():
                mine, its = layer[kind], other.get(kind, other.get(kind.partition("#")[0], ""))
                if child.shapes[mine] == parent.shapes.get(its):
                    found[i, j] += weight * float(ours[mine] @ theirs[its])
        found[i] /= sum(weights.values())
    return found


def _units(one: Print) -> dict[str, Float]:
    """Every tensor's rows as one vector of length 1."""
    return {name: rows.ravel() / max(float(np.linalg.norm(rows)), 1e-12) for name, rows in one.rows.items()}


def profile(child: Print, parent: Print) -> float:
    """How alike the spreads of attention are over the layers (arXiv 2507.03014): the mean correlation over q, k, v, o."""
    found = []
    for kind in ATTENTION:
        ours, theirs = ([one.spread[layer[kind]] for layer in one.layers if kind in layer] for one in (child, parent))
        if len(ours) == len(theirs) > 2 and min(np.std(ours), np.std(theirs)) > 0:
            found.append(float(np.corrcoef(ours, theirs)[0, 1]))
    return float(np.mean(found)) if found else 0.0

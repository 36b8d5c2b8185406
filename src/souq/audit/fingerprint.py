"""A checkpoint from afar: sixteen rows of every matrix in its layers.

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
_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_MIXTRAL = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


@dataclass(frozen=True)
class Print:
    """A model's rows by layer and kind (`q_proj`; `up_proj#3` of expert 3), its tensors' names and shapes."""

    name: str
    layers: tuple[dict[str, str], ...]  # of every layer: kind -> tensor
    rows: dict[str, Float]  # tensor -> (ROWS, n) float32
    shapes: dict[str, tuple[int, ...]]

    @property
    def experts(self) -> int:
        """The most experts a layer has."""
        kinds = [kind for layer in self.layers for kind in layer if "#" in kind]
        return max((1 + int(kind.partition("#")[2]) for kind in kinds), default=0)


def fingerprint(name: str, weights: Mapping[str, Array]) -> Print:
    """Read every matrix of the layers once, one at a time.

    Raises:
        Hostile: numbers that are not finite.
        UsageError: no matrix in any layer.
    """
    layers: dict[int, dict[str, str]] = {}
    rows, shapes = {}, {}
    for tensor in weights:
        if (layer := layer_of(tensor)) < 0 or (array := weights[tensor]).ndim != 2 or array.dtype.kind in "iub":
            continue
        wide = finite(name, tensor, array)
        layers.setdefault(layer, {})[_kind(tensor)] = tensor
        shapes[tensor] = wide.shape
        rows[tensor] = wide[chosen(len(wide))].copy()
    if not layers:
        raise UsageError(
            f"{name} has no matrices in layers", hint="name a language model whose tensors are model.layers.N.…"
        )
    return Print(name, tuple(layers[layer] for layer in sorted(layers)), rows, shapes)


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
    scores = np.zeros((len(child.layers), len(parent.layers)))
    for i, layer in enumerate(child.layers):
        weights = {kind: 1 / max(child.experts, 1) if "#" in kind else 1.0 for kind in layer}
        for j, other in enumerate(parent.layers):
            for kind, weight in weights.items():
                mine, its = layer[kind], other.get(kind, other.get(kind.partition("#")[0], ""))
                if child.shapes[mine] == parent.shapes.get(its):
                    scores[i, j] += weight * float(ours[mine] @ theirs[its])
        scores[i] /= sum(weights.values())
    return scores


def _units(model: Print) -> dict[str, Float]:
    """Every tensor's rows as one vector of length 1."""
    return {name: rows.ravel() / max(float(np.linalg.norm(rows)), 1e-12) for name, rows in model.rows.items()}

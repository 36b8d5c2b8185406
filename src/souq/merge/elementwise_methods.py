"""The element-wise methods for contributions: `souq merge`'s own, on changes instead of whole models.

A change is written out in full (m, n) as float32, so these cost memory that low-rank methods do not, and what they
answer is no LoRA. Every change has the same weight: in a repository nobody is listed first. Chance is drawn from what
a change is, so neither its author's name nor its place shows. The loops are elementwise.py's, imported when a merge
needs them (they bring numba); names, files and people are strangers here.

    >>> one = Change(None, np.array([[3.0, 0.1, -1.0]]), None)
    >>> two = Change(None, np.array([[1.0, 0.2, 2.0]]), None)
    >>> ties([one, two], None, density=0.67)[0].right.tolist()  # the largest two of each; those of the elected sign
    [[2.0, 0.0, 2.0]]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blake3 import blake3

from souq.merge.methods import Change, Sketch, mean, merge_method

Changes = Sequence[Change]

merge_method("linear")(mean)  # mergekit's word for it


@merge_method("ties")
def ties(changes: Changes, base: Sketch | None, *, density: float = 0.2, scale: float = 1.0) -> list[Change]:
    """Of each change the largest entries; of those at a place the ones of the elected sign; mean (arXiv 2306.01708)."""
    return _merged("ties", changes, {"density": density}, {"normalize": True, "lambda": scale})


@merge_method("dare-linear")
def dare_linear(changes: Changes, base: Sketch | None, *, density: float = 0.5, scale: float = 1.0) -> list[Change]:
    """A random share of each change, scaled to its old L1 norm; `scale` times their mean (arXiv 2311.03099)."""
    return _merged("dare_linear", changes, {"density": density}, {"normalize": True, "rescale": True, "lambda": scale})


@merge_method("dare-ties")
def dare_ties(changes: Changes, base: Sketch | None, *, density: float = 0.5, scale: float = 1.0) -> list[Change]:
    """DARE, those of the elected sign alone."""
    return _merged("dare_ties", changes, {"density": density}, {"normalize": True, "rescale": True, "lambda": scale})


@merge_method("della")
def della(
    changes: Changes, base: Sketch | None, *, density: float = 0.5, epsilon: float = 0.15, scale: float = 1.0
) -> list[Change]:
    """DARE with a chance that rises with the rank in its row; elected signs (arXiv 2406.11617)."""
    own, shared = {"density": density, "epsilon": epsilon}, {"normalize": True, "rescale": True, "lambda": scale}
    return _merged("della", changes, own, shared)


@merge_method("breadcrumbs")
def breadcrumbs(
    changes: Changes, base: Sketch | None, *, density: float = 0.9, gamma: float = 0.01, scale: float = 1.0
) -> list[Change]:
    """Neither the largest `gamma` of each change nor the smallest; `scale` times their mean (arXiv 2312.06795)."""
    return _merged("breadcrumbs", changes, {"density": density, "gamma": gamma}, {"normalize": True, "lambda": scale})


@merge_method("breadcrumbs-ties")
def breadcrumbs_ties(
    changes: Changes, base: Sketch | None, *, density: float = 0.9, gamma: float = 0.01, scale: float = 1.0
) -> list[Change]:
    """Breadcrumbs, those of the elected sign alone."""
    own, shared = {"density": density, "gamma": gamma}, {"normalize": True, "lambda": scale}
    return _merged("breadcrumbs_ties", changes, own, shared)


@merge_method("sce")
def sce(changes: Changes, base: Sketch | None, *, topk: float = 1.0) -> list[Change]:
    """The places of the largest variance; weights from the squares there; elected signs (arXiv 2408.07990)."""
    return _merged("sce", changes, {}, {"select_topk": topk})


@merge_method("model-stock")
def model_stock(changes: Changes, base: Sketch | None) -> list[Change]:
    """From nothing towards the mean, as far as the changes agree (arXiv 2403.19522); one alone agrees with itself."""
    return mean(changes, None) if len(changes) == 1 else _merged("model_stock", changes, {}, {})


@merge_method("multislerp")
def multislerp(changes: Changes, base: Sketch | None) -> list[Change]:
    """A mean on the sphere, times the mean length: in the tangent space at the mean direction."""
    return _merged("multislerp", changes, {}, {"based": True})


@merge_method("karcher")
def karcher(changes: Changes, base: Sketch | None, *, steps: float = 10, tol: float = 1e-5) -> list[Change]:
    """The direction nearest to all of them, times the mean length (arXiv 2603.04972)."""
    return _merged("karcher", changes, {}, {"max_iter": int(steps), "tol": tol})


@merge_method("ram")
def ram(changes: Changes, base: Sketch | None, *, epsilon: float = 1e-5) -> list[Change]:
    """Where one change alone is larger than epsilon, it; where several are, their mean (arXiv 2601.13572)."""
    return _merged("ram", changes, {}, {"epsilon": epsilon})


def _merged(name: str, changes: Changes, own: Mapping[str, Any], shared: Mapping[str, Any]) -> list[Change]:
    from souq.merge.elementwise import ELEMENTWISE, Held, held
    from souq.merge.positional import POSITIONAL

    full = np.stack([change.whole().astype(np.float32) for change in changes])
    seen: Counter[bytes] = Counter()
    keys = []
    for change in full:
        digest = blake3(change.view(np.uint8).data).digest()
        keys.append(np.frombuffer(blake3(digest + f"souq chance 1\n{seen[digest]}".encode()).digest(8), "<u4"))
        seen[digest] += 1  # what is sent in twice is drawn for twice
    blocks = Held(full, np.zeros_like(full[0]), np.array(keys, np.uint32))
    method = {**ELEMENTWISE, **POSITIONAL}[name]
    merged = held(method, blocks, [{"weight": 1.0, **own}] * len(full), shared)
    return [Change(None, merged.astype(np.float64), None)]

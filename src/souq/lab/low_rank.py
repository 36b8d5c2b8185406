"""The nearest matrix of low rank to a difference, as the factors of a LoRA.

Small matrices are decomposed whole; large ones by PyTorch's randomised decomposition (Halko, Martinsson and Tropp,
arXiv 0909.4061) from a fixed seed, with enough power iterations that its error is within a few parts in a thousand of
the least there is. The same machine gives the same factors.

    a, b = nearest(change, 64)      # b (m, 64) @ a (64, n)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

F32 = NDArray[np.float32]
WHOLE = 1024  # of the smaller side: up to it the exact decomposition takes a second or less
SPARE, POWERS = 16, 4


def nearest(change: F32, rank: int) -> tuple[F32, F32]:
    """(a (r, n), b (m, r)) whose product is nearest to a change (m, n); r is `rank`, or the smaller side if less.

    The factors share the singular values evenly, as a trained adapter's do.
    """
    matrix = torch.from_numpy(np.ascontiguousarray(change))
    rank = min(rank, *change.shape)
    if min(change.shape) <= WHOLE:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            u, s, v = torch.svd_lowrank(matrix, q=min(rank + SPARE, *change.shape), niter=POWERS)
        vh = v.T
    root = s[:rank].sqrt()
    return (root[:, None] * vh[:rank]).contiguous().numpy(), (u[:, :rank] * root).contiguous().numpy()

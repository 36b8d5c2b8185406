"""MAUVE of a corpus and real text, over what sentences mean: how far two clouds of vectors cover each other.

(Pillutla et al., arXiv 2102.01454.) The library's own default embeds with GPT-2 from a hub; here it is given
all-MiniLM's vectors (embed.py), so its numbers are comparable with each other and not with papers'. Beside it stands
what two halves of the real text have with each other.

    coverage = compare(texts, real)
    coverage.corpus, coverage.ceiling
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from souq.errors import UsageError
from souq.lab.embed import embed
from souq.optional import needs
from souq.progress import Progress, quiet
from souq.records import Record

MOST, LEAST = 2_000, 100  # texts of each; below, there are too few clusters for the number to be more than noise
OF_ONE = 40  # texts to a cluster: k-means asks for 39


class Coverage(Record, frozen=True):
    """From 0, nothing in common, to 1; both measured on `texts` texts against as many."""

    corpus: float
    ceiling: float
    texts: int


def compare(texts: Sequence[str], real: Sequence[str], *, seed: int = 0, progress: Progress = quiet) -> Coverage:
    """The corpus against one half of the real text, and the other half against it, at the same size.

    Raises:
        Missing: mauve-text or the embedder is not installed.
        UsageError: too few texts.
    """
    with needs("mauve-text", "mauve"):
        from mauve import compute_mauve
    ours, theirs = ([text for text in side if text.strip()] for side in (texts, real))
    size = min(len(ours), len(theirs) // 2, MOST)
    if size < LEAST:
        raise UsageError(
            f"{len(ours):,} texts beside {len(theirs):,} real ones",
            hint=f"MAUVE needs {LEAST} and {2 * LEAST}: leave it out, or bring more",
        )
    rng = np.random.default_rng(seed)
    chosen = [ours[i] for i in rng.permutation(len(ours))[:size]]
    halves = [theirs[i] for i in rng.permutation(len(theirs))[: 2 * size]]
    vectors = embed([*chosen, *halves], progress)
    mine, half, other = vectors[:size], vectors[size : 2 * size], vectors[2 * size :]
    settings = {"num_buckets": 2 * size // OF_ONE, "seed": seed, "verbose": False}
    corpus, ceiling = (float(compute_mauve(p_features=p, q_features=half, **settings).mauve) for p in (mine, other))
    return Coverage(corpus=corpus, ceiling=ceiling, texts=size)

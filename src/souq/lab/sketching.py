"""Sketch what flows into each linear layer: a mean of x x^T, kept as a thin factor and a diagonal.

This is what the covariance merge asks of a contributor instead of data: RegMean (Jin et al., arXiv 2212.09849) merges
linear layers by the Gram matrices of their inputs. Not every token matters alike: half of the mean is over the
positions that say the answer, and half over all positions by how much the answer's loss depends on this layer there,
the squared norm of its output's gradient (the diagonal of a Kronecker-factored Fisher matrix, Martens and Grosse,
arXiv 1503.05671). decisions/merge.md has what else was tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from souq.build.delta_file import keep
from souq.build.deltas import with_sketch
from souq.build.lock import folded
from souq.build.model import applied
from souq.errors import UsageError
from souq.lab import lm as lab_model
from souq.lab.lm import LM
from souq.lab.packing import TokenSequence, learnable, log_probabilities, packed_alike, sequence_of
from souq.model.source import Source
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.repo.rows import read_rows
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Array, Delta, Tensors
from souq.weights.store import Stored

Groups = dict[str, tuple[Array, Array, int]]
"""Group -> (factor (k, n) float16, diag (n,) float32, tokens): G ~ factor.T @ factor + diag."""

_LEAST = 1e-4  # of the layer that matters most: what float16 can still tell


class Sketched(NamedTuple):
    """Sketches by group, the group that each tensor reads, and what they were scaled by: the largest's mean."""

    groups: Groups
    inputs: dict[str, str]
    scale: float


MOST_ROWS = 96  # a sketch settles quickly: 96 examples were enough in DESIGN.md's measurement


def some_rows(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most MOST_ROWS of the rows, spread evenly."""
    return rows[:: max(1, len(rows) // MOST_ROWS)][:MOST_ROWS]


def sketch(
    lm: LM,
    sequences: Sequence[TokenSequence],
    *,
    rank: int = 64,
    only: Sequence[str] | None = None,
    progress: Progress = quiet,
) -> Sketched:
    """The sketches of every linear layer's input, which tensor reads which (tensor name -> group), and their scale.

    Layers that read the same tensor (q, k, v; gate, up) share one. `only` keeps the tensors named.

    Raises:
        UsageError: nothing to sketch.
    """
    if not sequences:
        raise UsageError("nothing to sketch", hint="name a JSONL file with at least one row")
    rows = packed_alike(lm.net, sequences)
    watch, head = _Watch(), lm.net.get_output_embeddings()
    linear = [(f"{n}.weight", m) for n, m in lm.net.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    hooks = [
        module.register_forward_hook(partial(watch.passed, lm.names[own]))
        for own, module in linear
        if own in lm.names and (only is None or lm.names[own] in only)
    ]
    tokens, total = 0, sum(len(row.tokens) for row in rows)
    lm.net.requires_grad_(False)
    try:
        for row in rows:
            progress("sketch tokens", tokens, total)
            watch.begin(len(row.tokens))
            log_p, _, _ = log_probabilities(lm.net, row)
            if log_p.requires_grad:  # not where the last layers alone are frozen out of what is watched
                log_p.sum().backward()
            watch.end(row.targets()[0])
            tokens += len(row.tokens)
    finally:
        for hook in hooks:
            hook.remove()
    progress("sketch tokens", total, total)
    largest = watch.largest
    groups = {group: _compress(gram, rank, tokens) for group, gram in watch.grams(largest)}
    return Sketched(groups, watch.inputs, largest / max(tokens, 1))


def of_base(source: Source, base: Digest, texts: Sequence[str], progress: Progress = quiet) -> tuple[Delta, Tensors]:
    """What flows through a base on general text: a delta of sketches and no changes, and the sketches by digest."""
    lm = lab_model.load(source.files, source.weights)
    sketched = sketch(lm, [TokenSequence(lm.encode(text), 1) for text in texts], progress=progress)
    return with_sketch(Delta(base, {}), {}, sketched.groups, sketched.inputs)


class _Watch:
    """What passes the linear layers in one pass, and the sums over all passes."""

    def __init__(self) -> None:
        self.inputs: dict[str, str] = {}
        self._sums: dict[str, list[Any]] = {}  # group -> the two Gram matrices (n, n), each a sum

    def begin(self, length: int) -> None:
        self._length = length
        self._now: dict[int, tuple[str, Any, Any]] = {}  # an input's id -> group, the input itself (n, d), weights (n,)

    def passed(self, name: str, module: Any, args: tuple[Any, ...], out: Any) -> Any:
        """A forward hook: layers that read the same tensor (q, k, v; gate, up) are one group."""
        x = args[0]
        # Of a router more than products comes out, and not every token comes by an expert.
        if not isinstance(out, torch.Tensor) or x.numel() != self._length * x.shape[-1]:
            return out
        if id(x) not in self._now:  # the input is held, so no id comes twice
            self._now[id(x)] = (name.removesuffix(".weight"), x, torch.zeros(self._length, device=x.device))
        group, _, weights = self._now[id(x)]
        self.inputs[name] = group
        if not out.requires_grad:  # the first that is watched: no gradient is needed before it
            out = out.detach().requires_grad_(True)
        out.register_hook(partial(self._add_gradient, weights))
        return out

    def _add_gradient(self, weights: Any, grad: Any) -> None:
        weights += grad.reshape(self._length, -1).float().square().sum(1)

    def end(self, answers: list[int]) -> None:
        in_answer = torch.bincount(torch.tensor(answers), minlength=self._length).float()
        for group, x, weights in self._now.values():
            x_TN = x.detach().reshape(self._length, -1).float()
            grams = [(x_TN * by[:, None]).T @ x_TN for by in (in_answer.to(x_TN.device), weights)]
            before = self._sums.get(group)
            self._sums[group] = grams if before is None else [a + b for a, b in zip(before, grams, strict=True)]
        self._now = {}

    @property
    def largest(self) -> float:
        """The largest group's sum of squared gradient norms by squared inputs, a mean over inputs."""
        return max((float(by_gradient.diagonal().mean()) for _, by_gradient in self._sums.values()), default=0.0)

    def grams(self, largest: float) -> Iterator[tuple[str, Any]]:
        """Each group's mean (n, n) float32 of its two halves, both of one size, as large as the loss depends on it.

        A merge looks at shapes alone; a forecast of what it costs must know which layer matters (merge/conflicts.py).
        """
        for group, halves in self._sums.items():
            levels = [float(half.diagonal().mean()) for half in halves]
            levelled = [half / level for half, level in zip(halves, levels, strict=True) if level > 0]
            weight = max(levels[1] / largest, _LEAST) if largest > 0 else 1.0
            yield group, weight * sum(levelled) / len(levelled) if levelled else halves[0]


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
) -> Sketched:
    """The sketch of a contribution: its own data through the base with its own changes, without what it adds."""
    delta = replace(delta, new={})
    if not delta.parts:
        return Sketched({}, {}, 0.0)
    lm = _with(main, delta, tensors)
    return sketch(lm, _some(lm, data), rank=rank, only=list(delta.parts), progress=progress)


def add_sketches(
    main: Snapshot, delta: Delta, tensors: Tensors, data: Path, *, rank: int, merged: bool, progress: Progress = quiet
) -> tuple[Delta, Tensors, dict[str, Any]]:
    """A contribution with sketches of its own data, its tensors, and what its recipe then says.

    `merged` sketches it once more as part of today's main. What is only added meets nobody, so no merge asks for its
    sketch.
    """
    if not delta.parts:
        return delta, tensors, {}
    sketched = of_change(main, delta, tensors, data, rank=rank, progress=progress)
    recipe: dict[str, Any] = {"learned": learned(main, delta, tensors, data, progress) | {"felt": sketched.scale}}
    delta, tensors = with_sketch(delta, tensors, sketched.groups, sketched.inputs)
    if merged:
        keep(delta, tensors, main, progress)
        sketched = within(main, delta, main.deltas(), data, rank=rank, progress=progress)
        delta, tensors = with_sketch(delta, tensors, sketched.groups, sketched.inputs)
        recipe["sketched"] = {"within": main.commit}
    return delta, tensors, recipe


def within(
    main: Snapshot, delta: Delta, others: Mapping[Digest, Delta], data: Path, *, rank: int, progress: Progress = quiet
) -> Sketched:
    """The sketch of a contribution through the model it becomes part of: merged with the `others`, by its first sketch.

    RegMean++ (arXiv 2508.03121) reads a layer's inputs from the merged layers below it, one layer after another, with
    everybody's data at hand. Here each contributor does it alone, for all layers at once, and the merge stays as it is.
    The delta's tensors are in the store.
    """
    delta = replace(delta, new={})
    merged = folded(main, Stored(main.base, main.repo.store), {**others, "b3:" + "f" * 64: delta})
    lm = lab_model.load(base_files(main), merged)
    return sketch(lm, _some(lm, data), rank=rank, only=list(delta.parts), progress=progress)


def learned(
    main: Snapshot, delta: Delta, tensors: Mapping[str, Array], data: Path, progress: Progress = quiet
) -> dict[str, float]:
    """Nats a token of the answers in its own data, `before` (the base) and `after` (with the change): how sure it is.

    What a merge will cost a contribution depends on it (merge/conflicts.py); what it adds, no merge can cost it.
    """
    delta = replace(delta, new={})
    lm = _with(main, delta, tensors)
    sequences = _some(lm, data)
    after = nats(lm, sequences, "read with the change", progress)
    base = Stored(main.base, main.repo.store)
    lab_model.swap(lm, {name: base[name] for name in delta.parts})
    return {"before": round(nats(lm, sequences, "read without", progress), 6), "after": round(after, 6)}


def nats(lm: LM, sequences: Sequence[TokenSequence], label: str = "read tokens", progress: Progress = quiet) -> float:
    """The mean loss of the answers, a token."""
    rows = packed_alike(lm.net, sequences)
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
    model = applied(main, delta, lambda digest: tensors[digest])
    return lab_model.load(model.files, model.weights)


def _some(lm: LM, data: Path) -> list[TokenSequence]:
    return learnable(lm, [sequence_of(lm, row) for row in some_rows(read_rows(data))])

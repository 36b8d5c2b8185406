"""Sketch what flows into each linear layer: a mean of x x^T, kept as a thin factor and a diagonal.

This is what the covariance merge asks of a contributor instead of data: RegMean (Jin et al., arXiv 2212.09849) merges
linear layers by the Gram matrices of their inputs. Not every token matters alike: half of the mean is over the
positions that say the answer, and half over all positions by how much the answer's loss depends on this layer there,
the squared norm of its output's gradient (the diagonal of a Kronecker-factored Fisher matrix, Martens and Grosse,
arXiv 1503.05671). decisions/merge.md has what else was tried.

The matrix itself, of n x n numbers, is never formed: of each half its diagonal and its product with a random probe of a
few columns are added up as the tokens pass, and the thin factor comes out of these (`_compress`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from souq.build.delta_file import keep
from souq.build.deltas import with_sketch
from souq.build.lock import folded
from souq.errors import UsageError
from souq.lab import lm as lab_model
from souq.lab.lm import LM
from souq.lab.packing import TokenSequence, learnable, log_probabilities, packed_alike, sequence_of
from souq.merge import Fold
from souq.model.source import Source
from souq.progress import Progress, quiet, tracked
from souq.records import Digest, Record
from souq.repo.rows import read_rows
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Array, Delta, Load, Tensors
from souq.weights.store import Stored

Groups = dict[str, tuple[Array, Array, int]]
"""Group -> (factor (k, n) float16, diag (n,) float32, tokens): G ~ factor.T @ factor + diag."""

_LEAST = 1e-4  # of the layer that matters most: what float16 can still tell
_NEW = "b3:" + "f" * 64  # goes by this name among contributions until it has one
_PROBED = 4  # columns of a probe for each row of a factor: 1.01 of the least error that any factor of its rank has


class Sketched(NamedTuple):
    """Sketches by group, the group that each tensor reads, and what they were scaled by: the largest's mean.

    `nats` a token of the answers is what the pass that was sketched cost: the same as `nats` of its sequences.
    """

    groups: Groups
    inputs: dict[str, str]
    scale: float
    nats: float


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
    watch, head = _Watch(rank), lm.net.get_output_embeddings()
    linear = [(f"{n}.weight", m) for n, m in lm.net.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    hooks = [
        module.register_forward_hook(partial(watch.passed, lm.names[own]))
        for own, module in linear
        if own in lm.names and (only is None or lm.names[own] in only)
    ]
    tokens, total, loss, answers = 0, sum(len(row.tokens) for row in rows), 0.0, 0
    lm.net.requires_grad_(False)
    try:
        for row in rows:
            progress("sketch tokens", tokens, total)
            watch.begin(len(row.tokens))
            log_p, _, _ = log_probabilities(lm.net, row)
            if log_p.requires_grad:  # not where the last layers alone are frozen out of what is watched
                log_p.sum().backward()
            watch.end(row.targets()[0])
            loss, answers, tokens = loss - float(log_p.detach().sum()), answers + len(log_p), tokens + len(row.tokens)
    finally:
        for hook in hooks:
            hook.remove()
    progress("sketch tokens", total, total)
    largest = watch.largest
    groups = {group: _compress(gram, rank, tokens) for group, gram in watch.grams(largest)}
    return Sketched(groups, watch.inputs, largest / max(tokens, 1), loss / max(answers, 1))


def of_base(source: Source, base: Digest, texts: Sequence[str], progress: Progress = quiet) -> tuple[Delta, Tensors]:
    """What flows through a base on general text: a delta of sketches and no changes, and the sketches by digest."""
    progress("load the base", 0, 1)
    lm = lab_model.load(source.files, source.weights)
    progress("load the base", 1, 1)
    sketched = sketch(lm, [TokenSequence(lm.encode(text), 1) for text in texts], progress=progress)
    return with_sketch(Delta(base, {}), {}, sketched.groups, sketched.inputs)


class _Gram(NamedTuple):
    """What is kept of a sum G (n, n) of w x x^T, or of as many such sums as there are rows in w.

    It is linear in G, so such records are added up and scaled as G would be.
    """

    diag: Any  # (..., n)
    image: Any  # (..., n, q): G @ _probe(n, q)

    def add(self, other: _Gram) -> _Gram:
        """Their sum, in this one's memory."""
        return _Gram(self.diag.add_(other.diag), self.image.add_(other.image))


class _Watch:
    """What passes the linear layers in one pass, and the sums over all passes."""

    def __init__(self, rank: int) -> None:
        self.inputs: dict[str, str] = {}
        self._rank = rank
        self._sums: dict[str, _Gram] = {}  # group -> both halves

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
            gram = _gram_of(x_TN, torch.stack([in_answer.to(x_TN.device), weights]), self._rank)
            before = self._sums.get(group)
            self._sums[group] = gram if before is None else before.add(gram)
        self._now = {}

    @property
    def largest(self) -> float:
        """The largest group's sum of squared gradient norms by squared inputs, a mean over inputs."""
        return max((float(gram.diag[1].mean()) for gram in self._sums.values()), default=0.0)

    def grams(self, largest: float) -> Iterator[tuple[str, _Gram]]:
        """Each group's mean of its two halves, both of one size, as large as the loss depends on it.

        A merge looks at shapes alone; a forecast of what it costs must know which layer matters (merge/conflicts.py).
        """
        for group, halves in self._sums.items():
            levels = [float(level) for level in halves.diag.mean(1)]
            known = [half for half, level in enumerate(levels) if level > 0]
            weight = max(levels[1] / largest, _LEAST) if largest > 0 else 1.0
            by = torch.zeros(len(levels), device=halves.diag.device)
            for half in known:
                by[half] = weight / len(known) / levels[half]
            yield group, _Gram(by @ halves.diag, torch.einsum("h,hnq->nq", by, halves.image))


@lru_cache(maxsize=16)
def _probe(n: int, q: int, device: Any) -> Any:
    """Orthonormal columns (n, q) in random directions, the same for all layers of one width, each time."""
    random = torch.randn(n, q, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(random)[0].to(device)


def _gram_of(x_TN: Any, weights_HT: Any, rank: int) -> _Gram:
    """Of w x x^T summed over tokens, for each row w of the weights."""
    n = x_TN.shape[1]
    probe = _probe(n, min(_PROBED * rank, n), x_TN.device)
    seen_TQ = x_TN @ probe
    image = torch.empty(len(weights_HT), *probe.shape, device=x_TN.device)
    for half, weights in enumerate(weights_HT):
        some = weights.nonzero()[:, 0]  # most tokens are in no answer
        torch.mm(x_TN[some].T, seen_TQ[some] * weights[some, None], out=image[half])
    return _Gram(weights_HT @ x_TN.square(), image)


def _compress(gram: _Gram, rank: int, tokens: int) -> tuple[Array, Array, int]:
    """The `rank` largest eigenpairs as a factor, and what is left of the diagonal.

    By Nystrom's approximation from one random probe P, G ~ (G P) (P^T G P)^-1 (G P)^T, in float64 and with a small
    shift to keep it positive (Tropp, Yurtsever, Udell, Cevher, arXiv 1706.05736).
    """
    image, full = gram.image.double().cpu(), gram.diag.double().cpu()
    probe = _probe(*gram.image.shape, gram.image.device).double().cpu()
    shift = max(1e-7 * float(image.norm()), 1e-300)  # of the size of what float32 rounds
    image += shift * probe
    inner = probe.T @ image
    values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
    root = (image @ vectors) / values.clamp(min=shift).sqrt()  # root @ root.T ~ G + shift
    values, vectors = torch.linalg.eigh(root.T @ root)
    scale = (1 - shift / values[-rank:].clamp(min=shift)).sqrt()
    top = ((root @ vectors[:, -rank:]) * scale).T.flip(0).contiguous().numpy().astype(np.float16)
    kept = np.square(top.astype(np.float64)).sum(0)
    return top, np.maximum(full.numpy() - kept, 1e-4 * float(full.mean())).astype(np.float32), tokens


def of_change(
    main: Snapshot, delta: Delta, tensors: Mapping[str, Array], data: Path, *, rank: int, progress: Progress = quiet
) -> Sketched:
    """The sketch of a contribution: its own data through the base with its own changes, without what it adds."""
    if not delta.parts:
        return Sketched({}, {}, 0.0, 0.0)
    lm = of_main_base(main, progress)
    lab_model.swap(lm, alone(main, delta, tensors.__getitem__, progress))
    return sketch(lm, _some(lm, data), rank=rank, only=list(delta.parts), progress=progress)


def add_sketches(
    main: Snapshot,
    delta: Delta,
    tensors: Tensors,
    data: Path,
    *,
    rank: int,
    within_main: bool,
    progress: Progress = quiet,
) -> tuple[Delta, Tensors, dict[str, Any]]:
    """A contribution with sketches of its own data, its tensors, and what its recipe then says.

    `within_main` sketches it once more as part of today's main. What is only added meets nobody, so no merge asks for
    its sketch. One network is made for all the passes, the base's, and what changes is put into it.
    """
    if not delta.parts:
        return delta, tensors, {}
    lm, only = of_main_base(main, progress), list(delta.parts)
    sequences = _some(lm, data)
    before = nats(lm, sequences, "read without", progress)
    lab_model.swap(lm, alone(main, delta, tensors.__getitem__, progress))
    sketched = sketch(lm, sequences, rank=rank, only=only, progress=progress)
    recipe: dict[str, Any] = {"learned": _learned(before, sketched.nats) | {"felt": sketched.scale}}
    delta, tensors = with_sketch(delta, tensors, sketched.groups, sketched.inputs)
    if within_main:
        keep(delta, tensors, main, progress)
        lab_model.swap(lm, merged(main, {**main.deltas(), _NEW: replace(delta, new={})}, progress))
        sketched = sketch(lm, sequences, rank=rank, only=only, progress=progress)
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
    lm = of_main_base(main, progress)
    lab_model.swap(lm, merged(main, {**others, _NEW: replace(delta, new={})}, progress))
    return sketch(lm, _some(lm, data), rank=rank, only=list(delta.parts), progress=progress)


def renewed(
    main: Snapshot, rows: Mapping[str, Sequence[Mapping[str, Any]]], *, rank: int, progress: Progress = quiet
) -> tuple[dict[str, Delta], Tensors]:
    """New sketches of landed contributions, each of its own `rows` in main's merged model: by slug, and their tensors.

    A sketch that was taken alone says what its author's model made of the rows; where several read the same words, the
    merged layers below make something else of them, and the merge is fitted to inputs that never come. One round for
    everybody, within the merge of all, was enough (decisions/merge.md, RegMean++).

    Raises:
        UsageError: a contribution without rows, or without changes a sketch could be of.
    """
    lm, tensors, made = of_main_base(main, progress), Tensors(), dict[str, Delta]()
    lab_model.swap(lm, merged(main, main.deltas(), progress))
    for slug, own in rows.items():
        delta = main.offers[slug].delta
        if delta is None or not delta.parts:
            raise UsageError(f"{slug} changes no tensor of the base", hint="nothing of it meets others in a merge")
        sequences = learnable(lm, [sequence_of(lm, row) for row in some_rows(own)])
        sketched = sketch(lm, sequences, rank=rank, only=list(delta.parts), progress=progress)
        new, tensors = with_sketch(replace(delta, new={}), tensors, sketched.groups, sketched.inputs)
        made[slug] = replace(new, parts={})
    return made, tensors


def learned(
    main: Snapshot, delta: Delta, tensors: Mapping[str, Array], data: Path, progress: Progress = quiet
) -> dict[str, float]:
    """Nats a token of the answers in its own data, `before` (the base) and `after` (with the change): how sure it is.

    What a merge will cost a contribution depends on it (merge/conflicts.py); what it adds, no merge can cost it.
    """
    lm = of_main_base(main, progress)
    sequences = _some(lm, data)
    before = nats(lm, sequences, "read without", progress)
    lab_model.swap(lm, alone(main, delta, tensors.__getitem__, progress))
    return _learned(before, nats(lm, sequences, "read with the change", progress))


def _learned(before: float, after: float) -> dict[str, float]:
    return {"before": round(before, 6), "after": round(after, 6)}


def nats(lm: LM, sequences: Sequence[TokenSequence], label: str = "read tokens", progress: Progress = quiet) -> float:
    """The mean loss of the answers, a token."""
    return read_answers(lm, sequences, label, progress).nats


class Reading(Record, frozen=True):
    """What a model makes of answers: the loss in nats a token, and the share that it would give to the last token."""

    nats: float
    right: float


def read_answers(
    lm: LM, sequences: Sequence[TokenSequence], label: str = "read tokens", progress: Progress = quiet
) -> Reading:
    """One pass over the answers; one is right where each of its tokens is the model's first choice there."""
    rows = packed_alike(lm.net, sequences)
    loss, tokens, right, answers, done, total = 0.0, 0, 0, 0, 0, sum(len(row.tokens) for row in rows)
    with torch.inference_mode():
        for row in rows:
            progress(label, done, total)
            log_p, greedy, whose = log_probabilities(lm.net, row)
            wrong = {number for number, is_first in zip(whose, greedy.tolist(), strict=True) if not is_first}
            loss, tokens, done = loss - float(log_p.sum()), tokens + len(log_p), done + len(row.tokens)
            right, answers = right + len({*whose} - wrong), answers + len({*whose})
    progress(label, total, total)
    return Reading(nats=loss / max(tokens, 1), right=right / max(answers, 1))


def of_main_base(main: Snapshot, progress: Progress) -> LM:
    """The base of a model repository as a network."""
    progress("load the base", 0, 1)
    lm = lab_model.load(base_files(main), Stored(main.base, main.repo.store))
    progress("load the base", 1, 1)
    return lm


def alone(main: Snapshot, delta: Delta, load: Load, progress: Progress) -> Tensors:
    """The base's tensors that a change changes, changed by it alone."""
    base = Stored(main.base, main.repo.store)
    return _laid_out(Fold(base, {_NEW: replace(delta, new={})}, load, method="mean"), "apply the change", progress)


def merged(main: Snapshot, deltas: Mapping[Digest, Delta], progress: Progress) -> Tensors:
    """The base's tensors that some contributions change, merged as main merges."""
    return _laid_out(folded(main, Stored(main.base, main.repo.store), deltas), "merge main", progress)


def _laid_out(fold: Fold, label: str, progress: Progress) -> Tensors:
    return {name: fold[name] for name in tracked(fold.changed, label, progress)}


def _some(lm: LM, data: Path) -> list[TokenSequence]:
    return learnable(lm, [sequence_of(lm, row) for row in some_rows(read_rows(data))])

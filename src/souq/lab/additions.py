"""Train what the base does not have: the rows of new tokens, new layers, an expert. Everything else is frozen.

What is added begins as nothing, so the model answers as before until it learns: a token's row is the mean of its
pieces', a layer copies the one below with empty output projections (LLaMA-Pro, arXiv 2401.02415), an expert copies the
feed-forward beside it. Its router's row is found before training and stays: the ridge regression that tells what
flows there on the rows from what flows there on general text, so that other text keeps the base's own (FlexOlmo,
arXiv 2507.07024, begins from domain embeddings; a Mixtral's router has no bias, so ours is a classifier).

    model, recipe = train_additions(main, rows, Wanted(experts=(20, 21)), texts, lr=3e-4)
    export_model(model, Path("trained"))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from souq.build.model import Model, applied
from souq.errors import UsageError
from souq.lab import lm as lab_model
from souq.lab.lm import LM
from souq.lab.packing import TokenSequence, learnable, logits, packed_alike, sequence_of, sequences_of
from souq.lab.sketching import some_rows
from souq.lab.train import deterministic, environment, shuffled, train_loop
from souq.merge.grow import FEED_FORWARD, VOCABULARY, Mean, Own, grow
from souq.progress import Progress, quiet
from souq.records import digest_of
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import DTYPES, Array, Delta, Expert, Layer, New, Router, Rows, TensorRef, Tensors
from souq.weights.store import Stored

SURE = 4.0  # the router's logit on the rows, and minus it on general text: the expert gets 98% of one, 2% of the other
RIDGE = 1e-2  # of the mean variance
EMPTY = ("self_attn.o_proj.", "mlp.down_proj.")  # what a layer gives on: of nothing in a new one


@dataclass(frozen=True)
class Wanted:
    """What to add: tokens; new layers before the base's layers named; an expert in the base's layers named."""

    tokens: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    experts: tuple[int, ...] = ()

    def __str__(self) -> str:
        kinds = [f"{len(self.tokens)} new tokens"] if self.tokens else []
        kinds += [f"{len(self.layers)} new layers"] if self.layers else []
        kinds += [f"an expert in {len(self.experts)} layers"] if self.experts else []
        return ", ".join(kinds)

    def __bool__(self) -> bool:
        return bool(self.tokens or self.layers or self.experts)


def train_additions(
    main: Snapshot,
    rows: Sequence[Mapping[str, Any]],
    wanted: Wanted,
    texts: Sequence[str] = (),
    *,
    epochs: int = 2,
    lr: float = 3e-4,
    batch: int = 16,
    seed: int = 0,
    progress: Progress = quiet,
) -> tuple[Model, dict[str, Any]]:
    """The base with what is wanted, trained on rows, and the recipe; `texts` are general ones, for an expert's router.

    Raises:
        UsageError: no rows, a layer the base does not have, a base that takes no such additions, or an expert without
            texts.
    """
    if not rows:
        raise UsageError("no rows to train on", hint="name a JSONL file with at least one row")
    _refuse_other_kinds(main, wanted)
    torch.manual_seed(seed)
    base = lab_model.load(base_files(main), Stored(main.base, main.repo.store))
    routers = _routers(base, rows, wanted.experts, texts, progress)
    delta, bag = _initial(main, base, wanted, routers)
    del base
    model = applied(main, delta, bag.__getitem__)
    lm = lab_model.load(model.files, model.weights)
    _only_new(lm, main, delta)
    sequences = sequences_of(lm, rows)
    with deterministic():
        curve = train_loop(lm.net, shuffled(sequences, epochs, batch, seed), lr, progress)
    lm.net.requires_grad_(False)
    recipe = {
        "method": "additions", "tokens": list(wanted.tokens), "layers": list(wanted.layers),
        "experts": list(wanted.experts), "lr": lr, "epochs": epochs, "batch": batch, "seed": seed,
        **environment(lm.net, rows), "loss": {"first": round(curve[0], 4), "last": round(curve[-1], 4)},
    }  # fmt: skip
    if wanted.experts:
        recipe["texts"] = digest_of(list(texts))
    return replace(model, weights=_Trained(model, lm, main, delta)), recipe


def _refuse_other_kinds(main: Snapshot, wanted: Wanted) -> None:
    """A new layer is the one below with nothing given on, and an expert a Mixtral's beside a Llama's feed-forward."""
    first = [name.removeprefix("model.layers.0.") for name in main.base if name.startswith("model.layers.0.")]
    hint = "train a LoRA (without --new-layers and --expert), or new tokens with --token"
    if wanted.layers and not all(any(name.startswith(empty) for name in first) for empty in EMPTY):
        raise UsageError(f"new layers need a base whose layers end in {' and '.join(EMPTY)}weight", hint=hint)
    if wanted.experts and not all(f"mlp.{name}" in first for name in FEED_FORWARD):
        raise UsageError("experts need a base whose layers have gate_proj, up_proj and down_proj", hint=hint)


# -- how they begin ----------------------------------------------------------------------------------------------------


def _initial(main: Snapshot, base: LM, wanted: Wanted, routers: Mapping[int, Array]) -> tuple[Delta, Tensors]:
    bag: Tensors = {}
    new: dict[str, New] = {}
    stored = Stored(main.base, main.repo.store)

    def keep(array: Array) -> TensorRef:
        ref = TensorRef.of(array)
        bag[ref.digest] = array
        return ref

    if wanted.tokens:
        for name in [name for name in main.base if name.endswith(VOCABULARY)]:
            table = stored[name]
            rows = [table[base.encode(token)].astype(np.float32).mean(0) for token in wanted.tokens]
            value = keep(np.stack(rows).astype(table.dtype))
            new[f"rows {name}"] = Rows(tokens=wanted.tokens, special=(), value=value)
    depth = 1 + max((int(n.split(".")[2]) for n in main.base if n.startswith("model.layers.")), default=-1)
    if wrong := [n for n in wanted.layers if not 0 <= n <= depth] + [n for n in wanted.experts if not 0 <= n < depth]:
        raise UsageError(f"no layer {wrong[0]}", hint=f"the base's layers are 0 to {depth - 1}")
    for k, place in enumerate(sorted(wanted.layers)):
        at = f"model.layers.{max(place - 1, 0)}."
        for name in [name for name in main.base if name.startswith(at)]:
            inside, array = name.removeprefix(at), stored[name]
            array = np.zeros_like(array) if inside.startswith(EMPTY) else array
            new[f"layer {place}.{sorted(wanted.layers)[:k].count(place)}.{inside}"] = Layer(value=keep(array))
    for place in wanted.experts:
        for inside in FEED_FORWARD:
            array = stored[f"model.layers.{place}.mlp.{inside}"]
            new[f"expert {place}.0.{inside}"] = Expert(value=keep(array))
            new[f"router {place}.0"] = Router(value=keep(routers[place].astype(array.dtype)))
    return Delta(main.base_digest, {}, new=new), bag


def _routers(
    lm: LM, rows: Sequence[Mapping[str, Any]], layers: Sequence[int], texts: Sequence[str], progress: Progress
) -> dict[int, Array]:
    """For each layer the row (n,) that answers +SURE where the rows flow and -SURE where general text does."""
    if not layers:
        return {}
    if not texts:
        raise UsageError("an expert's router is found by general text, and there is none")
    own = learnable(lm, [sequence_of(lm, row) for row in some_rows(rows)])
    sides = {SURE: own, -SURE: [TokenSequence(lm.encode(text), 1) for text in texts]}
    grams: dict[int, Any] = {}
    tops: dict[int, Any] = {}
    for answer, sequences in sides.items():
        tokens, sums = 0, dict[int, tuple[Any, Any]]()
        for flow in _flows(lm, sequences, layers, progress):
            for layer, x_TN in flow.items():
                gram, top = sums.get(layer, (0.0, 0.0))
                sums[layer] = (gram + x_TN.T @ x_TN, top + x_TN.sum(0))
            tokens += len(next(iter(flow.values())))
        for layer, (gram, top) in sums.items():  # each side counts the same, however long
            grams[layer] = grams.get(layer, 0.0) + gram / tokens
            tops[layer] = tops.get(layer, 0.0) + answer * top / tokens
    return {layer: _ridge(grams[layer], tops[layer]) for layer in layers}


def _ridge(gram: Any, top: Any) -> Array:
    gram = gram + torch.eye(len(gram)) * (RIDGE * gram.diagonal().mean())
    return np.asarray(torch.linalg.solve(gram.double(), top.double()).float().numpy())


@torch.inference_mode()
def _flows(
    lm: LM, sequences: Sequence[TokenSequence], layers: Sequence[int], progress: Progress
) -> Iterator[dict[int, Any]]:
    """What each layer's feed-forward reads, (tokens, n), a packed row at a time."""
    now: dict[int, Any] = {}

    def passed(layer: int, module: Any, args: tuple[Any, ...], out: Any) -> None:
        now[layer] = out.reshape(-1, out.shape[-1]).float()

    held = [lm.net.model.layers[n].post_attention_layernorm.register_forward_hook(partial(passed, n)) for n in layers]
    packed = packed_alike(lm.net, sequences)
    try:
        for done, row in enumerate(packed):
            progress("listen", done, len(packed))
            logits(lm.net, row)
            yield dict(now)
        progress("listen", len(packed), len(packed))
    finally:
        for hook in held:
            hook.remove()


# -- how they learn ----------------------------------------------------------------------------------------------------


def _only_new(lm: LM, main: Snapshot, delta: Delta) -> None:
    """Ask gradients of what is new alone; where it shares a tensor with what is old, the old rows' are taken out."""
    grown = grow(main.base, base_files(main), [delta])
    parameters = {lm.names.get(name, name): parameter for name, parameter in lm.net.named_parameters()}
    for name, pieces in grown.pieces.items():
        if isinstance(pieces[0], Own) and len(pieces) > 1 and isinstance(pieces[1], Mean):
            first = pieces[0].stop or 0
            _learns(parameters.get(name), slice(first, first + len(pieces[1].rows)))
        elif name in parameters and grown.brought(name) is not None:
            parameters[name].requires_grad_(True)
    experts = {int(title.split(" ")[1].split(".")[0]) for title in delta.new if title.startswith("expert")}
    for layer in experts:  # expert 0 is the base's own
        for part in ("gate_up_proj", "down_proj"):
            _learns(parameters[f"model.layers.{layer}.mlp.experts.{part}"], slice(1, None))


def _learns(parameter: Any, rows: slice) -> None:
    if parameter is None:  # a tied head is the embedding
        return
    mask = torch.zeros(len(parameter), *[1] * (parameter.dim() - 1))
    mask[rows] = 1.0
    parameter.requires_grad_(True)
    parameter.register_hook(lambda grad: grad * mask)


class _Trained(Mapping[str, Array]):
    """The model with what was learned: the base's own tensors as they were, to the bit."""

    def __init__(self, model: Model, lm: LM, main: Snapshot, delta: Delta) -> None:
        self._model, self._grown = model, grow(main.base, base_files(main), [delta])
        self._state = lab_model.stored_state(lm)

    def __getitem__(self, name: str) -> Array:
        if self._grown.own(name) is not None or name.endswith("gate.weight"):
            return self._model.weights[name]
        array: Array = self._state[name].detach().cpu().float().numpy()
        return array.astype(DTYPES[self._model.layout[name][0]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.weights)

    def __len__(self) -> int:
        return len(self._model.weights)

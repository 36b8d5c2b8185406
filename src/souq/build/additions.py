"""What a trained folder has that the base does not: new tokens, new layers, experts, found by comparing the two.

A larger model is taken apart into the base's own tensors, which may have changed as well, and what stands beside
them. It is the opposite of merge/grow.py, and takes what that writes; people's own tools write the same files.

    taken = take(open_source("trained"), main)
    taken.new["layer 16.0.mlp.up_proj.weight"], taken.base["model.norm.weight"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from souq.errors import UsageError
from souq.merge.grow import FEED_FORWARD, PER_TOKEN, VOCABULARY
from souq.model.config import settings_in
from souq.model.names import indexes_tokens
from souq.model.source import Source
from souq.model.tokenizer import read_words
from souq.repo.snapshot import Snapshot, base_files
from souq.weights.delta import Array, Expert, Layer, New, Router, Rows, TensorRef, tensor_digest

Get = Callable[[], Array]
Keep = Callable[[Array], TensorRef]
_LAYER = re.compile(r"(model\.layers\.)(\d+)\.(.+)")


@dataclass
class Taken:
    """A larger model in two halves: `base`, by the base's names and shapes, each read by need; and what is `new`."""

    base: dict[str, Get]
    new: dict[str, New] = field(default_factory=dict)


def take(source: Source, main: Snapshot, keep: Keep) -> Taken:
    """Take a model apart; `keep` is handed every new tensor and answers with its name.

    Raises:
        UsageError: it is larger in a way that cannot be told from its files.
    """
    taken = Taken({name: _getter(source, name) for name in source.weights})
    mine, theirs = settings_in(base_files(main)), settings_in(source.files)
    depth = len(layers_of(main.base))
    mixed = theirs.get("model_type") == "mixtral" and mine.get("model_type") != "mixtral"
    experts = _experts(taken, theirs) if mixed else {}
    places = _match(taken, main, depth)
    if places is not None:
        _take_layers(taken, places, keep)
    if experts:
        _take_experts(taken, experts, places, main, keep)
    _take_rows(taken, source, main, keep)
    return taken


def _getter(source: Source, name: str) -> Get:
    return lambda: source.weights[name]


def layers_of(names: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Layer -> what follows its number -> the tensor's name."""
    layers: dict[int, dict[str, str]] = {}
    for name in names:
        if match := _LAYER.fullmatch(name):
            layers.setdefault(int(match[2]), {})[match[3]] = name
    return layers


# -- layers ------------------------------------------------------------------------------------------------------------


def _match(taken: Taken, main: Snapshot, depth: int) -> list[int | None] | None:
    """For each layer of a deeper model the base's that it is, None for a new one; None where it is not deeper.

    The base's layers are known by their tensors, so they have to be as they were: a new layer is trained beside
    frozen ones.
    """
    layers = layers_of(taken.base)
    if len(layers) <= depth or sorted(layers) != list(range(len(layers))):
        return None
    places: list[int | None] = []
    at = 0
    for number in range(len(layers)):
        own = at < depth and all(
            f"model.layers.{at}.{inside}" in main.base
            and tensor_digest(taken.base[name]()) == main.base[f"model.layers.{at}.{inside}"].digest
            for inside, name in sorted(layers[number].items())
        )
        places.append(at if own else None)
        at += own
    if at < depth:
        raise UsageError(
            f"{len(layers)} layers, and the base's layer {at} is none of them",
            hint="freeze the base's layers when you train new ones; offer changes to them apart",
        )
    return places


def _take_layers(taken: Taken, places: list[int | None], keep: Keep) -> None:
    layers = layers_of(taken.base)
    moved: dict[str, Get] = {}
    before, k = 0, 0
    for number, own in enumerate(places):
        for inside, name in layers[number].items():
            get = taken.base.pop(name)
            if own is None:
                taken.new[f"layer {before}.{k}.{inside}"] = Layer(value=keep(get()))
            else:
                moved[f"model.layers.{own}.{inside}"] = get
        before, k = (before, k + 1) if own is None else (own + 1, 0)
    taken.base.update(moved)


# -- experts -----------------------------------------------------------------------------------------------------------

Parts = dict[int, dict[int, dict[str, Get]]]
"""Layer -> expert -> its tensors by the base's name of them; "" is its row of the router."""


def _experts(taken: Taken, config: Mapping[str, Any]) -> Parts:
    """Take the experts out of a Mixtral; the first one of each layer is the base's feed-forward."""
    count = config.get("num_local_experts")
    if not isinstance(count, int) or not 2 <= count <= 64 or config.get("num_experts_per_tok") != PER_TOKEN:
        raise UsageError("the mixture is not of 2 to 64 experts with 2 a token", hint="set num_experts_per_tok to 2")
    experts: Parts = {}
    for number, layer in layers_of(taken.base).items():
        at = f"model.layers.{number}."
        if "block_sparse_moe.gate.weight" not in layer:
            raise UsageError(f"layer {number} has no block_sparse_moe.gate", hint="save it with save_pretrained")
        router = taken.base.pop(layer["block_sparse_moe.gate.weight"])
        for e in range(count):
            own: dict[str, Get] = {}
            for name, short in FEED_FORWARD.items():
                key = f"{at}block_sparse_moe.experts.{e}.{short}.weight"
                if key not in taken.base:
                    raise UsageError(f"no {key}", hint="save it with save_pretrained")
                own[name] = taken.base.pop(key)
            if e == 0:
                taken.base |= {f"{at}mlp.{name}": get for name, get in own.items()}
            else:
                experts.setdefault(number, {})[e] = own | {"": _row(router, e)}
    return experts


def _row(router: Get, e: int) -> Get:
    """An expert's logits against the base's: softmax only sees differences."""

    def get() -> Array:
        rows = router()
        difference: Array = rows[e].astype(np.float32) - rows[0].astype(np.float32)
        return difference.astype(rows.dtype)

    return get


def _take_experts(taken: Taken, experts: Parts, places: list[int | None] | None, main: Snapshot, keep: Keep) -> None:
    """What an expert has of its own; where it is the layer's own feed-forward, it is not there at all."""
    for number, here in experts.items():
        layer = number if places is None else places[number]
        for e, own in here.items():
            row = own.pop("")()
            arrays = {name: get() for name, get in own.items()}
            base = {} if layer is None else {name: main.base[f"model.layers.{layer}.mlp.{name}"] for name in arrays}
            if not row.any() and (layer is None or all(tensor_digest(arrays[n]) == base[n].digest for n in arrays)):
                continue
            if layer is None:
                raise UsageError("an expert in a new layer", hint="offer the layer first, or without experts")
            taken.new |= {f"expert {layer}.{e - 1}.{name}": Expert(value=keep(array)) for name, array in arrays.items()}
            taken.new[f"router {layer}.{e - 1}"] = Router(value=keep(row))


# -- tokens ------------------------------------------------------------------------------------------------------------


def _take_rows(taken: Taken, source: Source, main: Snapshot, keep: Keep) -> None:
    """Rows of tokens that only the folder's tokenizer has; rows that belong to no token are left behind."""
    mine, theirs = read_words(base_files(main), "the base"), read_words(source.files, source.name)
    new = sorted(theirs.ids.keys() - mine.ids.keys()) if mine and theirs else []
    if not mine or not theirs:
        return
    if any(theirs.ids.get(token, number) != number for token, number in mine.ids.items()):
        raise UsageError("its tokenizer gives the base's tokens other numbers", hint="use add_tokens on the base's own")
    if absent := mine.ids.keys() - theirs.ids.keys():
        raise UsageError(f"its tokenizer lacks {min(absent)!r}", hint="use add_tokens on the base's own tokenizer")
    for token in new:
        entry = theirs.added.get(token, {})
        if not entry or any(entry.get(key) for key in ("lstrip", "rstrip", "single_word")):
            raise UsageError(f"{token!r} is no plain added token", hint="add it with tokenizer.add_tokens([...])")
    tables = [name for name in main.base if indexes_tokens(name) and name in taken.base]
    if new and (others := [name for name in tables if not name.endswith(VOCABULARY)]):
        raise UsageError(
            f"{len(new)} new tokens, and {others[0]} is no table that souq adds rows to",
            hint="take the tokens out again with tokenizer and resize_token_embeddings, and train without them",
        )
    special = tuple(token for token in new if theirs.added[token].get("special"))
    first, size = max(mine.ids.values()) + 1, min((main.base[name].shape[0] for name in tables), default=0)
    for name in tables:
        get = taken.base[name]
        if new:
            table, numbers = get(), [theirs.ids[token] for token in new]
            if max(numbers) >= len(table):
                raise UsageError(
                    f"{name} has {len(table)} rows", hint="call model.resize_token_embeddings(len(tokenizer))"
                )
            rows = np.ascontiguousarray(table[numbers])
            taken.new[f"rows {name}"] = Rows(tokens=tuple(new), special=special, value=keep(rows))
        if new or len(get()) != size:
            taken.base[name] = _own_rows(get, main, name, first)


def _own_rows(get: Get, main: Snapshot, name: str, first: int) -> Get:
    """The rows of the base's tokens; those that only fill its table up are the base's, whatever became of them."""

    def rows() -> Array:
        table = get()
        if len(table) < first or table.shape[1:] != main.base[name].shape[1:]:
            raise UsageError(f"{name} is {table.shape}: less than the base's {first} tokens", hint="check --from")
        return np.concatenate([table[:first], main.repo.store.get(main.base[name].digest)[first:]])

    return rows

"""What contributions add that the base does not have: new tokens, new layers, experts. No weights meet here.

The larger model's tensors are the (merged) tensors of the base under the names they then have, and what contributors
brought, as they brought it. Everything is put in the order of the contributions' own text, so no order of landing
shows. A base with experts beside its feed-forward layers is a Mixtral: the base's own is expert 0, its row of the
router is 0, and two experts see each token. Knows names, shapes and two files; decisions/parts.md says why.

    larger = grow(lock, files, deltas)
    Larger(fold, larger, load)["model.layers.16.mlp.up_proj.weight"]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from souq.errors import Hostile
from souq.merge.exact import round_once
from souq.model.tokenizer import PLAIN, STALE, Words, read_words, tokenizer_files, with_tokens
from souq.records import Digest, digest, read_json
from souq.weights.delta import DTYPES, Array, Checkpoint, Delta, Expert, Layer, Load, Lock, Router, Rows, TensorRef
from souq.weights.lockfile import format_delta

PER_TOKEN = 2  # experts a token sees: the base's and one more give what that one's author trained
MOST = 64  # new layers, or experts, in one model
VOCABULARY = (  # a row for each token, by the names that kinds give their embeddings and heads
    "embed_tokens.weight", "lm_head.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight",
    "embed_out.weight", ".embeddings.weight",
)  # fmt: skip
FEED_FORWARD = {"gate_proj.weight": "w1", "down_proj.weight": "w2", "up_proj.weight": "w3"}  # Mixtral's names of them
_LLAMA = {  # what a Llama has where its config says nothing; Mixtral's own defaults are others
    "rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "rope_theta": 10000.0, "hidden_act": "silu",
    "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip


@dataclass(frozen=True)
class Own:
    """The base's tensor of this name, merged; rows from `start` to `stop`."""

    name: str
    start: int = 0
    stop: int | None = None

    @property
    def whole(self) -> bool:
        return self.start == 0 and self.stop is None


@dataclass(frozen=True)
class Brought:
    """A contributor's tensor as it is; a vector is one row."""

    ref: TensorRef


@dataclass(frozen=True)
class Mean:
    """Rows (k, n), each the mean of some contributors' rows of one token."""

    rows: tuple[tuple[tuple[TensorRef, int], ...], ...]


@dataclass(frozen=True)
class Zeros:
    """So many rows of nothing."""

    rows: int


Piece = Own | Brought | Mean | Zeros


@dataclass(frozen=True)
class Grown:
    """A larger model: its files, and for each tensor its layout and the pieces it is stacked of."""

    files: dict[str, bytes]
    layout: dict[str, tuple[str, tuple[int, ...]]]
    pieces: dict[str, tuple[Piece, ...]]

    def own(self, name: str) -> str | None:
        """The base's name of a tensor that is only that."""
        only = self.pieces[name]
        return only[0].name if len(only) == 1 and isinstance(only[0], Own) and only[0].whole else None

    def brought(self, name: str) -> TensorRef | None:
        """The tensor some contributor brought, where a tensor is only that."""
        only = self.pieces[name]
        return only[0].ref if len(only) == 1 and isinstance(only[0], Brought) else None

    @cached_property
    def places(self) -> dict[str, list[str]]:
        """The base's tensors by name, and the names of those here that are made of each."""
        places: dict[str, list[str]] = {}
        for name, pieces in self.pieces.items():
            for own in {piece.name for piece in pieces if isinstance(piece, Own)}:
                places.setdefault(own, []).append(name)
        return places

    @cached_property
    def digest(self) -> Digest:
        """The name of what is made of what."""
        return digest(repr(self.pieces).encode())


class Larger(Mapping[str, Array]):
    """The larger checkpoint, lazy: `inner` is the base's, merged or not."""

    def __init__(self, inner: Checkpoint, grown: Grown, load: Load) -> None:
        self._inner, self._grown, self._load = inner, grown, load

    def __iter__(self) -> Iterator[str]:
        return iter(self._grown.pieces)

    def __len__(self) -> int:
        return len(self._grown.pieces)

    def __getitem__(self, name: str) -> Array:
        if (own := self._grown.own(name)) is not None:
            return self._inner[own]
        if (ref := self._grown.brought(name)) is not None:
            return self._load(ref.digest)
        dtype, shape = self._grown.layout[name]
        return np.concatenate([self._rows(piece, dtype, shape[1:]) for piece in self._grown.pieces[name]])

    def _rows(self, piece: Piece, dtype: str, shape: tuple[int, ...]) -> Array:
        match piece:
            case Own(name=name, start=start, stop=stop):
                return self._inner[name][start:stop]
            case Brought(ref=ref):
                return self._load(ref.digest).reshape(-1, *shape)
            case Zeros(rows=rows):
                return np.zeros((rows, *shape), DTYPES[dtype])
            case Mean(rows=rows):
                held = {ref: self._load(ref.digest) for ref in {ref for row in rows for ref, _ in row}}
                wide = [sum(held[ref][i].astype(np.float64) for ref, i in row) / len(row) for row in rows]
                return round_once(np.stack(wide), dtype)


def grow(lock: Lock, files: Mapping[str, bytes], deltas: Sequence[Delta]) -> Grown:
    """The base of `lock` and `files` with all that some deltas add; itself where they add nothing.

    Raises:
        Hostile: an addition that does not fit this base, or two that cannot both be.
    """
    adding = sorted((delta for delta in deltas if delta.new), key=format_delta)
    if not adding:
        layout = {name: (ref.dtype, ref.shape) for name, ref in lock.items()}
        return Grown(dict(files), layout, {name: (Own(name),) for name in lock})
    config = read_json(files["config.json"])
    if not isinstance(config, dict):
        raise Hostile("config.json is no object")
    tower = _Tower.of(lock)
    if not tower.layers and any(not isinstance(new, Rows) for delta in adding for new in delta.new.values()):
        raise Hostile("the base has no layers named model.layers.0, 1, 2 and so on: tokens alone can be added to it")
    made = _Growth(lock, dict(files), config, tower)
    made.tokens([delta for delta in adding if any(isinstance(new, Rows) for new in delta.new.values())])
    made.layers(adding)
    made.experts(adding)
    return made.grown()


@dataclass(frozen=True)
class _Tower:
    """The layers among a base's tensors: their prefix; for each, its tensors by what follows the layer's number."""

    prefix: str
    layers: tuple[dict[str, TensorRef], ...]

    @classmethod
    def of(cls, lock: Lock) -> _Tower:
        prefix = "model.layers."
        layers: dict[int, dict[str, TensorRef]] = {}
        for name, ref in lock.items():
            number, _, inside = name.removeprefix(prefix).partition(".")
            if name.startswith(prefix) and number.isdigit():
                layers.setdefault(int(number), {})[inside] = ref
        if sorted(layers) != list(range(len(layers))):
            raise Hostile("the base's layers are not named model.layers.0, 1, 2 and so on: nothing can be added to it")
        return cls(prefix, tuple(layers[i] for i in range(len(layers))))


@dataclass(frozen=True)
class _Place:
    """One tensor of a new layer or an expert."""

    title: str  # `layer 3.0.mlp.up_proj.weight`
    giver: int  # the contribution that brings it
    place: int  # before or in which layer
    k: int  # the how manieth of its giver's there
    inside: str  # its name in the layer; empty for a router's row
    ref: TensorRef


def _placed(adding: Sequence[Delta], *kinds: type[Layer | Expert | Router]) -> Iterator[_Place]:
    for giver, delta in enumerate(adding):
        for title, part in delta.new.items():
            if isinstance(part, kinds):
                place, k, *inside = title.partition(" ")[2].split(".", 2)
                yield _Place(title, giver, int(place), int(k), inside[0] if inside else "", part.value)


class _Growth:
    """A larger model as it is put together: pieces by name, the config and the tokenizer with them."""

    def __init__(self, lock: Lock, files: dict[str, bytes], config: dict[str, Any], tower: _Tower) -> None:
        self._lock, self._files, self._config, self._tower = lock, files, config, tower
        self._pieces: dict[str, tuple[Piece, ...]] = {
            name: (Own(name),) for name in lock if not name.startswith(tower.prefix)
        }
        # Layer by layer, what follows the number -> its piece; and which of the base's layers it is, if any.
        self._layers: list[tuple[int | None, dict[str, Piece]]] = [
            (i, {inside: Own(f"{tower.prefix}{i}.{inside}") for inside in layer})
            for i, layer in enumerate(tower.layers)
        ]

    def tokens(self, adding: Sequence[Delta]) -> None:
        """New rows behind the tokenizer's last token, those of a token that several bring as their mean."""
        if not adding:
            return
        tables = {name for name in self._lock if name.endswith(VOCABULARY)}
        rows: dict[str, list[Rows]] = {name: [] for name in tables}
        for delta in adding:
            mine = {title.partition(" ")[2]: new for title, new in delta.new.items() if isinstance(new, Rows)}
            if mine.keys() != tables:
                wrong = sorted(mine.keys() ^ tables)[0]
                raise Hostile(f"new tokens need rows in each of {', '.join(sorted(tables))}, and nowhere else: {wrong}")
            for name, new in mine.items():
                rows[name].append(new)
        if "vocab_size" not in self._config:  # a model that sees says it further in
            raise Hostile("config.json says no vocab_size at its top: no tokens can be added to such a base")
        words = read_words(self._files, "the base")
        if words is None:
            raise Hostile("the base has no tokenizer.json to add tokens to")
        places = self._places(words, rows[min(tables)])
        first, size = max(words.ids.values()) + 1, int(self._config.get("vocab_size", 0))
        for name in tables:
            ref = self._lock[name]
            for new in rows[name]:
                if new.value.shape[1:] != ref.shape[1:] or new.value.dtype != ref.dtype:
                    raise Hostile(
                        f"the new rows are {new.value.dtype} {new.value.shape}, {name} is {ref.dtype} {ref.shape}"
                    )
            if ref.shape[0] != size or first > size:
                raise Hostile(
                    f"{name} has {ref.shape[0]} rows, the config says {size}, the tokenizer has {first} tokens"
                )
            means = Mean(
                tuple(tuple((rows[name][giver].value, i) for giver, i in brought) for brought in places.values())
            )
            last = first + len(places)  # rows that only fill the table up to a round number are replaced
            after = (Own(name, last),) if last < size else ()
            self._pieces[name] = (Own(name, 0, first), means, *after)
        self._config["vocab_size"] = max(size, first + len(places))
        special = {token for new in rows[min(tables)] for token in new.special}
        entries = {token: PLAIN | {"special": token in special, "normalized": token not in special} for token in places}
        self._files = {name: data for name, data in self._files.items() if name not in STALE}
        self._files |= tokenizer_files(self._files, with_tokens(words, entries))

    def _places(self, words: Words, brought: Sequence[Rows]) -> dict[str, list[tuple[int, int]]]:
        """Each new token, in order, and the (contribution, row)s that are its."""
        places: dict[str, list[tuple[int, int]]] = {}
        for giver, new in enumerate(brought):
            for token in sorted(new.tokens):
                if token in words.ids:
                    raise Hostile(f"{token!r} is a token of the base already")
                places.setdefault(token, []).append((giver, new.tokens.index(token)))
        return places

    def layers(self, adding: Sequence[Delta]) -> None:
        """New layers before the ones they name."""
        depth, added = len(self._tower.layers), dict[tuple[int, int, int], dict[str, Piece]]()
        for at in _placed(adding, Layer):
            like = self._tower.layers[0].get(at.inside)
            if at.place > depth or like is None or (at.ref.dtype, at.ref.shape) != (like.dtype, like.shape):
                raise Hostile(
                    f"{at.title} is no tensor of a layer of this base, which has {depth}, or not of its shape"
                )
            added.setdefault((at.place, at.giver, at.k), {})[at.inside] = Brought(at.ref)
        if not added:
            return
        if len(added) > MOST:
            raise Hostile(f"{len(added)} new layers; the most is {MOST}")
        if self._config.get("num_hidden_layers") != depth:
            raise Hostile(f"config.json does not say at its top that there are {depth} layers: none can be added")
        for (before_layer, _, k), layer in added.items():
            if absent := self._tower.layers[0].keys() - layer.keys():
                raise Hostile(f"the new layer {before_layer}.{k} has no {min(absent)}")
        before = [[layer for key, layer in sorted(added.items()) if key[0] == place] for place in range(depth + 1)]
        old, self._layers = self._layers, []
        for place, layers in enumerate(before):
            self._layers += [(None, layer) for layer in layers]
            self._layers += old[place : place + 1]
        for key, value in self._config.items():  # what a config says layer by layer, a new one has as the layer below
            if isinstance(value, list) and len(value) == depth:
                self._config[key] = [
                    setting
                    for place, layers in enumerate(before)
                    for setting in [value[max(place - 1, 0)]] * len(layers) + value[place : place + 1]
                ]
        self._config["num_hidden_layers"] = len(self._layers)

    def experts(self, adding: Sequence[Delta]) -> None:
        """The feed-forward tensors and the router's row of each expert in each layer."""
        added: dict[tuple[int, int], dict[int, dict[str, Piece]]] = {}
        for at in _placed(adding, Expert, Router):
            self._fits_beside(at)
            added.setdefault((at.giver, at.k), {}).setdefault(at.place, {})[at.inside] = Brought(at.ref)
        if not added:
            return
        if len(added) >= MOST:
            raise Hostile(f"{len(added)} experts; the most is {MOST - 1}")
        for (_, k), places in added.items():
            for place, parts in places.items():
                if absent := {"", *FEED_FORWARD} - parts.keys():
                    raise Hostile(f"the expert {place}.{k} has no {min(absent) or 'row of the router'}")
        self._config |= _as_mixtral(self._config, self._lock, len(added) + 1)
        experts = [places for _, places in sorted(added.items())]
        for number, (which, layer) in enumerate(self._layers):
            own = {name: layer.pop(f"mlp.{name}") for name in FEED_FORWARD}
            # An expert that its author gave to other layers only is here the layer's own.
            here = [places.get(-1 if which is None else which) for places in experts]
            for e, theirs in enumerate([None, *here]):
                for name, short in FEED_FORWARD.items():
                    layer[f"block_sparse_moe.experts.{e}.{short}.weight"] = (theirs or own)[name]
            rows = [theirs[""] if theirs else Zeros(1) for theirs in here]
            self._pieces[f"{self._tower.prefix}{number}.block_sparse_moe.gate.weight"] = (Zeros(1), *rows)

    def _fits_beside(self, at: _Place) -> None:
        layers = self._tower.layers
        name = at.inside or "up_proj.weight"
        like = layers[at.place].get(f"mlp.{name}") if at.place < len(layers) and name in FEED_FORWARD else None
        shape = None if like is None else like.shape if at.inside else like.shape[1:]
        if like is None or (at.ref.dtype, at.ref.shape) != (like.dtype, shape):
            raise Hostile(
                f"{at.title} is no tensor of an expert in a layer of this base, which has {len(layers)}, "
                "or not of its shape"
            )

    def grown(self) -> Grown:
        """The finished plan."""
        for at, (_, layer) in enumerate(self._layers):
            self._pieces |= {f"{self._tower.prefix}{at}.{inside}": (piece,) for inside, piece in layer.items()}
        pieces = dict(sorted(self._pieces.items()))
        layout = {name: self._layout(stack) for name, stack in pieces.items()}
        self._files["config.json"] = (json.dumps(self._config, indent=2, ensure_ascii=False) + "\n").encode()
        return Grown(self._files, layout, pieces)

    def _layout(self, pieces: Sequence[Piece]) -> tuple[str, tuple[int, ...]]:
        refs = [self._lock[p.name] if isinstance(p, Own) else p.ref for p in pieces if isinstance(p, Own | Brought)]
        if len(pieces) == 1:
            return refs[0].dtype, refs[0].shape
        if isinstance(pieces[0], Own):
            return refs[0].dtype, (max(self._config["vocab_size"], refs[0].shape[0]), *refs[0].shape[1:])
        # A router: a row for each expert.
        like = self._tower.layers[0]["mlp.up_proj.weight"]
        return like.dtype, (len(pieces), *like.shape[1:])


def _as_mixtral(config: Mapping[str, Any], lock: Lock, experts: int) -> dict[str, Any]:
    """What a Llama's config must say for transformers to load it with experts.

    Raises:
        Hostile: not a Llama, or one with biases, which a Mixtral has not.
    """
    if config.get("model_type") != "llama" or any(name.endswith(".bias") for name in lock):
        raise Hostile("experts need a base of Llama's architecture, without biases")
    if not all(f"model.layers.0.mlp.{name}" in lock for name in FEED_FORWARD):
        raise Hostile("experts need a base whose layers have gate_proj, up_proj and down_proj")
    known = {key: value for key, value in _LLAMA.items() if key not in config}
    if "rope_parameters" in config:
        known.pop("rope_theta", None)
    known["num_key_value_heads"] = config.get("num_key_value_heads") or config["num_attention_heads"]
    return known | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": experts,
        "num_experts_per_tok": min(PER_TOKEN, experts),
        "output_router_logits": False,
    }

"""How each architecture is spelled in GGUF, read and written by the same table: settings, names, the order of rows.

llama.cpp's converters rename every tensor, move rows of some (rotary pairs side by side, fused queries, keys and values
apart), stack experts, and add one to Gemma's norms. A `Layout` knows this of one architecture; names go through
the `gguf` library's own table, which knows transformers' names of all of them.

    layout = by_architecture("qwen3")  # architectures.py
    spellings = layout.spellings(config)  # each: tensors here, tensors there, and how to go from one to the other
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from souq.errors import Hostile
from souq.optional import needs
from souq.weights.delta import Array

Take = Callable[..., Array]
"""A tensor by name, as float32; of a stack of experts with a number, that one alone."""
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Spelling:
    """Tensors of transformers, the same numbers as tensors of GGUF, and how to go either way."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[[Take, int], Array]  # what `ours[i]` is, by GGUF's tensors
    write: Callable[[Take, int], Array]  # what `theirs[i]` is, by transformers' tensors


Way = Callable[[Array], Array]


def _as_it_is(array: Array) -> Array:
    return array


def renamed(ours: str, theirs: str, back: Way = _as_it_is, forth: Way = _as_it_is) -> Spelling:
    """One tensor, with how its rows go either way."""
    return Spelling((ours,), (theirs,), lambda take, i: back(take(theirs)), lambda take, i: forth(take(ours)))


def stacked(ours: tuple[str, ...], theirs: str) -> Spelling:
    """Tensors of one shape, such as experts, in one there."""
    return Spelling(ours, (theirs,), lambda take, i: take(theirs, i), lambda take, i: np.stack([*map(take, ours)]))


def permute(wide: Array, heads: int) -> Array:
    """Rows (m, …) with the two halves of each head's rotary pairs interleaved, as llama.cpp has them."""
    return wide.reshape(heads, 2, wide.shape[0] // heads // 2, *wide.shape[1:]).swapaxes(1, 2).reshape(wide.shape)


def unpermute(wide: Array, heads: int) -> Array:
    """The halves of each head's rotary pairs apart again, as transformers keeps them."""
    return wide.reshape(heads, wide.shape[0] // heads // 2, 2, *wide.shape[1:]).swapaxes(1, 2).reshape(wide.shape)


ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
NORMS = ("input_layernorm", "post_attention_layernorm")
TOP = ("model.embed_tokens", "model.norm", "lm_head")
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Layout:
    """One architecture: `architecture` as GGUF names it, `kind` as transformers' model_type, `model` its class."""

    architecture: str
    kind: str
    model: str
    settings: Settings = field(default_factory=dict)  # a key of config.json -> GGUF's, after the architecture
    modules: tuple[str, ...] = ATTENTION + GATED + NORMS  # of a layer
    top: tuple[str, ...] = TOP
    at: str = "model.layers.{}."
    fixed: Settings = field(default_factory=dict)  # what llama.cpp has no key for, since it computes no other
    rotary: str = "halves"  # "pairs": llama.cpp's rows of queries and keys are in pairs
    norm: float = 0.0  # added to norms
    experts: str = ""  # of a layer, by number: "mlp.experts.{}.{}"
    stacks: Settings = field(default_factory=lambda: {p: f"mlp.experts.{p}" for p in PROJECTIONS})
    bias: tuple[str, ...] = ()  # settings that are true where a bias is: "attention_bias:attn_q"
    scaling: tuple[str, ...] = ("default", "linear", "yarn")
    partial: bool = False  # whether it may turn a part of each head only
    others: Callable[[Layout, Settings, Callable[[str], str]], Iterable[Spelling]] = lambda *_: ()
    more: Callable[[Settings, Callable[[str], Any]], Settings] = lambda *_: {}  # read: config, field -> config
    says: Callable[[Settings], Settings] = lambda _: {}  # written: config -> GGUF keys besides `settings`
    refuses: Callable[[Settings], str] = lambda _: ""  # written: why llama.cpp would compute something else

    @property
    def count(self) -> str:
        """The setting that says how many layers there are."""
        return next(key for key, theirs in self.settings.items() if theirs == "block_count")

    def spellings(self, config: Settings) -> Iterator[Spelling]:
        """Every tensor it may have, by the sizes in a configuration."""
        layers = int(config[self.count])
        named = _names(self.architecture, layers)
        for module in self.top:
            yield from self._both(module, named(module), config)
        for layer in range(layers):
            at = self.at.format(layer)
            for module in self.modules:
                yield from self._both(at + module, named(at + module), config)
            if self.experts:
                yield from self._stacked(at, named, config)
        yield from self.others(self, config, named)

    def _both(self, ours: str, theirs: str, config: Settings) -> Iterator[Spelling]:
        for suffix in (".weight", ".bias"):
            yield renamed(ours + suffix, theirs + suffix, *self._ways(ours, config, suffix))

    def _ways(self, ours: str, config: Settings, suffix: str) -> tuple[Way, Way]:
        module = ours.rpartition(".")[2]
        if self.rotary == "pairs" and module in ("q_proj", "k_proj"):
            heads = int(config["num_attention_heads"])
            if module == "k_proj":
                heads = int(config.get("num_key_value_heads") or heads)
            return partial(unpermute, heads=heads), partial(permute, heads=heads)
        if self.norm and module.endswith("norm") and suffix == ".weight":
            return (lambda array: array - np.float32(self.norm)), (lambda array: array + np.float32(self.norm))
        return _as_it_is, _as_it_is

    def _stacked(self, at: str, named: Callable[[str], str], config: Settings) -> Iterator[Spelling]:
        count = int(config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts") or 0)
        for projection, stack in self.stacks.items():
            theirs = named((at + stack) if stack.startswith("mlp.") else stack.format(at.split(".")[2])) + ".weight"
            ours = tuple(at + self.experts.format(i, projection) + ".weight" for i in range(count))
            yield stacked(ours, theirs)


@cache
def _names(architecture: str, layers: int) -> Callable[[str], str]:
    with needs("gguf", "lab"):
        import gguf
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(arch, layers)

    def named(module: str) -> str:
        name = table.get_name(module) or table.get_name(module.removeprefix("transformer."))
        if name is None:
            raise Hostile(f"the gguf library has no name for {module} of {architecture}", hint="install a newer gguf")
        return str(name)

    return named

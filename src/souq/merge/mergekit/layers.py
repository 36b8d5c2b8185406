"""What a config says layer by layer, for layers put in another order.

A frankenmerge takes layers of models in any order and number, and many configs say of each layer what it is: which
attend to a window, which have experts, which have no rope. Those words go with their layers, from the model each layer
is of. A pattern that a config gives by one number (every fourth, the first three) is written out where the config can
say it, changed where one number still says it, and refused where it cannot.

    config = in_order(configs, first, places, write_out)     # places: (model, its layer) for each layer of the output
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from souq.errors import UsageError
from souq.merge.mergekit.config import ModelRef
from souq.model.settings import WriteOut

Config = dict[str, Any]
Place = tuple[ModelRef, int]
Rule = Callable[[Config, int], Any]

DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_NOT_LAYERS = re.compile(
    r".*_token_ids?|architectures|.*_(?:kernel|stride|section|dim|multiplier|limit)s?|time_step_\w+"
)
_NUMBERS = re.compile(r"mlp_only_layers|full_attn_idxs|moe_layers|.*_(?:idx|idxs|indices|indexes|layer_ids)")
_LETTERS = ("hybrid_override_pattern",)  # a letter a layer


def _every(key: str, offset: str = "", first: int = 0) -> Rule:
    return lambda config, layer: (layer + first) % int(config[key] or 1) == int(config.get(offset) or 0)


# Kinds of layers by one number, and the list that says the same and is heard instead.
_PATTERNS: dict[str, tuple[Rule, str]] = {
    "first_k_dense_replace": (lambda config, layer: layer < int(config["first_k_dense_replace"] or 0), ""),
    "decoder_sparse_step": (_every("decoder_sparse_step", first=1), ""),
    "moe_layer_freq": (_every("moe_layer_freq"), ""),
    "attn_layer_period": (_every("attn_layer_period", "attn_layer_offset"), "layers_block_type"),
    "expert_layer_period": (_every("expert_layer_period", "expert_layer_offset"), ""),
    "full_attention_interval": (_every("full_attention_interval", first=1), "layer_types"),
    "global_attn_every_n_layers": (_every("global_attn_every_n_layers"), "layer_types"),
    "interleave_moe_layer_step": (_every("interleave_moe_layer_step", first=1), "moe_layers"),
    "sliding_window_pattern": (_every("sliding_window_pattern", first=1), "layer_types"),
    "_sliding_window_pattern": (_every("_sliding_window_pattern", first=1), "layer_types"),
    "no_rope_layer_interval": (_every("no_rope_layer_interval", first=1), "no_rope_layers"),
    "num_kv_shared_layers": (lambda config, layer: layer >= depth_of(config) - int(config["num_kv_shared_layers"]), ""),
}  # fmt: skip


def depth_of(config: Mapping[str, Any]) -> int:
    """How many layers of text a config speaks of; 0 where it does not say."""
    inner = config.get("text_config")
    return next(
        (
            int(part[key])
            for part in (config, inner)
            if isinstance(part, dict)
            for key in DEPTH
            if type(part.get(key)) is int
        ),
        0,
    )


def in_order(
    configs: Mapping[ModelRef, Config], first: ModelRef, places: Sequence[Place], write_out: WriteOut | None = None
) -> Config:
    """The config of `first` for layers taken from these places.

    Raises:
        UsageError: a pattern of layers that no config of this kind can say, or a config that its kind does not take.
    """
    made = dict(configs[first])
    if not places or list(places) == [(first, layer) for layer in range(depth_of(made))]:
        return made
    if not any(key in made for key in DEPTH) and isinstance(made.get("text_config"), dict):
        texts = {ref: _text_of(config) for ref, config in configs.items()}
        return made | {"text_config": in_order(texts, first, places, write_out)}
    whole = {ref: _written(config, write_out) for ref, config in configs.items()}
    for key, value in whole[first].items():
        if (listed := _listed(key, value, whole, first, places)) is not None:
            made[key] = listed
    for key in DEPTH:
        if type(made.get(key)) is int or (key in made and key in configs[first]):
            made[key] = len(places)
    if not any(key in made for key in DEPTH):
        made[DEPTH[0]] = len(places)
    if "attention_types" in made and isinstance(
        kinds := made.pop("attention_layers", None), list
    ):  # GPT-Neo's spelling
        made["attention_types"] = [[kinds, 1]]
    _keep_patterns(made, whole, first, places)
    _refuse_unreadable(made, whole[first], write_out)
    return made


def _text_of(config: Config) -> Config:
    """The part of a config that speaks of text."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _refuse_unreadable(made: Config, before: Config, write_out: WriteOut | None) -> None:
    """Whoever loads the folder would be refused: better now.

    Raises:
        UsageError: transformers takes the first model's config, and not this one.
    """
    if write_out is None or "model_type" not in before:
        return
    try:
        write_out(before)
    except Exception:  # it did not before, so that says nothing of this merge
        return
    try:
        write_out(made)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1].strip()[:200]
        raise UsageError(
            f"the config of these layers would not load: {reason}", hint="choose other layer ranges"
        ) from error


def _written(config: Config, write_out: WriteOut | None) -> Config:
    """With the lists that its kind makes of numbers and defaults, where transformers is there to make them."""
    if write_out is None or "model_type" not in config:
        return config
    try:
        written, _ = write_out(config)
    except Exception:  # as it is written: what its kind does not take, nobody loads
        return config
    same = depth_of(written) == depth_of(config)
    return config | {key: value for key, value in written.items() if isinstance(value, list) and same}


def _listed(
    key: str, value: Any, whole: Mapping[ModelRef, Config], first: ModelRef, places: Sequence[Place]
) -> Any | None:
    """A setting that goes layer by layer, in the order of the places; None where it is none."""
    if key in _LETTERS and isinstance(value, str) and len(value) == depth_of(whole[first]):
        return "".join(_of_layer(key, ref, layer, whole, first) for ref, layer in places)
    if not isinstance(value, list) or _NOT_LAYERS.fullmatch(key):
        return None
    if _NUMBERS.fullmatch(key) and all(type(number) is int for number in value):
        numbers = {ref: whole[ref].get(key, value) for ref, _ in places}
        return [i for i, (ref, layer) in enumerate(places) if layer in (numbers[ref] or [])]
    if len(value) != depth_of(whole[first]):
        return None
    return [_of_layer(key, ref, layer, whole, first) for ref, layer in places]


def _of_layer(key: str, ref: ModelRef, layer: int, whole: Mapping[ModelRef, Config], first: ModelRef) -> Any:
    for config in (whole[ref], whole[first]):
        value = config.get(key)
        if isinstance(value, list | str) and len(value) == depth_of(config) and layer < len(value):
            return value[layer]
    raise UsageError(f"{key} of {first} says nothing of layer {layer} of {ref}", hint="merge models of one kind")


def _keep_patterns(made: Config, whole: Mapping[ModelRef, Config], first: ModelRef, places: Sequence[Place]) -> None:
    """Every layer is of the kind that it was, by the numbers that say which are which.

    Raises:
        UsageError: one is not, and no number would make it so.
    """
    for key, (rule, instead) in _PATTERNS.items():
        if type(whole[first].get(key)) is not int or (instead and isinstance(made.get(instead), list)):
            continue
        wanted = [rule(whole[ref] if key in whole[ref] else whole[first], layer) for ref, layer in places]
        if key == "first_k_dense_replace":
            made[key] = next((i for i, dense in enumerate(wanted) if not dense), len(wanted))
        if key == "num_kv_shared_layers":
            made[key] = next((i for i, shared in enumerate(reversed(wanted)) if not shared), len(wanted))
        if [rule(made, i) for i in range(len(places))] != wanted:
            raise UsageError(
                f"{first} says by {key} = {whole[first][key]} which of its layers are of which kind, and in this order "
                "that would be other layers",
                hint="choose layer ranges that keep the pattern, for example whole multiples of it",
            )

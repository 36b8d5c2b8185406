"""LoRAs on experts that a library keeps in one tensor a layer, taken apart for a base whose files keep them one by one.

PEFT's `target_parameters` gives all experts of a layer two factors, (e r, n) and (m, r e), and gate and up projection
stand in one matrix. Each expert's share of them is a LoRA of its own, exactly.

    modules = one_by_one(adapter.modules, config, shapes)
    modules["model.layers.0.mlp.experts.3.up_proj"].a.shape    # (r, n)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from souq.errors import Hostile
from souq.model.adapter.config import AdapterConfig
from souq.model.adapter.modules import Module

EXPERTS = re.compile(r"(.+)\.([^.]+)\.experts(?:\.base_layer)*")
_KINDS = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))  # gate, up and down, as files call them


class Together(Exception):
    """The base's files keep the experts together too, or in another way: only PEFT knows which is which."""


def one_by_one(
    modules: Mapping[str, Module], config: AdapterConfig, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Module]:
    """The modules with those of experts taken apart, under the base's names.

    Raises:
        Together: the base does not keep experts one by one.
        Hostile: two pairs of factors for one matrix, or a rank that is not the experts' to share.
    """
    apart: dict[str, Module] = {}
    for name, module in modules.items():
        match = EXPERTS.fullmatch(name)
        if match is None or module.a is None or module.b is None:
            pairs = iter([(_beside_experts(name, shapes), _as_parameter(name, module, config))])
        else:
            pairs = _taken_apart(match[1], match[2], module, shapes)
        for own, part in pairs:
            if own in apart:
                raise Hostile(f"the adapter changes {own} twice", hint="save it again with PEFT's save_pretrained")
            apart[own] = part
    return apart


def _taken_apart(
    layer: str, block: str, module: Module, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, Module]]:
    a, b = module.a, module.b
    assert a is not None
    assert b is not None
    at, count = _place(layer, shapes)
    names = next((kind for kind in _KINDS if f"{at}.0.{kind[0]}.weight" in shapes), None)
    if names is None:
        raise Together
    gate, up, down = names
    rank, rest = divmod(len(a), count)
    if rest or not rank or b.shape[1] != len(a):
        raise Hostile(
            f"the factors of {layer}.{block}.experts are not of {count} experts", hint="is it another base's?"
        )
    middle, width = shapes[f"{at}.0.{gate}.weight"]
    if (len(b), a.shape[1]) not in ((2 * middle, width), (width, middle)):
        raise Together
    a_ERN, b_MRE = a.reshape(count, rank, -1), b.reshape(len(b), rank, count)
    for expert in range(count):
        # as PEFT multiplies them: "o r e, e r i -> e o i"
        part_a, part_b = np.ascontiguousarray(a_ERN[expert]), np.ascontiguousarray(b_MRE[:, :, expert])
        if (len(b), a.shape[1]) == (2 * middle, width):
            known = f"{layer}.{block}.experts.gate_up_proj"
            yield f"{at}.{expert}.{gate}", Module(part_a, part_b[:middle], known_as=known)
            yield f"{at}.{expert}.{up}", Module(part_a, np.ascontiguousarray(part_b[middle:]), known_as=known)
        else:
            yield f"{at}.{expert}.{down}", Module(part_a, part_b, known_as=f"{layer}.{block}.experts.down_proj")


def _place(layer: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, int]:
    """Where a layer's experts stand in the base's files, and how many there are."""
    pattern = re.compile(rf"({re.escape(layer)}\.[^.]+\.experts)\.(\d{{1,5}})\.")
    numbered = {(match[1], int(match[2])) for name in shapes if (match := pattern.match(name))}
    places = {place for place, _ in numbered}
    if len(places) != 1 or {number for _, number in numbered} != set(range(len(numbered))):
        raise Together
    return places.pop(), len(numbered)


def _beside_experts(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A router's name in the base's files, where the block it stands in is called otherwise there."""
    layer, _, last = name.rpartition(".")
    layer = layer.rpartition(".")[0]
    if f"{name}.weight" in shapes or last != "gate":
        return name
    others = [own for own in shapes if own.startswith(f"{layer}.") and own.endswith(f".{last}.weight")]
    return others[0].removesuffix(".weight") if len(others) == 1 else name


def _as_parameter(name: str, module: Module, config: AdapterConfig) -> Module:
    """Patterns know a module that was named as a parameter by its tensor's name."""
    targets: list[Any] = config.values.get("target_parameters") or []
    whole = f"{name}.weight"
    named = any(whole == target or whole.endswith(f".{target}") for target in targets)
    return replace(module, known_as=whole) if named else module

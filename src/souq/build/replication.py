"""A model that repeats layers of its base, each copy with changes of its own: PEFT's `layer_replication`.

The first time that each of the base's layers comes, in their order, it is the base's own; every other time it is a
new layer beside it, whole, since no delta says "the same as layer 3".

    view = repeated(((0, 4), (2, 6)), main.base)
    view.names["model.layers.4.mlp.up_proj.weight"]   # model.layers.2.mlp.up_proj.weight
    view.new["model.layers.4.mlp.up_proj.weight"]     # layer 4.0.mlp.up_proj.weight
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from souq.build.additions import layers_of
from souq.errors import UsageError
from souq.merge.grow import MOST


@dataclass(frozen=True)
class View:
    """The tensors of a deeper model: the base's tensor each is made of, and the title of those in a new layer."""

    names: Mapping[str, str]
    new: Mapping[str, str] = field(default_factory=dict)


def repeated(ranges: Sequence[tuple[int, int]], base: Mapping[str, Any]) -> View:
    """A base's tensors as they stand when its layers are repeated; without ranges, as they are.

    Raises:
        UsageError: a layer that the base does not have, one that is left out, or more layers than may be added.
    """
    if not ranges:
        return View({name: name for name in base})
    layers = layers_of(base)
    order = [layer for first, end in ranges for layer in range(first, min(end, first + len(layers) + MOST))]
    if not layers or not all(layer in layers for layer in order) or len(order) > len(layers) + MOST:
        raise UsageError(
            f"layer_replication is not of this base, which has {len(layers)} layers, or adds more than {MOST}",
            hint="was it trained on this base?",
        )
    inside = {name for layer in layers.values() for name in layer.values()}
    names, new = {name: name for name in base if name not in inside}, dict[str, str]()
    before, count = 0, 0
    for place, layer in enumerate(order):
        own = layer == before
        for rest, name in layers[layer].items():
            names[f"model.layers.{place}.{rest}"] = name
            if not own:
                new[f"model.layers.{place}.{rest}"] = f"layer {before}.{count}.{rest}"
        before, count = (before + 1, 0) if own else (before, count + 1)
    if before < len(layers):
        raise UsageError(
            f"layer_replication leaves out the base's layer {before}, or has it before an earlier one",
            hint="merge it with PEFT, save the model, and begin a repository with it: `souq init NAME --from MERGED`",
        )
    return View(names, new)

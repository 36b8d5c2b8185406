"""A network in three parts: the layers below a depth, those from there up, and the head.

What a change leaves as it was need not be computed again: where two models differ from layer 20 up, what flows into
layer 20 is the same for both. And a head, a quarter of a small model's work, need not run where nothing asks for odds.
Every part is the network's own forward with modules that are passed by, so whatever it does around its layers and its
head is done. Whether it can be taken apart so is found out by trying.

    parts = halves(lm.net, 20)
    below = parts.lower(row)                     # (n, D): what flows into layer 20
    parts.head(parts.upper(row, below)[3:5])     # (2, V): the odds after two of the row's tokens
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from souq.lab.packing import PackedRow, TokenSequence, inputs_of, logits, packs, packs_alike

ALIKE = 1e-4  # how far a logit may be off, in deviations, and the parts still count as the whole
_APART: WeakKeyDictionary[Any, dict[int, bool]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Halves:
    """A network and the layer at which it is taken apart; at 0 all layers are the upper ones."""

    net: Any
    depth: int

    def lower(self, row: PackedRow) -> Any:
        """(n, D): what flows into the layer `depth` at each node of a row."""
        reached = []

        def arrive(hidden_states: Any, *_: Any, **__: Any) -> Any:
            reached.append(hidden_states)
            return hidden_states

        layers = layers_of(self.net)[1]
        with _instead(dict.fromkeys(layers[self.depth + 1 :], _pass) | {layers[self.depth]: arrive}):
            self._read(row)
        return reached[0][0]

    def upper(self, row: PackedRow, below: Any = None) -> Any:
        """(n, D): what flows into the head at each node, from what flows into the layer `depth`."""
        if below is None:
            return self._read(row)
        layers = layers_of(self.net)[1][: self.depth]
        with _instead(dict.fromkeys(layers, _pass) | {layers[-1]: lambda *_, **__: below[None]}):
            return self._read(row)

    def head(self, states: Any) -> Any:
        """Logits (t, V) in float32 of states (t, D) that flow into the head."""
        given = _Given(last_hidden_state=states[None])
        places = torch.arange(len(states))
        with _instead({_decoder(self.net): lambda *_, **__: given}):
            ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
            return self.net(input_ids=ids, use_cache=False, logits_to_keep=places).logits[0].float()

    def _read(self, row: PackedRow) -> Any:
        return _decoder(self.net)(**inputs_of(self.net, row, together=True)).last_hidden_state[0]


class _Given(BaseModelOutputWithPast):  # type: ignore[misc]
    """What layers give a head; of all else that some kinds pass on (routers' odds, cross attention) there is none."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def halves(net: Any, depth: int = 0) -> Halves | None:
    """The network taken apart at a layer; None where its parts are not the whole: tried once, with a few tokens."""
    known = _APART.setdefault(net, {})
    if depth not in known:
        known[depth] = packs(net) and _tried(Halves(net, depth))
    return Halves(net, depth) if known[depth] else None


def alike(net: Any, other: Any) -> None:
    """What was tried with a network need not be tried with another that is made as it is."""
    packs_alike(net, other)
    _APART[other] = _APART.setdefault(net, {})


def layers_of(net: Any) -> tuple[str, list[Any]]:
    """The path of the layers that tokens pass through one after the other, and those layers; none where unclear."""
    count = int(getattr(net.config.get_text_config(), "num_hidden_layers", 0) or 0)
    decoder = _decoder(net)
    inside = {id(module) for module in decoder.modules()} if decoder is not None else set()
    lists = [
        (path, list(module))
        for path, module in net.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count and id(module) in inside
    ]
    return lists[0] if len(lists) == 1 else ("", [])


def _decoder(net: Any) -> Any:
    """All of a network but its head; None where there is no such part."""
    decoder = net.get_decoder() if hasattr(net, "get_decoder") else net
    decoder = getattr(net, "base_model", net) if decoder is net else decoder
    return None if decoder is net else decoder


def _pass(hidden_states: Any, *_: Any, **__: Any) -> Any:
    return hidden_states


@contextmanager
def _instead(forwards: dict[Any, Callable[..., Any]]) -> Iterator[None]:
    """Modules do something else for a while."""
    with ExitStack() as stack:
        for module, forward in forwards.items():
            module.forward = forward
            stack.callback(delattr, module, "forward")
        yield


def _tried(parts: Halves) -> bool:
    """Whether the parts give what the whole gives, and nothing is left in the network from what it read before."""
    _, layers = layers_of(parts.net)
    known = inspect.signature(parts.net.forward).parameters
    if not layers or not parts.depth < len(layers) or "logits_to_keep" not in known:
        return False
    row, other = _a_row(parts.net, 3), _a_row(parts.net, 5)
    try:
        with torch.no_grad():
            expected = logits(parts.net, row)[0]
            below = parts.lower(row) if parts.depth else None
            parts.upper(other)  # what is left of it would be taken for the row's
            shown = parts.head(parts.upper(row, below)[row.targets()[0]])
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError):
        return False
    return bool((shown - expected).abs().max() <= ALIKE * expected.std())


def _a_row(net: Any, step: int) -> PackedRow:
    size, row = int(net.get_input_embeddings().weight.shape[0]), PackedRow()
    for end in (2, 9):
        row.add(TokenSequence([(step * i + end * (i > 3) + 1) % size for i in range(8)], 1))
    return row

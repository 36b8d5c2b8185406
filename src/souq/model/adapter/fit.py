"""An adapter fitted to a base: what each of the base's tensors becomes.

What is B A alone is kept as its author trained it; everything else is a change that can be computed from the base's
tensor. It knows names and shapes, and nothing of files or repositories.

    fitted = fit(open_adapter(Path("adapter")), shapes, config, load)
    fitted.low["model.layers.0.self_attn.q_proj.weight"]  # a (r, n), b (m, r), scale
    fitted.changed["lm_head.weight"](weight)              # the new tensor, in float32
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from souq.errors import UsageError
from souq.model.adapter.config import AdapterConfig
from souq.model.adapter.experts import EXPERTS, Together, one_by_one
from souq.model.adapter.modules import IN_A_REPOSITORY, Adapter, Module, NeedsPeft, listed
from souq.model.base import is_tied
from souq.model.names import HEAD, TOKENS, indexes_tokens, is_second_head
from souq.model.places import places
from souq.weights.delta import Array

Pair = tuple[Array, Array, float]
"""a (r, n), b (m, r) and the scale of b @ a."""
Shapes = Mapping[str, tuple[int, ...]]
"""A base's tensors: name -> shape."""

_CONV1D = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}  # kinds whose linear maps are stored (in, out)


@dataclass(frozen=True)
class Change:
    """How a tensor is computed anew from the base's, in PEFT's order: replaced, then added to, then scaled.

    PEFT computes in float32; here sums are float64 and rounded once to float32, so that every machine gets one result.
    """

    whole: Array | None = None
    rows: tuple[tuple[int, ...], Array] | None = None
    pair: Pair | None = None
    magnitude: Array | None = None
    along: int = 1  # the axis over which DoRA takes norms
    shift: Array | None = None

    def __call__(self, base: Array) -> Array:
        """The new tensor (float32) for the base's."""
        new = np.array(base if self.whole is None else self.whole, dtype=np.float64)
        if self.rows is not None:
            new[list(self.rows[0])] = self.rows[1].astype(np.float64)
        if self.pair is not None:
            a, b, scale = self.pair
            new += b.astype(np.float64) @ a.astype(np.float64) * scale
        if self.magnitude is not None:
            norms = np.sqrt(np.square(new).sum(axis=self.along))
            with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused by who keeps it
                factor = self.magnitude.astype(np.float64).reshape(-1) / norms
            new *= np.expand_dims(factor, self.along)
        if self.shift is not None:
            new += self.shift.astype(np.float64)
        return new.astype(np.float32)

    @property
    def alone(self) -> Pair | None:
        """The pair, where this is B A and nothing else."""
        others = (self.whole, self.rows, self.magnitude, self.shift)
        return self.pair if all(other is None for other in others) else None


@dataclass(frozen=True)
class Fitted:
    """An adapter on one base, by the base's names of its tensors."""

    low: dict[str, Pair]
    changed: dict[str, Change]
    notes: tuple[str, ...] = ()


def fit(
    adapter: Adapter, shapes: Shapes, config: Mapping[str, Any], load: Callable[[str], Array], *, base: str = "the base"
) -> Fitted:
    """What each tensor of a base becomes under an adapter.

    `config` is the base's config.json, and `load` gives its tensors: those that an adapter only repeats are no change.

    Raises:
        UsageError: it was trained on another model: names or shapes that the base does not have; all are listed.
        NeedsPeft: PEFT has to put its numbers together.
    """
    modules = _apart(adapter, shapes)
    names, notes = _renamed(modules, shapes)
    table = next(filter(TOKENS.search, shapes), "") if tied(shapes, config) else ""
    scale = cache(adapter.config.scale)  # hundreds of experts have one name to match patterns with
    changes, wrong = dict[str, Change](), list[str]()
    for module, held in sorted(modules.items()):
        for name, change in _changes(adapter.config, scale, module, held, names[module], config):
            own = table if table and name not in shapes and _is_head(name) else name
            if reason := _misfit(name, change, shapes.get(own), base):
                wrong.append(reason)
            elif (kept := _unlike(change, own, load)) is not None:
                changes[name] = kept
    if wrong:
        kind = NeedsPeft if adapter.config.values.get("target_parameters") else UsageError
        raise kind(f"the adapter {listed(wrong)}", hint=_WAY_OUT)
    if table:
        changes = _one_table(changes, adapter, shapes, table)
    low = {name: pair for name, change in changes.items() if (pair := change.alone) is not None}
    rest = {name: change for name, change in changes.items() if name not in low}
    return Fitted(low, rest, (*adapter.notes, *notes))


def _apart(adapter: Adapter, shapes: Shapes) -> Mapping[str, Module]:
    """The modules, those of experts one by one."""
    if not any(EXPERTS.fullmatch(name) and module.a is not None for name, module in adapter.modules.items()):
        return adapter.modules
    try:
        return one_by_one(adapter.modules, adapter.config, shapes)
    except Together as error:
        where = "the base keeps its experts in tensors of their own kind, and PEFT has to merge the adapter"
        raise NeedsPeft(where, hint=IN_A_REPOSITORY) from error


def _misfit(name: str, change: Change, shape: tuple[int, ...] | None, base: str) -> str:
    """Why a tensor cannot be changed so; nothing where it can."""
    if shape is None:
        return f"changes {name}, which {base} does not have"
    if (made := _shape(change, shape)) != shape:
        return f"changes {name} as if it were {made}; it is {shape}"
    if change.rows is not None and max(change.rows[0], default=0) >= shape[0]:
        return f"replaces the row of token {max(change.rows[0])} in {name}, which has {shape[0]}"
    return ""


def _unlike(change: Change, name: str, load: Callable[[str], Array]) -> Change | None:
    """A change without the whole tensor where that is the base's own, saved beside; None where nothing is left."""
    if change.whole is None:
        return change
    own = load(name)
    if not np.array_equal(change.whole.astype(own.dtype), own):
        return change
    rest = replace(change, whole=None)
    return rest if any(item is not None for item in (rest.pair, rest.rows, rest.shift)) else None


_WAY_OUT = (
    "was it trained on this base? if transformers only names its modules otherwise, `souq delta make --merged` has "
    "PEFT merge it; where it has more tokens, merge it with PEFT, save model and tokenizer, and give that to --from"
)


def _shape(change: Change, base: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a change makes of a tensor; rows alone keep the base's, where their width is its own."""
    if change.whole is not None and change.pair is None:
        return change.whole.shape
    if change.pair is not None:
        a, b, _ = change.pair
        shape = (b.shape[0], a.shape[1])
        length = shape[1 - change.along]
        odd = change.magnitude is not None and change.magnitude.size != length
        return shape if not odd and (change.whole is None or change.whole.shape == shape) else (-1, -1)
    if change.shift is not None:
        return change.shift.shape
    if change.rows is not None:
        numbers, values = change.rows
        return base if values.shape == (len(numbers), *base[1:]) else values.shape
    return base


def _changes(
    config: AdapterConfig,
    scale_of: Callable[[str, int], float],
    module: str,
    held: Module,
    name: str,
    base: Mapping[str, Any],
) -> Iterator[tuple[str, Change]]:
    """The tensors of the base that a module changes."""
    weight, bias = held.whole.get("weight"), held.whole.get("bias")
    rows = (_tokens(config, module), held.rows) if held.rows is not None else None
    pair, along = None, 1
    if held.a is not None and held.b is not None:
        scale = scale_of(held.known_as or module, held.rank)
        if held.embedding or _is_conv1d(name, base):
            pair, along = (np.ascontiguousarray(held.b.T), np.ascontiguousarray(held.a.T), scale), 0
        else:
            pair = (held.a, held.b, scale)
        if held.shift is not None:
            yield f"{name}.bias", Change(whole=bias, shift=held.shift.astype(np.float32) * np.float32(scale))
    if pair is not None or rows is not None or weight is not None:
        yield f"{name}.weight", Change(weight, rows, pair, held.magnitude, along)
    if bias is not None and held.shift is None:
        yield f"{name}.bias", Change(whole=bias)
    for leaf, array in held.whole.items():
        if leaf not in ("weight", "bias"):
            yield f"{name}.{leaf}", Change(whole=array)


def _tokens(config: AdapterConfig, module: str) -> tuple[int, ...]:
    lists = config.tokens
    mine = next((lists[key] for key in lists if key and (module == key or module.endswith(f".{key}"))), None)
    return tuple(mine if mine is not None else lists.get("", ()))


def _is_conv1d(name: str, base: Mapping[str, Any]) -> bool:
    """Whether the base keeps a map as (in, out); PEFT goes by the layer's type too, not by fan_in_fan_out."""
    return (
        base.get("model_type") in _CONV1D
        and not indexes_tokens(weight := f"{name}.weight")
        and not is_second_head(weight)
    )


def _renamed(modules: Mapping[str, Module], shapes: Shapes) -> tuple[dict[str, str], list[str]]:
    """Module -> its name in the base: as it is where the base has all of them, else as the base spells it."""
    own = {name.rpartition(".")[0] for name in shapes}
    strange = [name for name in modules if name not in own and not _is_head(f"{name}.weight")]
    near = places((f"{name}.weight" for name in strange), shapes)
    if not strange or len(near) < len(strange):  # what the base has no place for is listed by its own name
        return {name: name for name in modules}, []
    spelled = {name: near.get(f"{name}.weight", f"{name}.weight").removesuffix(".weight") for name in modules}
    return spelled, [f"its names are read as the base spells them: `{strange[0]}` as `{spelled[strange[0]]}`"]


# -- a head that is its embedding --------------------------------------------------------------------------------------


def _is_head(name: str) -> bool:
    return HEAD.search(name) is not None


def tied(shapes: Shapes, config: Mapping[str, Any]) -> bool:
    """Whether the base's output head is its embedding: its config says so, or it has no head of its own."""
    return is_tied(config) or not any(map(_is_head, shapes))


def _one_table(changes: dict[str, Change], adapter: Adapter, shapes: Shapes, table: str) -> dict[str, Change]:
    """On a base whose head is its embedding, a change of one is a change of both; who trained them apart is told."""
    head = next((name for name in changes if _is_head(name)), "")
    mine, theirs = changes.get(table), changes.get(head)
    change = mine or theirs
    if change is None:
        return changes
    together = bool(adapter.config.values.get("ensure_weight_tying")) or change.rows is not None
    same = mine is not None and theirs is not None and _alike(mine, theirs)
    if not same and not (together and (mine is None or theirs is None)):
        which = "the two apart" if mine is not None and theirs is not None else f"{table if mine else head} alone"
        raise UsageError(
            f"the base's head is tied to its embedding, and the adapter trains {which}: one tensor cannot be both",
            hint="train it with ensure_weight_tying=True (PEFT 0.18), or begin a repository whose head is its own: "
            "merge it, set tie_word_embeddings=False, save the model, and `souq init NAME --from MERGED`",
        )
    rest = {name: held for name, held in changes.items() if name not in (head, table)}
    written = [name for name in shapes if _is_head(name) or name == table]  # a tied head may be written out
    return rest | dict.fromkeys(written, change)


def _alike(one: Change, other: Change) -> bool:
    """Whether two changes make the same of a tensor: they hold the same numbers."""
    if (one.whole is None) != (other.whole is None) or (one.pair is None) != (other.pair is None):
        return False
    pairs = [(one.whole, other.whole), (one.magnitude, other.magnitude)]
    if one.pair is not None and other.pair is not None:
        if one.pair[2] != other.pair[2]:
            return False
        pairs += [(one.pair[0], other.pair[0]), (one.pair[1], other.pair[1])]
    return all(x is y or (x is not None and y is not None and np.array_equal(x, y)) for x, y in pairs)

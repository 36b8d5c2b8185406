"""mergekit's configuration as a plan: what each tensor of the output is made of.

It knows how mergekit 0.1.5's parameters resolve, and the names and shapes of tensors. It reads no tensor, opens no
model and computes no method; the files it plans from are asked for by the caller's functions.

    >>> from souq.merge.mergekit.config import parse_config
    >>> [config] = parse_config("{merge_method: linear, models: [{model: org/a, parameters: {weight: [0, 1]}}]}")
    >>> names = ["embed.weight", "layers.0.up.weight", "layers.1.up.weight", "norm.weight"]
    >>> made = plan(config, lambda model: {name: ("F32", (2,)) for name in names}, lambda model: 2)
    >>> [(output.name, output.inputs[0].parameters["weight"]) for output in made.outputs]
    [('embed.weight', 0.0), ('layers.0.up.weight', 0.0), ('layers.1.up.weight', 1.0), ('norm.weight', 0.0)]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from souq.errors import UsageError
from souq.merge.mergekit.config import (
    ALL,
    KNOWN,
    Contract,
    MergeConfig,
    ModelRef,
    Parameter,
    Settings,
    Slice,
    Source,
    Tokenizer,
    Value,
)
from souq.model.names import HEAD, TOKENS, in_layer, indexes_tokens, is_buffer

MAX_READS = 200_000  # layers read, over all slices and their sources

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor of a model, and the numbers that are its own."""

    model: ModelRef
    tensor: str
    parameters: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor to be made. A method that knows of bases is given the base apart from its inputs; for one that does
    not (linear, karcher, passthrough) a base model is an input like any other. `method` is the plan's, but for a
    tensor that only one of the models has and that is to be copied: then it is passthrough.
    """

    name: str
    method: str
    inputs: tuple[Input, ...]
    base: Input | None
    parameters: dict[str, Value]

    @property
    def every(self) -> tuple[Input, ...]:
        """All that is read for it: the inputs, and the base behind them."""
        return (*self.inputs, self.base) if self.base else self.inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make. `unused` are parameters that were set and that this method does not take; `notes` what else a
    person should know of how their file was read."""

    method: str
    outputs: tuple[Output, ...]
    places: tuple[tuple[ModelRef, int], ...]  # for each layer, the model that it is of first, and its number there
    dtype: str | None
    out_dtype: str | None
    tokenizer: Tokenizer | None
    chat_template: str | None
    base_model: ModelRef | None
    models: tuple[ModelRef, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def layers(self) -> int:
        return len(self.places)


def plan(config: MergeConfig, tensors: Callable[[ModelRef], Shapes], layers: Callable[[ModelRef], int]) -> Plan:
    """The output's tensors: what stands before the layers, each layer, what stands after them.

    Raises:
        UsageError: a method's contract is broken, a required parameter has no value for some tensor, or a tensor is
            absent from a model or of another shape there. Vocabularies may differ in size: aligning them is not ours.
    """
    parts, of = [], cache(lambda model: _anatomy(tensors(model), layers(model)))
    for i, part in enumerate(config.slices):
        _check_inputs(config, [source.model for source in part.sources], _base(config, part), f"slices[{i}]")
        sources = [
            _with_depth(source, layers(source.model) if of(source.model).inside else 0) for source in part.sources
        ]
        parts.append(replace(part, sources=tuple(sources)))
    if not any(_length(part) for part in parts):
        _refuse_gradients(config)
    if sum(_length(part) * len(part.sources) for part in parts) > MAX_READS:
        raise UsageError(f"more than {MAX_READS} layers to read")
    draft = _Draft(config, KNOWN[config.method], of)
    return Plan(
        method=config.method,
        outputs=tuple(draft.outputs(parts)),
        places=tuple(place for part in parts for place in _places(part, part.base_model or config.base_model)),
        dtype=config.dtype,
        out_dtype=config.out_dtype,
        tokenizer=config.tokenizer,
        chat_template=config.chat_template,
        base_model=config.base_model,
        models=config.models,
        unused=_unused(config),
        notes=config.notes,
    )


def _refuse_gradients(config: MergeConfig) -> None:
    """A gradient goes over the layers of one stack.

    Raises:
        UsageError: a parameter has several values, and there is no such stack.
    """
    for settings in _scopes(config):
        for name, rules in settings.items():
            if any(len(rule.values) > 1 for rule in rules):
                raise UsageError(
                    f"`{name}` goes from value to value over layers, and {config.models[0]} has not one stack of them",
                    hint="give it one value, or one for each `filter:`",
                )


def _scopes(config: MergeConfig) -> list[Settings]:
    scopes = [config.parameters, config.module_parameters, *(part.parameters for part in config.slices)]
    return scopes + [source.parameters for part in config.slices for source in part.sources]


def _places(part: Slice, base: ModelRef | None) -> Iterator[tuple[ModelRef, int]]:
    """The layers of a slice as those of its base, or of its first model."""
    source = next((source for source in part.sources if source.model == base), part.sources[0])
    return ((source.model, layer) for layer in range(*source.layer_range))


def _unused(config: MergeConfig) -> tuple[str, ...]:
    taken = {parameter.name for parameter in KNOWN[config.method].parameters} - {"int8_mask"}
    if config.method == "task_arithmetic":  # nothing is left out there, so there is nothing to scale back
        taken -= {"density", "rescale"}
    return tuple(sorted({name for settings in _scopes(config) for name in settings} - taken))


def _with_depth(source: Source, depth: int) -> Source:
    start, stop = source.layer_range
    if stop > depth:
        raise UsageError(f"{source.model} has {depth} layers, not {stop}", hint="shorten its `layer_range`")
    return replace(source, layer_range=(start, depth if stop == ALL else stop))


def _length(part: Slice) -> int:
    lengths = {stop - start for start, stop in (source.layer_range for source in part.sources)}
    if len(lengths) > 1:
        raise UsageError(f"sources of one slice have {' and '.join(map(str, sorted(lengths)))} layers")
    return lengths.pop()


def _base(config: MergeConfig, part: Slice) -> ModelRef | None:
    return None if KNOWN[config.method].base == "ignored" else part.base_model or config.base_model


def _check_inputs(config: MergeConfig, models: Sequence[ModelRef], base: ModelRef | None, where: str) -> None:
    contract = KNOWN[config.method]
    if len(set(models)) < len(models):
        raise UsageError(f"{where}: the same model twice", hint="add up its weights, and list it once")
    if base is None and contract.base == "required":
        raise UsageError(f"{config.method} needs a base model", hint="add `base_model:`")
    if base is not None and base not in models:
        raise UsageError(f"{where}: the base model {base} is not among the sources", hint="list it as a source too")
    others = len(models) - (base is not None)
    for what, count, (low, high) in (("models", len(models), contract.inputs), ("others", others, contract.others)):
        if not low <= count <= high:
            wanted = f"{low}" if low == high else f"{low} or more" if count < low else f"at most {high}"
            beside = " besides the base" if what == "others" and base else ""
            raise UsageError(f"{where}: {config.method} takes {wanted} models{beside}, not {count}")


_SENSES = re.compile(r"vision|visual|audio|speech|image")
_BEFORE = re.compile(r"embed(?!_out)|\bwte\b|\bwpe\b|relative_pe|rotary_pos_emb")


@dataclass(frozen=True, slots=True)
class _Anatomy:
    """A model's tensor names: before the layers, in them (without `model.layers.7.`), after them."""

    shapes: Shapes
    stem: str
    before: tuple[str, ...]
    inside: dict[int, list[str]]
    after: tuple[str, ...]

    def find(self, name: str) -> str | None:
        """The tensor itself; for an output head that is not there, the embedding it is tied to."""
        if name in self.shapes:
            return name
        return next(filter(TOKENS.search, self.before), None) if HEAD.search(name) else None


def _anatomy(shapes: Shapes, depth: int) -> _Anatomy:
    stacks: dict[str, dict[int, list[str]]] = {}
    loose = []
    for name in shapes:
        if is_buffer(name, shapes[name][1]):
            continue
        if match := in_layer(name):
            stacks.setdefault(match[1], {}).setdefault(int(match[2]), []).append(match[3])
        else:
            loose.append(name)
    stem = _stack_of_words(stacks, depth)
    for other in stacks.keys() - {stem}:  # what sees or hears has no part in slices and gradients
        loose += [f"{other}{number}.{rest}" for number, rests in stacks[other].items() for rest in rests]
    before = tuple(sorted(name for name in loose if _BEFORE.search(name)))
    after = tuple(sorted(name for name in loose if not _BEFORE.search(name)))
    return _Anatomy(shapes, stem, before, stacks.get(stem, {}), after)


def _stack_of_words(stacks: Mapping[str, Mapping[int, Any]], depth: int) -> str:
    """The stack of layers that a config counts, where there are several: towers that see or hear stand beside it. None
    where two of them could be it, as in an encoder with a decoder: that is merged whole or not at all."""
    words = [stem for stem, layers in stacks.items() if len(layers) == depth and not _SENSES.search(stem)]
    return next(iter(stacks)) if len(stacks) == 1 else words[0] if len(words) == 1 else ""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A plan in the making: every step needs the config, its method's contract and the anatomy of models."""

    config: MergeConfig
    contract: Contract
    of: Callable[[ModelRef], _Anatomy]

    def outputs(self, parts: list[Slice]) -> Iterable[Output]:
        first, last = parts[0], parts[-1]
        yield from self.loose(first, [self.of(source.model).before for source in first.sources])
        depth = 0
        for part in parts:
            stem = self.of(part.sources[0].model).stem
            for i in range(_length(part)):
                yield from self.layer(part, i, f"{stem}{depth + i}.")
            depth += _length(part)
        # mergekit pairs the last slice's sources with as many names as the first has sources; the rest is not heard.
        last = replace(last, sources=last.sources[: len(first.sources)])
        yield from self.loose(last, [self.of(source.model).after for source in last.sources])

    def loose(self, part: Slice, names: list[tuple[str, ...]]) -> Iterable[Output]:
        for name in _union(names):
            yield from self.output(part, name, [name] * len(part.sources), 0.0)

    def layer(self, part: Slice, i: int, stem: str) -> Iterable[Output]:
        t = i / (_length(part) - 1) if _length(part) > 1 else 1.0
        read = [(self.of(source.model), source.layer_range[0] + i) for source in part.sources]
        rests = _union(model.inside.get(layer, []) for model, layer in read)
        if not rests:
            raise UsageError(f"{part.sources[0].model} has no tensor of layer {read[0][1]}")
        for rest in rests:
            yield from self.output(part, stem + rest, [f"{model.stem}{layer}.{rest}" for model, layer in read], t)

    def output(self, part: Slice, name: str, wanted: list[str], t: float) -> Iterable[Output]:
        """One output; or none, where the method leaves out what too few models have."""
        wide = (part.parameters, self.config.module_parameters, self.config.parameters)
        shared = {p.name: _resolve(p, wide, name, t) for p in self.contract.parameters if p.scope == "shared"}
        base = _base(self.config, part)
        inputs = [self.input(*pair, base, wide, t) for pair in zip(part.sources, wanted, strict=True)]
        present = [item for item in inputs if item]
        self.check_shapes(name, present)
        if len(present) < len(wanted):
            alone = present[0] if len(present) == 1 else None
            if alone and self.contract.absent == "copy the only one":
                return [_copy(name, alone)]
            if alone and self.contract.absent == "copy the base" and alone.model == base:
                return [_copy(name, alone)]
            if len(present) < self.contract.inputs[0] and self.contract.absent == "base or nothing":
                return [_copy(name, alone)] if alone and alone.model == base else []
        _check_inputs(self.config, [item.model for item in present], base, name)
        others = tuple(item for item in present if item.model != base)
        return [Output(name, self.config.method, others, next((i for i in present if i.model == base), None), shared)]

    def input(
        self, source: Source, wanted: str, base: ModelRef | None, wide: tuple[Settings, ...], t: float
    ) -> Input | None:
        tensor = self.of(source.model).find(wanted)
        if tensor is None and not HEAD.search(wanted):
            raise UsageError(f"{source.model} has no tensor {wanted}", hint="merge models of one architecture")
        scopes = ("input",) if source.model == base else ("input", "non-base")
        mine = [parameter for parameter in self.contract.parameters if parameter.scope in scopes]
        own = {p.name: _resolve(p, (source.parameters, *wide), wanted, t, source.model) for p in mine}
        return Input(source.model, tensor, own) if tensor is not None else None

    def check_shapes(self, name: str, inputs: list[Input]) -> None:
        rows = int(indexes_tokens(name))
        shapes = [self.of(item.model).shapes[item.tensor][1] for item in inputs]
        for item, shape in zip(inputs, shapes, strict=True):
            if len(shape) != len(shapes[0]) or shape[rows:] != shapes[0][rows:]:
                raise UsageError(f"{item.tensor} is {shape} in {item.model} and {shapes[0]} in {inputs[0].model}")


def _union(names: Iterable[Iterable[str]]) -> dict[str, None]:
    return dict.fromkeys(name for some in names for name in some)


def _copy(name: str, only: Input) -> Output:
    return Output(name, "passthrough", (replace(only, parameters={"scale": None}),), None, {})


def _resolve(
    parameter: Parameter, scopes: tuple[Settings, ...], tensor: str, t: float, model: ModelRef | None = None
) -> Value:
    """The nearest setting that says something about this tensor: a source's, its slice's, the module's, the file's."""
    for settings in scopes:
        rule = next((r for r in settings.get(parameter.name, ()) if r.filter == "*" or r.filter in tensor), None)
        if rule and rule.values:
            return _interpolate(rule.values, t, parameter)
    if parameter.required:
        of = f" of {model}" if model else ""
        raise UsageError(f"no `{parameter.name}` for {tensor}{of}", hint=f"add `{parameter.name}:` under `parameters:`")
    return parameter.default


def _interpolate(values: tuple[Any, ...], t: float, parameter: Parameter) -> Value:
    """The value at `t` of the way: numbers are interpolated, truths are stepped through."""
    place = t * (len(values) - 1)
    i, part = int(place), place - int(place)
    if parameter.kind == "bool":
        return bool(values[i])
    # Written as mergekit computes it: another order of the same sum is another float.
    between = (1 - part) * values[i] + part * values[min(i + 1, len(values) - 1)]
    if parameter.kind == "float":
        return float(between)
    if between != int(between):
        raise UsageError(f"`{parameter.name}` is {between} at one of the layers", hint="it is a whole number")
    return int(between)

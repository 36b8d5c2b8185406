"""mergekit's YAML, as people have already written it, as a plan: what each tensor of the output is made of.

It knows the words of mergekit 0.1.5's files, how its parameters resolve, and the names and shapes of tensors. It reads
no tensor, opens no model and computes no method; the files it plans from are asked for by the caller's functions.

    >>> [config] = parse_config("{merge_method: linear, models: [{model: org/a, parameters: {weight: [0, 1]}}]}")
    >>> names = ["embed.weight", "layers.0.up.weight", "layers.1.up.weight", "norm.weight"]
    >>> made = plan(config, lambda model: {name: ("F32", (2,)) for name in names}, lambda model: 2)
    >>> [(output.name, output.inputs[0].parameters["weight"]) for output in made.outputs]
    [('embed.weight', 0.0), ('layers.0.up.weight', 0.0), ('layers.1.up.weight', 1.0), ('norm.weight', 0.0)]
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, TypeVar

import yaml

from souq.errors import UsageError, nearest
from souq.records import refuse_control

T = TypeVar("T")
Scalar = bool | int | float | str
Value = bool | int | float | None
Kind = Literal["bool", "int", "float"]

MAX_TEXT = 1 << 20  # characters of YAML
MAX_NODES = 1 << 18  # after aliases: a kilobyte of them can stand for a terabyte
MAX_MODELS = 1000
MAX_SLICES = 10_000
MAX_READS = 200_000  # layers read, over all slices and their sources
DTYPES = ("bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number a method takes: one for all (shared), one per input, or one per input that is not the base."""

    name: str
    kind: Kind
    default: Value = None
    scope: Literal["shared", "input", "non-base"] = "shared"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Contract:
    """What a method asks of its inputs: the fewest and most of them, with the base and without."""

    parameters: tuple[Parameter, ...]
    base: Literal["required", "optional", "ignored"] = "ignored"
    inputs: tuple[int, float] = (1, math.inf)
    others: tuple[int, float] = (0, math.inf)
    absent: Literal["merge the rest", "copy the only one", "base or nothing"] = "merge the rest"


def _arithmetic(*more: Parameter, normalize: bool = False, rescale: bool = False) -> Contract:
    return Contract(
        (
            Parameter("int8_mask", "bool", False),
            Parameter("normalize", "bool", normalize),
            Parameter("rescale", "bool", rescale),
            Parameter("lambda", "float", 1.0),
            Parameter("weight", "float", scope="non-base", required=True),
            Parameter("density", "float", 1.0, "non-base"),
            *more,
        ),
        "required",
    )


_GAMMA = Parameter("gamma", "float", 0.01, "non-base")
_EPSILON = Parameter("epsilon", "float", 0.15, "non-base")

KNOWN: dict[str, Contract] = {
    "linear": Contract(
        (Parameter("weight", "float", scope="input", required=True), Parameter("normalize", "bool", True))
    ),
    "task_arithmetic": _arithmetic(),
    "ties": _arithmetic(normalize=True),
    "dare_linear": _arithmetic(rescale=True),
    "dare_ties": _arithmetic(rescale=True),
    "della": _arithmetic(_EPSILON, normalize=True, rescale=True),
    "della_linear": _arithmetic(_EPSILON, rescale=True),
    "breadcrumbs": _arithmetic(_GAMMA),
    "breadcrumbs_ties": _arithmetic(_GAMMA),
    "sce": Contract((Parameter("int8_mask", "bool", False), Parameter("select_topk", "float", 1.0)), "required"),
    "slerp": Contract((Parameter("t", "float", required=True),), "required", inputs=(2, 2), absent="copy the only one"),
    "nuslerp": Contract(
        (
            Parameter("weight", "float", scope="non-base", required=True),
            Parameter("nuslerp_row_wise", "bool", False),
            Parameter("nuslerp_flatten", "bool", True),
        ),
        "optional",
        others=(2, 2),
        absent="copy the only one",
    ),
    "multislerp": Contract(
        (
            Parameter("weight", "float", scope="non-base", required=True),
            Parameter("normalize_weights", "bool", True),
            Parameter("eps", "float", 1e-8),
        ),
        "optional",
        others=(1, math.inf),
    ),
    "karcher": Contract((Parameter("max_iter", "int", 10), Parameter("tol", "float", 1e-5))),
    "model_stock": Contract(
        (Parameter("filter_wise", "bool", False),), "required", inputs=(3, math.inf), absent="base or nothing"
    ),
    "passthrough": Contract((Parameter("scale", "float", scope="input"),), inputs=(1, 1)),
}
_PARAMETERS = {parameter.name for contract in KNOWN.values() for parameter in contract.parameters}


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model by folder or hub name: `path@revision+adapter@revision`."""

    path: str
    revision: str | None = None
    lora: ModelRef | None = None
    override_architecture: str | None = None

    def __str__(self) -> str:
        return self.path + (f"@{self.revision}" if self.revision else "") + (f"+{self.lora}" if self.lora else "")


@dataclass(frozen=True, slots=True)
class Rule:
    """For tensors whose name contains `filter` (`*`: all), these values, spread over the layers of a slice."""

    filter: str
    values: tuple[Scalar, ...]


Settings = Mapping[str, tuple[Rule, ...]]


@dataclass(frozen=True, slots=True)
class Source:
    """Layers [start, stop) of a model, or all of them."""

    model: ModelRef
    layer_range: tuple[int, int] | None
    parameters: Settings


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of the output's layers. mergekit reads the two residual numbers and uses neither; so do we."""

    sources: tuple[Source, ...]
    base_model: ModelRef | None = None
    residual_weight: float | None = None
    residual_scale: float | None = None
    parameters: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """Where a token's embedding comes from: a model, one token of a model, zeros, or as mergekit would choose."""

    source: ModelRef | Literal["zero"] | None = None
    token: str | int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The tokenizer asked for, whether as `tokenizer` or as the older `tokenizer_source`."""

    source: ModelRef | Literal["union", "base"] = "union"
    tokens: Mapping[str, Token] = field(default_factory=dict)
    pad_to_multiple_of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeConfig:
    """One document. `models:` is already one slice of all layers, the base model last if it was not listed."""

    method: str
    slices: tuple[Slice, ...]
    module_parameters: Settings
    parameters: Settings
    base_model: ModelRef | None
    dtype: str | None
    out_dtype: str | None
    tokenizer: Tokenizer | None
    chat_template: str | None
    name: str | None

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model whose tensors are read, in the order they were written; the base last if it is no input."""
        listed = [source.model for part in self.slices for source in part.sources]
        return tuple(dict.fromkeys([*listed, *([self.base_model] if self.base_model else [])]))


# --- reading -----------------------------------------------------------------------------------------------------


def parse_config(text: str) -> list[MergeConfig]:
    """The merges of a file, each after those whose results it uses by name.

    Raises:
        UsageError: not YAML, out of bounds, or a key, method, parameter or type mergekit would not know.
        Hostile: a text that would steer the terminal it is shown on.
    """
    found = [_config(document, f"document {i}") for i, document in enumerate(_documents(text), 1)]
    if not found:
        raise UsageError("no merge in this file", hint="it starts with `merge_method:`")
    return _in_order(found) if len(found) > 1 else found


def _documents(text: str) -> list[Any]:
    if len(text) > MAX_TEXT:
        raise UsageError(f"more than {MAX_TEXT} characters of YAML")
    documents = []
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            _refuse_bomb(node)
            documents.append(loader.construct_document(node))
    # Explicit tags (`!!int ""`) make PyYAML's constructors fail in ways of their own.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"not YAML: {error}") from error
    refuse_control(documents, where="merge config")
    return documents


def _refuse_bomb(document: yaml.Node) -> None:
    """Before anything is built of it: `<<:` copies what an alias stands for."""
    todo, seen = [document], 0
    while todo:
        node, seen = todo.pop(), seen + 1
        if seen > MAX_NODES:
            raise UsageError(f"more than {MAX_NODES} values once aliases are followed")
        if isinstance(node, yaml.MappingNode):
            todo.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            todo.extend(node.value)


def _in_order(configs: list[MergeConfig]) -> list[MergeConfig]:
    named = {config.name: config for config in configs}
    if len(named) < len(configs):
        raise UsageError("two documents have the same name, or two have none", hint="give each its own `name:`")
    uses = {name: [model.path for model in config.models if model.path in named] for name, config in named.items()}
    try:
        return [named[name] for name in TopologicalSorter(uses).static_order()]
    except CycleError as error:
        raise UsageError(f"merges wait for each other: {' -> '.join(map(str, error.args[1]))}") from error


_TOP = {"merge_method", "base_model", "dtype", "out_dtype", "tokenizer_source", "tokenizer", "chat_template", "name"}
_BODY = {"models", "slices", "parameters"}
_SLICE = {"sources", "base_model", "residual_weight", "residual_scale", "parameters"}


def _config(document: Any, where: str) -> MergeConfig:
    top = _table(document, _TOP | _BODY | {"modules"}, where)
    method = _word(top.get("merge_method"), KNOWN, f"{where}: merge_method")
    body, module = top, {}
    if top.get("modules"):
        if top.get("models") or top.get("slices"):
            raise UsageError(f"{where}: `modules` stands beside `models` or `slices`", hint="keep one of them")
        body = module = _only_module(top["modules"], f"{where}: modules")
    base = _maybe(top, "base_model", _model, f"{where}: ")
    config = MergeConfig(
        method=method,
        slices=_slices(body, base, method, f"{where}: "),
        module_parameters=_settings(module.get("parameters"), method, f"{where}: modules.parameters"),
        parameters=_settings(top.get("parameters"), method, f"{where}: parameters"),
        base_model=base,
        dtype=_maybe(top, "dtype", _dtype, f"{where}: "),
        out_dtype=_maybe(top, "out_dtype", _dtype, f"{where}: "),
        tokenizer=_tokenizer(top, f"{where}: "),
        chat_template=_maybe(top, "chat_template", _text, f"{where}: "),
        name=_maybe(top, "name", _text, f"{where}: "),
    )
    if len(config.models) > MAX_MODELS:
        raise UsageError(f"{where}: more than {MAX_MODELS} models")
    return config


def _only_module(value: Any, where: str) -> dict[str, Any]:
    modules = _is(dict, value, where)
    if len(modules) != 1:
        raise UsageError(f"{where}: {len(modules)} modules; we merge models of one", hint="merge them one by one")
    [(name, body)] = modules.items()
    return _table(body, _BODY, f"{where}.{name}")


def _slices(body: dict[str, Any], base: ModelRef | None, method: str, where: str) -> tuple[Slice, ...]:
    if bool(body.get("models")) == bool(body.get("slices")):
        raise UsageError(f"{where}one of `models` and `slices` is needed, and only one")
    if body.get("slices"):
        slices = _is(list, body["slices"], f"{where}slices")
        if len(slices) > MAX_SLICES:
            raise UsageError(f"{where}more than {MAX_SLICES} slices")
        return tuple(_slice(part, method, f"{where}slices[{i}]") for i, part in enumerate(slices))
    sources = _sources(body["models"], {"model", "parameters"}, method, f"{where}models")
    if base and all(source.model != base for source in sources):
        sources += (Source(base, None, {}),)
    return (Slice(sources),)


def _slice(value: Any, method: str, where: str) -> Slice:
    table = _table(value, _SLICE, where)
    return Slice(
        sources=_sources(table.get("sources"), {"model", "layer_range", "parameters"}, method, f"{where}.sources"),
        base_model=_maybe(table, "base_model", _model, f"{where}."),
        residual_weight=_maybe(table, "residual_weight", _number, f"{where}."),
        residual_scale=_maybe(table, "residual_scale", _number, f"{where}."),
        parameters=_settings(table.get("parameters"), method, f"{where}.parameters"),
    )


def _sources(value: Any, keys: set[str], method: str, where: str) -> tuple[Source, ...]:
    if not _is(list, value, where):
        raise UsageError(f"{where}: no model in it")
    return tuple(
        _source(_table(item, keys, f"{where}[{i}]"), keys, method, f"{where}[{i}]") for i, item in enumerate(value)
    )


def _source(table: dict[str, Any], keys: set[str], method: str, where: str) -> Source:
    return Source(
        model=_model(table.get("model"), f"{where}.model"),
        layer_range=_range(table.get("layer_range"), f"{where}.layer_range") if "layer_range" in keys else None,
        parameters=_settings(table.get("parameters"), method, f"{where}.parameters"),
    )


def _range(value: Any, where: str) -> tuple[int, int]:
    ends = [_is(int, end, where) for end in _is(list, value, where)]
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
        raise UsageError(f"{where}: not [first, last + 1]", hint="`layer_range: [0, 8]` takes layers 0 to 7")
    return ends[0], ends[1]


def _model(value: Any, where: str) -> ModelRef:
    if isinstance(value, dict):
        table = _table(value, {"model", "lora", "override_architecture"}, where)
        return replace(
            _path(table.get("model"), f"{where}.model"),
            lora=_maybe(table, "lora", _path, f"{where}."),
            override_architecture=_maybe(table, "override_architecture", _text, f"{where}."),
        )
    model, *lora = _text(value, where).split("+")
    if len(lora) > 1:
        raise UsageError(f"{where}: {value!r} names more than one adapter", hint="write `model+lora`")
    return replace(_path(model, where), lora=_path(lora[0], where) if lora else None)


def _path(value: Any, where: str) -> ModelRef:
    if isinstance(value, dict):
        table = _table(value, {"path", "revision"}, where)
        return ModelRef(_text(table.get("path"), f"{where}.path"), _maybe(table, "revision", _text, f"{where}."))
    path, *revision = _text(value, where).split("@")
    if len(revision) > 1 or not path:
        raise UsageError(f"{where}: {value!r} is not a model", hint="write `path` or `path@revision`")
    return ModelRef(path, revision[0] or None if revision else None)


def _tokenizer(top: dict[str, Any], where: str) -> Tokenizer | None:
    if top.get("tokenizer_source") and top.get("tokenizer"):
        raise UsageError(f"{where}both `tokenizer` and `tokenizer_source`", hint="keep `tokenizer`")
    if top.get("tokenizer_source") is not None:
        return Tokenizer(_vocabulary(top["tokenizer_source"], f"{where}tokenizer_source"))
    if top.get("tokenizer") is None:
        return None
    where += "tokenizer"
    table = _table(top["tokenizer"], {"source", "tokens", "pad_to_multiple_of"}, where)
    tokens = _is(dict, table.get("tokens") or {}, f"{where}.tokens")
    return Tokenizer(
        _vocabulary(table.get("source", "union"), f"{where}.source"),
        {_text(token, f"{where}.tokens"): _token(said, f"{where}.tokens.{token}") for token, said in tokens.items()},
        _maybe(table, "pad_to_multiple_of", _count, f"{where}."),
    )


def _vocabulary(value: Any, where: str) -> ModelRef | Literal["union", "base"]:
    return value if value in ("union", "base") else _model(value, where)


def _token(value: Any, where: str) -> Token:
    table = _table(value, {"source", "force"}, where)
    force, source = _is(bool, table.get("force", False), f"{where}.force"), table.get("source")
    if not isinstance(source, dict) or "kind" not in source:
        return Token(_maybe(table, "source", _model, f"{where}."), force=force)
    source = _table(source, {"kind", "model", "token", "token_id"}, f"{where}.source")
    if _word(source["kind"], ("zero", "model_token"), f"{where}.source.kind") == "zero":
        return Token("zero", force=force)
    token, number = (source.get(key) for key in ("token", "token_id"))
    if (token is None) == (number is None):
        raise UsageError(f"{where}.source: one of `token` and `token_id` is needed, and only one")
    chosen = _text(token, f"{where}.source.token") if number is None else _is(int, number, f"{where}.source.token_id")
    return Token(_model(source.get("model"), f"{where}.source.model"), chosen, force)


def _settings(value: Any, method: str, where: str) -> Settings:
    kinds = {parameter.name: parameter.kind for parameter in KNOWN[method].parameters}
    # Another method's parameter is no mistake: files keep them when their method changes, and mergekit lets them be.
    table = {} if value is None else _table(value, _PARAMETERS, where, hint=f"{method} takes {_listed(kinds)}")
    return {name: _rules(said, kinds.get(name), f"{where}.{name}") for name, said in table.items()}


def _rules(value: Any, kind: Kind | None, where: str) -> tuple[Rule, ...]:
    said = [value] if isinstance(value, dict) else value
    if isinstance(said, list) and any(isinstance(item, dict) for item in said):
        return tuple(_rule(item, kind, f"{where}[{i}]") for i, item in enumerate(said))
    return (Rule("*", _gradient(said, kind, where)),)


def _rule(value: Any, kind: Kind | None, where: str) -> Rule:
    table = _table(value, {"filter", "value"}, where)
    chosen = _maybe(table, "filter", lambda said, where: _is(str, said, where), f"{where}.")
    return Rule("*" if chosen is None else chosen, _gradient(table.get("value"), kind, f"{where}.value"))


def _gradient(value: Any, kind: Kind | None, where: str) -> tuple[Scalar, ...]:
    return tuple(_scalar(item, kind, where) for item in (value if isinstance(value, list) else [value]))


def _scalar(value: Any, kind: Kind | None, where: str) -> Scalar:
    if type(value) not in (bool, int, float, str):
        raise UsageError(f"{where}: expected a value, found {_called(type(value))}")
    try:
        return value if kind is None else _COERCE[kind](value)
    except (ValueError, LookupError, OverflowError) as error:
        raise UsageError(f"{where}: not {_KINDS[kind]}") from error


def _float(value: Scalar) -> float:
    if not math.isfinite(found := float(value)):
        raise ValueError(value)
    return found


def _int(value: Scalar) -> int:
    if (found := _float(value)) != int(found):
        raise ValueError(value)
    return int(found)


def _bool(value: Scalar) -> bool:
    return _BOOLS[value.lower() if isinstance(value, str) else str(_int(value))]


_BOOLS = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True)
_BOOLS |= dict.fromkeys(("false", "f", "no", "n", "off", "0"), False)
_COERCE: dict[Kind, Callable[[Scalar], bool | int | float]] = {"bool": _bool, "int": _int, "float": _float}
_KINDS: dict[Kind | None, str] = {"bool": "true or false", "int": "a whole number", "float": "a number"}


def _table(value: Any, keys: set[str], where: str, *, hint: str | None = None) -> dict[str, Any]:
    for key in _is(dict, value, where):
        if key not in keys:
            told = hint or f"known here: {_listed(keys)}"
            raise UsageError(f"{where}: unknown key {str(key)!r}{nearest(str(key), keys)}", hint=told)
    found: dict[str, Any] = value
    return found


def _maybe(table: dict[str, Any], key: str, read: Callable[[Any, str], T], where: str) -> T | None:
    return None if table.get(key) is None else read(table[key], f"{where}{key}")


def _is(kind: type[T], value: Any, where: str) -> T:
    if type(value) is not kind:
        raise UsageError(f"{where}: expected {_called(kind)}, found {_called(type(value))}")
    return value


def _called(kind: type[Any]) -> str:
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    return words.get(kind, {dict: "a table of keys", type(None): "nothing"}.get(kind, kind.__name__))


def _text(value: Any, where: str) -> str:
    if not (found := _is(str, value, where)):
        raise UsageError(f"{where}: an empty text")
    return found


def _number(value: Any, where: str) -> float:
    return float(_scalar(value, "float", where))


def _count(value: Any, where: str) -> int:
    if (found := _is(int, value, where)) < 1:
        raise UsageError(f"{where}: below 1")
    return found


def _dtype(value: Any, where: str) -> str:
    return _word(_text(value, where).removeprefix("torch."), DTYPES, where)


def _word(value: Any, known: Iterable[str], where: str) -> str:
    word = _text(value, where)
    if word not in known:
        raise UsageError(f"{where}: unknown {word!r}{nearest(word, known)}", hint=f"known: {_listed(known)}")
    return word


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


# --- planning ----------------------------------------------------------------------------------------------------

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to make. `unused` are parameters that were set and that this method does not take."""

    method: str
    outputs: tuple[Output, ...]
    layers: int
    dtype: str | None
    out_dtype: str | None
    tokenizer: Tokenizer | None
    chat_template: str | None
    base_model: ModelRef | None
    models: tuple[ModelRef, ...]
    unused: tuple[str, ...]


def plan(config: MergeConfig, tensors: Callable[[ModelRef], Shapes], layers: Callable[[ModelRef], int]) -> Plan:
    """The output's tensors: what stands before the layers, each layer, what stands after them.

    Raises:
        UsageError: a method's contract is broken, a required parameter has no value for some tensor, or a tensor is
            absent from a model or of another shape there. Vocabularies may differ in size: aligning them is not ours.
    """
    parts = tuple(_filled(part, layers) for part in config.slices)
    for i, part in enumerate(parts):
        _check_inputs(config, [source.model for source in part.sources], _base(config, part), f"slices[{i}]")
    if sum(_length(part) * len(part.sources) for part in parts) > MAX_READS:
        raise UsageError(f"more than {MAX_READS} layers to read")
    outputs = tuple(_outputs(config, parts, cache(lambda model: _anatomy(model, tensors(model)))))
    return Plan(
        method=config.method,
        outputs=outputs,
        layers=sum(map(_length, parts)),
        dtype=config.dtype,
        out_dtype=config.out_dtype,
        tokenizer=config.tokenizer,
        chat_template=config.chat_template,
        base_model=config.base_model,
        models=config.models,
        unused=_unused(config),
    )


def _unused(config: MergeConfig) -> tuple[str, ...]:
    said = [config.parameters, config.module_parameters, *(part.parameters for part in config.slices)]
    said += [source.parameters for part in config.slices for source in part.sources]
    taken = {parameter.name for parameter in KNOWN[config.method].parameters}
    return tuple(sorted({name for settings in said for name in settings} - taken))


def _filled(part: Slice, layers: Callable[[ModelRef], int]) -> Slice:
    return replace(part, sources=tuple(_with_range(source, layers(source.model)) for source in part.sources))


def _with_range(source: Source, depth: int) -> Source:
    start, stop = source.layer_range or (0, depth)
    if stop > depth:
        raise UsageError(f"{source.model} has {depth} layers, not {stop}", hint="shorten its `layer_range`")
    return replace(source, layer_range=(start, stop))


def _start(source: Source) -> int:
    return source.layer_range[0] if source.layer_range else 0


def _length(part: Slice) -> int:
    lengths = {source.layer_range[1] - source.layer_range[0] for source in part.sources if source.layer_range}
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


# A rotary table is computed, not learned; old files hold it and new ones do not.
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$")
_LAYER = re.compile(r"((?:.*?\.)??(?:layers|h|blocks)\.)(\d{1,6})\.(.+)", re.ASCII)
_BEFORE = re.compile(r"embed(?!_out)|\bwte\b|\bwpe\b|relative_pe|rotary_pos_emb")
_TOKENS = re.compile(r"(?:^|\.)(?:embed_tokens|tok_embeddings|word_embeddings|embeddings|embed_in|embed|wte)\.weight$")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output|output_layer)\.(weight|bias)$")


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
        head = _HEAD.search(name)
        return next(filter(_TOKENS.search, self.before), None) if head and head[1] == "weight" else None


def _anatomy(model: ModelRef, shapes: Shapes) -> _Anatomy:
    inside: dict[int, list[str]] = {}
    stems, loose = set(), []
    for name in shapes:
        if _COMPUTED.search(name):
            continue
        if found := _LAYER.fullmatch(name):
            stems.add(found[1])
            inside.setdefault(int(found[2]), []).append(found[3])
        else:
            loose.append(name)
    if len(stems) > 1:
        raise UsageError(f"{model} has more than one stack of layers: {_listed(stems)}")
    before = tuple(name for name in loose if _BEFORE.search(name))
    return _Anatomy(shapes, "".join(stems), before, inside, tuple(name for name in loose if name not in before))


Anatomies = Callable[[ModelRef], _Anatomy]


def _outputs(config: MergeConfig, parts: tuple[Slice, ...], of: Anatomies) -> Iterable[Output]:
    first, last = parts[0], parts[-1]
    yield from _loose(config, first, [of(source.model).before for source in first.sources], of)
    depth = 0
    for part in parts:
        length = _length(part)
        for i in range(length):
            yield from _layer(config, part, i, f"{of(part.sources[0].model).stem}{depth + i}.", of)
        depth += length
    # mergekit pairs the last slice's sources with as many names as the first slice has sources: the rest is not heard.
    last = replace(last, sources=last.sources[: len(first.sources)])
    yield from _loose(config, last, [of(source.model).after for source in last.sources], of)


def _loose(config: MergeConfig, part: Slice, names: list[tuple[str, ...]], of: Anatomies) -> Iterable[Output]:
    for name in _union(names):
        yield from _output(config, part, name, [name] * len(part.sources), 0.0, of)


def _layer(config: MergeConfig, part: Slice, i: int, stem: str, of: Anatomies) -> Iterable[Output]:
    t = i / (_length(part) - 1) if _length(part) > 1 else 1.0
    stems = [f"{of(source.model).stem}{_start(source) + i}." for source in part.sources]
    for rest in _union(of(source.model).inside.get(_start(source) + i, []) for source in part.sources):
        yield from _output(config, part, stem + rest, [theirs + rest for theirs in stems], t, of)


def _union(names: Iterable[Iterable[str]]) -> Iterable[str]:
    return dict.fromkeys(name for some in names for name in some)


def _output(
    config: MergeConfig, part: Slice, name: str, wanted: list[str], t: float, of: Anatomies
) -> Iterable[Output]:
    contract, base = KNOWN[config.method], _base(config, part)
    wide = (part.parameters, config.module_parameters, config.parameters)
    shared = {p.name: _resolve(p, wide, name, t) for p in contract.parameters if p.scope == "shared"}
    found = []
    for source, theirs in zip(part.sources, wanted, strict=True):
        tensor = of(source.model).find(theirs)
        if tensor is None and not _HEAD.search(theirs):
            raise UsageError(f"{source.model} has no tensor {theirs}", hint="merge models of one architecture")
        own = _own(contract, source, source.model == base, wide, theirs, t)
        if tensor is not None:
            found.append(Input(source.model, tensor, own))
    _check_shapes(name, [(item, of(item.model).shapes[item.tensor][1]) for item in found])
    if len(found) < len(wanted):
        if len(found) == 1 and contract.absent == "copy the only one":
            return [_copy(name, found[0])]
        if contract.absent == "base or nothing" and len(found) < contract.inputs[0]:
            return [_copy(name, found[0])] if [item.model for item in found] == [base] else []
    _check_inputs(config, [item.model for item in found], base, name)
    others = tuple(item for item in found if item.model != base)
    return [Output(name, config.method, others, next((i for i in found if i.model == base), None), shared)]


def _copy(name: str, found: Input) -> Output:
    return Output(name, "passthrough", (replace(found, parameters={"scale": None}),), None, {})


def _check_shapes(name: str, found: list[tuple[Input, tuple[int, ...]]]) -> None:
    rows = 1 if _TOKENS.search(name) or _HEAD.search(name) else 0
    for item, shape in found[1:]:
        first, theirs = found[0][0], found[0][1]
        if len(shape) != len(theirs) or shape[rows:] != theirs[rows:]:
            raise UsageError(f"{item.tensor} is {shape} in {item.model} and {theirs} in {first.model}")


def _own(
    contract: Contract, source: Source, is_base: bool, wide: tuple[Settings, ...], tensor: str, t: float
) -> dict[str, Value]:
    scopes = ("input",) if is_base else ("input", "non-base")
    mine = [parameter for parameter in contract.parameters if parameter.scope in scopes]
    return {p.name: _resolve(p, (source.parameters, *wide), tensor, t, source.model) for p in mine}


def _resolve(
    parameter: Parameter, scopes: tuple[Settings, ...], tensor: str, t: float, model: ModelRef | None = None
) -> Value:
    """The nearest setting that says something about this tensor: a source's, its slice's, the module's, the file's."""
    for settings in scopes:
        rule = next((r for r in settings.get(parameter.name, ()) if r.filter == "*" or r.filter in tensor), None)
        if rule and rule.values:
            return _along(rule.values, t, parameter)
    if parameter.required:
        of = f" of {model}" if model else ""
        raise UsageError(f"no `{parameter.name}` for {tensor}{of}", hint=f"add `{parameter.name}:` under `parameters:`")
    return parameter.default


def _along(values: tuple[Any, ...], t: float, parameter: Parameter) -> Value:
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

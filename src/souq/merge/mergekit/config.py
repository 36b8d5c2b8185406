"""mergekit's YAML, as people have already written it, read into records (what they ask for is planned by plan.py).

It knows the words of mergekit 0.1.5's files, and the contract of each method; it opens no model and computes nothing.

    >>> [config] = parse_config("{merge_method: linear, models: [{model: org/a, parameters: {weight: [0, 1]}}]}")
    >>> config.method, config.models
    ('linear', (ModelRef(path='org/a', revision=None, lora=None, override_architecture=None),))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
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
ALL = -1  # a `layer_range` ends with its model
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
    absent: Literal["merge the rest", "copy the only one", "copy the base", "base or nothing"] = "merge the rest"


_WEIGHT = Parameter("weight", "float", scope="non-base", required=True)
_MASK = Parameter("int8_mask", "bool", False)
_GAMMA = Parameter("gamma", "float", 0.01, "non-base")
_EPSILON = Parameter("epsilon", "float", 0.15, "non-base")
_LEAST = Parameter("epsilon", "float", 1e-5)


def _arithmetic(*more: Parameter, normalize: bool = False, rescale: bool = False) -> Contract:
    return Contract(
        (
            _MASK,
            Parameter("normalize", "bool", normalize),
            Parameter("rescale", "bool", rescale),
            Parameter("lambda", "float", 1.0),
            _WEIGHT,
            Parameter("density", "float", 1.0, "non-base"),
            *more,
        ),
        "required",
    )


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
    "sce": Contract((_MASK, Parameter("select_topk", "float", 1.0)), "required"),
    "slerp": Contract((Parameter("t", "float", required=True),), "required", inputs=(2, 2), absent="copy the only one"),
    "nuslerp": Contract(
        (_WEIGHT, Parameter("nuslerp_row_wise", "bool", False), Parameter("nuslerp_flatten", "bool", True)),
        "optional",
        others=(2, 2),
        absent="copy the only one",
    ),
    "multislerp": Contract(
        (_WEIGHT, Parameter("normalize_weights", "bool", True), Parameter("eps", "float", 1e-8)),
        "optional",
        others=(1, math.inf),
    ),
    "karcher": Contract((Parameter("max_iter", "int", 10), Parameter("tol", "float", 1e-5))),
    "model_stock": Contract(
        (Parameter("filter_wise", "bool", False),), "required", inputs=(3, math.inf), absent="base or nothing"
    ),
    "nearswap": Contract((Parameter("t", "float", required=True),), "required", inputs=(2, 2), absent="copy the base"),
    "ram": Contract((_LEAST,), "required"),
    "ramplus_tl": Contract((Parameter("r", "float", 0.1), Parameter("alpha", "float", 0.2), _LEAST), "required"),
    "passthrough": Contract((Parameter("scale", "float", scope="input"),), inputs=(1, 1)),
}
NOT_MERGED = {  # mergekit's other methods: why not, and what comes nearest
    "arcee_fusion": (
        "its threshold comes from a random sample and its scores from exp and log, whose last bits differ from machine"
        " to machine: it is not the same model twice",
        "`nearswap` and `breadcrumbs` choose by the size of the change",
    )
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
    """A run of a model's layers: from the first of `layer_range` up to, and without, the second."""

    model: ModelRef
    parameters: Settings
    layer_range: tuple[int, int] = (0, ALL)


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

    def paths(self) -> set[str]:
        """Everything named as a model, were it only for its tokens."""
        asked = self.tokenizer or Tokenizer()
        tokens = [asked.source, *(token.source for token in asked.tokens.values())]
        return {model.path for model in [*self.models, *tokens] if isinstance(model, ModelRef)}


# --- reading -----------------------------------------------------------------------------------------------------


def parse_config(text: str) -> list[MergeConfig]:
    """The merges of a file, each after those whose results it uses by name.

    Raises:
        UsageError: not YAML, out of bounds, or a key, method, parameter or type that mergekit does not have.
        Hostile: a text that would steer the terminal it is shown on.
    """
    documents = _documents(text)
    if not documents:
        raise UsageError("no merge in this file", hint="it starts with `merge_method:`")
    if len(documents) == 1:
        return [_config(_At("config", documents[0]))]
    return _in_order([_config(_At(f"config {i}", document)) for i, document in enumerate(documents, 1)])


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
        refuse_control(documents, where="config")
    # Explicit tags (`!!int ""`) make PyYAML's constructors fail in ways of their own.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"not YAML: {_plainly(error)}") from error
    return documents


def _plainly(error: Exception) -> str:
    """Without the snippet PyYAML adds: that is the file's own text, unread, on its way to a terminal."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark and problem else str(error).partition("\n")[0]


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
        raise UsageError("two merges have the same name, or two have none", hint="give each its own `name:`")
    uses = {name: [path for path in config.paths() if path in named] for name, config in named.items()}
    try:
        return [named[name] for name in TopologicalSorter(uses).static_order()]
    except CycleError as error:
        raise UsageError(f"merges wait for each other: {' -> '.join(map(str, error.args[1]))}") from error


_CALLED = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
_CALLED |= {dict: "a table of keys", type(None): "nothing"}


@dataclass(frozen=True, slots=True)
class _At:
    """A value of the file and where it stands, so that one line can say what is wrong with it."""

    where: str
    value: Any

    def wrong(self, message: str, *, hint: str | None = None) -> UsageError:
        return UsageError(f"{self.where}: {message}", hint=hint)

    def be(self, kind: type[T]) -> T:
        if type(self.value) is not kind:
            found = _CALLED.get(type(self.value), type(self.value).__name__)
            raise self.wrong(f"expected {_CALLED[kind]}, found {found}")
        return self.value

    def items(self) -> list[_At]:
        return [_At(f"{self.where}[{i}]", item) for i, item in enumerate(self.be(list))]

    def entries(self) -> dict[str, _At]:
        said = self.be(dict)
        return {_At(f"{self.where}, a key", key).be(str): _At(f"{self.where}.{key}", said[key]) for key in said}

    def table(self, known: Iterable[str]) -> dict[str, _At]:
        """Every known key; nothing stands at those that were not written."""
        said = self.entries()
        for key in said:
            if key not in known:
                raise self.wrong(f"unknown key {key!r}{nearest(key, known)}", hint=f"known: {_listed(known)}")
        return {key: said.get(key, _At(f"{self.where}.{key}", None)) for key in known}

    def text(self) -> str:
        if not (found := self.be(str)):
            raise self.wrong("an empty text")
        return found

    def word(self, known: Iterable[str]) -> str:
        if (found := self.text()) not in known:
            raise self.wrong(f"unknown {found!r}{nearest(found, known)}", hint=f"known: {_listed(known)}")
        return found

    def count(self) -> int:
        if not 0 <= (found := self.be(int)) < 1 << 31:
            raise self.wrong("out of bounds")
        return found

    def maybe(self, read: Callable[[_At], T]) -> T | None:
        return None if self.value is None else read(self)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


_BODY = ("models", "slices", "parameters")
_TOP = ("name", "merge_method", "modules", *_BODY, "base_model", "dtype", "out_dtype")
_WORDS = ("tokenizer", "tokenizer_source", "chat_template")


def _config(at: _At) -> MergeConfig:
    top = at.table(_TOP + _WORDS)
    if top["merge_method"].value in (*NOT_MERGED,):
        why, instead = NOT_MERGED[top["merge_method"].value]
        raise top["merge_method"].wrong(why, hint=instead)
    method = top["merge_method"].word(KNOWN)
    base = top["base_model"].maybe(_model)
    body = _only_module(top) if top["modules"].value else top
    config = MergeConfig(
        method=method,
        slices=_slices(at, body, base, method),
        module_parameters={} if body is top else _settings(body["parameters"], method),
        parameters=_settings(top["parameters"], method),
        base_model=base,
        dtype=top["dtype"].maybe(_dtype),
        out_dtype=top["out_dtype"].maybe(_dtype),
        tokenizer=_tokenizer(top),
        chat_template=top["chat_template"].maybe(_At.text),
        name=top["name"].maybe(_At.text),
    )
    if len(config.models) > MAX_MODELS:
        raise at.wrong(f"more than {MAX_MODELS} models")
    return config


def _only_module(top: dict[str, _At]) -> dict[str, _At]:
    if top["models"].value or top["slices"].value:
        raise top["modules"].wrong("they stand beside `models` or `slices`", hint="keep one of them")
    modules = top["modules"].entries()
    if len(modules) != 1:
        raise top["modules"].wrong(f"{len(modules)} of them; we merge models of one", hint="merge them one by one")
    return modules.popitem()[1].table(_BODY)


def _slices(at: _At, body: dict[str, _At], base: ModelRef | None, method: str) -> tuple[Slice, ...]:
    if bool(body["models"].value) == bool(body["slices"].value):
        raise at.wrong("one of `models` and `slices` is needed, and only one")
    if body["slices"].value:
        if len(body["slices"].be(list)) > MAX_SLICES:
            raise body["slices"].wrong(f"more than {MAX_SLICES}")
        return tuple(_slice(item, method) for item in body["slices"].items())
    sources = tuple(_source(item.table(("model", "parameters")), method) for item in body["models"].items())
    if base and all(source.model != base for source in sources):
        sources += (Source(base, {}),)
    return (Slice(sources),)


def _slice(at: _At, method: str) -> Slice:
    said = at.table(("sources", "base_model", "residual_weight", "residual_scale", "parameters"))
    if not (sources := said["sources"].items()):
        raise said["sources"].wrong("no model in it")
    return Slice(
        tuple(_source(item.table(("model", "layer_range", "parameters")), method) for item in sources),
        base_model=said["base_model"].maybe(_model),
        residual_weight=said["residual_weight"].maybe(lambda at: float(_scalar(at, "float"))),
        residual_scale=said["residual_scale"].maybe(lambda at: float(_scalar(at, "float"))),
        parameters=_settings(said["parameters"], method),
    )


def _source(said: dict[str, _At], method: str) -> Source:
    layers = _range(said["layer_range"]) if "layer_range" in said else (0, ALL)
    return Source(_model(said["model"]), _settings(said["parameters"], method), layers)


def _range(at: _At) -> tuple[int, int]:
    ends = [end.count() for end in at.items()]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise at.wrong("not [first, last + 1]", hint="`layer_range: [0, 8]` takes layers 0 to 7")
    return ends[0], ends[1]


def _model(at: _At) -> ModelRef:
    if isinstance(at.value, dict):
        said = at.table(("model", "lora", "override_architecture"))
        lora, other = said["lora"].maybe(_path), said["override_architecture"].maybe(_At.text)
        return replace(_path(said["model"]), lora=lora, override_architecture=other)
    model, *adapters = at.text().split("+")
    if len(adapters) > 1:
        raise at.wrong(f"{at.value!r} names more than one adapter", hint="write `model+lora`")
    return replace(_path(_At(at.where, model)), lora=_path(_At(at.where, adapters[0])) if adapters else None)


def _path(at: _At) -> ModelRef:
    if isinstance(at.value, dict):
        said = at.table(("path", "revision"))
        return ModelRef(said["path"].text(), said["revision"].maybe(_At.text))
    path, *revision = at.text().split("@")
    if len(revision) > 1 or not path:
        raise at.wrong(f"{at.value!r} is not a model", hint="write `path` or `path@revision`")
    return ModelRef(path, revision[0] or None if revision else None)


def _dtype(at: _At) -> str:
    return _At(at.where, at.text().removeprefix("torch.")).word(DTYPES)


def _tokenizer(top: dict[str, _At]) -> Tokenizer | None:
    old, new = top["tokenizer_source"], top["tokenizer"]
    if old.value and new.value:
        raise new.wrong("it stands beside `tokenizer_source`", hint="keep `tokenizer`")
    if new.value is None:
        return old.maybe(lambda at: Tokenizer(_vocabulary(at)))
    said = new.table(("source", "tokens", "pad_to_multiple_of"))
    tokens = said["tokens"].maybe(_At.entries) or {}
    return Tokenizer(
        said["source"].maybe(_vocabulary) or "union",
        {token: _token(at) for token, at in tokens.items()},
        said["pad_to_multiple_of"].maybe(_At.count),
    )


def _vocabulary(at: _At) -> ModelRef | Literal["union", "base"]:
    return at.value if at.value in ("union", "base") else _model(at)


def _token(at: _At) -> Token:
    said = at.table(("source", "force"))
    force, source = said["force"].maybe(lambda at: at.be(bool)) or False, said["source"]
    if not isinstance(source.value, dict) or "kind" not in source.value:
        return Token(source.maybe(_model), force=force)
    found = source.table(("kind", "model", "token", "token_id"))
    if found["kind"].word(("zero", "model_token")) == "zero":
        return Token("zero", force=force)
    token, number = found["token"].maybe(_At.text), found["token_id"].maybe(_At.count)
    if (token is None) == (number is None):
        raise source.wrong("one of `token` and `token_id` is needed, and only one")
    return Token(_model(found["model"]), number if token is None else token, force)


def _settings(at: _At, method: str) -> Settings:
    kinds = {parameter.name: parameter.kind for parameter in KNOWN[method].parameters}
    said = at.maybe(_At.entries) or {}
    # Another method's parameter is no mistake: files keep them when their method changes, and mergekit lets them be.
    for name in said.keys() - _PARAMETERS:
        raise at.wrong(f"unknown parameter {name!r}{nearest(name, kinds)}", hint=f"{method} takes {_listed(kinds)}")
    return {name: _rules(value, kinds.get(name)) for name, value in said.items()}


def _rules(at: _At, kind: Kind | None) -> tuple[Rule, ...]:
    if isinstance(at.value, dict):
        return (_rule(at, kind),)
    if isinstance(at.value, list) and any(isinstance(item, dict) for item in at.value):
        return tuple(_rule(item, kind) for item in at.items())
    return (Rule("*", _gradient(at, kind)),)


def _rule(at: _At, kind: Kind | None) -> Rule:
    said = at.table(("filter", "value"))
    chosen = said["filter"].maybe(lambda at: at.be(str))
    return Rule("*" if chosen is None else chosen, _gradient(said["value"], kind))


def _gradient(at: _At, kind: Kind | None) -> tuple[Scalar, ...]:
    return tuple(_scalar(item, kind) for item in (at.items() if isinstance(at.value, list) else [at]))


def _scalar(at: _At, kind: Kind | None) -> Scalar:
    if type(at.value) not in (bool, int, float, str):
        raise at.wrong(f"expected a value, found {_CALLED.get(type(at.value), type(at.value).__name__)}")
    try:
        return at.value if kind is None else _READ[kind](at.value)
    except (ValueError, LookupError, OverflowError) as error:
        raise at.wrong(f"not {_CALLED[_KINDS[kind or 'float']]}") from error


# What mergekit takes for a number or a truth is wide, and YAML reads `1e-5` as a text.
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
_READ: dict[Kind, Callable[[Scalar], bool | int | float]] = {"bool": _bool, "int": _int, "float": _float}
_KINDS: dict[Kind, type[Any]] = {"bool": bool, "int": int, "float": float}

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
from typing import Literal, TypeVar

import yaml

from souq.errors import UsageError, nearest
from souq.yaml_text import Place, compose_all

T = TypeVar("T")
Scalar = bool | int | float | str
Value = bool | int | float | None
Kind = Literal["bool", "int", "float"]

MAX_TEXT = 1 << 20  # characters of YAML
MAX_NODES = 1 << 18  # after aliases
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
# `embed_slerp` is of 2023's mergekit; 0.1.5 reads past it and merges embeddings by the method itself, as here.
_PARAMETERS = {parameter.name for contract in KNOWN.values() for parameter in contract.parameters} | {"embed_slerp"}
_SEED = "random_seed is not used: chance comes from the models themselves, so that a merge is the same for everybody"
_OTHER_PROGRAMS = {  # a key that only another program's file has -> what that makes, and the way here
    "experts": (
        "this is a file of mergekit-moe, which makes a mixture of whole models; `souq merge` makes one network",
        "`souq train ROWS --expert 20-29` adds an expert to a repository's model; or make the mixture with "
        "mergekit-moe, and begin from it: `souq init NAME --from FOLDER`",
    ),
    "gate_mode": ("this is a file of mergekit-moe", "name its `experts:`, and make the mixture with mergekit-moe"),
    "genome": (
        "this is a file of mergekit-evolve, which searches for a merge",
        "write the merge it settled on, with `merge_method:`",
    ),
}


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
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model whose tensors are read, in the order they were written; the base last if it is no input."""
        listed = [source.model for part in self.slices for source in part.sources]
        return tuple(dict.fromkeys([*listed, *([self.base_model] if self.base_model else [])]))

    def paths(self) -> set[str]:
        """Everything named as a model, were it only for its tokens."""
        tokenizer = self.tokenizer or Tokenizer()
        tokens = [tokenizer.source, *(token.source for token in tokenizer.tokens.values())]
        return {model.path for model in [*self.models, *tokens] if isinstance(model, ModelRef)}


# --- reading -----------------------------------------------------------------------------------------------------


def parse_config(text: str) -> list[MergeConfig]:
    """The merges of a file, each after those whose results it uses by name.

    Raises:
        UsageError: not YAML, out of bounds, or a key, method, parameter or type that mergekit does not have.
        Hostile: a text that would steer the terminal it is shown on.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"more than {MAX_TEXT} characters of YAML")
    documents = compose_all(text, nodes=MAX_NODES)
    if not documents:
        raise UsageError("no merge in this file", hint="it starts with `merge_method:`")
    if len(documents) == 1:
        return [_config(_At(documents[0].node, path="config"))]
    return _in_order([_config(_At(one.node, path=f"config {i}")) for i, one in enumerate(documents, 1)])


def _in_order(configs: list[MergeConfig]) -> list[MergeConfig]:
    """Each merge after those it uses, the last the one that is written: that without a name, else that which no other
    uses; what is not part of it is left out, and said."""
    named = {config.name: config for config in configs}
    if len(named) < len(configs):
        raise UsageError("two merges have the same name, or two have none", hint="give each its own `name:`")
    uses = {name: [path for path in config.paths() if path in named] for name, config in named.items()}
    try:
        order = list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        raise UsageError(f"merges wait for each other: {' -> '.join(map(str, error.args[1]))}") from error
    used = {name for names in uses.values() for name in names}
    last = None if None in named else [config.name for config in configs if config.name not in used][-1]
    wanted = {last}
    for name in reversed(order):
        wanted |= set(uses[name]) if name in wanted else set()
    aside = [
        f"the merge {name} is not part of {last or 'the last'}, and is not made" for name in order if name not in wanted
    ]
    made = [named[name] for name in order if name in wanted and name != last]
    return [*made, replace(named[last], notes=(*named[last].notes, *aside))]


_CALLED = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "null": "nothing"}
_CALLED |= {"seq": "a list", "map": "a table of keys"}


class _At(Place):
    """A value of the file, read as what it must be, or refused with its path."""

    __slots__ = ()

    @property
    def kind(self) -> str:
        """YAML's word for what stands here."""
        return str(self.node.tag).removeprefix("tag:yaml.org,2002:")

    @property
    def empty(self) -> bool:
        return self.kind == "null" or not self.node.value

    def expect(self, kind: str) -> None:
        if self.kind != kind:
            raise self.wrong(f"expected {_CALLED[kind]}, found {_CALLED.get(self.kind, self.kind)}")

    def items(self) -> list[_At]:
        self.expect("seq")
        return [self.at(item, f"[{i}]") for i, item in enumerate(self.node.value)]

    def entries(self) -> dict[str, _At]:
        self.expect("map")
        pairs = self.pairs()
        for name, _ in pairs:
            name.expect("str")
        return {name.node.value: value for name, value in pairs}  # of two with one name the last, as mergekit does

    def table(self, known: Iterable[str]) -> dict[str, _At]:
        """Every known key; nothing stands at those that were not written."""
        written = self.entries()
        for key in written:
            if key not in known:
                raise self.wrong(f"unknown key {key!r}{nearest(key, known)}", hint=f"known: {_listed(known)}")
        nothing = yaml.ScalarNode("tag:yaml.org,2002:null", "", start_mark=self.node.start_mark)
        return {key: written.get(key) or self.at(nothing, f".{key}") for key in known}

    def text(self) -> str:
        self.expect("str")
        if not self.node.value:
            raise self.wrong("an empty text")
        return str(self.node.value)

    def word(self, known: Iterable[str], *, drop: str = "") -> str:
        """One of some words, without what may stand before it."""
        if (word := self.text().removeprefix(drop)) not in known:
            raise self.wrong(f"unknown {word!r}{nearest(word, known)}", hint=f"known: {_listed(known)}")
        return word

    def count(self) -> int:
        self.expect("int")
        if not 0 <= (count := int(self.value)) < 1 << 31:
            raise self.wrong("out of bounds")
        return count

    def truth(self) -> bool:
        self.expect("bool")
        return bool(self.value)

    def maybe(self, read: Callable[[_At], T]) -> T | None:
        return None if self.kind == "null" else read(self)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


_BODY = ("models", "slices", "parameters")
_TOP = ("name", "out_path", "merge_method", "modules", *_BODY, "base_model", "dtype", "out_dtype", "random_seed")
_WORDS = ("tokenizer", "tokenizer_source", "chat_template")


def _config(at: _At) -> MergeConfig:
    if at.kind == "map":
        for key in (key for key in _OTHER_PROGRAMS if key in at.entries()):
            what, way = _OTHER_PROGRAMS[key]
            raise at.wrong(what, hint=way)
    top = at.table(_TOP + _WORDS)
    if top["merge_method"].value in (*NOT_MERGED,):
        why, instead = NOT_MERGED[top["merge_method"].value]
        raise top["merge_method"].wrong(why, hint=instead)
    method = top["merge_method"].word(KNOWN)
    base = top["base_model"].maybe(_model)
    body = top if top["modules"].empty else _only_module(top)
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
        name=top["name"].maybe(_At.text) or top["out_path"].maybe(_At.text),
        notes=(_SEED,) if top["random_seed"].maybe(_At.count) is not None else (),
    )
    if len(config.models) > MAX_MODELS:
        raise at.wrong(f"more than {MAX_MODELS} models")
    return config


def _only_module(top: dict[str, _At]) -> dict[str, _At]:
    if not (top["models"].empty and top["slices"].empty):
        raise top["modules"].wrong("they stand beside `models` or `slices`", hint="keep one of them")
    modules = top["modules"].entries()
    if len(modules) != 1:
        raise top["modules"].wrong(f"{len(modules)} of them; we merge models of one", hint="merge them one by one")
    return modules.popitem()[1].table(_BODY)


def _slices(at: _At, body: dict[str, _At], base: ModelRef | None, method: str) -> tuple[Slice, ...]:
    if body["models"].empty == body["slices"].empty:
        raise at.wrong("one of `models` and `slices` is needed, and only one")
    if not body["slices"].empty:
        if len(slices := body["slices"].items()) > MAX_SLICES:
            raise body["slices"].wrong(f"more than {MAX_SLICES}")
        return tuple(_slice(item, method) for item in slices)
    sources = tuple(_source(item.table(("model", "parameters")), method) for item in body["models"].items())
    if base and all(source.model != base for source in sources):
        sources += (Source(base, {}),)
    return (Slice(sources),)


def _slice(at: _At, method: str) -> Slice:
    table = at.table(("sources", "base_model", "residual_weight", "residual_scale", "parameters"))
    if not (sources := table["sources"].items()):
        raise table["sources"].wrong("no model in it")
    return Slice(
        tuple(_source(item.table(("model", "layer_range", "parameters")), method) for item in sources),
        base_model=table["base_model"].maybe(_model),
        residual_weight=table["residual_weight"].maybe(lambda at: float(_scalar(at, "float"))),
        residual_scale=table["residual_scale"].maybe(lambda at: float(_scalar(at, "float"))),
        parameters=_settings(table["parameters"], method),
    )


def _source(table: dict[str, _At], method: str) -> Source:
    layers = _range(table["layer_range"]) if "layer_range" in table else (0, ALL)
    return Source(_model(table["model"]), _settings(table["parameters"], method), layers)


def _range(at: _At) -> tuple[int, int]:
    ends = [end.count() for end in at.items()]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise at.wrong("not [first, last + 1]", hint="`layer_range: [0, 8]` takes layers 0 to 7")
    return ends[0], ends[1]


def _model(at: _At) -> ModelRef:
    if at.kind == "map":
        table = at.table(("model", "lora", "override_architecture"))
        lora, architecture = table["lora"].maybe(_path), table["override_architecture"].maybe(_At.text)
        return replace(_path(table["model"]), lora=lora, override_architecture=architecture)
    model, *adapters = at.text().split("+")
    if len(adapters) > 1:
        raise at.wrong(f"{at.text()!r} names more than one adapter", hint="write `model+lora`")
    return replace(_revision(at, model), lora=_revision(at, adapters[0]) if adapters else None)


def _path(at: _At) -> ModelRef:
    if at.kind == "map":
        table = at.table(("path", "revision"))
        return ModelRef(table["path"].text(), table["revision"].maybe(_At.text))
    return _revision(at, at.text())


def _revision(at: _At, text: str) -> ModelRef:
    path, *revision = text.split("@")
    if len(revision) > 1 or not path:
        raise at.wrong(f"{text!r} is not a model", hint="write `path` or `path@revision`")
    return ModelRef(path, revision[0] or None if revision else None)


def _dtype(at: _At) -> str:
    return at.word(DTYPES, drop="torch.")


def _tokenizer(top: dict[str, _At]) -> Tokenizer | None:
    old, new = top["tokenizer_source"], top["tokenizer"]
    if not (old.empty or new.empty):
        raise new.wrong("it stands beside `tokenizer_source`", hint="keep `tokenizer`")
    if new.kind == "null":
        return old.maybe(lambda at: Tokenizer(_vocabulary(at)))
    table = new.table(("source", "tokens", "pad_to_multiple_of"))
    tokens = table["tokens"].maybe(_At.entries) or {}
    return Tokenizer(
        table["source"].maybe(_vocabulary) or "union",
        {token: _token(at) for token, at in tokens.items()},
        table["pad_to_multiple_of"].maybe(_At.count),
    )


def _vocabulary(at: _At) -> ModelRef | Literal["union", "base"]:
    return at.node.value if at.node.value in ("union", "base") else _model(at)


def _token(at: _At) -> Token:
    outer = at.table(("source", "force"))
    force, source = outer["force"].maybe(_At.truth) or False, outer["source"]
    if source.kind != "map" or "kind" not in source.entries():
        return Token(source.maybe(_model), force=force)
    table = source.table(("kind", "model", "token", "token_id"))
    if table["kind"].word(("zero", "model_token")) == "zero":
        return Token("zero", force=force)
    token, number = table["token"].maybe(_At.text), table["token_id"].maybe(_At.count)
    if (token is None) == (number is None):
        raise source.wrong("one of `token` and `token_id` is needed, and only one")
    return Token(_model(table["model"]), number if token is None else token, force)


def _settings(at: _At, method: str) -> Settings:
    kinds = {parameter.name: parameter.kind for parameter in KNOWN[method].parameters}
    entries = at.maybe(_At.entries) or {}
    # Another method's parameter is no mistake: files keep them when their method changes, and mergekit lets them be.
    for name in (name for name in entries if name not in _PARAMETERS):
        raise at.wrong(f"unknown parameter {name!r}{nearest(name, kinds)}", hint=f"{method} takes {_listed(kinds)}")
    return {name: _rules(value, kinds.get(name)) for name, value in entries.items()}


def _rules(at: _At, kind: Kind | None) -> tuple[Rule, ...]:
    if at.kind == "map":
        return (_rule(at, kind),)
    if at.kind == "seq" and any(item.kind == "map" for item in at.items()):
        return tuple(_rule(item, kind) for item in at.items())
    return (Rule("*", _gradient(at, kind)),)


def _rule(at: _At, kind: Kind | None) -> Rule:
    table = at.table(("filter", "value"))
    part = table["filter"]
    if part.kind == "null":
        return Rule("*", _gradient(table["value"], kind))
    part.expect("str")
    return Rule(str(part.node.value), _gradient(table["value"], kind))


def _gradient(at: _At, kind: Kind | None) -> tuple[Scalar, ...]:
    return tuple(_scalar(item, kind) for item in (at.items() if at.kind == "seq" else [at]))


def _scalar(at: _At, kind: Kind | None) -> Scalar:
    if at.kind not in ("bool", "int", "float", "str"):
        raise at.wrong(f"expected a value, found {_CALLED.get(at.kind, at.kind)}")
    value: Scalar = at.value
    try:
        return value if kind is None else _READ[kind](value)
    except (ValueError, LookupError, OverflowError) as error:
        raise at.wrong(f"not {_CALLED[kind or 'float']}") from error


# What mergekit takes for a number or a truth is wide, and YAML reads `1e-5` as a text.
def _float(value: Scalar) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number


def _int(value: Scalar) -> int:
    if (number := _float(value)) != int(number):
        raise ValueError(value)
    return int(number)


def _bool(value: Scalar) -> bool:
    return _BOOLS[value.lower() if isinstance(value, str) else str(_int(value))]


_BOOLS = dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True)
_BOOLS |= dict.fromkeys(("false", "f", "no", "n", "off", "0"), False)
_READ: dict[Kind, Callable[[Scalar], bool | int | float]] = {"bool": _bool, "int": _int, "float": _float}

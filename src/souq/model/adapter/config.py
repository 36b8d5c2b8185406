"""adapter_config.json, read by an allow-list: what PEFT's keys mean, and which of them souq cannot follow.

A key that is not known and says something may change what an adapter means, so it is refused by name; everything
that is wrong is listed at once. Nothing of the file is ever imported, opened or run.

    config = read_config(Path("adapter/adapter_config.json"))
    config.tuner, config.scale("model.layers.0.self_attn.q_proj", rank=8)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from souq.errors import Hostile, UsageError, nearest
from souq.model.source import parse_json, read_small

MERGED = "`souq delta make --merged` has PEFT merge it and offers the whole difference"
CONVERT = (
    'save it as a plain LoRA: `model.save_pretrained("converted", path_initial_model_for_weight_conversion="initial")`,'
    " where `initial` is the adapter as saved before training; or merge it where it was trained, "
    "`model.merge_and_unload().save_pretrained(…)`, and give that folder to --from"
)
MOST_PATTERNS = 4_096
LONGEST_PATTERN = 1_000  # characters
MOST_MATCHES = 2_000_000  # modules times patterns
_MEMORY = 1 << 18  # bytes RE2 may take for a pattern

# What a LoRA's configuration may say. These change nothing about the numbers that are in the file beside it.
_SILENT = frozenset({
    "peft_type", "task_type", "peft_version", "inference_mode", "auto_mapping", "revision", "base_model_name_or_path",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "modules_to_save",
    "megatron_core", "eva_config", "corda_config", "lora_ga_config", "loftq_config", "runtime_config", "velora_config",
    "qalora_group_size", "merge_weights", "lora_nums", "version",
})  # fmt: skip
_READ: dict[str, Callable[[Any], bool]] = {  # key -> what its value may be
    "r": lambda value: type(value) is int and 0 <= value <= 1 << 20,
    "lora_alpha": lambda value: _number(value),
    "use_rslora": lambda value: isinstance(value, bool),
    "use_dora": lambda value: isinstance(value, bool),
    "lora_bias": lambda value: isinstance(value, bool),
    "fan_in_fan_out": lambda value: isinstance(value, bool),
    "ensure_weight_tying": lambda value: isinstance(value, bool),
    "bias": lambda value: value in ("none", "all", "lora_only"),
    "rank_pattern": lambda value: _table(value, _whole),
    "alpha_pattern": lambda value: _table(value, _number),
    "trainable_token_indices": lambda value: _token_lists(value),
    "init_lora_weights": lambda value: isinstance(value, bool | str),
    "layer_replication": lambda value: _ranges(value),
    "target_parameters": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "use_bdlora": lambda value: isinstance(value, dict | bool),
    "monteclora_config": lambda value: isinstance(value, dict),
    "kasa_config": lambda value: isinstance(value, dict),
    "modules_to_save": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "base_model_name_or_path": lambda value: isinstance(value, str),
}
_BY_PEFT = frozenset({"use_bdlora", "kasa_config"})
"""Keys of a LoRA whose numbers only PEFT puts together."""
_NEVER = {  # key -> why no checkpoint can hold it, and what to do
    "alora_invocation_tokens": (
        "acts only after its invocation tokens (aLoRA), and no weights say that",
        "train it as a LoRA, without alora_invocation_tokens",
    ),
    "use_qalora": ("pools its inputs as GPTQ groups them (QALoRA)", "train it as a LoRA on the base in 16 bits"),
    "megatron_config": ("is split as Megatron splits layers", "save it through PEFT without Megatron"),
    "arrow_config": ("routes each token among adapters (Arrow)", "offer the adapters it routes among one by one"),
    "monteclora_config": ("draws its weights at random (MonteCLoRA)", "train it without monteclora_config"),
    "enable_lora": ("packs several maps into one (enable_lora of PEFT 0.2)", "save it with a newer PEFT"),
}
_STARTS = ("gaussian", "eva", "orthogonal", "mica", "true", "false")  # these leave the base as it is
_REWRITES = ("pissa", "olora", "corda", "loftq", "lora_ga")  # these take the adapter's beginning out of the base

_INPUTS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE")
NO_WEIGHTS = {  # tuners of which no checkpoint of the base can hold anything -> why
    **dict.fromkeys(_INPUTS, "learns an input, and has no weights to merge"),
    "ADAPTION_PROMPT": "adds attention to a learned input, and has no weights to merge",
    "XLORA": "weighs several LoRAs anew for each token, which no weights can say",
    "POLY": "mixes its skills by the task at hand, which no weights can say",
    "LILY": "mixes shared factors anew for each token, which no weights can say",
    "SHADOW": "runs a second, smaller model beside the base, which no weights can say",
}


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter's configuration says, judged; `tuner` is PEFT's name of its kind."""

    values: Mapping[str, Any]
    tuner: str
    needs_peft: tuple[str, ...] = ()  # why its numbers cannot be read without PEFT

    @property
    def base(self) -> str:
        """The base it says it was trained on, by hub id or path; may be empty."""
        return str(self.values.get("base_model_name_or_path") or "")

    @property
    def dora(self) -> bool:
        return bool(self.values.get("use_dora"))

    @property
    def tokens(self) -> dict[str, list[int]]:
        """Module -> the tokens whose rows it replaces; the input's table is called ""."""
        value = self.values.get("trainable_token_indices") or {}
        return {"": value} if isinstance(value, list) else dict(value)

    @property
    def repeats(self) -> tuple[tuple[int, int], ...]:
        """The runs of the base's layers that its model is made of; empty where it is as deep as its base."""
        return tuple((first, end) for first, end in self.values.get("layer_replication") or ())

    def scale(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / sqrt(r) for rsLoRA; the first pattern that matches wins over the default, as in PEFT.

        Raises:
            UsageError: no lora_alpha.
            Hostile: the factors have another rank than the configuration says, or none.
        """
        if rank < 1:
            raise Hostile(
                f"the factors of {module} have rank 0, which changes nothing", hint="was its training cut short?"
            )
        alpha = _first_match(self.values.get("alpha_pattern"), module, self.values.get("lora_alpha"))
        if alpha is None:
            raise UsageError("adapter_config.json has no lora_alpha", hint="was it written by PEFT?")
        named = _first_match(self.values.get("rank_pattern"), module, self.values.get("r"))
        if named is not None and named != rank:
            raise Hostile(
                f"adapter_config.json says rank {named} for {module}, whose factors have {rank}",
                hint="do the two files belong together?",
            )
        return float(alpha / (math.sqrt(rank) if self.values.get("use_rslora") else rank))


def needs_svd(config: AdapterConfig) -> bool:
    """Whether a part of it is not in its file, and is computed anew from the base's singular vectors."""
    return config.tuner in _SINGULAR or bool(config.values.get("kasa_config"))


_SINGULAR = ("ADAMSS", "FROD", "OSF", "PSOFT", "TINYLORA")


def read_config(path: Path) -> AdapterConfig:
    """PEFT's adapter_config.json, judged whole.

    Raises:
        Hostile: it says what souq does not know or cannot follow; all of it is listed.
    """
    values = parse_json(read_small(path), path.name)
    if not isinstance(values, dict) or not isinstance(values.get("peft_type"), str):
        raise Hostile(f"{path.name} names no peft_type", hint="name the folder PEFT's save_pretrained wrote")
    tuner = values["peft_type"].upper()
    if tuner in NO_WEIGHTS:
        raise Hostile(
            f"an adapter of kind {tuner} {NO_WEIGHTS[tuner]}", hint="train a LoRA on the same rows: `souq train ROWS`"
        )
    wrong = list(_wrong(values) if tuner == "LORA" else _wrong_starts(values))
    if wrong:
        hints = dict.fromkeys(hint for _, hint in wrong if hint)
        raise Hostile(f"the adapter {'; '.join(reason for reason, _ in wrong)}", hint="; ".join(hints))
    if tuner != "LORA":
        return AdapterConfig(values, tuner, (f"it is of kind {tuner}",))
    asks = tuple(f"it has {key}" for key in sorted(_BY_PEFT) if values.get(key))
    return AdapterConfig(values, tuner, asks)


def _wrong(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """All that is wrong with a LoRA's configuration, each with what to do about it."""
    for key, value in values.items():
        if key in _NEVER and value:
            yield f"{_NEVER[key][0]} ({key})", _NEVER[key][1]
        elif key == "init_lora_weights" and isinstance(value, str):
            yield from _wrong_start(value)
        elif key in _READ and value is not None and not _READ[key](value):
            yield f"says {key} = {_short(value)}, which is no value of it", "was it written by PEFT?"
        elif key not in _READ and key not in _SILENT and key not in _NEVER and not _empty(value):
            guess = nearest(key, [*_READ, *_SILENT])
            yield f"says {key[:60]!r} = {_short(value)}, which souq does not know{guess}", UNKNOWN
    for key in ("rank_pattern", "alpha_pattern"):
        if _READ[key](values.get(key) or {}):
            yield from _wrong_patterns(key, values.get(key) or {})


UNKNOWN = "it may change what the adapter means: merge it where it was trained, and give the merged folder to --from"


def _wrong_starts(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Of another tuner only that it must not have begun by changing its base; the rest is PEFT's to judge."""
    for key, value in values.items():
        if key.startswith("init_") and isinstance(value, str) and value.lower().startswith(_REWRITES):
            yield from _wrong_start(value)


def _wrong_start(value: str) -> Iterable[tuple[str, str]]:
    start = value.lower()
    if start.startswith(_REWRITES):
        yield f"began by changing its base (init_lora_weights = {value[:40]!r}), and belongs to that", CONVERT
    elif start not in _STARTS:
        yield f"says init_lora_weights = {value[:40]!r}, which souq does not know", UNKNOWN


NAME_THEM = "name the modules in it one by one"


def _wrong_patterns(key: str, table: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if len(table) > MOST_PATTERNS:
        yield f"has {len(table):,} patterns in {key}; the most is {MOST_PATTERNS:,}", NAME_THEM
        return
    bad = [pattern for pattern in table if len(pattern) > LONGEST_PATTERN or _compiled(pattern) is None]
    if bad:
        shown = ", ".join(repr(pattern[:60]) for pattern in bad[:3])
        yield f"has {len(bad)} patterns in {key} that RE2 does not take ({shown})", NAME_THEM


@lru_cache(maxsize=2 * MOST_PATTERNS)
def _compiled(pattern: str) -> Any:
    """A pattern as PEFT matches it: at the end of a module's name, at a dot. None where RE2 does not take it.

    RE2 reads in time proportional to the name, so that a pattern cannot keep anybody busy.
    """
    import re2

    options = re2.Options()
    options.max_mem, options.log_errors = _MEMORY, False
    try:
        return re2.compile(rf"(.*\.)?({pattern})$", options)
    except re2.error:
        return None


def _first_match(table: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    return next((value for pattern, value in (table or {}).items() if _compiled(pattern).match(module)), default)


def explicit(values: Mapping[str, Any], modules: Collection[str]) -> dict[str, Any]:
    """A configuration for PEFT, whose own patterns are Python's and may go back and forth for ever, on given modules.

    A pattern of modules becomes the list of those that it matches; what is left has little to go back over.

    Raises:
        Hostile: a pattern RE2 does not take, or that Python could not be trusted with.
    """
    made, wild = dict(values), list[str]()
    for key in ("target_modules", "exclude_modules", "feedforward_modules"):
        text = made.get(key)
        if isinstance(text, str) and text != "all-linear":
            matcher = None if len(text) > MOST_PATTERNS else _compiled(f"(?:{text})")
            if matcher is None:
                wild.append(text)
            else:
                made[key] = [name for name in modules if matcher.fullmatch(name)] or [text]
    for key in values:
        if key.endswith("_pattern") or key in ("modules_to_save", "target_modules", "layers_pattern"):
            texts = [made[key]] if isinstance(made[key], str) else made[key] or ()
            wild += [str(text) for text in texts if not _tame(str(text))]
    if wild:
        shown = ", ".join(repr(text[:60]) for text in wild[:3])
        raise Hostile(f"adapter_config.json has patterns souq does not hand on: {shown}", hint=NAME_THEM)
    return made


def _tame(pattern: str) -> bool:
    """Whether Python matches it in bearable time: short, few repetitions, none of a group."""
    return len(pattern) <= 200 and len(re.findall(r"[*+{]", pattern)) <= 3 and not re.search(r"\)[*+{]", pattern)


def bounded_patterns(config: AdapterConfig, modules: int) -> None:
    """That a table of patterns is looked through for every module in bearable time.

    Raises:
        Hostile: too many modules times patterns.
    """
    patterns = sum(len(config.values.get(key) or {}) for key in ("rank_pattern", "alpha_pattern"))
    if patterns * modules > MOST_MATCHES:
        raise Hostile(f"{patterns:,} patterns for {modules:,} modules", hint="write one pattern for several modules")


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def _table(value: Any, item: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(item(entry) for entry in value.values())


def _token_lists(value: Any) -> bool:
    lists = value.values() if isinstance(value, dict) else [value]
    return all(isinstance(item, list) and all(type(token) is int and token >= 0 for token in item) for item in lists)


def _ranges(value: Any) -> bool:
    pairs = (
        isinstance(value, list)
        and len(value) <= 1_000
        and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    )
    return pairs and all(type(end) is int and 0 <= end <= 1 << 16 for pair in value for end in pair)


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"

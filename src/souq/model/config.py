"""The configurations that come with a model: known keys of known kinds, within bounds, before any of them is used.

Every file is read strictly and every key must be one that config.toml lists, since transformers sets whatever it finds
and some of it fetches code. The chat templates inside are read and rendered by chat_template.py. `souq init` puts the
files into main's first commit, and no contribution can change them but by what it adds (merge/grow.py).

    admit({"config.json": b'{"model_type": "llama", "auto_map": {}}'})  # Hostile: asks to run code
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files as resources
from typing import Any

from souq.errors import Hostile, nearest
from souq.model.chat_template import Approved, approve
from souq.records import nesting, read_json, refuse_control, walk

MODEL_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip
SIZES = {
    "config.json": 256 << 10, "generation_config.json": 64 << 10, "special_tokens_map.json": 1 << 20,
    "chat_template.jinja": 64 << 10,
}  # fmt: skip
MAX_FILE, MAX_NESTING, MAX_KEYS, MAX_TEXT, MAX_TOKEN = 64 << 20, 12, 4096, 4096, 32
LISTS = {
    "generation_config.json": "generation", "tokenizer_config.json": "tokenizer", "tokenizer.json": "tokenizer_json",
    "config.json": "config",
}  # fmt: skip
CODE = re.compile(
    r"auto_map|trust_remote_code|code_revision|custom_generate|custom_pipelines?|quantization_config|"
    r"_?attn_implementation|_?experts_implementation|\w*import\w*"
)
DTYPES = ("float32", "float16", "bfloat16", "auto")
_CLASS = re.compile(r"[A-Z]\w{0,60}(?:Tokenizer|TokenizerFast|Backend)")
_LAYER = re.compile(r"model\.layers\.(\d+)\..+")


@cache
def allowed() -> dict[str, Any]:
    """The known kinds, keys and bounds: config.toml."""
    return tomllib.loads(resources("souq.model").joinpath("config.toml").read_text())


def admit(files: Mapping[str, bytes]) -> None:
    """A model's files, but for its chat template, judged.

    Raises:
        Hostile: a file, a key or a number that no model needs; code.
    """
    objects = _objects(files)
    for name, data in files.items():
        if name not in MODEL_FILES:
            raise Hostile(f"{name[:80]!r} is no file of a model", hint=f"known are {', '.join(MODEL_FILES)}")
        if len(data) > SIZES.get(name, MAX_FILE):
            raise Hostile(f"{name} has {len(data):,} bytes; the most is {SIZES.get(name, MAX_FILE):,}")
    for name, value in objects.items():
        _judge(name, value)


def _objects(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {name: _read(name, data) for name, data in files.items() if name.endswith(".json")}


def _read(name: str, data: bytes) -> dict[str, Any]:
    if len(data) > SIZES.get(name, MAX_FILE):
        raise Hostile(f"{name} has {len(data):,} bytes; the most is {SIZES.get(name, MAX_FILE):,}")
    try:
        value = read_json(data)
    except Hostile as error:
        raise Hostile(f"{name}: {error}") from error
    if not isinstance(value, dict):
        raise Hostile(f"{name} is not a JSON object")
    if nesting(value) > MAX_NESTING:
        raise Hostile(f"{name} is nested deeper than {MAX_NESTING}")
    return value


def _judge(name: str, value: dict[str, Any]) -> None:
    if name == "config.json" and (kind := value.get("model_type")) not in allowed()["kinds"]:
        raise Hostile(
            f"config.json names no model_type souq knows: {str(kind)[:40]!r}{nearest(str(kind), allowed()['kinds'])}",
            hint=f"known are {', '.join(allowed()['kinds'])}",
        )
    words = name in ("tokenizer.json", "vocab.json", "added_tokens.json")  # whose keys are what people write
    for key in (key for key, _ in walk(value) if CODE.fullmatch(key) and not words):
        raise Hostile(f"{name} asks to run code that comes with the model ({key[:60]})", hint="souq never runs it")
    if (known := allowed().get(LISTS.get(name, ""))) is not None:
        for key in (key for key in value if key not in known):
            raise Hostile(
                f"{name} has a key souq does not know: {key[:60]!r}{nearest(key, known)}", hint=f"take it out of {name}"
            )
    if name in ("config.json", "generation_config.json"):
        _bounded(name, value)
    if name == "tokenizer_config.json" and not _CLASS.fullmatch(str(value.get("tokenizer_class") or "XTokenizer")):
        raise Hostile(f"{name}: tokenizer_class is {str(value['tokenizer_class'])[:60]!r}, no name of a tokenizer")


def _bounded(name: str, config: dict[str, Any]) -> None:
    """No number that would fill a machine before the first tensor is read, no text that is more than a name."""
    values = list(walk(config))
    if len(values) > MAX_KEYS:
        raise Hostile(f"{name} holds more than {MAX_KEYS:,} values")
    refuse_control(config, where=name)
    most: dict[str, int] = allowed()["most"]
    for key, value in values:
        if isinstance(value, str) and (len(value) > MAX_TEXT or "://" in value):
            raise Hostile(f"{name} holds a text that is no setting: {value[:60]!r}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Compared first: a whole number may be too large to be asked whether it is finite.
            if not abs(value) <= most.get(key, most["other"]):  # nor is NaN
                raise Hostile(f"{name}: {key} is {value}; the most is {most.get(key, most['other']):,}")
            if key in most and value < 0:
                raise Hostile(f"{name}: {key} is {value}, less than nothing")
    for key in ("dtype", "torch_dtype"):
        if config.get(key) not in (None, *DTYPES):
            raise Hostile(f"{name}: {key} is {str(config[key])[:40]!r}, none of {', '.join(DTYPES)}")


def fits(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """What a configuration says of its size is what the weights are.

    Raises:
        Hostile: it speaks of another vocabulary, width or number of layers.
    """
    embed = shapes.get("model.embed_tokens.weight")
    sizes = (config.get("vocab_size"), config.get("hidden_size"))
    if embed is not None and sizes != embed:
        raise Hostile(
            f"config.json says vocab_size {sizes[0]}, hidden_size {sizes[1]}; the embedding is {embed[0]} x {embed[-1]}"
        )
    layers = {int(match[1]) for name in shapes if (match := _LAYER.fullmatch(name))}
    if layers and config.get("num_hidden_layers") != max(layers) + 1:
        raise Hostile(f"config.json says {config.get('num_hidden_layers')} layers; the weights have {max(layers) + 1}")


# -- chat templates ----------------------------------------------------------------------------------------------------


def approved(files: Mapping[str, bytes]) -> Approved | None:
    """The chat template that transformers takes, once each among a model's files was judged; None where there is none.

    It is asked where a model begins to be used: by `souq init`, and by the lab before it loads somebody's folder.

    Raises:
        Hostile: a template that does more than write the conversation down.
    """
    objects = _objects(files)
    named = [objects.get(name, {}) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    special = [text for tokens in named for text in _specials(tokens)]
    added = _added(objects.get("tokenizer.json", {}))
    special += [str(token.get("content")) for token in added if token.get("special")]
    special = [token for token in special if len(token) <= MAX_TOKEN and not re.search(r"\s", token)]  # no sentence
    templates = [approve(text, special) for text in chat_templates(files, objects)]
    return templates[0] if templates else None


def _added(tokenizer: Mapping[str, Any]) -> list[dict[str, Any]]:
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise Hostile("tokenizer.json: added_tokens is no list of tokens")
    return added


def _specials(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            yield text


def chat_templates(files: Mapping[str, bytes], objects: Mapping[str, Any]) -> Iterator[str]:
    """A model's chat templates: that beside the tokenizer first, which transformers prefers; then its configuration's.

    Raises:
        Hostile: a template that is no text.
    """
    if "chat_template.jinja" in files:
        try:
            yield files["chat_template.jinja"].decode()
        except UnicodeDecodeError as error:
            raise Hostile("chat_template.jinja is not UTF-8 text") from error
    inside = objects.get("tokenizer_config.json", {}).get("chat_template")
    for entry in inside if isinstance(inside, list) else [inside] if inside is not None else []:
        text = entry.get("template") if isinstance(entry, dict) else entry
        if not isinstance(text, str):
            raise Hostile("tokenizer_config.json: chat_template is no text")
        yield text

"""The configurations that come with a model: judged once, and taken from an owner where a stranger is refused.

Every file is read strictly. What a stranger brings may hold only what kinds.toml and config.toml list, since
transformers sets whatever it finds and some of it fetches code. An owner's files are refused for what is dangerous:
code that only comes with the model, sizes no machine has. What is merely unknown is kept, what a published model does
not need (`auto_map` of a kind that transformers has) is left out, and both are said. The chat templates inside are read
and rendered by chat_template.py. `souq init` puts the files into main's first commit, and no contribution can change
them but by what it adds (merge/grow.py).

    admit({"config.json": b'{"model_type": "llama", "auto_map": {}}'})  # Hostile: asks to run code
    look_over({"config.json": b'{"model_type": "llama", "auto_map": {}}'}).notes  # left out: config.json auto_map
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from typing import Any, Literal

from souq.errors import Hostile, nearest
from souq.model.chat_template import Approved, approve
from souq.model.tokenizer import token_text
from souq.records import nesting, read_json, refuse_control, walk
from souq.text import shortlist

MODEL_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    "chat_template.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "preprocessor_config.json",
    "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
SIZES = {
    "config.json": 256 << 10, "generation_config.json": 64 << 10, "special_tokens_map.json": 1 << 20,
    "chat_template.jinja": 64 << 10,
}  # fmt: skip
MAX_FILE, MAX_NESTING, MAX_KEYS, MAX_TEXT, MAX_TOKEN = 64 << 20, 12, 4096, 4096, 32
MAX_SHOWN = 12  # of what is wrong at once
LISTS = {
    "generation_config.json": "generation", "tokenizer_config.json": "tokenizer", "tokenizer.json": "tokenizer_json",
    "config.json": "config",
}  # fmt: skip
CODE = re.compile(
    r"auto_map|trust_remote_code|code_revision|custom_generate|custom_pipelines?|"
    r"_?attn_implementation|_?experts_implementation|transformers_weights|fusion_config|distributed_config|\w*import\w*"
)
KERNELS = re.compile(r"_?(attn|experts)_implementation")  # a word for one of transformers' own, or a hub's repository
PATHS = re.compile(r"\w+_files?|init_inputs")  # of a tokenizer: where its files lay when its author saved it
QUANTISED = ("quantization_config", "compression_config")
SIXTEEN_BITS = "save it in 16 bits first: AutoModelForCausalLM.from_pretrained(…).dequantize(), then save_pretrained"
DTYPES, DOUBLE = ("float32", "float16", "bfloat16", "auto"), "float64"
_CLASS = re.compile(r"[A-Z]\w{0,60}(?:Tokenizer|TokenizerFast|Backend)")
_LAYER = re.compile(r"model\.layers\.(\d+)\..+")
_CONSTANT = re.compile(rb'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)\b')


@cache
def allowed() -> dict[str, Any]:
    """The known kinds, keys and bounds: kinds.toml and config.toml."""
    read = [tomllib.loads(resources("souq.model").joinpath(f"{name}.toml").read_text()) for name in ("kinds", "config")]
    made = read[0] | read[1]
    return made | {"config": [*made["keys"], *made["config"]], "kinds": [*made["causal"], *made["native"]]}


Owners = Literal["refused", "left out", "changed", "kept"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is odd about one of a model's files. A stranger is refused for it; `owners` is what an owner is."""

    file: str
    what: str
    hint: str = ""
    owners: Owners = "refused"
    key: str = ""  # that it is about, dots between inner ones
    why: str = ""  # it is left out
    unknown: bool = False  # a key at a file's top that is on no list; `what` is its name and the nearest known one


@dataclass(frozen=True, slots=True)
class Judged:
    """An owner's files as souq keeps them, and a line each for what was left out, changed, or kept unread."""

    files: dict[str, bytes]
    notes: tuple[str, ...] = ()


def admit(files: Mapping[str, bytes]) -> None:
    """A stranger's files, but for the chat template, judged by what is known.

    Raises:
        Hostile: files, keys or numbers that no model needs; code. The message has all of them.
    """
    objects, findings = _objects(files)
    _refuse([*findings, *_odd(files, objects)])


def look_over(files: Mapping[str, bytes]) -> Judged:
    """An owner's files, but for the chat template, judged by what is dangerous.

    Raises:
        Hostile: code that only comes with the model, or what fills a machine. The message has all of it.
    """
    files, notes = _with_constants(files)
    objects, findings = _objects(files)
    findings += _odd(files, objects)
    _refuse([finding for finding in findings if finding.owners == "refused"])
    kept = dict(files)
    for name in {finding.file: None for finding in findings if finding.owners == "left out"}:
        keys = [finding.key for finding in findings if finding.file == name and finding.owners == "left out"]
        kept[name] = _json(_without(objects[name], keys))
    for name, key in _doubles(objects):
        kept[name] = _json(json.loads(kept[name]) | {key: "float32"})
        notes.append(f"{name}: {key} is written float32, as its float64 tensors are kept")
    return Judged(kept, (*notes, *_notes(findings)))


def settings_in(files: Mapping[str, bytes], name: str = "config.json") -> dict[str, Any]:
    """One of a model's files of settings; empty where it is not there.

    Raises:
        Hostile: it is no JSON object.
    """
    value = read_json(files.get(name, b"{}"))
    if not isinstance(value, dict):
        raise Hostile(f"{name} is no object")
    return value


def quantisation(files: Mapping[str, bytes]) -> str:
    """How a model's weights were packed into fewer bits, by the name its configuration gives it; "" where they are not.

    Raises:
        Hostile: config.json is no JSON object.
    """
    config = _read("config.json", _with_constants(files)[0].get("config.json", b"{}"))
    for key in QUANTISED:
        if isinstance(settings := config.get(key), dict) and settings:
            bits = next((f"{n}-bit " for n in (4, 8) if settings.get(f"load_in_{n}bit")), "")
            return bits + re.sub(r"[^\w.\- ]", "", str(settings.get("quant_method") or "unnamed"))[:40]
    return ""


def without_packing(config: bytes) -> bytes:
    """A config.json as it is once its weights are bfloat16.

    Raises:
        Hostile: it is no JSON object.
    """
    value = _read("config.json", _with_constants({"config.json": config})[0]["config.json"])
    dtypes = {key: "bfloat16" for key in ("dtype", "torch_dtype") if key in value} or {"dtype": "bfloat16"}
    return _json({key: item for key, item in value.items() if key not in QUANTISED} | dtypes)


def _refuse(findings: Sequence[Finding]) -> None:
    if findings:
        shown = [*dict.fromkeys(_sentences(findings))]
        more = f"; and {len(shown) - MAX_SHOWN} more" if len(shown) > MAX_SHOWN else ""
        raise Hostile("; ".join(shown[:MAX_SHOWN]) + more, hint=next((f.hint for f in findings if f.hint), None))


def _sentences(findings: Sequence[Finding]) -> Iterator[str]:
    """What is wrong, in words; the unknown keys of a file in one sentence."""
    for finding in findings:
        keys = [other.what for other in findings if other.unknown and other.file == finding.file]
        if not finding.unknown:
            yield finding.what
        elif len(keys) == 1:
            yield f"{finding.file} has a key souq does not know: {keys[0]}"
        else:
            yield f"{finding.file} has keys souq does not know: {shortlist(keys, MAX_SHOWN)}"


def _notes(findings: Sequence[Finding]) -> Iterator[str]:
    """One line for all that was kept unread, and one for each reason why something was left out."""
    for why in dict.fromkeys(finding.why for finding in findings if finding.owners == "left out"):
        yield f"left out, {why}: {_by_file(finding for finding in findings if finding.why == why)}"
    if kept := [finding for finding in findings if finding.owners == "kept"]:
        yield f"kept as they are, on no list of transformers {allowed()['release']}: {_by_file(kept)}"


def _by_file(findings: Iterable[Finding]) -> str:
    keys: dict[str, list[str]] = {}
    for finding in findings:
        keys.setdefault(finding.file, []).append(finding.key)
    return "; ".join(f"{name} {', '.join(dict.fromkeys(held))}" for name, held in keys.items())


# -- reading -----------------------------------------------------------------------------------------------------------


def _objects(files: Mapping[str, bytes]) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """The JSON among a model's files, and which of it is none."""
    objects, findings = dict[str, dict[str, Any]](), list[Finding]()
    for name, data in files.items():
        if name.endswith(".json"):
            try:
                objects[name] = _read(name, data)
            except Hostile as error:
                findings.append(Finding(name, str(error)))
    return objects, findings


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


def _with_constants(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
    """Infinity, which Python writes and JSON has not, as transformers 5 writes it: Mamba 2 is published with it."""
    data = files.get("config.json", b"")
    written = _CONSTANT.sub(lambda m: b'{"__float__": "%s"}' % m[1] if m[1] else m[0], data)
    if written == data:
        return dict(files), []
    return {**files, "config.json": written}, [
        "config.json: Infinity, which JSON has not, is written as transformers 5 does"
    ]


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _without(value: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A table without these keys, of which dots lead to inner ones."""
    made = dict(value)
    for key in keys:
        outer, _, inner = key.partition(".")
        if inner and isinstance(made.get(outer), dict):
            made[outer] = _without(made[outer], [inner])
        elif not inner:
            made.pop(outer, None)
    return made


# -- judging -----------------------------------------------------------------------------------------------------------


def _odd(files: Mapping[str, bytes], objects: Mapping[str, dict[str, Any]]) -> Iterator[Finding]:
    """All that is odd about a model's files."""
    for name, data in files.items():
        if name not in MODEL_FILES:
            yield Finding(name, f"{name[:80]!r} is no file of a model", hint=f"known are {', '.join(MODEL_FILES)}")
        elif len(data) > SIZES.get(name, MAX_FILE) and not name.endswith(".json"):
            yield Finding(name, f"{name} has {len(data):,} bytes; the most is {SIZES.get(name, MAX_FILE):,}")
    kind = str(objects.get("config.json", {}).get("model_type"))
    for name, value in objects.items():
        # A tokenizer that only its own code makes is none without it.
        builds = kind if name != "tokenizer_config.json" or "tokenizer.json" in files or "auto_map" not in value else ""
        yield from _odd_values(name, value, builds)


def _odd_values(name: str, value: dict[str, Any], kind: str) -> Iterator[Finding]:
    if name == "config.json":
        yield from _odd_kind(value)
    if name not in ("tokenizer.json", "vocab.json", "added_tokens.json"):  # whose keys are what people write
        yield from _code(name, value, kind)
    if (listed := allowed().get(LISTS.get(name, ""))) is not None:
        unknown = (key for key in value if key not in listed and key not in QUANTISED and not CODE.fullmatch(key))
        yield from (_unknown(name, key, listed) for key in unknown)
    if name in ("config.json", "generation_config.json"):
        yield from _out_of_bounds(name, value)
    if name == "tokenizer_config.json" and not _CLASS.fullmatch(
        named := str(value.get("tokenizer_class") or "XTokenizer")
    ):
        what = f"{name}: tokenizer_class is {named[:60]!r}, no name of a tokenizer"
        yield Finding(name, what, owners="kept" if named.isidentifier() else "refused", key="tokenizer_class")


def _unknown(name: str, key: str, listed: Sequence[str]) -> Finding:
    what, hint = f"{key[:60]!r}{nearest(key, listed)}", f"take out of {name} what is not known"
    if name == "tokenizer_config.json" and PATHS.fullmatch(key):
        return Finding(name, what, hint, "left out", key, "the names of files on its author's disk", unknown=True)
    return Finding(name, what, hint, "kept", key[:60], unknown=True)


def _odd_kind(config: dict[str, Any]) -> Iterator[Finding]:
    kind, kinds = config.get("model_type"), allowed()["kinds"]
    if kind not in kinds:
        what = f"config.json names no model_type souq knows: {str(kind)[:40]!r}{nearest(str(kind), kinds)}"
        release = allowed()["release"]
        yield Finding(
            "config.json", what, hint=f"known are those that transformers {release} has a class of its own for"
        )
    for key in (key for key in QUANTISED if config.get(key)):
        yield Finding("config.json", f"config.json says that the weights are quantised ({key})", hint=SIXTEEN_BITS)


def _code(name: str, value: dict[str, Any], kind: str) -> Iterator[Finding]:
    """What would run code that is none of transformers' own.

    Published models have it at a file's top, or at the top of a part of theirs, beside a kind that transformers has.
    """
    why = f"since transformers {allowed()['release']} has {_class_of(kind, value)} and souq runs no other code"
    for path, item in _paths(value):
        if not CODE.fullmatch(key := path[-1]):
            continue
        published = len(path) == 1 or (len(path) == 2 and path[0].endswith("_config"))
        stranger = bool(KERNELS.fullmatch(key)) and not re.fullmatch(r"\w*", str(item or ""))
        ours = published and not stranger and kind in allowed()["kinds"]
        what = f"{name} asks to run code that comes with the model ({key[:60]})"
        yield Finding(name, what, "souq never runs it", "left out" if ours else "refused", ".".join(path), why)


def _class_of(kind: str, value: Mapping[str, Any]) -> str:
    """transformers' own class of a kind, and the model's where it goes by another name: it may be another network."""
    own = str(allowed()["causal"].get(kind) or f"a {kind} of its own")
    code = value.get("auto_map")
    theirs = str(code.get("AutoModelForCausalLM") if isinstance(code, dict) else "").rpartition(".")[2][:60]
    if theirs in ("", "None") or theirs.lower() == own.lower():
        return own
    return f"{own}, which may not be what {theirs} was (compare their answers),"


def _paths(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key below a value with the keys above it, and what stands there; lists count theirs."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield (*above, str(key)), item
        yield from _paths(item, (*above, str(key)))


def _out_of_bounds(name: str, config: dict[str, Any]) -> Iterator[Finding]:
    """No number that would fill a machine before the first tensor is read, no text that is more than a name."""
    values = list(walk(config))
    if len(values) > MAX_KEYS:
        yield Finding(name, f"{name} holds more than {MAX_KEYS:,} values")
    try:
        refuse_control(config, where=name)
    except Hostile as error:
        yield Finding(name, str(error))
    most: dict[str, int] = allowed()["most"]
    for key, value in values:
        if isinstance(value, str) and (len(value) > MAX_TEXT or "://" in value):
            yield Finding(name, f"{name} holds a text that is no setting: {value[:60]!r}", owners="kept", key=key[:60])
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Compared first: a whole number may be too large to be asked whether it is finite.
            if not abs(value) <= most.get(key, most["other"]):  # nor is NaN
                yield Finding(name, f"{name}: {key} is {value}; the most is {most.get(key, most['other']):,}")
            if key in most and value < 0:
                yield Finding(name, f"{name}: {key} is {value}, less than nothing")
    for key in ("dtype", "torch_dtype"):
        if config.get(key) not in (None, *DTYPES):
            what = f"{name}: {key} is {str(config[key])[:40]!r}, none of {', '.join(DTYPES)}"
            yield Finding(name, what, owners="changed" if config[key] == DOUBLE else "refused")


def _doubles(objects: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    names = ("config.json", "generation_config.json")
    return ((n, key) for n in names for key in ("dtype", "torch_dtype") if objects.get(n, {}).get(key) == DOUBLE)


def fits(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """What a configuration says of its size is what the weights are.

    Raises:
        Hostile: it speaks of another vocabulary, width or number of layers.
    """
    inner = config.get("text_config")  # of a model that also sees or hears
    config = {**config, **(inner if isinstance(inner, dict) else {})}
    embed = shapes.get("model.embed_tokens.weight")
    sizes = (config.get("vocab_size"), config.get("hidden_size"))
    if embed is not None and sizes != embed:
        raise Hostile(
            f"config.json says vocab_size {sizes[0]}, hidden_size {sizes[1]}; the embedding is {embed[0]} x {embed[-1]}"
        )
    layers = {int(match[1]) for name in shapes if (match := _LAYER.fullmatch(name))}
    depth, further = config.get("num_hidden_layers"), config.get("num_nextn_predict_layers")
    # DeepSeek's last layers guess further tokens; transformers reads none of them.
    depths = [depth, depth + further] if type(depth) is int and type(further) is int else [depth]
    if layers and max(layers) + 1 not in depths:
        raise Hostile(f"config.json says {depth} layers; the weights have {max(layers) + 1}")


# -- chat templates ----------------------------------------------------------------------------------------------------


def approved(files: Mapping[str, bytes], *, owners: bool = False, accepted: bool = False) -> Approved | None:
    """The chat template that transformers takes, once each among a model's files was judged; None where there is none.

    It is asked where a model begins to be used: by `souq init`, and by the lab before it loads somebody's folder.
    `owners` and `accepted` are those of `approve`.

    Raises:
        Hostile: a template that does more than it may.
    """
    objects = {name: _read(name, data) for name, data in files.items() if name.endswith(".json")}
    named = [objects.get(name, {}) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    special = [text for tokens in named for text in _specials(tokens)]
    added = _added(objects.get("tokenizer.json", {}))
    special += [str(token.get("content")) for token in added if token.get("special")]
    special = [token for token in special if len(token) <= MAX_TOKEN and not re.search(r"\s", token)]  # no sentence
    judged = [approve(text, special, owners=owners, accepted=accepted) for text in chat_templates(files, objects)]
    return judged[0] if judged else None


def _added(tokenizer: Mapping[str, Any]) -> list[dict[str, Any]]:
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise Hostile("tokenizer.json: added_tokens is no list of tokens")
    return added


def _specials(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        if key.endswith("_token") and (text := token_text(value)):
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
    for name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        inside = objects.get(name, {}).get("chat_template")
        for entry in inside if isinstance(inside, list) else [inside] if inside is not None else []:
            text = entry.get("template") if isinstance(entry, dict) else entry
            if not isinstance(text, str):
                raise Hostile(f"{name}: chat_template is no text")
            yield text

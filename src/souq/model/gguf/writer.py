"""A Hugging Face folder as a GGUF file, which llama.cpp and what is built on it load.

(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.) Written through the `gguf` library, tensor by tensor, whole
or not at all. What souq reads back (reader.py) are the same numbers where the kind is that of the folder's numbers.
What llama.cpp would compute otherwise than transformers is refused, with everything that stands in the way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from souq.errors import Hostile, NotFound, UsageError, nearest
from souq.files import replacing
from souq.model.config import look_over
from souq.model.end_of_turn import stored_end_tokens
from souq.model.gguf.architectures import by_kind, kinds
from souq.model.gguf.layout import Layout, Spelling
from souq.model.gguf.reader import llama3_factors
from souq.model.gguf.tokenizer import refused, vocabulary
from souq.model.names import is_buffer
from souq.model.source import weights_of
from souq.optional import needs
from souq.progress import Progress, quiet
from souq.text import shortlist
from souq.weights.delta import Array, Checkpoint

GGUF_KINDS = ("f32", "f16", "bf16", "q8_0")  # of numbers that a file souq writes may hold
READ = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
THEIRS = "use llama.cpp's own convert_hf_to_gguf.py"
_FIRST = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count",
    "rope.freq_base", "attention.layer_norm_rms_epsilon",
)  # fmt: skip
_NARROWEST = {"BF16": "bf16", "F16": "f16"}


def write_gguf(
    folder: Path, file: Path, kind: str = "f16", *, name: str = "", licence: str = "", progress: Progress = quiet
) -> None:
    """Write `folder`, a model and its tokenizer, to `file`.

    Raises:
        UsageError: no such kind.
        NotFound: no configuration, no tokenizer, or no weights.
        Hostile: what llama.cpp has no place or no name for, or would compute otherwise.
    """
    files = {name: (folder / name).read_bytes() for name in READ if (folder / name).is_file()}
    vet(kind, files, folder.name)
    write_model(files, weights_of(folder), file, kind, name=name or folder.name, licence=licence, progress=progress)


def write_model(
    files: Mapping[str, bytes], tensors: Checkpoint, file: Path, kind: str, *, name: str, licence: str = "",
    progress: Progress = quiet,
) -> None:  # fmt: skip
    """Write a model by its files and tensors to `file`; norms and biases stay float32.

    Raises:
        UsageError: no such kind.
        NotFound: no configuration, or no tokenizer.
        Hostile: what llama.cpp has no place or no name for, or would compute otherwise.
    """
    with needs("gguf", "lab"):
        import gguf
    layout, config = vet(kind, files, name)
    spelled = _spellings(layout, config, tensors)
    with replacing(file) as partial:
        writer: Any = gguf.GGUFWriter(partial, layout.architecture, use_temp_file=True)
        writer.add_name(name)
        if licence:
            writer.add_license(licence if " " in licence else licence.lower())  # SPDX writes its AND and OR large
        writer.add_file_type(gguf.LlamaFileType[_file_type(kind)])
        _describe(writer, layout, config)
        for method, value in vocabulary(files, config["vocab_size"]):
            getattr(writer, f"add_{method}")(value)
        _special(writer, files, config)
        for done, each in enumerate(spelled):
            progress("gguf tensors", done, len(spelled))
            for i, title in enumerate(each.theirs):
                _add(writer, gguf, title, each.write(lambda name: tensors[name].astype(np.float32), i), kind.upper())
        for title, factors in _factors(layout, config).items():
            writer.add_tensor(title, factors)
        progress("gguf tensors", len(spelled), len(spelled))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def own_kind(dtypes: Iterable[str]) -> str:
    """The kind of numbers by which a file keeps a model of these dtypes exactly."""
    halves = {*dtypes} - {"F32"}
    return _NARROWEST.get(halves.pop(), "f32") if len(halves) == 1 else "f32"


def vet(kind: str, files: Mapping[str, bytes], name: str = "the model") -> tuple[Layout, dict[str, Any]]:
    """Say no before a model is trained to be written so: its layout and its whole configuration, if it can be.

    Raises:
        UsageError: no such kind.
        NotFound: no configuration, or no tokenizer.
        Hostile: what llama.cpp has no place or no name for, or would compute otherwise.
    """
    if kind not in GGUF_KINDS:
        raise UsageError(f"no kind {kind!r}{nearest(kind, GGUF_KINDS)}", hint=f"one of {', '.join(GGUF_KINDS)}")
    for needed in ("config.json", "tokenizer.json"):
        if needed not in files:
            raise NotFound(f"no {needed} in {name}", hint="name a Hugging Face folder, such as `souq export` writes")
    look_over(files)
    stored = json.loads(files["config.json"])
    if (layout := by_kind(str(stored.get("model_type")))) is None:
        raise Hostile(
            f"{name} is of architecture {stored.get('model_type')!r}; souq writes GGUF of {', '.join(kinds())}",
            hint=THEIRS,
        )
    config = _whole_config(stored)
    wrong = [_fixed_otherwise(layout, config), layout.refuses(config), _rope_refused(layout, config), refused(files)]
    if wrong := [reason for reason in wrong if reason]:
        raise Hostile(f"{name} cannot be a GGUF file: {'; '.join(wrong)}", hint=THEIRS)
    return layout, config


def _whole_config(stored: Mapping[str, Any]) -> dict[str, Any]:
    """With what transformers takes where a configuration is silent, in the words of its newest release."""
    with needs("transformers", "lab"):
        from transformers import AutoConfig
    try:
        made = AutoConfig.for_model(**stored)
    except Exception as error:  # it checks a configuration, and raises of several kinds
        raise Hostile(f"transformers takes no such config.json: {type(error).__name__}: {error}"[:300]) from error
    config: dict[str, Any] = dict(stored) | made.to_dict()
    return config | {name: config[key] for name, key in made.attribute_map.items() if key in config}


def _fixed_otherwise(layout: Layout, config: Mapping[str, Any]) -> str:
    others = [f"{key} is {config[key]!r}" for key, only in layout.fixed.items() if config.get(key, only) != only]
    return f"llama.cpp computes {layout.architecture} otherwise where {', '.join(others)}" if others else ""


def _spellings(layout: Layout, config: Mapping[str, Any], tensors: Checkpoint) -> list[Spelling]:
    """How each tensor is written, in the order in which the folder has them."""
    tied = {"lm_head.weight"} if config.get("tie_word_embeddings") else set()
    masks = ".attn.bias"  # GPT-2's, always the same
    names = [name for name in tensors if name not in tied and not is_buffer(name) and not name.endswith(masks)]
    held = {*names}
    by_name: dict[str, Spelling] = {}
    for each in layout.spellings(config):
        if each.ours and set(each.ours) <= held:
            by_name.setdefault(each.ours[0], each)  # the newer of two ways to write the same
    if lost := sorted(set(names) - {name for each in by_name.values() for name in each.ours}):
        raise Hostile(f"tensors llama.cpp has no place for: {shortlist([name[:80] for name in lost], 3)}", hint=THEIRS)
    return [by_name[name] for name in names if name in by_name]


def _file_type(kind: str) -> str:
    return "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"


def _describe(writer: Any, layout: Layout, config: Mapping[str, Any]) -> None:
    """Everything GGUF says of a model's sizes and positions."""
    values: dict[str, Any] = {
        suffix: config[key] for key, suffix in layout.settings.items() if config.get(key) is not None
    }
    heads = config[next(key for key, suffix in layout.settings.items() if suffix == "attention.head_count")]
    width = config[next(key for key, suffix in layout.settings.items() if suffix == "embedding_length")]
    size = config.get("head_dim") or width // heads
    if layout.scaling:
        values |= {"attention.key_length": size, "attention.value_length": size}
        values |= _rope(layout, config, size)
    if layout.kind == "phi3" and not config.get("sliding_window"):
        values["attention.sliding_window"] = 0  # by which llama.cpp tells Phi 4
    values.setdefault("context_length", 2048)  # BLOOM's, which has no positions of its own
    values.setdefault("feed_forward_length", 4 * width)
    values |= layout.says(config)
    order = {suffix: i for i, suffix in enumerate(_FIRST)}
    for suffix in sorted(values, key=lambda suffix: order.get(suffix, len(order))):
        _say(writer, f"{layout.architecture}.{suffix}", values[suffix], suffix.endswith(_FLOATS))
    writer.add_vocab_size(config["vocab_size"])


_FLOATS = (
    "epsilon",
    "softcapping",
    "factor",
    "freq_base",
    "freq_base_swa",
    "scale",
    "yarn_log_multiplier",
    "beta_fast",
    "beta_slow",
)


def _say(writer: Any, key: str, value: Any, real: bool) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif real or isinstance(value, float):
        writer.add_float32(key, float(value))
    else:
        writer.add_uint32(key, int(value))


def _rotary(config: Mapping[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters") or {}
    whole: dict[str, Any] = rope.get("full_attention", rope)
    return whole


def _rope_refused(layout: Layout, config: Mapping[str, Any]) -> str:
    kind = _rotary(config).get("rope_type") or "default"
    if layout.scaling and kind not in layout.scaling:
        return f"rotary positions of kind {kind!r} are not written to GGUF"
    return ""


def _rope(layout: Layout, config: Mapping[str, Any], size: int) -> dict[str, Any]:
    rope = _rotary(config)
    turned = int(size * (rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0))
    values: dict[str, Any] = {"rope.dimension_count": turned, "rope.freq_base": float(rope.get("rope_theta", 10000.0))}
    local = ((config.get("rope_parameters") or {}).get("sliding_attention") or {}).get("rope_theta", 10000.0)
    if local != 10000.0:
        values["rope.freq_base_swa"] = float(local)
    if (kind := rope.get("rope_type") or "default") in ("linear", "yarn"):
        values |= {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    context = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    if kind in ("yarn", "longrope") or layout.kind == "phi3":
        values["rope.scaling.original_context_length"] = context or config["max_position_embeddings"]
    if kind == "yarn":
        values |= _yarn(layout, rope)
    if kind == "longrope":
        scale = config["max_position_embeddings"] / values["rope.scaling.original_context_length"]
        original = math.log(values["rope.scaling.original_context_length"])
        usual = math.sqrt(1 + math.log(scale) / original) if scale > 1 else 1.0
        values["rope.scaling.attn_factor"] = rope.get("attention_factor") or usual
    return values


def _yarn(layout: Layout, rope: Mapping[str, Any]) -> dict[str, Any]:
    """llama.cpp multiplies what it computes from the factor by `attn_factor`."""
    values: dict[str, Any] = {}
    for key in ("beta_fast", "beta_slow"):
        if rope.get(key) is not None:
            values[f"rope.scaling.yarn_{key}"] = float(rope[key])
    usual = 0.1 * math.log(rope["factor"]) + 1.0
    if rope.get("attention_factor") is not None:
        values["rope.scaling.attn_factor"] = rope["attention_factor"] / usual
    if rope.get("mscale_all_dim"):
        share = 0.1 if layout.architecture == "deepseek2" else 1.0
        values["rope.scaling.yarn_log_multiplier"] = share * rope["mscale_all_dim"]
    return values


def _factors(layout: Layout, config: Mapping[str, Any]) -> dict[str, Array]:
    """Positions that llama.cpp scales frequency by frequency."""
    rope = _rotary(config)
    if rope.get("rope_type") == "llama3":
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        return {"rope_freqs.weight": llama3_factors(rope["rope_theta"], size, rope).astype(np.float32)}
    if rope.get("rope_type") == "longrope":
        return {
            f"rope_factors_{name}.weight": np.array(rope[f"{name}_factor"], np.float32) for name in ("long", "short")
        }
    return {}


def _special(writer: Any, files: Mapping[str, bytes], config: Mapping[str, Any]) -> None:
    """Which tokens begin, end and fill a text, where a turn ends, and the chat template."""
    special = config | json.loads(files["config.json"]) | json.loads(files.get("generation_config.json", b"{}"))
    if isinstance(number := special.get("bos_token_id"), int):
        writer.add_bos_token_id(number)
    if ends := stored_end_tokens(files):
        writer.add_eos_token_id(ends[min(1, len(ends) - 1)])
        if len(ends) > 1:
            writer.add_eot_token_id(ends[0])  # of a turn
    if isinstance(number := special.get("pad_token_id"), int):
        writer.add_pad_token_id(number)
    template = files.get("chat_template.jinja", b"").decode()
    template = template or json.loads(files.get("tokenizer_config.json", b"{}")).get("chat_template")
    if template:
        writer.add_chat_template(template)


def _add(writer: Any, gguf: Any, title: str, wide: Array, kind: str) -> None:
    wide = np.ascontiguousarray(wide, np.float32)
    small = wide.ndim < 2 or "norm" in title or title.endswith(".bias") or "gate_inp" in title or "position" in title
    held = "F32" if small or (kind == "Q8_0" and wide.shape[-1] % 32) else kind
    if held == "F16" and np.abs(wide).max(initial=0.0) > np.finfo(np.float16).max:
        raise Hostile(f"{title} holds numbers too large for f16", hint="write bf16 or f32")
    quant = gguf.GGMLQuantizationType[held]
    writer.add_tensor(title, gguf.quants.quantize(wide, quant), raw_dtype=quant)

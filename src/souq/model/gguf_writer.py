"""A Hugging Face folder as a GGUF file, which llama.cpp and what is built on it load.

(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.) Written through the `gguf` library, tensor by tensor, whole
or not at all. What souq reads back (model/gguf.py) are the same numbers where the kind is bf16 or f32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from souq.errors import Hostile, NotFound, UsageError, nearest
from souq.files import replacing
from souq.model.config import look_over
from souq.model.end_of_turn import stored_end_tokens
from souq.model.gguf import LAYER, PRE_TOKENIZERS, TOP
from souq.model.source import weights_of
from souq.optional import needs
from souq.progress import Progress, quiet
from souq.weights.delta import Array

GGUF_KINDS = ("f32", "f16", "bf16", "q8_0")  # of numbers that a file souq writes may hold
NORMAL, CONTROL = 1, 3  # kinds of tokens
READ = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
THEIRS = "use llama.cpp's own convert_hf_to_gguf.py"


def write_gguf(
    folder: Path, file: Path, kind: str = "f16", *, name: str = "", licence: str = "", progress: Progress = quiet
) -> None:
    """Write `folder`, a model of llama's architecture with a byte-level BPE, to `file`; norms stay float32.

    Raises:
        UsageError: no such kind.
        Hostile: another architecture, or a tokenizer that llama.cpp's readers know by no name souq knows.
    """
    with needs("gguf", "lab"):
        import gguf
    files = {name: (folder / name).read_bytes() for name in READ if (folder / name).is_file()}
    vet(kind, files, folder.name)
    config, tensors = json.loads(files["config.json"]), weights_of(folder)
    with replacing(file) as partial:
        writer: Any = gguf.GGUFWriter(partial, "llama")
        _describe(writer, config, name or folder.name, licence, gguf.LlamaFileType[_file_type(kind)])
        _tokenizer(writer, files)
        for done, tensor in enumerate(tensors):
            progress("gguf tensors", done, len(tensors))
            _add(writer, gguf, tensor, tensors[tensor], kind.upper(), _heads(config))
        progress("gguf tensors", len(tensors), len(tensors))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def vet(kind: str, files: Mapping[str, bytes], name: str = "the model") -> None:
    """Say no before a model is trained to be written so.

    Raises:
        UsageError: no such kind.
        NotFound: no configuration, or no tokenizer.
        Hostile: another architecture, or a tokenizer that llama.cpp's readers know by no name souq knows.
    """
    if kind not in GGUF_KINDS:
        raise UsageError(f"no kind {kind!r}{nearest(kind, GGUF_KINDS)}", hint=f"one of {', '.join(GGUF_KINDS)}")
    for needed in ("config.json", "tokenizer.json"):
        if needed not in files:
            raise NotFound(f"no {needed} in {name}", hint="name a Hugging Face folder, such as `souq export` writes")
    look_over(files)
    config, tokenizer = json.loads(files["config.json"]), json.loads(files["tokenizer.json"])
    if (architecture := config.get("model_type")) != "llama":
        raise Hostile(f"{name} is of architecture {architecture!r}; souq writes GGUF of llama's", hint=THEIRS)
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if (scaling := rope.get("rope_type") or rope.get("type") or "default") != "default":
        raise Hostile(f"rotary positions of kind {scaling!r} are not written to GGUF", hint=THEIRS)
    if (algorithm := tokenizer["model"].get("type")) != "BPE":
        raise Hostile(f"a tokenizer of type {algorithm!r}; souq writes byte-level BPE to GGUF", hint=THEIRS)
    _pre_tokenizer(tokenizer["pre_tokenizer"])


def _file_type(kind: str) -> str:
    return "ALL_F32" if kind == "f32" else f"MOSTLY_{kind.upper()}"


def _heads(config: Mapping[str, Any]) -> dict[str, int]:
    heads = config["num_attention_heads"]
    return {"attn_q": heads, "attn_k": config.get("num_key_value_heads") or heads}


def _describe(writer: Any, config: Mapping[str, Any], name: str, licence: str, kind: int) -> None:
    heads = _heads(config)
    size = config.get("head_dim") or config["hidden_size"] // heads["attn_q"]
    rope = config.get("rope_parameters") or config
    writer.add_name(name)
    if licence:
        writer.add_license(licence if " " in licence else licence.lower())  # SPDX writes its AND and OR large
    writer.add_file_type(kind)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads["attn_q"])
    writer.add_head_count_kv(heads["attn_k"])
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _tokenizer(writer: Any, files: Mapping[str, bytes]) -> None:
    tokenizer, config = json.loads(files["tokenizer.json"]), json.loads(files["config.json"])
    model, added = tokenizer["model"], tokenizer.get("added_tokens", [])
    names = {number: token for token, number in model["vocab"].items()} | {t["id"]: t["content"] for t in added}
    control = {t["id"] for t in added if t["special"]}
    ids = range(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer["pre_tokenizer"]))
    writer.add_token_list([names.get(i, f"[PAD{i}]") for i in ids])
    writer.add_token_types([CONTROL if i in control or i not in names else NORMAL for i in ids])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    special = json.loads(files.get("generation_config.json", b"{}")) | config
    for kind in ("bos", "pad"):
        if isinstance(number := special.get(f"{kind}_token_id"), int):
            getattr(writer, f"add_{kind}_token_id")(number)
    if ends := stored_end_tokens(files):
        writer.add_eot_token_id(ends[0])  # of a turn
        writer.add_eos_token_id(ends[1] if len(ends) > 1 else ends[0])
    template = files.get("chat_template.jinja", b"").decode()
    template = template or json.loads(files.get("tokenizer_config.json", b"{}")).get("chat_template")
    if template:
        writer.add_chat_template(template)


def _pre_tokenizer(settings: Any) -> str:
    """The name by which llama.cpp knows how text is split before the merges."""
    for name, known in PRE_TOKENIZERS.items():
        if essence(settings) == essence(known):
            return name
    raise Hostile(
        "this tokenizer splits text in a way souq has no llama.cpp name for",
        hint=f"souq knows {', '.join(PRE_TOKENIZERS)}",
    )


def essence(settings: Any) -> Any:
    """A pre-tokenizer's settings without what changes offsets alone."""
    if isinstance(settings, dict):
        return {key: essence(value) for key, value in settings.items() if key != "trim_offsets"}
    return [essence(item) for item in settings] if isinstance(settings, list) else settings


def _add(writer: Any, gguf: Any, name: str, array: Array, kind: str, heads: Mapping[str, int]) -> None:
    title = _title(name)
    wide = np.ascontiguousarray(array).astype(np.float32)
    part = title.split(".")[-2]
    if part in heads:
        wide = permute(wide, heads[part])
    held = "F32" if wide.ndim < 2 or (kind == "Q8_0" and wide.shape[-1] % 32) else kind
    quant = gguf.GGMLQuantizationType[held]
    writer.add_tensor(title, gguf.quants.quantize(wide, quant), raw_dtype=quant)


def _title(name: str) -> str:
    """transformers' name -> llama.cpp's."""
    stem, _, kind = name.rpartition(".")
    if (top := {theirs: ours for ours, theirs in TOP.items()}.get(stem)) is not None:
        return f"{top}.{kind}"
    _, _, number, part = stem.split(".", 3) if stem.startswith("model.layers.") else ("", "", "", stem)
    title = {theirs: ours for ours, theirs in LAYER.items()}.get(part)
    if title is None:
        raise Hostile(f"a tensor llama.cpp has no place for: {name[:80]!r}")
    return f"blk.{number}.{title}.{kind}"


def permute(wide: Array, heads: int) -> Array:
    """Rows (m, …) with the two halves of each head's rotary pairs interleaved, as llama.cpp has them."""
    return wide.reshape(heads, 2, wide.shape[0] // heads // 2, *wide.shape[1:]).swapaxes(1, 2).reshape(wide.shape)

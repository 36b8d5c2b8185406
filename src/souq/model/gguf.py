"""GGUF files as checkpoints: dequantised to bf16, named and laid out as transformers has them.

Read through the `gguf` library (https://github.com/ggml-org/llama.cpp/tree/master/gguf-py); its tensor types Q4_1,
Q8_0, F16 and the rest become float32 and then bf16. Of architectures, those in `ARCHITECTURES`.
"""

from __future__ import annotations

import json
import math
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from souq.errors import Hostile, NotFound
from souq.model.card import licence_in
from souq.optional import needs
from souq.weights.delta import DTYPES, MAX_ELEMENTS, Array

ARCHITECTURES = ("llama",)
# How llama.cpp splits text before its byte-pair merges, by `tokenizer.ggml.pre` (src/llama-vocab.cpp there), in the
# words of a tokenizer.json. transformers' own conversion splits every vocabulary as GPT-2's.
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTES,
    "default": _BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTES]},
}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


class GGUF(Mapping[str, Array]):
    """The tensors of a GGUF file under transformers' names, dequantised one by one."""

    def __init__(self, path: Path) -> None:
        self.path, self._reader = path, _reader(path)
        self.architecture = str(self._field("general.architecture", ""))
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise Hostile(
                f"{path.name} is of architecture {self.architecture!r}; souq reads {known}",
                hint="convert it to a Hugging Face folder with its own tools and name that",
            )
        self._tensors = {_named(tensor.name): tensor for tensor in self._reader.tensors}

    def _field(self, name: str, default: Any = None) -> Any:
        field = self._reader.get_field(name)
        try:
            return default if field is None else field.contents()
        except (ValueError, IndexError) as error:  # bytes that are no UTF-8
            raise Hostile(f"{self.path.name}: {name} cannot be read") from error

    def number(self, key: str, default: Any = None) -> Any:
        """A setting of this architecture, such as `block_count`.

        Raises:
            Hostile: it is no number above 0.
        """
        value = self._field(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
            raise Hostile(f"{self.path.name} does not say its {key} as a number above 0")
        return value

    def __getitem__(self, name: str) -> Array:
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        wide = dequantize(tensor.data, tensor.tensor_type)
        if name.endswith("q_proj.weight"):
            wide = _unpermute(wide, self.number("attention.head_count"))
        elif name.endswith("k_proj.weight"):
            wide = _unpermute(wide, self.number("attention.head_count_kv", self.number("attention.head_count")))
        return np.ascontiguousarray(wide).astype(DTYPES["BF16"])

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._tensors))

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def parameters(self) -> int:
        """How many numbers it has, from its header."""
        return sum(int(tensor.n_elements) for tensor in self._tensors.values())

    @property
    def name(self) -> str:
        return self.path.stem.rpartition(".")[0] or self.path.stem

    @property
    def licence(self) -> str | None:
        """In the file's own words, where it says one."""
        said = {"license": self._field("general.license"), "license_name": self._field("general.license.name")}
        return licence_in(said) or None

    def files(self) -> dict[str, bytes]:
        """config.json, the tokenizer and its chat template, as transformers reads them."""
        return {
            "config.json": _json(self._config()),
            "generation_config.json": _json(self._generation()),
            **self._tokenizer(),
        }

    def _tokenizer(self) -> dict[str, bytes]:
        """transformers turns the vocabulary into its own files; how text is split before it, is set right here."""
        files = _converted(self.path)
        if self._field("tokenizer.ggml.model") != "gpt2":
            return files  # sentencepiece splits nothing before
        if (kind := str(self._field("tokenizer.ggml.pre", "default"))) not in PRE_TOKENIZERS:
            raise Hostile(
                f"{self.path.name} splits text as {kind!r}; souq knows {', '.join(PRE_TOKENIZERS)}",
                hint="name the model's Hugging Face folder instead",
            )
        tokenizer = json.loads(files["tokenizer.json"]) | {"pre_tokenizer": PRE_TOKENIZERS[kind]}
        return files | {"tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()}

    def _config(self) -> dict[str, Any]:
        heads = self.number("attention.head_count")
        ids = {f"{kind}_token_id": self._field(f"tokenizer.ggml.{kind}_token_id") for kind in ("bos", "eos")}
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
            "hidden_size": self.number("embedding_length"), "intermediate_size": self.number("feed_forward_length"),
            "num_hidden_layers": self.number("block_count"), "num_attention_heads": heads,
            "num_key_value_heads": self.number("attention.head_count_kv", heads),
            "head_dim": self.number("attention.key_length", self.number("embedding_length") // heads),
            "max_position_embeddings": self.number("context_length"), "vocab_size": self._vocabulary(),
            "rms_norm_eps": float(np.float32(self.number("attention.layer_norm_rms_epsilon"))).__round__(8),
            "rope_parameters": {"rope_theta": float(self.number("rope.freq_base", 10000.0)), "rope_type": "default"},
            "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
            "tie_word_embeddings": "lm_head.weight" not in self._tensors,
            **{key: value for key, value in ids.items() if value is not None},
        }  # fmt: skip

    def _vocabulary(self) -> int:
        if "model.embed_tokens.weight" not in self._tensors:
            raise Hostile(f"{self.path.name} has no token embeddings")
        return int(self._tensors["model.embed_tokens.weight"].shape[-1])

    def _generation(self) -> dict[str, Any]:
        ids = {f"{kind}_token_id": self._field(f"tokenizer.ggml.{kind}_token_id") for kind in ("bos", "eos", "pad")}
        names = {"pad_token_id": self._field("tokenizer.ggml.padding_token_id")}
        return {key: value for key, value in (ids | names).items() if value is not None}


def _reader(path: Path) -> Any:
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="check the path")
    with needs("gguf", "lab"):
        from gguf import GGUFReader
    try:
        _bounded(path)
    except (struct.error, OverflowError) as error:
        raise Hostile(f"{path.name} is a damaged GGUF file: it ends inside its header") from error
    try:
        return GGUFReader(path)
    except Exception as error:  # the library raises whatever numpy does on a cut file
        raise Hostile(f"{path.name} is a damaged GGUF file: {type(error).__name__}: {error}") from error


# The sizes of GGUF's plain types by their numbers (ggml/docs/gguf.md); 8 is a text and 9 an array.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
MAX_KEYS = 4_096
MAX_TENSORS = 100_000
MAX_ITEMS = 1 << 20  # of all arrays together: a vocabulary, its scores and merges; the library makes an object of each
MAX_TEXT = 16 << 20


def _bounded(path: Path) -> None:
    """Walk the header once before the library does, which believes every length and never comes back from some.

    Raises:
        Hostile: a length beyond the file, or beyond any vocabulary.
        struct.error: the file ends.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise Hostile(f"{path.name} is not a GGUF file")
        size, items = path.stat().st_size, 0
        version, tensors, keys = struct.unpack("<IQQ", file.read(20))
        if version not in (2, 3) or tensors > MAX_TENSORS or keys > MAX_KEYS:
            raise Hostile(f"{path.name}: GGUF of version {version} with {tensors:,} tensors and {keys:,} keys")
        for _ in range(keys):
            _skip_text(file, size)
            (kind,) = struct.unpack("<I", file.read(4))
            items += _skip_value(file, size, kind, MAX_ITEMS - items)
        for _ in range(tensors):
            _skip_text(file, size)
            (dims,) = struct.unpack("<I", file.read(4))
            if dims > 4 or math.prod(struct.unpack(f"<{dims}Q", file.read(8 * dims))) > MAX_ELEMENTS:
                raise Hostile(f"{path.name}: a tensor of an impossible shape")
            file.seek(12, 1)


def _skip_text(file: IO[bytes], size: int) -> None:
    (length,) = struct.unpack("<Q", file.read(8))
    _skip(file, size, length, MAX_TEXT)


def _skip_value(file: IO[bytes], size: int, kind: int, room: int) -> int:
    """How many items of arrays it held."""
    if kind == 8:
        _skip_text(file, size)
        return 0
    if kind != 9:
        _skip(file, size, _width(kind), MAX_TEXT)
        return 0
    inside, count = struct.unpack("<IQ", file.read(12))
    if count > room:
        raise Hostile(f"arrays of more than {MAX_ITEMS:,} items: no vocabulary is that large")
    if inside == 8:
        for _ in range(count):
            _skip_text(file, size)
    else:
        _skip(file, size, count * _width(inside), size)
    return int(count)


def _width(kind: int) -> int:
    if kind not in _SIZES:
        raise Hostile(f"a GGUF value of type {kind}, or an array of arrays")
    return _SIZES[kind]


def _skip(file: IO[bytes], size: int, length: int, most: int) -> None:
    if length > most or file.tell() + length > size:
        raise Hostile(f"a length of {length:,} bytes in a GGUF file of {size:,}")
    file.seek(length, 1)


def _named(name: str) -> str:
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match and match[2] in LAYER:
        return f"model.layers.{match[1]}.{LAYER[match[2]]}.{match[3]}"
    top, _, kind = name.rpartition(".")
    if top in TOP:
        return f"{TOP[top]}.{kind}"
    raise Hostile(f"a tensor souq has no place for: {name[:80]!r}")


def _unpermute(wide: Array, heads: int) -> Array:
    """llama.cpp interleaves the two halves of each head's rotary pairs; transformers keeps them apart."""
    return wide.reshape(heads, wide.shape[0] // heads // 2, 2, *wide.shape[1:]).swapaxes(1, 2).reshape(wide.shape)


def _converted(path: Path) -> dict[str, bytes]:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        # Alone in a folder: what lies beside the file (a config.json with auto_map) is not asked for, and no code is.
        alone, made = Path(folder) / "alone", Path(folder) / "made"
        alone.mkdir()
        (alone / "model.gguf").symlink_to(path.resolve())
        AutoTokenizer.from_pretrained(str(alone), gguf_file="model.gguf", trust_remote_code=False).save_pretrained(made)
        return {file.name: file.read_bytes() for file in sorted(made.iterdir()) if file.is_file()}


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()

"""GGUF files as checkpoints: their numbers, laid out as transformers has them, and what they say of themselves.

Read through the `gguf` library (https://github.com/ggml-org/llama.cpp/tree/master/gguf-py). F32, F16 and BF16 are kept
as they are; other kinds of numbers (Q4_1, Q8_0, Q4_K …) become float32 and then bf16, and `notes` says so. How each
architecture is spelled is layout.py's, the vocabulary tokenizer.py's.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from souq.errors import Hostile, NotFound
from souq.model.card import licence_in
from souq.model.gguf import tokenizer as vocabulary
from souq.model.gguf.architectures import architectures, by_architecture
from souq.model.gguf.layout import Layout, Spelling
from souq.optional import needs
from souq.text import shortlist
from souq.weights.delta import DTYPES, MAX_ELEMENTS, Array

PLAIN = {"F32": "F32", "F16": "F16", "BF16": "BF16"}  # GGUF's kinds that are kept, in safetensors' words
DTYPE_WORDS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# What a file may say of its positions beside the base frequency; who reads them not computes something else.
_EXTRA = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_ENCODERS = ("t5", "t5encoder", "bert", "nomic-bert", "jina-bert-v2", "clip", "mmproj", "whisper", "umt5")


class GGUF(Mapping[str, Array]):
    """The tensors of a GGUF file, or of its parts, under transformers' names, dequantised one by one."""

    def __init__(self, path: Path) -> None:
        parts = parts_of(path)
        self.path = path = parts[0]
        readers = [_reader(part) for part in parts]
        self._reader = readers[0]  # the first part says what the model is, the others hold tensors alone
        self.architecture = str(self._field("general.architecture", ""))
        if self._field("general.type") == "adapter":
            raise Hostile(
                f"{path.name} is an adapter, and no model", hint="offer it with `souq delta make --from FOLDER`"
            )
        layout = by_architecture(
            self.architecture,
            experts=bool(self._field("llama.expert_count", 0)),
            tempered=bool(self._field("mistral3.attention.temperature_scale", 0)),
        )
        if layout is None:
            raise Hostile(self._unknown(), hint="convert it to a Hugging Face folder with its own tools and name that")
        self.layout: Layout = layout
        tensors = [tensor for reader in readers for tensor in reader.tensors]
        self._tensors = {tensor.name: tensor for tensor in tensors}
        if len(self._tensors) != len(tensors):
            raise Hostile(f"{path.name}: two tensors of one name")
        self._extra = {name: self._tensors.pop(name) for name in _EXTRA if name in self._tensors}
        self.kind = self._kind()
        self._spelled = self._spellings()

    def _unknown(self) -> str:
        why = ", no causal language model" if self.architecture in _ENCODERS else ""
        known = ", ".join(architectures())
        return f"{self.path.name} is of architecture {self.architecture!r}{why}; souq reads {known}"

    def _kind(self) -> str:
        """The dtype of its numbers here: the file's own, or bf16 where they are quantised."""
        kinds = {tensor.tensor_type.name for tensor in self._tensors.values()}
        if odd := sorted(kinds & {"F64", "I8", "I16", "I32", "I64"}):
            raise Hostile(f"{self.path.name} holds tensors of {', '.join(odd)}, which are no weights")
        if not kinds <= PLAIN.keys():
            return "BF16"
        halves = kinds - {"F32"}
        return PLAIN[halves.pop()] if len(halves) == 1 else "F32"

    @cached_property
    def quantised(self) -> tuple[str, ...]:
        """The kinds of its numbers that stand for others, such as Q4_K."""
        return tuple(sorted({tensor.tensor_type.name for tensor in self._tensors.values()} - PLAIN.keys()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What its owner should know: numbers that are not those of the model it was made from."""
        notes = []
        if self.quantised:
            kinds = ", ".join(self.quantised)
            notes.append(f"its numbers are quantised ({kinds}); kept is what they stand for, as bfloat16")
        if self._field("tokenizer.ggml.model") == "gpt2" and self._field("tokenizer.ggml.pre") in (None, "default"):
            notes.append("it does not say how its tokenizer splits text: taken is GPT-2's way")
        return tuple(notes)

    def _spellings(self) -> dict[str, tuple[Spelling, int]]:
        """Name here -> its spelling, and which of its tensors it is.

        Raises:
            Hostile: tensors that souq has no place for, or that are missing.
        """
        sizes = self._sizes()
        self._bound(sizes)
        try:
            known = [each for each in self.layout.spellings(sizes) if each.ours]
        except KeyError as error:
            raise Hostile(f"{self.path.name} does not say its {error}, as a {self.layout.kind} does") from error
        fits = [each for each in known if self._tensors.keys() >= set(each.theirs)]
        if lost := sorted(self._tensors.keys() - {name for each in fits for name in each.theirs}):
            raise Hostile(
                f"{self.path.name}: tensors souq has no place for in a {self.layout.kind}: "
                f"{shortlist([name[:60] for name in lost], 3)}",
                hint="name the model's Hugging Face folder instead",
            )
        for each in fits:
            if len(each.ours) > 1 and len(each.ours) != (count := int(self._tensors[each.theirs[0]].shape[-1])):
                raise Hostile(
                    f"{self.path.name}: {each.theirs[0]} holds {count} parts; its settings say {len(each.ours)}"
                )
        self._whole(self.number("block_count"))
        return {name: (each, i) for each in fits for i, name in enumerate(each.ours)}

    def _bound(self, sizes: Mapping[str, Any]) -> None:
        """No more names than tensors can have, before any is made."""
        layers = self.number("block_count")
        held = {name.split(".", 2)[1] for name in self._tensors if name.startswith("blk.")}
        if layers != len(held):
            raise Hostile(
                f"{self.path.name} says it has {layers:,} layers; it holds tensors of {len(held):,}",
                hint="download it again, all parts of it",
            )
        experts = max(int(sizes.get(key) or 1) for key in ("num_experts", "num_local_experts", "n_routed_experts"))
        if layers * max(experts, self.number("attention.head_count")) > MAX_NAMES:
            raise Hostile(f"{self.path.name} says it has {layers:,} layers of {experts:,} experts: no model has")

    def _whole(self, layers: int) -> None:
        """Every layer has what most have; DeepSeek's first ones are dense, which its settings say."""
        parts = Counter(name.split(".", 2)[2] for name in self._tensors if name.startswith("blk."))
        varied = "ffn|exp" if self.layout.architecture == "deepseek2" else "^$"
        some = [part for part, count in parts.items() if count != layers and not re.search(varied, part)]
        missing = [f"blk.{i}.{part}" for part in some for i in range(layers)]
        missing = [name for name in missing if name not in self._tensors]
        if "token_embd.weight" not in self._tensors:
            missing.insert(0, "token_embd.weight (the token embeddings)")
        if missing:
            raise Hostile(
                f"{self.path.name} lacks {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}",
                hint="download it again, all parts of it",
            )

    # -- what it says ----------------------------------------------------------------------------------------------

    def _field(self, name: str, default: Any = None) -> Any:
        value = self._reader.get_field(name)
        try:
            return default if value is None else value.contents()
        except (ValueError, IndexError) as error:  # bytes that are no UTF-8
            raise Hostile(f"{self.path.name}: {name} cannot be read") from error

    def _setting(self, key: str) -> Any:
        """A setting of this architecture; one that is said layer by layer must be the same in all."""
        value = self._field(f"{self.architecture}.{key}")
        if isinstance(value, list) and not (key.endswith("pattern")):
            if len(set(map(str, value))) != 1:
                raise Hostile(
                    f"{self.path.name} says {key} layer by layer, and not the same: souq reads no such model from GGUF",
                    hint="name the model's Hugging Face folder instead",
                )
            value = value[0]
        if isinstance(value, float):
            return float(str(np.float32(value)))  # 1e-05, where float32 holds 9.99999974e-06
        return value

    def number(self, key: str, default: Any = None) -> Any:
        """A setting of this architecture, such as `block_count`.

        Raises:
            Hostile: it is no number above 0.
        """
        value = self._setting(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
            raise Hostile(f"{self.path.name} does not say its {key} as a number above 0")
        return value

    def _sizes(self) -> dict[str, Any]:
        """The configuration as far as the file's settings go."""
        config: dict[str, Any] = {"model_type": self.layout.kind, "architectures": [self.layout.model], **self._flags()}
        for key, suffix in self.layout.settings.items():
            if suffix in _ALWAYS:
                config[key] = self.number(suffix)
            elif suffix == "attention.head_count_kv":
                config[key] = self.number(suffix, self.number("attention.head_count"))
            elif suffix == "attention.key_length":
                config[key] = self.number(
                    suffix, self.number("embedding_length") // self.number("attention.head_count")
                )
            elif (value := self._setting(suffix)) is not None:
                config[key] = self._number(suffix, value)
        for suffix, most in _MOST.items():
            if isinstance(value := self._setting(suffix), int | float) and value > most:
                raise Hostile(f"{self.path.name} says {suffix} is {value:,}; the most is {most:,}")
        if config.get("sliding_window") == 0:  # as Phi 4's converter says that there is none
            config["sliding_window"] = None
        try:
            return config | dict(self.layout.more(config, self._setting))
        except (KeyError, TypeError, ValueError) as error:  # a setting that is not there, or is no number
            raise Hostile(f"{self.path.name} lacks settings of a {self.layout.kind} ({error})") from error

    def _number(self, key: str, value: Any) -> int | float:
        whole = not key.endswith(("epsilon", "softcapping", "scale", "factor", "base"))
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 <= value < 1e12:
            raise Hostile(f"{self.path.name} does not say its {key} as a number")
        return value

    def files(self) -> dict[str, bytes]:
        """config.json, the tokenizer and its chat template, as transformers reads them."""
        tokenizer = vocabulary.converted(self.path, self._field)
        return {"config.json": _json(self._config()), "generation_config.json": _json(self._generation()), **tokenizer}

    def _config(self) -> dict[str, Any]:
        config = self._sizes() | dict(self.layout.fixed)
        needed = {key: suffix for key, suffix in self.layout.settings.items() if suffix.endswith(_NEEDED)}
        if silent := [suffix for key, suffix in needed.items() if not config.get(key)]:
            raise Hostile(f"{self.path.name} does not say its {' and '.join(silent)} as a number above 0")
        config |= {"dtype": DTYPE_WORDS[self.kind], "vocab_size": self._vocabulary()}
        if self.layout.scaling:
            config |= {"rope_parameters": self._rope(config)}
        if original := self._setting("rope.scaling.original_context_length") if self.layout.kind == "phi3" else None:
            config |= {"original_max_position_embeddings": self._number("original_context_length", original)}
        config |= {"tie_word_embeddings": "output.weight" not in self._tensors}
        ids: dict[str, int | None] = dict(self._ids())
        if self.layout.kind != "llama":  # other kinds have a padding by default, which would be this file's never
            ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")) | ids
        elif "pad_token_id" in ids:
            del ids["pad_token_id"]
        return config | ids

    def _flags(self) -> dict[str, Any]:
        """Settings that are true where a tensor is; a `!` turns one round."""
        parts = {name.split(".", 2)[2] for name in self._tensors if name.startswith("blk.")}
        flags = (flag.split(":") for flag in self.layout.bias)
        return {key.removeprefix("!"): (part in parts) != key.startswith("!") for key, part in flags}

    def _vocabulary(self) -> int:
        return int(self._tensors["token_embd.weight"].shape[-1])

    def _ids(self) -> dict[str, int]:
        names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
        ids = {key: self._field(f"tokenizer.ggml.{name}_token_id") for key, name in names.items()}
        return {key: value for key, value in ids.items() if isinstance(value, int) and not isinstance(value, bool)}

    def _generation(self) -> dict[str, Any]:
        ids: dict[str, Any] = self._ids()
        ends = [ids.get("eos_token_id"), *(self._field(f"tokenizer.ggml.{kind}_token_id") for kind in ("eot", "eom"))]
        ends = list(dict.fromkeys(end for end in ends if isinstance(end, int)))
        return ids | ({"eos_token_id": ends} if len(ends) > 1 else {})

    # -- positions -------------------------------------------------------------------------------------------------

    def _rope(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """rope_parameters, with the scaling that the file says or holds as tensors.

        Raises:
            Hostile: positions that transformers computes otherwise for this kind.
        """
        rope: dict[str, Any] = {"rope_theta": float(self.number("rope.freq_base", 10000.0)), "rope_type": "default"}
        kind = str(self._field(f"{self.architecture}.rope.scaling.type") or "none").replace("none", "default")
        factor, linear = self._setting("rope.scaling.factor"), self._setting("rope.scale_linear")
        if "rope_freqs.weight" in self._extra:
            kind = "llama3"
        elif "rope_factors_long.weight" in self._extra:
            kind = "longrope"
        elif kind == "default" and linear not in (None, 1.0):  # what files said before there were kinds
            kind, factor = "linear", linear
        if kind not in self.layout.scaling:
            raise Hostile(
                f"{self.path.name} scales positions by {kind!r}; a {self.layout.kind} here knows "
                f"{', '.join(self.layout.scaling)}",
                hint="name the model's Hugging Face folder instead",
            )
        if kind in ("linear", "yarn"):
            rope |= {"rope_type": kind, "factor": float(self._number("rope.scaling.factor", factor))}
        if kind == "yarn":
            rope |= self._yarn(rope["factor"])
        if kind == "llama3":
            rope |= self._llama3(rope["rope_theta"], config)
        if kind == "longrope":
            rope |= {
                "rope_type": "longrope",
                "long_factor": self._factors("long"),
                "short_factor": self._factors("short"),
            }
            rope |= {"original_max_position_embeddings": self.number("rope.scaling.original_context_length")}
        rope |= self._partial(config)
        if self.layout.kind != "gemma3_text":
            return rope
        local = float(self.number("rope.freq_base_swa", 10000.0))
        return {"full_attention": rope, "sliding_attention": {"rope_theta": local, "rope_type": "default"}}

    def _yarn(self, factor: float) -> dict[str, Any]:
        more: dict[str, Any] = {"original_max_position_embeddings": self.number("rope.scaling.original_context_length")}
        for key in ("beta_fast", "beta_slow"):
            value = self._setting(f"rope.scaling.yarn_{key}") or self._setting(f"rope.scaling.{key}")
            if value is not None:
                more[key] = float(value)
        if (share := self._setting("rope.scaling.attn_factor")) not in (None, 1.0):
            more["attention_factor"] = float(share) * (0.1 * math.log(factor) + 1.0)
        if log := self._setting("rope.scaling.yarn_log_multiplier"):
            # By DeepSeek's converter it is a tenth of what everybody else's writes.
            share = 10 if self.architecture == "deepseek2" else 1
            more |= dict.fromkeys(("mscale", "mscale_all_dim"), float(log) * share)
        if beta := self._setting("attention.temperature_scale"):
            more["llama_4_scaling_beta"] = float(beta)
        return more | ({"truncate": False} if self.layout.kind == "gpt_oss" else {})

    def _factors(self, name: str) -> list[float]:
        return [float(str(value)) for value in self._extra[f"rope_factors_{name}.weight"].data.reshape(-1)]

    def _llama3(self, theta: float, config: Mapping[str, Any]) -> dict[str, Any]:
        original = self._setting("rope.scaling.original_context_length")
        factors = np.asarray(self._extra["rope_freqs.weight"].data, np.float64).reshape(-1)
        if (made := llama3_scaling(factors, theta, original)) is None:
            raise Hostile(
                f"{self.path.name}: rope_freqs scales positions otherwise than Llama 3 does",
                hint="name the model's Hugging Face folder instead",
            )
        return {"rope_type": "llama3"} | made

    def _partial(self, config: Mapping[str, Any]) -> dict[str, float]:
        turned, size = self._setting("rope.dimension_count"), config.get("head_dim")
        size = size or config["hidden_size"] // config["num_attention_heads"]
        if turned in (None, size) or "qk_rope_head_dim" in config:
            return {}
        if not self.layout.partial:
            raise Hostile(
                f"{self.path.name} turns {turned} of {size} numbers of each head; a {self.layout.kind} turns all",
                hint="name the model's Hugging Face folder instead",
            )
        return {"partial_rotary_factor": self._number("rope.dimension_count", turned) / size}

    # -- tensors ---------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Array:
        spelling, i = self._spelled[name]
        try:
            wide = np.ascontiguousarray(spelling.read(self._take, i), np.float32)
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise Hostile(
                f"{self.path.name}: {', '.join(spelling.theirs)} has not the shape its settings say"
            ) from error
        narrow = wide.astype(DTYPES[self.kind])
        exact = {self._tensors[each].tensor_type.name for each in spelling.theirs} == {"F32"} and not self.quantised
        if exact and narrow.dtype != wide.dtype and not _same(narrow.astype(np.float32), wide):
            return wide  # a norm that was never in 16 bits
        return narrow

    def _take(self, name: str, i: int | None = None) -> Array:
        from gguf.quants import dequantize

        tensor = self._tensors[name]
        wide: Array = dequantize(tensor.data if i is None else tensor.data[i], tensor.tensor_type)
        return wide

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._spelled))

    def __len__(self) -> int:
        return len(self._spelled)

    @property
    def parameters(self) -> int:
        """How many numbers it has, from its header."""
        return sum(int(tensor.n_elements) for tensor in self._tensors.values())

    @property
    def name(self) -> str:
        if match := _SPLIT.fullmatch(self.path.name):
            return match[1].rpartition(".")[0] or match[1]
        return self.path.stem.rpartition(".")[0] or self.path.stem

    @property
    def licence(self) -> str | None:
        """In the file's own words, where it says one."""
        named = {"license": self._field("general.license"), "license_name": self._field("general.license.name")}
        return licence_in(named) or None


_ALWAYS = ("embedding_length", "block_count", "attention.head_count")
_NEEDED = ("context_length", "feed_forward_length", "epsilon")
_MOST = {"block_count": 4_096, "expert_count": 4_096, "attention.head_count": 4_096, "embedding_length": 1 << 20}


def _same(left: Array, right: Array) -> bool:
    return bool(np.array_equal(left.view(np.uint32), right.view(np.uint32)))


LLAMA3 = ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")


def llama3_factors(theta: float, size: int, scaling: Mapping[str, float]) -> Array:
    """By what each frequency is divided, as Llama 3 scales positions beyond those it was trained on."""
    waves = 2 * math.pi * theta ** (np.arange(0, size, 2) / size)
    context, low, high = (
        scaling[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    smooth = np.clip((context / waves - low) / (high - low), 0, 1)
    factors: Array = 1 / ((1 - smooth) / scaling["factor"] + smooth)
    return factors


def llama3_scaling(factors: Array, theta: float, context: float | None = None) -> dict[str, float] | None:
    """The settings that give these factors; None where Llama 3's way does not.

    A file holds the factors alone. Llama 3's own settings are tried first; others are solved from two factors that are
    neither 1 nor the largest, with `low_freq_factor` 1 as everybody has it.
    """
    size, largest = 2 * len(factors), float(str(np.float32(factors.max(initial=1.0))))
    tried = [(1.0, 4.0, context or 8192)]
    between = [i for i, each in enumerate(factors) if 1.001 < each < largest * 0.999]
    if len(between) > 1:
        i, j = between[0], between[-1]
        waves = 2 * math.pi * theta ** (2 * np.array([i, j]) / size)
        smooth = (1 / factors[[i, j]] - 1 / largest) / (1 - 1 / largest)
        slope, start = np.polyfit(1 / waves, smooth, 1)
        high = 1 - 1 / start if start < 0 else 0
        tried.append((1.0, float(np.round(high, 3)), float(np.round(slope * (high - 1)))))
    for low, high, length in tried:
        made = {"factor": largest, "low_freq_factor": low, "high_freq_factor": high}
        made |= {"original_max_position_embeddings": int(length)}
        if high > low and np.allclose(llama3_factors(theta, size, made), factors, rtol=1e-4):
            return made
    return None


def parts_of(path: Path) -> Sequence[Path]:
    """A file that is whole, or all that one was cut into (`NAME-00001-of-00003.gguf`), in order.

    Raises:
        NotFound: parts that are not there.
    """
    match = _SPLIT.fullmatch(path.name)
    if match is None or not path.is_file():
        return (path,)
    count = min(int(match[3]), MAX_PARTS)
    parts = [path.with_name(f"{match[1]}-{i:05}-of-{match[3]}.gguf") for i in range(1, count + 1)]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise NotFound(
            f"{path.name} is one of {count} parts; not there: {', '.join(missing[:5])}", hint="put all in one folder"
        )
    return parts


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
        reader = GGUFReader(path)
    except Exception as error:  # the library raises whatever numpy does on a cut file
        raise Hostile(f"{path.name} is a damaged GGUF file: {type(error).__name__}: {error}") from error
    end = 0
    for tensor in sorted(reader.tensors, key=lambda tensor: int(tensor.data_offset)):
        if int(tensor.data_offset) < end:
            raise Hostile(f"{path.name} is a damaged GGUF file: {tensor.name[:60]} lies in another tensor")
        end = int(tensor.data_offset) + int(tensor.n_bytes)
    return reader


# The sizes of GGUF's plain types by their numbers (ggml/docs/gguf.md); 8 is a text and 9 an array.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
MAX_KEYS = 4_096
MAX_TENSORS = 100_000
MAX_PARTS = 1_000
MAX_NAMES = 1 << 18  # of experts' tensors in all layers
MAX_ITEMS = 1 << 21  # of all arrays together: a vocabulary, its scores and merges; the library makes an object of each
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


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()

"""A model in memory: a transformers network on our tensors, its tokenizer, and how a conversation becomes tokens."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from souq.errors import NotFound, UsageError
from souq.model.chat_template import ANSWER
from souq.model.config import MODEL_FILES, approved, look_over
from souq.model.end_of_turn import end_tokens
from souq.model.kinds import WITHOUT_THE_LAB, no_lab
from souq.model.source import weights_of
from souq.optional import needs
from souq.weights.delta import Array, Checkpoint

with needs("torch", "lab"):
    import torch
with needs("transformers", "lab"):
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
# Its newer releases call this argument `cache`, its older ones know no such name.
warnings.filterwarnings("ignore", message=".*`past_key_values` is deprecated", category=FutureWarning)

Tokens = list[int]
# What has transformers put other code or other files in the place of a network's own as it loads one.
ASKS = ("quantization_config", "fusion_config", "distributed_config", "transformers_weights", "auto_map")


@dataclass
class LM:
    """A causal language model ready to be asked.

    `measure` is the tokenizer in whose tokens a loss is counted: nats a token of two vocabularies do not compare.
    `ends` are the tokens that end a turn; the tokenizer's own where they are not given.
    `names` are the checkpoint's names of the network's tensors, of those that are one tensor in both.
    """

    net: Any
    tokenizer: Any
    measure: Any = None
    ends: tuple[int, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    weights: Checkpoint = field(default_factory=dict)

    def chat_tokens(self, turns: Sequence[Mapping[str, str]]) -> Tokens:
        """The tokens of a conversation, up to where the assistant begins to speak.

        Raises:
            UsageError: the model has no chat template, or one that declines this conversation.
        """
        if not self.tokenizer.chat_template:
            raise UsageError(
                "this model has no chat template, so no conversation can be put to it",
                hint="begin with `souq init --chat-template FILE` (or chatml), or use rows and evals of plain text",
            )
        try:
            text = self.tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False)
        except jinja2.TemplateError as error:
            raise UsageError(f"the model's chat template declines a conversation: {error}"[:300]) from error
        return self.encode(text)

    def encode(self, text: str) -> Tokens:
        """Text as tokens, nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def length(self, text: str) -> int:
        """How many tokens a text counts for."""
        return len((self.measure or self.tokenizer)(text, add_special_tokens=False)["input_ids"])

    @property
    def context(self) -> int:
        """The positions it was made for, as its config has them; 0 where it says nothing."""
        config = self.net.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        first, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
        stretched = int(first * factor) if first and factor else 0
        return max(int(getattr(config, "max_position_embeddings", 0) or 0), stretched)

    @property
    def eos_id(self) -> int:
        """The token that is written to end a turn.

        Raises:
            UsageError: the model's files name none.
        """
        if not (ends := self.end_ids):
            raise UsageError("the model's files name no token that ends a turn", hint="set eos_token_id in config.json")
        return ends[0]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every token at which an answer is over."""
        own = self.tokenizer.eos_token_id
        return self.ends or (() if own is None else (int(own),))

    @property
    def device(self) -> Any:
        return next(self.net.parameters()).device

    def module(self, name: str) -> tuple[str, Any] | None:
        """The part of the network whose weight is the checkpoint's tensor of this name, and its path; None for none."""
        for own, stored in self.names.items():
            if stored == name and own.endswith(".weight"):
                path = own.removesuffix(".weight")
                return path, self.net.get_submodule(path)
        return None


def best_dtype() -> Any:
    """bf16 where hardware and torch compute in it; elsewhere float32, ten times faster than emulated bf16."""
    if torch.cuda.is_available():
        return torch.bfloat16
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    allowed = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not under ONEDNN_MAX_CPU_ISA=AVX2
    return torch.bfloat16 if able and allowed else torch.float32


def autocast(device: str = "cpu") -> Any:
    """A context in which products are computed in bf16, where the hardware does so."""
    return torch.autocast(device, torch.bfloat16, enabled=best_dtype() is torch.bfloat16)


def tokenizer_of(source: Path | Mapping[str, bytes]) -> Any:
    """The tokenizer of a Hugging Face folder, or among a model's files."""
    with _folder(source) as folder:
        return _tokenizer(folder)


def load(
    source: Path | Mapping[str, bytes],
    weights: Checkpoint | None = None,
    *,
    dtype: Any = None,
    measure: Mapping[str, bytes] | None = None,
) -> LM:
    """A network from a Hugging Face folder, or from a model's files and a checkpoint; float32 unless `dtype` is given.

    `measure` are the files of the model whose tokenizer measures losses, its own unless given.

    Raises:
        NotFound: no config.json there, or no weights.
        UsageError: an architecture that the lab does not run.
        Hostile: somebody's folder whose files ask for more than a model needs (model/config.py).
    """
    with _folder(source) as folder:
        if isinstance(source, Path):
            _judge(folder)
        if not (folder / "config.json").is_file():
            raise NotFound(f"no config.json in {folder}", hint="name a Hugging Face folder")
        config = _config(folder)
        tokenizer = _tokenizer(folder)
        ends = _ends(folder, tokenizer)
    checkpoint = weights if weights is not None else weights_of(Path(str(source)))
    net, names = _network(config, checkpoint, dtype or torch.float32)
    # PEFT writes it into adapters: never the name of a folder that is gone.
    net.name_or_path = net.config.name_or_path = str(source) if isinstance(source, Path) else ""
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    measured = tokenizer_of(measure) if measure is not None else None
    return LM(net, tokenizer, measured, ends, names, checkpoint)


def _ends(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    after, turns = "", [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
    if tokenizer.chat_template:
        with suppress(Exception):  # a template that has no place for an answer
            after = tokenizer.apply_chat_template(turns, tokenize=False).partition(ANSWER)[2]
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special = added | set(tokenizer.all_special_tokens)
    return end_tokens(_files(folder), after=after, special=special, number=partial(_number, tokenizer))


def _number(tokenizer: Any, token: str) -> int | None:
    number = tokenizer.convert_tokens_to_ids(token)  # that of the unknown token for what it does not have
    return number if number is not None and tokenizer.convert_ids_to_tokens(number) == token else None


def _files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MODEL_FILES if (folder / name).is_file()}


def _judge(folder: Path) -> None:
    """A folder is whoever's named it; a model's files come from main, which judged them when it began."""
    files = _files(folder)
    look_over(files)
    approved(files, owners=True)


def _config(folder: Path) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
    except (ValueError, KeyError, OSError) as error:
        version = transformers.__version__
        raise UsageError(
            f"transformers {version} builds no such model: {_short(error)}", hint=WITHOUT_THE_LAB
        ) from error
    if because := no_lab(config.to_dict()):
        raise UsageError(because, hint=WITHOUT_THE_LAB)
    return config


def _tokenizer(folder: Path) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(folder)
    except (ValueError, KeyError, OSError, TypeError, AttributeError, ImportError) as error:
        raise UsageError(
            f"transformers makes no tokenizer of its files: {_short(error)}",
            hint="put the tokenizer's files (tokenizer.json, tokenizer_config.json) beside config.json",
        ) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _network(config: Any, checkpoint: Checkpoint, dtype: Any) -> tuple[Any, dict[str, str]]:
    """transformers' own network with our tensors, and for each of its tensors that is one of ours, ours' name.

    transformers does what loading a folder does: it fuses experts, ties heads and computes what is not stored.
    """
    if asks := [key for key in ASKS if getattr(config, key, None)]:
        raise UsageError(f"config.json says {', '.join(asks)}, which the lab does not follow", hint="take it out of it")
    state = {name: tensor(checkpoint[name]) for name in checkpoint}
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    try:
        net, report = _class_of(config).from_pretrained(
            None, config=config, state_dict=dict(state), dtype=dtype, output_loading_info=True, local_files_only=True
        )
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise UsageError(
            f"transformers {transformers.__version__} does not build this {config.model_type}: {_short(error)}",
            hint="does config.json belong to these weights?",
        ) from error
    if absent := sorted(report["missing_keys"]):
        raise NotFound(
            f"the checkpoint has no {', '.join(absent[:4])}{' …' if len(absent) > 4 else ''}",
            hint="does config.json belong to these weights?",
        )
    # What transformers takes as it is, it does not copy: the same memory is the same tensor.
    stored = {(value.data_ptr(), value.shape, value.stride()): name for name, value in state.items() if value.numel()}
    own = {name: (value.data_ptr(), value.shape, value.stride()) for name, value in net.state_dict().items()}
    return net.eval().requires_grad_(False), {name: stored[key] for name, key in own.items() if key in stored}


def _class_of(config: Any) -> Any:
    """The class that answers token by token for a configuration: a language model, or one that sees as well."""
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText):
        if type(config) in auto._model_mapping:
            known = auto._model_mapping[type(config)]
            known = known if isinstance(known, list | tuple) else (known,)
            named = [made for made in known if made.__name__ in (config.architectures or ())]
            return (*named, *known)[0]
    raise UsageError(f"a {config.model_type} does not answer token by token", hint=WITHOUT_THE_LAB)


def stored_state(lm: LM) -> dict[str, Any]:
    """A network's tensors under the names that a checkpoint gives them, experts apart: as `save_pretrained` does."""
    state = revert_weight_conversion(lm.net, lm.net.state_dict())
    return {lm.names.get(name, name): value for name, value in state.items()}


def tensor(array: Array) -> Any:
    """A numpy array as a torch tensor of its shape and dtype, bit for bit; torch has never heard of ml_dtypes."""
    data = np.ascontiguousarray(array).reshape(array.shape)  # of a lone number it would make a row
    if data.dtype.name == "bfloat16":
        return torch.from_numpy(data.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(data.copy())


def swap(lm: LM, weights: Mapping[str, Array]) -> None:
    """Put other tensors into the same network; where they are not its own one by one (experts), into it made anew."""
    lm.weights = ChainMap(dict(weights), lm.weights)  # type: ignore[arg-type]  # it is only read
    places = {stored: own for own, stored in lm.names.items()}
    if not weights.keys() <= places.keys():
        device, dtype = lm.device, next(lm.net.parameters()).dtype
        net, lm.names = _network(lm.net.config, lm.weights, dtype)
        lm.net = net.to(device)
        return
    own = lm.net.state_dict()
    with torch.no_grad():
        for name, array in weights.items():
            own[places[name]].copy_(tensor(array))


def twin(lm: LM, weights: Checkpoint, changed: Collection[str]) -> LM | None:
    """The same network with some other tensors beside it, sharing all that did not change; None where those are not its
    own one by one (experts)."""
    if not set(changed) <= set(lm.names.values()):
        return None
    replaced = {own for own, stored in lm.names.items() if stored in changed}
    tensors = (*lm.net.named_parameters(remove_duplicate=False), *lm.net.named_buffers(remove_duplicate=False))
    net = copy.deepcopy(lm.net, {id(value): value for name, value in tensors if name not in replaced})
    own = net.state_dict()
    with torch.no_grad():
        for name in replaced:
            own[name].copy_(tensor(weights[lm.names[name]]))
    return LM(net, lm.tokenizer, lm.measure, lm.ends, lm.names, weights)


@contextmanager
def _folder(source: Path | Mapping[str, bytes]) -> Iterator[Path]:
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, data in source.items():
            (Path(folder) / name).write_bytes(data)
        yield Path(folder)

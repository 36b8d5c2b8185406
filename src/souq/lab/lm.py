"""A model in memory: a transformers network on our tensors, its tokenizer, and how a conversation becomes tokens."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from souq.errors import NotFound, UsageError
from souq.model.chat_template import ANSWER
from souq.model.config import MODEL_FILES, approved, look_over
from souq.model.end_of_turn import end_tokens
from souq.model.source import weights_of
from souq.optional import needs
from souq.weights.delta import Array, Checkpoint

with needs("torch", "lab"):
    import torch
with needs("transformers", "lab"):
    import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
# Its newer releases call this argument `cache`, its older ones know no such name.
warnings.filterwarnings("ignore", message=".*`past_key_values` is deprecated", category=FutureWarning)

Tokens = list[int]


@dataclass
class LM:
    """A causal language model ready to be asked.

    `measure` is the tokenizer in whose tokens a loss is counted: nats a token of two vocabularies do not compare.
    `ends` are the tokens that end a turn; the tokenizer's own where they are not given.
    """

    net: Any
    tokenizer: Any
    measure: Any = None
    ends: tuple[int, ...] = ()

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
        return transformers.AutoTokenizer.from_pretrained(folder)


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
        config = transformers.AutoConfig.from_pretrained(folder)
        config.name_or_path = str(source) if isinstance(source, Path) else ""  # never the name of a folder that is gone
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ends = _ends(folder, tokenizer)
    checkpoint = weights if weights is not None else weights_of(Path(str(source)))
    with torch.device("meta"):
        net = transformers.AutoModelForCausalLM.from_config(config)
    if not (hasattr(net, "model") and hasattr(net, "lm_head")):
        runs = "souq runs those built as llama's are, a `model` and an `lm_head`"
        raise UsageError(f"a model of kind {config.model_type!r}: {runs}")
    state = packed({name: tensor(checkpoint[name]).to(dtype or torch.float32) for name in checkpoint})
    net.load_state_dict(state, strict=False, assign=True)
    _finish(net, config)
    net.eval().requires_grad_(False)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    return LM(net, tokenizer, tokenizer_of(measure) if measure is not None else None, ends=ends)


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


def _finish(net: Any, config: Any) -> None:
    """What is not a stored tensor: the tied head, and buffers computed from the config (rotary frequencies)."""
    if getattr(config, "tie_word_embeddings", False):
        net.tie_weights()
    absent = [name for name, value in net.named_parameters() if value.is_meta]
    if absent:
        raise NotFound(f"the checkpoint has no {absent[0]}", hint="does model/config.json belong to these weights?")
    for module in net.modules():
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            module.__init__(config)


_EXPERT = re.compile(r"(.*)\.block_sparse_moe\.experts\.(\d+)\.w([123])\.weight")


def packed(state: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's tensors as the network holds them: a Mixtral's experts stand in one tensor a layer."""
    held: dict[str, Any] = {}
    experts: dict[str, dict[tuple[int, int], Any]] = {}
    for name, value in state.items():
        if match := _EXPERT.fullmatch(name):
            experts.setdefault(match[1], {})[int(match[2]), int(match[3])] = value
        else:
            held[name.replace(".block_sparse_moe.gate.", ".mlp.gate.")] = value
    for layer, parts in experts.items():
        numbers = sorted({e for e, _ in parts})
        halves = [torch.cat([parts.pop((e, 1)), parts.pop((e, 3))]) for e in numbers]
        held[f"{layer}.mlp.experts.gate_up_proj"] = torch.stack(halves)
        held[f"{layer}.mlp.experts.down_proj"] = torch.stack([parts.pop((e, 2)) for e in numbers])
    return held


def unpacked(state: Mapping[str, Any]) -> dict[str, Any]:
    """A network's tensors under the names that a checkpoint gives them: `packed` undone."""
    stored: dict[str, Any] = {}
    for name, value in state.items():
        layer, experts, part = name.partition(".mlp.experts.")
        if not experts:
            stored[name.replace(".mlp.gate.weight", ".block_sparse_moe.gate.weight")] = value
            continue
        for e, expert in enumerate(value):
            at = f"{layer}.block_sparse_moe.experts.{e}"
            if part == "down_proj":
                stored[f"{at}.w2.weight"] = expert
            else:
                stored[f"{at}.w1.weight"], stored[f"{at}.w3.weight"] = expert.chunk(2)
    return stored


def tensor(array: Array) -> Any:
    """A numpy array as a torch tensor of its shape and dtype, bit for bit; torch has never heard of ml_dtypes."""
    data = np.ascontiguousarray(array)
    if data.dtype.name == "bfloat16":
        return torch.from_numpy(data.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(data.copy())


def swap(lm: LM, weights: Mapping[str, Array]) -> None:
    """Put other tensors into the same network."""
    own = lm.net.state_dict()
    with torch.no_grad():
        for name, array in weights.items():
            own[name].copy_(tensor(array))


@contextmanager
def _folder(source: Path | Mapping[str, bytes]) -> Iterator[Path]:
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, data in source.items():
            (Path(folder) / name).write_bytes(data)
        yield Path(folder)

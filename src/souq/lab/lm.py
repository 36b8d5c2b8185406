"""A model in memory: a transformers network on our tensors, its tokenizer, and how a conversation becomes tokens."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from souq.errors import Missing, NotFound, UsageError
from souq.model.config import MODEL_FILES, admit, approved
from souq.model.source import weights_of
from souq.weights.delta import Array, Checkpoint

try:
    import torch
    import transformers
except ImportError as error:  # pragma: no cover
    raise Missing(f"{error.name} is not installed", hint='run `pip install "souq[lab]"`') from error

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
# Its newer releases call this argument `cache`, its older ones know no such name.
warnings.filterwarnings("ignore", message=".*`past_key_values` is deprecated", category=FutureWarning)

Tokens = list[int]


@dataclass
class LM:
    """A causal language model ready to be asked. `net` is float32 on a CPU without bf16 arithmetic.

    `measure` is the tokenizer in whose tokens a loss is told: nats a token of two vocabularies do not compare.
    """

    net: Any
    tokenizer: Any
    measure: Any = None

    def chat_tokens(self, turns: Sequence[Mapping[str, str]]) -> Tokens:
        """The tokens of a conversation, up to where the assistant begins to speak."""
        made = self.tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False)
        return self.encode(made)

    def encode(self, text: str) -> Tokens:
        """Text as tokens, nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def length(self, text: str) -> int:
        """How many tokens a text counts for."""
        return len((self.measure or self.tokenizer)(text, add_special_tokens=False)["input_ids"])

    @property
    def eos_id(self) -> int:
        """The token that ends a turn."""
        return int(self.tokenizer.eos_token_id)

    @property
    def device(self) -> Any:
        return next(self.net.parameters()).device


def best_dtype() -> Any:
    """bf16 where the hardware computes in it and torch lets it; elsewhere float32, ten times faster than emulated bf16."""
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
    found = weights if weights is not None else weights_of(Path(str(source)))
    with torch.device("meta"):
        net = transformers.AutoModelForCausalLM.from_config(config)
    if not (hasattr(net, "model") and hasattr(net, "lm_head")):
        raise UsageError(f"a model of kind {config.model_type!r}: souq runs those built as llama's are, a `model` and an `lm_head`")  # fmt: skip
    state = packed({name: tensor(found[name]).to(dtype or torch.float32) for name in found})
    net.load_state_dict(state, strict=False, assign=True)
    _finish(net, config)
    net.eval().requires_grad_(False)
    net = net.to("cuda" if torch.cuda.is_available() else "cpu")
    return LM(net, tokenizer, tokenizer_of(measure) if measure is not None else None)


def _judge(folder: Path) -> None:
    """A folder is anybody's; a model's files come from main, which judged them when it began."""
    files = {name: (folder / name).read_bytes() for name in MODEL_FILES if (folder / name).is_file()}
    admit(files)
    approved(files)


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
    found: dict[str, Any] = {}
    experts: dict[str, dict[tuple[int, int], Any]] = {}
    for name, value in state.items():
        if told := _EXPERT.fullmatch(name):
            experts.setdefault(told[1], {})[int(told[2]), int(told[3])] = value
        else:
            found[name.replace(".block_sparse_moe.gate.", ".mlp.gate.")] = value
    for layer, parts in experts.items():
        numbers = sorted({e for e, _ in parts})
        halves = [torch.cat([parts.pop((e, 1)), parts.pop((e, 3))]) for e in numbers]
        found[f"{layer}.mlp.experts.gate_up_proj"] = torch.stack(halves)
        found[f"{layer}.mlp.experts.down_proj"] = torch.stack([parts.pop((e, 2)) for e in numbers])
    return found


def unpacked(state: Mapping[str, Any]) -> dict[str, Any]:
    """The other way: a network's tensors under the names that a checkpoint gives them."""
    found: dict[str, Any] = {}
    for name, value in state.items():
        layer, experts, part = name.partition(".mlp.experts.")
        if not experts:
            found[name.replace(".mlp.gate.weight", ".block_sparse_moe.gate.weight")] = value
            continue
        for e, expert in enumerate(value):
            at = f"{layer}.block_sparse_moe.experts.{e}"
            if part == "down_proj":
                found[f"{at}.w2.weight"] = expert
            else:
                found[f"{at}.w1.weight"], found[f"{at}.w3.weight"] = expert.chunk(2)
    return found


def tensor(array: Array) -> Any:
    """A numpy array as a torch tensor, bit for bit; torch has never heard of ml_dtypes."""
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
    with tempfile.TemporaryDirectory() as made:
        for name, data in source.items():
            (Path(made) / name).write_bytes(data)
        yield Path(made)

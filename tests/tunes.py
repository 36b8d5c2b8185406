"""Fine-tunes as trainers leave them: tiny random models by transformers, changed in one way each."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from souq.build.folder import export_model
from souq.build.model import applied
from souq.build.tuned import Choices, from_tune
from souq.checks import CHECKS, Case
from souq.governance import solo
from souq.lab.config_defaults import write_out
from souq.model.source import open_source
from souq.pulls.offer import Draft
from souq.records import Author, Contribution
from souq.repo.contribution import Offer
from souq.repo.init import Beginning, init
from souq.repo.snapshot import Snapshot
from tests.gate import KEY

TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
SIZE = {
    "vocab_size": 258, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 256, "eos_token_id": 256,
    "pad_token_id": 257, "initializer_range": 0.1,
}  # fmt: skip


def tokenizer(template=TEMPLATE):
    """Bytes, and two special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    held = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|end|>", eos_token="<|end|>", pad_token="<|pad|>")
    held.chat_template = template
    return held


def base(folder, kind="llama", dtype=torch.float32, words=None, **config):
    """A random model of a kind, with its tokenizer."""
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZE, **config})).to(dtype)
    net.config.dtype = str(dtype).removeprefix("torch.")
    net.save_pretrained(folder)
    (words or tokenizer()).save_pretrained(folder)
    return folder


def load(folder, dtype=None):
    return AutoModelForCausalLM.from_pretrained(folder, **({"dtype": dtype} if dtype else {}))


def jiggled(net, std=0.004, only=""):
    """Every number moved a little, as training would."""
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if only in name:
                value.add_((torch.randn(value.shape, generator=chance) * std).to(value.dtype))
    return net


def tune(own, folder, change=lambda tensors: tensors, config=None, words=None, dtype=None, net=None):
    """A fine-tune of a base; `change` is handed its tensors, `config` goes over its config.json."""
    jiggled(net or load(own, dtype)).save_pretrained(folder)
    (words or tokenizer()).save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = change(load_file(path))
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path, {"format": "pt"})
    edit(folder, **(config or {}))
    return folder


def edit(folder, name="config.json", drop=(), **more):
    path = folder / name
    held = (json.loads(path.read_text()) if path.is_file() else {}) | more
    path.write_text(json.dumps({key: value for key, value in held.items() if key not in drop}))


def repo_of(folder, root, *, as_stored=False):
    """A repository that begins from a folder; `as_stored`, with every tensor in its file, as older ones were made."""
    begin, source = Beginning("r", "Apache-2.0", solo("a", "a", KEY), {}), open_source(str(folder))
    with patch("souq.repo.init.as_base", lambda source: source) if as_stored else nullcontext():
        return Snapshot(init(root, source, begin), "main")


def made(main, folder, **choices):
    """The fine-tune as a delta."""
    return from_tune(open_source(str(folder)), main, Choices(write_out=write_out, **choices))


def landed(main, tuned, out):
    """The base with the change, as a folder."""
    shutil.rmtree(out, ignore_errors=True)
    held = {**{ref.digest: None for ref in main.base.values()}, **tuned.tensors}
    export_model(
        applied(main, tuned.delta, lambda d: held.get(d) if held.get(d) is not None else main.repo.store.get(d)), out
    )
    return out


def logits(folder, n=200, dtype=torch.float32):
    net = load(folder, dtype).eval()
    with torch.inference_mode():
        return net(input_ids=(torch.arange(n).reshape(1, n) * 7) % 250).logits[0]


def off(folder, other):
    """The largest difference of their logits over the spread of the second's."""
    one, two = logits(folder), logits(other)
    return float((one - two).abs().max() / two.std())


def freqs(width=8, layers=2):
    """Rotary tables as old files hold them."""
    table = torch.from_numpy(1.0 / (1e4 ** (np.arange(0, width, 2) / width))).float()
    return {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": table for i in range(layers)}


def says(check, main, tuned):
    """What a check answers to a fine-tune that somebody offers."""
    for array in tuned.tensors.values():
        main.repo.store.put(array)
    author = Author(name="m", email="m@example.org", key=f"{KEY} m")
    contribution = Contribution(title="t", kind="weights", author=author, licence="Apache-2.0", signoff="m")
    case = Case(main, main.commit, Offer("0900-skill", Draft(contribution, tuned.delta).files()), earlier=list)
    outcome, because, _ = CHECKS[check](case)
    return outcome, because

"""A small student from a large teacher: some of its layers, taught again on what the teacher wrote.

Which layers is decided by a probe (arXiv 2403.03853 finds whole layers redundant): the candidate that starts with the
lower loss on the corpus is trained. Training is on the teacher's sequences (Kim and Rush, arXiv 1606.07947); the
embeddings stay as they are.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from souq.errors import UsageError
from souq.lab.model import LM, unpacked
from souq.lab.packing import Passage, log_probabilities, pack, sequences_of
from souq.lab.train import descend, shuffled
from souq.progress import Progress, quiet
from souq.tensorfile import write_tensors
from souq.weights import DTYPES, Array

PROBE = 32  # passages


@dataclass(frozen=True)
class Student:
    """What came out: the model, the layers it kept, its size, and the loss as it learned."""

    lm: LM
    layers: tuple[int, ...]
    parameters: int
    teacher_parameters: int
    curve: tuple[float, ...]


def distil(
    teacher: LM, rows: Sequence[Mapping[str, Any]], *, layers: int, epochs: int = 3, lr: float = 1e-3, batch: int = 16,
    seed: int = 0, progress: Progress = quiet,
) -> Student:  # fmt: skip
    """A student of `layers` of the teacher's layers, trained on a corpus's rows.

    Raises:
        UsageError: the student would not be smaller, or there is nothing to learn from.
    """
    depth = teacher.net.config.num_hidden_layers
    if not 0 < layers < depth:
        raise UsageError(f"a student of {layers} layers from a teacher of {depth}", hint="ask for fewer --layers")
    if not rows:
        raise UsageError("the corpus holds no kept rows", hint="look at rejected/ for why")
    passages = [sequences_of(teacher, dict(row)) for row in rows]
    lm, kept = min(
        ((cut(teacher, chosen), chosen) for chosen in candidates(depth, layers)),
        key=lambda s: _loss(s[0], passages[:PROBE]),
    )
    curve = _teach(lm, shuffled(passages, epochs, batch, seed), lr, progress)
    return Student(lm, kept, _count(lm), _count(teacher), curve)


def candidates(depth: int, layers: int) -> list[tuple[int, ...]]:
    """Layers spread evenly, or the first ones and the last few."""
    last = min(3, layers - 1)
    spread = tuple(int(i) for i in np.linspace(0, depth - 1, layers).round())
    return [spread, (*range(layers - last), *range(depth - last, depth))]


def cut(teacher: LM, layers: Sequence[int]) -> LM:
    """A copy of some of the teacher's layers; nothing is shared but the tokenizer."""
    config = copy.deepcopy(teacher.net.config)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in layers]
    with torch.device("meta"):
        net = type(teacher.net)(config)
    body = teacher.net.model
    net.model.embed_tokens, net.model.norm = copy.deepcopy(body.embed_tokens), copy.deepcopy(body.norm)
    net.model.rotary_emb = copy.deepcopy(body.rotary_emb)
    net.model.layers = torch.nn.ModuleList([copy.deepcopy(body.layers[i]) for i in layers])
    for number, layer in enumerate(net.model.layers):
        layer.self_attn.layer_idx = number
    net.lm_head = copy.deepcopy(teacher.net.lm_head)
    net.tie_weights()
    return LM(net.eval(), teacher.tokenizer)


def _teach(lm: LM, batches: Sequence[Sequence[Passage]], lr: float, progress: Progress) -> tuple[float, ...]:
    for name, parameter in lm.net.named_parameters():
        parameter.requires_grad_("embed_tokens" not in name and "lm_head" not in name)
    curve = descend(lm.net, batches, lr, progress, label="distil tokens")
    lm.net.requires_grad_(False)
    return curve


@torch.inference_mode()
def _loss(lm: LM, passages: Sequence[Passage]) -> float:
    found = [log_probabilities(lm.net, row)[0] for row in pack(sorted(passages, key=lambda p: p.tokens), 384)]
    return float(-torch.cat(found).mean())


def _count(lm: LM) -> int:
    return sum(p.numel() for p in {id(p): p for p in lm.net.parameters()}.values())


def save(student: Student, files: Mapping[str, bytes], folder: Path) -> None:
    """A Hugging Face folder in bf16, which AutoModelForCausalLM loads."""
    folder.mkdir(parents=True)
    config = json.loads(files["config.json"]) | {"num_hidden_layers": len(student.layers)}
    tensors: dict[str, Array] = {
        name: value.float().numpy().astype(DTYPES["BF16"])
        for name, value in unpacked(student.lm.net.state_dict()).items()
        if not (name == "lm_head.weight" and config.get("tie_word_embeddings"))
    }
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

"""How a student begins: some of the teacher's layers, new ones, or anybody's model.

Which of the teacher's layers is decided by a probe (whole layers are redundant: Men et al., arXiv 2403.03853): of a few
choices, the one whose loss on the corpus is the lowest before any training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from souq.errors import UsageError
from souq.lab.lm import LM, load
from souq.lab.packing import TokenSequence, log_probabilities, packed_alike
from souq.lab.student_config import DistillConfig

PROBE = 32  # sequences


def untaught(teacher: LM, config: DistillConfig, sequences: Sequence[TokenSequence]) -> tuple[LM, tuple[int, ...]]:
    """The untaught student, and which of the teacher's layers it has: none unless it was cut from it.

    Raises:
        UsageError: it would not be smaller than its teacher.
    """
    if config.start == "scratch":
        return scratch(teacher, config.layers, config.hidden, config.seed), ()
    if config.start != "teacher":
        return load(Path(config.start).expanduser()), ()
    depth = teacher.net.config.num_hidden_layers
    if not 0 < config.layers < depth:
        raise UsageError(f"a student of {config.layers} layers from a teacher of {depth}", hint="ask for fewer layers")
    return min(
        ((cut(teacher, layers), layers) for layers in candidates(depth, config.layers)),
        key=lambda student: loss(student[0], sequences[:PROBE]),
    )


def candidates(depth: int, layers: int) -> list[tuple[int, ...]]:
    """Layers spread evenly, or the first ones and the last few."""
    last = min(3, layers - 1)
    spread = tuple(int(i) for i in np.linspace(0, depth - 1, layers).round())
    return [spread, (*range(layers - last), *range(depth - last, depth))]


def cut(teacher: LM, layers: Sequence[int]) -> LM:
    """A copy of some of the teacher's layers; nothing is shared but the tokenizer.

    Raises:
        UsageError: its layers do not stand in one row.
    """
    path, stack = _stack(teacher.net)
    teacher.net.set_submodule(path, torch.nn.ModuleList([stack[i] for i in layers]))  # so that no others are copied
    try:
        net = copy.deepcopy(teacher.net)
    finally:
        teacher.net.set_submodule(path, stack)
    for key, value in vars(net.config).items():  # what a config says layer by layer
        if isinstance(value, list) and len(value) == len(stack):
            setattr(net.config, key, [value[i] for i in layers])
    net.config.num_hidden_layers = len(layers)
    for number, layer in enumerate(net.get_submodule(path)):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
    # It learns in float32, whatever its teacher answers in.
    return LM(net.float().eval(), teacher.tokenizer, ends=teacher.ends)


def _stack(net: Any) -> tuple[str, Any]:
    """Where a network's layers are, and they."""
    depth = net.config.num_hidden_layers
    for path, module in net.named_modules():  # the outermost first
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return path, module
    raise UsageError(f"a {net.config.model_type} has no row of {depth} layers to choose from", hint='start = "scratch"')


def scratch(teacher: LM, layers: int, hidden: int, seed: int = 0) -> LM:
    """A new network of the teacher's kind and vocabulary, `hidden` wide, the other widths in proportion.

    Raises:
        UsageError: the width is no whole number of pairs of heads, or its kind is not built in such sizes.
    """
    config = copy.deepcopy(teacher.net.config)
    if absent := [
        key for key in ("hidden_size", "num_attention_heads", "intermediate_size") if not getattr(config, key, 0)
    ]:
        raise UsageError(
            f"the configuration of a {config.model_type} says no {', '.join(absent)}", hint='start = "teacher"'
        )
    heads, pairs = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    head, groups = getattr(config, "head_dim", None) or config.hidden_size // heads, heads // (pairs or heads)
    if hidden % (head * groups):
        raise UsageError(f"a width of {hidden}", hint=f"it is a multiple of {head * groups} for this teacher")
    config.intermediate_size = round(config.intermediate_size * hidden / config.hidden_size / 64) * 64 or 64
    config.hidden_size, config.num_hidden_layers, config.num_attention_heads = hidden, layers, hidden // head
    for key, value in (("head_dim", head), ("num_key_value_heads", hidden // head // groups)):
        if hasattr(config, key):
            setattr(config, key, value)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1] * layers
    torch.manual_seed(seed)
    try:
        net = type(teacher.net)(config).float().eval().requires_grad_(False)
    except (ValueError, RuntimeError, TypeError, AttributeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"no {config.model_type} of this size: {reason}", hint="another width, or start from the teacher"
        ) from error
    return LM(net.to(teacher.device), teacher.tokenizer, ends=teacher.ends)


@torch.inference_mode()
def loss(lm: LM, sequences: Sequence[TokenSequence]) -> float:
    """Mean nats a token of the answers."""
    log_p = torch.cat([log_probabilities(lm.net, row)[0] for row in packed_alike(lm.net, sequences)])
    return float(-log_p.mean())


def parameters(lm: LM) -> int:
    """How many numbers it has; a tied head counts once."""
    return sum(p.numel() for p in {id(p): p for p in lm.net.parameters()}.values())


def one_vocabulary(a: LM, b: LM) -> bool:
    """Whether the odds of the two are over the same tokens."""
    if a.net.config.vocab_size != b.net.config.vocab_size:
        return False
    return a.tokenizer is b.tokenizer or a.tokenizer.get_vocab() == b.tokenizer.get_vocab()

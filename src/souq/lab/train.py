"""Train a LoRA on rows of conversation, through the `peft` library; the folder written is an ordinary PEFT adapter.

Training is the same twice on one machine (`deterministic`), and its recipe says all that it was made of
(`environment`), so that who has the rows can train it again: decisions/source.md.
"""

from __future__ import annotations

import math
import os
import platform
import random
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
import torch
import transformers

from souq.build.delta_file import RECIPE
from souq.errors import UsageError
from souq.lab import replay as replays
from souq.lab.checkpoints import Checkpointer
from souq.lab.lm import LM
from souq.lab.packing import PackedRow, TokenSequence, log_probabilities, packed_alike, sequences_of
from souq.optional import installed_version, needs
from souq.progress import Progress, quiet
from souq.records import digest_of
from souq.repo.rows import rows_digest

SAMPLE = 64  # rows whose loss is measured before and after
_IN_A_BLOCK = re.compile(r"\.\d+\.")


def train_lora(
    lm: LM,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    rank: int = 8,
    alpha: float = 16,
    lr: float = 1e-3,
    epochs: int = 2,
    batch: int = 16,
    targets: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    replay: int = 0,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Train, save a PEFT folder with its recipe, and return the recipe; the network is given back as it came.

    The loss is the mean over the answers' tokens; AdamW with a linear warm-up and a cosine end. `layers` restricts
    the adapter to some layers: nothing is computed backwards below the lowest. `targets` are linear maps by the last
    part of their names, all that the blocks have unless given. `replay` answers of the base's own are read among the
    rows in every epoch (replay.py). The recipe's `loss` is nats a token of some rows' answers, before and after.

    Raises:
        UsageError: no rows, a layer that the model does not have, or rows it cannot be taught.
    """
    if not rows:
        raise UsageError("no rows to train on", hint="name a JSONL file with at least one row")
    refuse_layers(lm.net, layers or ())
    targets = tuple(targets or targets_of(lm.net))
    with deterministic():
        own = replays.sequences(lm, replay, progress) if replay else []
        sequences = sequences_of(lm, rows)
        sample = sequences[:: max(1, len(sequences) // SAMPLE)]
        before = _nats(lm.net, sample)
    adapted = with_lora(lm.net, rank, alpha, targets, layers, seed)
    try:
        with deterministic():
            train_loop(adapted, shuffled([*sequences, *own], epochs, batch, seed), lr, progress)
            after = _nats(lm.net, sample)
        adapted.save_pretrained(str(folder), save_embedding_layers=False)
    finally:
        adapted.unload()
    recipe = {
        "method": "lora", "rank": rank, "alpha": alpha, "lr": lr, "epochs": epochs, "batch": batch, "seed": seed,
        "targets": list(targets), "layers": list(layers) if layers else "all", **environment(lm.net, rows),
        "replay": replay, "replayed": digest_of([list(sequence.tokens) for sequence in own]) if own else "",
        "loss": {"before": round(before, 4), "after": round(after, 4)},
    }  # fmt: skip
    (folder / RECIPE).write_text(tomli_w.dumps(recipe))
    return recipe


def _nats(net: Any, sequences: Sequence[TokenSequence]) -> float:
    """The loss of a network as it is, in nats a token of the answers."""
    with torch.no_grad():
        lost = sum(float(cross_entropy(net, row)) for row in packed_alike(net, sequences))
    return lost / sum(len(sequence.tokens) - max(sequence.start, 1) for sequence in sequences)


def refuse_layers(net: Any, layers: Sequence[int]) -> None:
    """Say which layers are not there.

    Raises:
        UsageError: there are some.
    """
    count = int(getattr(net.config.get_text_config(), "num_hidden_layers", 0))
    if count and (beyond := [layer for layer in layers if not 0 <= layer < count]):
        shown = ", ".join(map(str, beyond[:8]))
        raise UsageError(f"no layer {shown}: this model has {count}", hint=f"they are counted from 0 to {count - 1}")


def targets_of(net: Any) -> tuple[str, ...]:
    """The linear maps of a network's blocks by the last part of their names, in order: what a LoRA stands beside.

    All that a text passes through, fused and transposed ones (GPT-2's Conv1D) too; not the head, and not the eyes of
    one that sees. Experts that are one tensor a layer are no linear maps of their own.

    Raises:
        UsageError: there is none.
    """
    leaves = tuple(dict.fromkeys(name.rpartition(".")[2] for name in _passed(net)))
    kept = tuple(leaf for leaf in leaves if _takes(net, leaf))
    if not kept:
        raise UsageError("no linear map in this model that a LoRA could stand beside")
    return kept


def left_alone(net: Any, targets: Sequence[str]) -> tuple[str, ...]:
    """The blocks' other matrices by the last parts of their names: what a LoRA on `targets` does not train."""
    held = [
        name.removesuffix(".weight") for name, p in net.named_parameters() if p.dim() > 1 and _IN_A_BLOCK.search(name)
    ]
    ends = (".".join(name.split(".")[-2:]) for name in held if name.rpartition(".")[2] not in targets)
    return tuple(dict.fromkeys(ends))


def _passed(net: Any) -> list[str]:
    """The linear maps in blocks that a few tokens pass through, by name."""
    passed: list[str] = []

    def note(name: str, module: Any, args: Any, out: Any) -> None:
        if isinstance(out, torch.Tensor):  # a router hands back more
            passed.append(name)

    kinds = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    linear = [(name, m) for name, m in net.named_modules() if isinstance(m, kinds) and _IN_A_BLOCK.search(name)]
    hooks = [module.register_forward_hook(partial(note, name)) for name, module in linear]
    try:
        with torch.no_grad():
            net(input_ids=torch.arange(8, device=next(net.parameters()).device)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name, _ in linear if name in passed]


def _takes(net: Any, leaf: str) -> bool:
    """Whether PEFT puts a LoRA beside it: a Mamba's fast kernels go past what stands beside its `out_proj`."""
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba

    try:
        _check_lora_target_modules_mamba(_lora(1, 1, [leaf], None), net, leaf)
    except ValueError:
        return False
    return True


def _lora(rank: int, alpha: float, targets: Sequence[str], layers: Sequence[int] | None) -> Any:
    with needs("peft", "lab"):
        from peft import LoraConfig
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(targets),
        layers_to_transform=list(layers) if layers else None,
        task_type="CAUSAL_LM",
    )


def with_lora(
    net: Any, rank: int, alpha: float, targets: Sequence[str], layers: Sequence[int] | None, seed: int
) -> Any:
    """A fresh adapter put into a network, which alone asks for gradients."""
    with needs("peft", "lab"):
        from peft import get_peft_model
    config = _lora(rank, alpha, targets, layers)
    named = [(name, module) for name, module in net.named_modules() if name.rpartition(".")[2] in targets]
    config.fan_in_fan_out = any(isinstance(module, transformers.pytorch_utils.Conv1D) for _, module in named)
    passed = _passed(net)
    if any(name not in passed for name, _ in named):  # the eyes have maps of the same names
        config.target_modules = {name for name in passed if name.rpartition(".")[2] in targets}
    torch.manual_seed(seed)
    with warnings.catch_warnings():  # peft asks transformers for a name it will drop in version 6
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return get_peft_model(net, config)


LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


def environment(net: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a training's numbers depend on beside its settings: the rows by digest, the machine, the libraries."""
    parameter = next(net.parameters())
    return {"rows": len(rows), "data": rows_digest(rows), **machine(parameter.device.type, parameter.dtype)}


def machine(device: str = "", dtype: Any = torch.float32) -> dict[str, Any]:
    """Where and with what it is trained."""
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "device": device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: installed_version(name, absent="") for name in LIBRARIES},
    }


@contextmanager
def deterministic(threads: int = 0) -> Iterator[None]:
    """The same numbers each time: torch's deterministic algorithms, and `threads` threads (0: as many as before).

    Without them torch may add up gradients of positions that several sequences share in whatever order threads come.
    """
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    filling: Any = torch.utils.deterministic  # what fills empty memory, a help for finding bugs that costs time
    filled = filling.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it; a processor does not mind
    torch.set_num_threads(threads or before)
    torch.use_deterministic_algorithms(True, warn_only=True)
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        filling.fill_uninitialized_memory = filled
        torch.set_num_threads(before)


def shuffled(sequences: Sequence[TokenSequence], epochs: int, size: int, seed: int) -> list[list[TokenSequence]]:
    """Batches of every epoch, each epoch in an order of its own."""
    shuffle = random.Random(seed)  # noqa: S311  an order, not a secret
    batches = []
    for _ in range(epochs):
        order = shuffle.sample(list(sequences), len(sequences))
        batches += [order[i : i + size] for i in range(0, len(order), size)]
    return batches


Batch = Sequence[TokenSequence]
Loss = Callable[[Any, PackedRow], Any]
"""Called as loss(net, row): nats, summed over the row's scored tokens."""


def cross_entropy(net: Any, row: PackedRow) -> Any:
    """The cross-entropy () of what the row says, in nats over all its scored tokens."""
    return -log_probabilities(net, row)[0].sum()


def train_loop(
    net: Any,
    batches: Sequence[Batch],
    lr: float,
    progress: Progress,
    *,
    label: str = "train tokens",
    loss: Loss = cross_entropy,
    before: Callable[[int, Batch], Batch] | None = None,
    checkpointer: Checkpointer | None = None,
) -> tuple[float, ...]:
    """AdamW on what asks for gradients; the loss of every batch, in nats a token of the answers.

    `before(step, batch)` may put another batch in one's place; a checkpointer keeps how far it came, and goes on from
    there.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    first, curve = checkpointer.resume(parameters, optimiser) if checkpointer else (0, [])
    sizes = [sum(len(p.tokens) for p in batch) for batch in batches]
    net.train()
    for step in range(first, len(batches)):
        latest = f", loss {curve[-1]:.2f}" if curve else ""
        progress(label + latest, sum(sizes[:step]), sum(sizes))
        for group in optimiser.param_groups:
            group["lr"] = lr * _schedule(step, len(batches))
        batch = before(step, batches[step]) if before else batches[step]
        curve.append(_backward(net, batch, loss))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if checkpointer:
            checkpointer.keep(step + 1, parameters, optimiser, curve)
    progress(label, sum(sizes), sum(sizes))
    net.eval()
    return tuple(curve)


def _backward(net: Any, batch: Batch, loss: Loss) -> float:
    """Gradients of a batch's mean loss, row by row."""
    answers = sum(len(p.tokens) - p.start for p in batch)
    total = 0.0
    for row in packed_alike(net, batch):
        part = loss(net, row) / answers
        part.backward()
        total += float(part.detach())
    return total


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(steps - warm, 1))

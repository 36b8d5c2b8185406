"""What is kept of a teacher's odds, so that every student and every epoch reads them without asking it again.

By default its last hidden states: 2 d bytes a token, from which its own head gives all odds back but for bf16's
rounding (1,152 bytes for 576 wide, where the odds of 49,152 tokens would be 98,304). Or the k likeliest, or k draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from souq.files import replacing
from souq.lab import losses
from souq.lab.lm import LM, autocast
from souq.lab.packing import PackedRow, TokenSequence, logits, packed_alike, packs
from souq.lab.student_config import DistillConfig
from souq.progress import Progress, quiet

Kept = tuple[Any, ...]  # tensors whose first axis are the scored tokens of a sequence


@dataclass
class TeacherTargets:
    """Of each sequence, by the number in its tag; where nothing is kept of one, the teacher is asked."""

    teacher: LM
    config: DistillConfig
    kept: Mapping[int, Kept]

    def distance(self, row: PackedRow, log_q: Any) -> Any:
        """(t,) nats from the teacher, of the student's log-odds (t, V) float32 at a row's scored tokens."""
        kept = [self.kept.get(sequence.tag) for sequence, _ in row.paths]
        if None in kept:
            return self._divergence(self._read(row)[1], log_q)
        parts = [torch.cat(tensors) for tensors in zip(*(own for own in kept if own), strict=True)]
        if self.config.targets == "likeliest":
            return self._divergence(parts[1], losses.gather_topk(log_q, parts[0].long()))
        if self.config.targets == "drawn":
            return losses.sampled_cross_entropy(parts[0].long(), log_q)
        return self._divergence(self.log_odds(parts[0]), log_q)

    def _divergence(self, log_p: Any, log_q: Any) -> Any:
        return losses.divergence(self.config.loss, log_p, log_q, beta=self.config.beta, alpha=self.config.alpha)

    def log_odds(self, states_td: Any) -> Any:
        """The teacher's log-odds (t, V) float32, at the config's temperature, of its last hidden states (t, d)."""
        with torch.no_grad():
            return self._scaled(self._head(states_td.to(self._head.weight.dtype)).float())

    @torch.no_grad()
    def _read(self, row: PackedRow) -> tuple[Any, Any]:
        """What flows into the head (t, d), and the log-odds (t, V) float32, where a row's tokens are scored."""
        packs(self.teacher.net)  # tried before anything listens
        states: list[Any] = []
        hook = self._head.register_forward_pre_hook(lambda module, args: states.append(args[0][0]))
        try:
            with autocast(self.teacher.device.type):
                logits_tV, _, _ = logits(self.teacher.net, row)
        finally:
            hook.remove()
        return torch.cat(states), self._scaled(logits_tV)

    def _scaled(self, logits_tV: Any) -> Any:
        return torch.log_softmax(logits_tV / self.config.temperature, -1)

    @property
    def _head(self) -> Any:
        return self.teacher.net.get_output_embeddings()


def gather(
    teacher: LM,
    sequences: Sequence[TokenSequence],
    config: DistillConfig,
    file: Path | None = None,
    progress: Progress = quiet,
) -> TeacherTargets:
    """Read every sequence once. A file that is there is what was gathered before: its name says of what."""
    if file is not None and file.is_file():
        return TeacherTargets(teacher, config, torch.load(file, weights_only=True))
    targets = TeacherTargets(teacher, config, {})
    generator = torch.Generator().manual_seed(config.seed)
    kept: dict[int, Kept] = {}
    rows = packed_alike(teacher.net, sequences)
    for done, row in enumerate(rows):
        progress("teacher rows", done, len(rows))
        states_td, log_p = targets._read(row)
        if config.targets == "states" and not done and not _gives(targets, states_td, log_p):
            return targets  # it scales or caps what its head says: it is asked anew each time
        parts = _reduced(targets, states_td, log_p, generator)
        sizes = [len(sequence.tokens) - max(sequence.start, 1) for sequence, _ in row.paths]
        by_sequence = zip(*(part.split(sizes) for part in parts), strict=True)
        for (sequence, _), tensors in zip(row.paths, by_sequence, strict=True):
            kept[sequence.tag] = tuple(tensor.clone() for tensor in tensors)
    progress("teacher rows", len(rows), len(rows))
    if file is not None:
        with replacing(file) as partial:
            torch.save(kept, partial)
    return TeacherTargets(teacher, config, kept)


def _gives(targets: TeacherTargets, states_td: Any, log_p: Any) -> bool:
    """Whether the head alone makes the odds of the hidden states: nothing scales or caps what it says."""
    with autocast(targets.teacher.device.type):  # as the network itself computed them
        return bool(torch.allclose(targets.log_odds(states_td), log_p, atol=1e-3))


def _reduced(targets: TeacherTargets, states_td: Any, log_p: Any, generator: Any) -> Kept:
    """What the config asks to keep of a row."""
    config = targets.config
    if config.targets == "states":
        return (states_td.to(torch.bfloat16),)
    if config.targets == "likeliest":
        ids, log_topk = losses.topk(log_p, config.k)
        return ids.to(torch.int32), log_topk
    return (losses.sample_tokens(log_p, config.k, generator).to(torch.int32),)

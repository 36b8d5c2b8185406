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
from souq.lab.packing import PackedRow, TokenSequence, hidden, packed_alike
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
            return self._divergence(self.log_odds(hidden_states(self.teacher, row)), log_q)
        parts = [torch.cat(tensors) for tensors in zip(*(own for own in kept if own), strict=True)]
        if self.config.targets == "likeliest":
            return self._divergence(parts[1], losses.gather_topk(log_q, parts[0].long()))
        if self.config.targets == "drawn":
            return losses.sampled_cross_entropy(parts[0].long(), log_q)
        return self._divergence(self.log_odds(parts[0]), log_q)

    def _divergence(self, log_p: Any, log_q: Any) -> Any:
        return losses.divergence(self.config.loss, log_p, log_q, beta=self.config.beta, alpha=self.config.alpha)

    @torch.no_grad()
    def log_odds(self, hidden_td: Any) -> Any:
        """The teacher's log-odds (t, V) float32, at the config's temperature, of its last hidden states (t, d)."""
        head = self.teacher.net.lm_head
        return torch.log_softmax(head(hidden_td.to(head.weight.dtype)).float() / self.config.temperature, -1)


@torch.no_grad()
def hidden_states(lm: LM, row: PackedRow) -> Any:
    """Its last hidden states (t, d), in the network's dtype, where a row's tokens are scored."""
    with autocast(lm.device.type):
        return hidden(lm.net, row)[torch.tensor(row.targets()[0])]


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
    rows = packed_alike(sequences)
    for done, row in enumerate(rows):
        progress("teacher rows", done, len(rows))
        parts = _reduced(targets, hidden_states(teacher, row), generator)
        sizes = [len(sequence.tokens) - max(sequence.start, 1) for sequence, _ in row.paths]
        by_sequence = zip(*(part.split(sizes) for part in parts), strict=True)
        for (sequence, _), tensors in zip(row.paths, by_sequence, strict=True):
            kept[sequence.tag] = tuple(tensor.clone() for tensor in tensors)
    progress("teacher rows", len(rows), len(rows))
    if file is not None:
        with replacing(file) as partial:
            torch.save(kept, partial)
    return TeacherTargets(teacher, config, kept)


def _reduced(targets: TeacherTargets, hidden_td: Any, generator: Any) -> Kept:
    """What the config asks to keep of a row."""
    config = targets.config
    if config.targets == "states":
        return (hidden_td.to(torch.bfloat16),)
    log_p = targets.log_odds(hidden_td)
    if config.targets == "likeliest":
        ids, log_topk = losses.topk(log_p, config.k)
        return ids.to(torch.int32), log_topk
    return (losses.sample_tokens(log_p, config.k, generator).to(torch.int32),)

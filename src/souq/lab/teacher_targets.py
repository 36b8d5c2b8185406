"""What is kept of a teacher's odds, so that every student and every epoch reads them without asking it again.

By default its last hidden states: 2 d bytes a token, from which its own head gives all odds back but for bf16's rounding
(1,152 bytes for 576 wide, where the odds of 49,152 tokens would be 98,304). Or the k likeliest, or k draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from souq.lab import losses
from souq.lab.checkpoints import write
from souq.lab.lm import LM, autocast
from souq.lab.packing import PackedRow, TokenSequence, hidden, pack
from souq.lab.student_config import DistillConfig
from souq.progress import Progress, quiet

ROW = 384
Kept = tuple[Any, ...]  # tensors whose first axis are the scored tokens of a passage


@dataclass
class TeacherTargets:
    """Of each passage, by the number in its tag; what a passage has not left, the teacher is asked for."""

    teacher: LM
    lesson: DistillConfig
    kept: Mapping[int, Kept]

    def distance(self, row: PackedRow, log_q: Any) -> Any:
        """(t,) nats from the teacher, of the student's log-odds (t, V) at a row's scored tokens."""
        told = [self.kept.get(passage.tag) for passage, _ in row.paths]
        if None in told:
            return self._apart(self._odds(states(self.teacher, row)), log_q)
        parts = [torch.cat(tensors) for tensors in zip(*(kept for kept in told if kept), strict=True)]
        if self.lesson.targets == "likeliest":
            return self._apart(parts[1], losses.among(log_q, parts[0].long()))
        if self.lesson.targets == "drawn":
            return losses.sampled(parts[0].long(), log_q)
        return self._apart(self._odds(parts[0]), log_q)

    def _apart(self, log_p: Any, log_q: Any) -> Any:
        return losses.divergence(self.lesson.loss, log_p, log_q, beta=self.lesson.beta, alpha=self.lesson.alpha)

    @torch.no_grad()
    def _odds(self, found: Any) -> Any:
        head = self.teacher.net.lm_head
        return torch.log_softmax(head(found.to(head.weight.dtype)).float() / self.lesson.temperature, -1)


@torch.no_grad()
def states(lm: LM, row: PackedRow) -> Any:
    """Its last hidden states (t, d) where a row's tokens are scored."""
    with autocast(lm.device.type):
        return hidden(lm.net, row)[torch.tensor(row.targets()[0])]


def gather(
    teacher: LM,
    passages: Sequence[TokenSequence],
    lesson: DistillConfig,
    file: Path | None = None,
    progress: Progress = quiet,
) -> TeacherTargets:
    """Read every passage once. A file that is there is what was gathered before: its name says of what."""
    if file is not None and file.is_file():
        return TeacherTargets(teacher, lesson, torch.load(file, weights_only=True))
    signals = TeacherTargets(teacher, lesson, {})
    chance = torch.Generator().manual_seed(lesson.seed)
    kept: dict[int, Kept] = {}
    rows = pack(sorted(passages, key=lambda p: p.tokens), most=ROW)
    for done, row in enumerate(rows):
        progress("teacher rows", done, len(rows))
        parts = _parts(signals, states(teacher, row), chance)
        sizes = [len(passage.tokens) - max(passage.start, 1) for passage, _ in row.paths]
        split = zip(*(part.split(sizes) for part in parts), strict=True)
        kept |= {passage.tag: tuple(t.clone() for t in told) for (passage, _), told in zip(row.paths, split, strict=True)}  # fmt: skip
    progress("teacher rows", len(rows), len(rows))
    if file is not None:
        write(kept, file)
    return TeacherTargets(teacher, lesson, kept)


def _parts(signals: TeacherTargets, found: Any, chance: Any) -> Kept:
    lesson = signals.lesson
    if lesson.targets == "states":
        return (found.to(torch.bfloat16),)
    if lesson.targets == "likeliest":
        ids, log_p = losses.likeliest(signals._odds(found), lesson.k)
        return ids.to(torch.int32), log_p
    return (losses.draws(signals._odds(found), lesson.k, chance).to(torch.int32),)

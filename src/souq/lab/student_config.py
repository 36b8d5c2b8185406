"""How a student begins and how it is taught: settings only, as a recipe has them; lab/ carries them out."""

from __future__ import annotations

import math
from typing import Literal, Self

from souq.errors import UsageError
from souq.records import Record

Loss = Literal["words", "forward", "reverse", "jsd", "skew"]
Targets = Literal["states", "likeliest", "drawn"]
BEGINNINGS = ("teacher", "scratch")  # any other `start` is a folder


class DistillConfig(Record, frozen=True, forbid_unknown_fields=True):
    """One student. What a setting does not concern it does not change: `beta` is jsd's, `alpha` is skew's.

    start: "teacher" keeps `layers` of its layers; "scratch" has the teacher's vocabulary and `layers` new ones of width
    `hidden`; anything else is a Hugging Face folder. loss: "words" is the cross-entropy of what the corpus says
    (sequence-level distillation, Kim and Rush, arXiv 1606.07947); the others are divergences from the teacher's odds, of
    which `words` says how much of the loss stays cross-entropy. targets: what is kept of the teacher's odds: its last
    hidden states (whole odds), the `k` likeliest with the rest in one, or `k` draws. on_policy: the share of batches in
    which the student's own answers are learned from (arXiv 2306.13649).
    """

    start: str = "teacher"
    layers: int = 0
    hidden: int = 0
    method: Literal["full", "lora"] = "full"
    rank: int = 16
    embeddings: bool = False  # whether they learn too
    loss: Loss = "words"
    targets: Targets = "states"
    k: int = 32
    words: float = 0.5
    beta: float = 0.5
    alpha: float = 0.1
    temperature: float = 1.0
    on_policy: float = 0.0
    epochs: int = 3
    lr: float = 1e-3
    batch: int = 16
    seed: int = 0
    max_tokens: int = 32  # of the student's own answers

    def vetted(self) -> Self:
        """Itself.

        Raises:
            UsageError: a setting that no training could follow.
        """
        wrong = next((said for bad, said in self._faults() if bad), None)
        if wrong:
            raise UsageError(f"[student] {wrong}")
        return self

    def _faults(self) -> list[tuple[bool, str]]:
        shares = {"words": self.words, "beta": self.beta, "alpha": self.alpha, "on_policy": self.on_policy}
        sizes = {"epochs": self.epochs, "batch": self.batch, "k": self.k, "rank": self.rank, "max_tokens": self.max_tokens}  # fmt: skip
        return [
            *((not 0 <= share <= 1, f"{name} is a share from 0 to 1, not {share}") for name, share in shares.items()),
            *((size < 1, f"{name} is a whole number above 0, not {size}") for name, size in sizes.items()),
            (not 0 < self.lr < 1, f"lr is between 0 and 1, not {self.lr}"),
            (not (math.isfinite(self.temperature) and self.temperature > 0), "temperature is a number above 0"),
            (self.loss == "skew" and not 0 < self.alpha < 1, "alpha is between 0 and 1, without its ends"),
            (self.loss == "words" and self.on_policy > 0, 'on_policy needs the teacher\'s odds: `loss = "jsd"`, say'),
            (self.targets == "drawn" and self.loss not in ("forward", "words"), 'draws are unbiased for `loss = "forward"` alone'),
            (self.start == "scratch" and min(self.layers, self.hidden) < 1, "a student from scratch says how many layers it has and how wide it is: `layers = 8` and `hidden = 256`, say"),
        ]  # fmt: skip

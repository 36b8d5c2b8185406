"""How far a training came, on disk: after kill -9 it goes on from there, and ends with the same numbers.

One file, written whole or not at all, at most one a minute; its name is a digest of everything that shapes the
training, so that a changed setting never goes on from another's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from souq.files import replacing

EVERY = 60.0  # seconds


@dataclass
class Checkpointer:
    """Keeps parameters, optimiser and losses in `file`, which need not exist."""

    file: Path
    _last: float = field(default_factory=time.monotonic)

    def resume(self, parameters: list[Any], optimiser: Any) -> tuple[int, list[float]]:
        """Put back what was kept; the step to go on with, and the losses so far."""
        if not self.file.is_file():
            return 0, []
        state = torch.load(self.file, weights_only=True)
        with torch.no_grad():
            for parameter, value in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"]), list(state["curve"])

    def keep(self, step: int, parameters: list[Any], optimiser: Any, curve: list[float]) -> None:
        """Write all of it, unless it did so a moment ago."""
        if time.monotonic() - self._last < EVERY:
            return
        state = {
            "step": step,
            "parameters": [p.detach() for p in parameters],
            "optimiser": optimiser.state_dict(),
            "curve": curve,
        }
        with replacing(self.file) as partial:
            torch.save(state, partial)
        self._last = time.monotonic()

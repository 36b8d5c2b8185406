"""How far a training came, on disk: after kill -9 it goes on from there, and ends with the same numbers.

One file, written whole or not at all, at most one a minute; its name is a digest of everything that shapes the training,
so that a changed setting never goes on from another's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

EVERY = 60.0  # seconds


@dataclass
class Checkpointer:
    """`file` need not exist."""

    file: Path
    _last: float = field(default_factory=time.monotonic)

    def resume(self, parameters: list[Any], optimiser: Any) -> tuple[int, list[float]]:
        """Put back what was kept; the step to go on with, and the losses so far."""
        if not self.file.is_file():
            return 0, []
        told = torch.load(self.file, weights_only=True)
        with torch.no_grad():
            for parameter, value in zip(parameters, told["parameters"], strict=True):
                parameter.copy_(value)
        optimiser.load_state_dict(told["optimiser"])
        return int(told["step"]), list(told["curve"])

    def keep(self, step: int, parameters: list[Any], optimiser: Any, curve: list[float]) -> None:
        """Unless it did so a moment ago."""
        if time.monotonic() - self._last < EVERY:
            return
        write(
            {
                "step": step,
                "parameters": [p.detach() for p in parameters],
                "optimiser": optimiser.state_dict(),
                "curve": curve,
            },
            self.file,
        )
        self._last = time.monotonic()


def write(value: Any, file: Path) -> None:
    """Whole or not at all."""
    partial = file.with_suffix(".part")
    torch.save(value, partial)
    partial.replace(file)

"""What an adapter holds for one module, as its author saved it."""

from __future__ import annotations

from dataclasses import dataclass, field

from souq.weights.delta import Array


@dataclass
class Module:
    """The tensors of one module: the factors of its change, and what stands beside them."""

    a: Array | None = None
    b: Array | None = None
    embedding: bool = False
    magnitude: Array | None = None
    shift: Array | None = None  # what lora_bias adds to the bias, before the scale
    rows: Array | None = None  # new rows of some tokens
    whole: dict[str, Array] = field(default_factory=dict)  # weight, bias … -> the tensor that takes its place
    known_as: str = ""  # the name that patterns of ranks and alphas match, where it is not the module's

    @property
    def rank(self) -> int:
        return 0 if self.a is None else len(self.a)

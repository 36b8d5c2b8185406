"""An adapter as its author saved it, module by module, and the words in which its faults are listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from souq.errors import UsageError
from souq.model.adapter.config import AdapterConfig
from souq.text import shortlist
from souq.weights.delta import Array

MOST_SHOWN = 4  # names in one message
IN_A_REPOSITORY = (
    "in a repository of its base, `souq delta make --from ADAPTER --out x.delta` and `souq delta apply x.delta --out "
    "FOLDER`; then name that folder"
)


class NeedsPeft(UsageError):
    """PEFT alone can put these numbers together."""


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


@dataclass(frozen=True)
class Adapter:
    """An adapter as it was saved: modules by the names they had when it was trained."""

    config: AdapterConfig
    modules: Mapping[str, Module]
    folder: Path
    notes: tuple[str, ...] = ()


def shown(names: Iterable[str]) -> str:
    """Some names, and how many more there are."""
    return shortlist([repr(name[:80]) for name in names], MOST_SHOWN)


def listed(wrong: list[str]) -> str:
    """Some faults, and how many more there are."""
    more = f"; and {len(wrong) - MOST_SHOWN:,} more such" if len(wrong) > MOST_SHOWN else ""
    return "; ".join(wrong[:MOST_SHOWN]) + more

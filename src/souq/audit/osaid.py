"""The Open Source AI Definition 1.0 (opensource.org/ai): what it asks for, of what an audit saw.

Raw data need not be shared; information about it must be. Parameters and data information are under approved terms,
code under approved licences.
"""

from __future__ import annotations

from collections.abc import Mapping

from souq.audit.index import Value
from souq.records import Record

RUBRIC = "open-source-ai-definition 1.0"
# What is asked for -> the dimensions that must all be open for it.
DEMANDS = {
    "data information": ("llmdata", "rldata", "datasheet"),
    "code": ("opencode",),
    "parameters": ("llmweights", "rlweights"),
    "terms": ("license",),
}


class Demand(Record, frozen=True):
    """One thing the definition asks for: met or not, by what is claimed and by what is verified."""

    name: str
    claimed: bool
    verified: bool
    why: str


def judge(claimed: Mapping[str, Value], verified: Mapping[str, Value]) -> tuple[Demand, ...]:
    """Both readings of every demand; what is not open, or not known, is named."""
    return tuple(
        Demand(
            name=name,
            claimed=all(claimed[dimension] == "open" for dimension in wanted),
            verified=all(verified[dimension] == "open" for dimension in wanted),
            why="; ".join(f"{dimension}: {verified[dimension]}" for dimension in wanted),
        )
        for name, wanted in DEMANDS.items()
    )

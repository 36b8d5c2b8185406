"""The Open Source AI Definition 1.0 (opensource.org/ai): what it asks for, of what an audit saw.

Raw data need not be shared; information about it must be. Parameters and data information are under approved terms, code
under approved licences.
"""

from __future__ import annotations

from collections.abc import Mapping

from souq.audit.index import Rating
from souq.records import Record

RUBRIC = "open-source-ai-definition 1.0"
# What is asked for -> the dimensions that must all be open for it.
ASKED = {
    "data information": ("llmdata", "rldata", "datasheet"),
    "code": ("opencode",),
    "parameters": ("llmweights", "rlweights"),
    "terms": ("license",),
}


class Asked(Record, frozen=True):
    """One thing the definition asks for: met or not, by what is claimed and by what is verified."""

    name: str
    claimed: bool
    verified: bool
    why: str


def judge(claimed: Mapping[str, Rating | str], verified: Mapping[str, Rating | str]) -> tuple[Asked, ...]:
    """Both readings of every demand; what is not open, or not known, is named."""
    return tuple(
        Asked(
            name=name, claimed=all(claimed[d] == "open" for d in wanted), verified=all(verified[d] == "open" for d in wanted),
            why="; ".join(f"{d}: {verified[d]}" for d in wanted),
        )
        for name, wanted in ASKED.items()
    )  # fmt: skip

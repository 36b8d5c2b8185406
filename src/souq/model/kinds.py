"""What a model is by its own configuration: whether it answers token by token, which is all that the lab asks of it.

It knows a configuration's words, not a list of kinds: `architectures` names the head, and the head what it is for.
Everything else (deltas, merge, verify, export) works on tensors, whatever they are for.

    >>> no_lab({"model_type": "bert", "architectures": ["BertForMaskedLM"]})
    'BertForMaskedLM has no head that answers token by token: souq\'s lab runs none without'
    >>> no_lab({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    ''
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ANSWERS = ("CausalLM", "ConditionalGeneration")
WITHOUT_THE_LAB = (
    "deltas, merges, verify and export work without it; score it with tools of its own on the folder that "
    "`souq export` writes"
)


def no_lab(config: Mapping[str, Any]) -> str:
    """Why the lab (evals, train, generate, sketches) does not run a model; empty where it does."""
    heads = config.get("architectures")
    head = str(heads[0])[:80] if isinstance(heads, list) and heads else str(config.get("model_type"))[:80]
    if config.get("is_encoder_decoder") is True:
        return f"{head} is an encoder-decoder: souq's lab runs models that answer token by token"
    task = re.search(r"For([A-Z]\w*)$", head)
    if (task and task[1] not in ANSWERS) or re.search(r"(?<!LMHead)Model$", head):
        return f"{head} has no head that answers token by token: souq's lab runs none without"
    return ""

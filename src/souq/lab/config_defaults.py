"""A model's config with every default of its kind written out, as transformers spells it today.

written, read = write_out({"model_type": "llama", "rope_theta": 5e5})
written["rope_parameters"]["rope_theta"], "sliding_window" in read   # (500000.0, False)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from transformers import CONFIG_MAPPING

from souq.model.config import CODE


def write_out(config: dict[str, Any]) -> tuple[dict[str, Any], Collection[str]]:
    """The config with its kind's defaults, and the keys that its kind reads.

    Raises:
        Exception: transformers' own, where it does not have the kind or does not take the config.
    """
    kind = CONFIG_MAPPING[config["model_type"]]
    settings = {key: value for key, value in config.items() if not CODE.fullmatch(key) and key != "model_type"}
    return kind(**settings).to_dict(), kind().to_dict().keys()

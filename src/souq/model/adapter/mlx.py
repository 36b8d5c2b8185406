"""MLX's adapters, as `mlx_lm.lora` writes them: `adapters.safetensors` and a configuration of its own.

MLX keeps both factors transposed, (n, r) and (r, m), and a scale that is not divided by the rank.

    config, tensors = read_mlx(Path("adapters"))    # in PEFT's names and shapes
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from souq.errors import Hostile
from souq.model.adapter.config import AdapterConfig
from souq.model.source import inside, parse_json, read_small, refuse_pointers
from souq.weights.delta import Array
from souq.weights.safetensors import open_tensors

MLX_WEIGHTS = "adapters.safetensors"
FUSE = "fuse it with MLX and give that folder to --from: `mlx_lm.fuse --model BASE --adapter-path ADAPTER --dequantize`"
_NAME = re.compile(r"(.+)\.(lora_a|lora_b|m)")
_FACTORS = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "m": "lora_magnitude_vector"}
_OF_TABLES = {"lora_a": "lora_embedding_A", "lora_b": "lora_embedding_B", "m": "lora_magnitude_vector"}


def is_mlx(folder: Path) -> bool:
    """Whether an adapter's folder is MLX's."""
    return (folder / MLX_WEIGHTS).is_file() and not (folder / "adapter_model.safetensors").is_file()


def read_mlx(folder: Path) -> tuple[AdapterConfig, dict[str, Array]]:
    """An MLX adapter in PEFT's terms: alpha is the scale times the rank.

    Raises:
        Hostile: a kind of tuning, a scale or a tensor that has no such terms.
    """
    values = parse_json(read_small(inside(folder, "adapter_config.json")), "adapter_config.json")
    values = values if isinstance(values, dict) else {}
    kind, settings = values.get("fine_tune_type", "lora"), values.get("lora_parameters")
    if kind not in ("lora", "dora") or not isinstance(settings, dict):
        raise Hostile(f"an MLX adapter of type {str(kind)[:20]!r} without lora_parameters", hint=FUSE)
    scale, rank = settings.get("scale"), settings.get("rank")
    if odd := [key for key in settings if key not in ("rank", "scale", "dropout", "keys")]:
        # Older releases of MLX multiplied by alpha / rank what newer ones take as it is.
        raise Hostile(f"lora_parameters says {odd[0][:40]!r}, which MLX has read in two ways", hint=FUSE)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or type(rank) is not int or rank < 1:
        raise Hostile("lora_parameters has no rank and scale", hint=FUSE)
    if not math.isfinite(scale):
        raise Hostile("the scale in lora_parameters is not finite", hint=FUSE)
    config = {
        "peft_type": "LORA", "r": rank, "lora_alpha": scale * rank, "use_dora": kind == "dora",
        "base_model_name_or_path": str(values.get("model") or ""),
    }  # fmt: skip
    return AdapterConfig(config, "MLX DoRA" if kind == "dora" else "MLX LoRA"), _in_peft_terms(folder)


def _in_peft_terms(folder: Path) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    refuse_pointers(folder, [MLX_WEIGHTS])
    held: Any = open_tensors(inside(folder, MLX_WEIGHTS))
    for name in held:
        match, array = _NAME.fullmatch(name), held[name]
        if match is None or array.ndim > 2:
            raise Hostile(f"the adapter holds {name[:80]!r} of shape {array.shape}, which is no LoRA factor", hint=FUSE)
        factors = _OF_TABLES if match[1].endswith(("embed_tokens", "wte")) else _FACTORS
        tensors[f"{match[1]}.{factors[match[2]]}"] = np.ascontiguousarray(array.T)
    return tensors

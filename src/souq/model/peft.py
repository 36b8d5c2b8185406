"""PEFT's LoRA adapters, read strictly from a folder or a hub id: factors and scales as their author trained them.

It knows PEFT's files and names, and nothing of deltas or repositories. What cannot be kept exactly is refused by name.

    pairs = open_adapter(Path("adapter"))   # tensor name -> (a (r, n), b (m, r), scale)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from souq.errors import Hostile, NotFound, UsageError
from souq.model.source import download, inside, is_hub_id, parse_json, read_small
from souq.weights.delta import Array, Checkpoint
from souq.weights.safetensors import open_tensors

# -- adapters ----------------------------------------------------------------------------------------------------------

Adapter = dict[str, tuple[Array, Array, float]]
_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")
_WHOLE = re.compile(r"base_model\.model\.((?!.*\.lora_[AB]\.)(.+)\.(?:weight|bias))")
_UNSUPPORTED = {  # key of adapter_config.json -> what it means
    "use_dora": "DoRA", "trainable_token_indices": "trained tokens", "layer_replication": "replicated layers",
    "alora_invocation_tokens": "aLoRA", "use_qalora": "QALoRA", "use_bdlora": "BD-LoRA", "megatron_config": "Megatron",
    "target_parameters": "bare parameters", "fan_in_fan_out": "transposed weights", "lora_bias": "biases",
}  # fmt: skip


def open_adapter(folder: Path) -> Adapter:
    """A PEFT LoRA folder: tensor name -> (a (r, n), b (m, r), scale), as its author trained them.

    Raises:
        NotFound: not an adapter folder.
        Hostile: not a LoRA souq can keep exactly; the reason says what it is.
    """
    return _adapter(folder, whole=False)[0]


def read_adapter(path: str, revision: str | None = None) -> tuple[Adapter, dict[str, Array]]:
    """A PEFT LoRA by folder or hub id: its pairs as `open_adapter` has them, and the tensors it replaces whole.

    Raises:
        NotFound: nothing there, or no adapter.
        Hostile: not a LoRA souq can apply exactly.
    """
    place = Path(path)
    return _adapter(download(path, revision) if not place.exists() and is_hub_id(path) else place, whole=True)


def _adapter(folder: Path, *, whole: bool) -> tuple[Adapter, dict[str, Array]]:
    if not (folder / "adapter_config.json").is_file():
        raise NotFound(f"no adapter_config.json in {folder}", hint="name the folder PEFT's save_pretrained wrote")
    config = _adapter_config(folder)
    if config.get("modules_to_save") and not whole:
        raise Hostile(
            "the adapter has whole modules beside the LoRA (modules_to_save)",
            hint="merge it and offer the full fine-tune instead",
        )
    if not (folder / "adapter_model.safetensors").is_file():
        if any(folder.glob("adapter_model.bin")):
            raise Hostile("the adapter is a pickle, which runs code when opened", hint="save it as safetensors")
        raise NotFound(f"no adapter_model.safetensors in {folder}")
    tensors = open_tensors(inside(folder, "adapter_model.safetensors"))
    replaced = _replaced(tensors, config)
    return _pairs({n: tensors[n] for n in tensors if n not in replaced}, config), {
        replaced[name]: tensors[name] for name in replaced
    }


def _replaced(tensors: Checkpoint, config: Mapping[str, Any]) -> dict[str, str]:
    """Key -> tensor name, of the modules that are kept whole."""
    saved = config.get("modules_to_save") or []
    if not isinstance(saved, list) or not all(isinstance(module, str) and module for module in saved):
        raise Hostile("modules_to_save is no list of names")
    matches = {key: match for key in tensors if (match := _WHOLE.fullmatch(key))}
    return {key: match[1] for key, match in matches.items() if match[2].endswith(tuple(saved))} if saved else {}


def _adapter_config(folder: Path) -> dict[str, Any]:
    config = parse_json(read_small(inside(folder, "adapter_config.json")), "adapter_config.json")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Hostile("adapter_config.json is not of a LoRA", hint="souq takes LoRA adapters and full fine-tunes")
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            raise Hostile(f"the adapter has {what} ({key})", hint="merge it and offer the full fine-tune instead")
    if config.get("bias", "none") != "none":
        raise Hostile("the adapter trains biases", hint="merge it and offer the full fine-tune instead")
    return config


def _pairs(tensors: Checkpoint, config: Mapping[str, Any]) -> Adapter:
    halves: dict[str, dict[str, Array]] = {}
    for name in tensors:
        match = _KEY.fullmatch(name)
        if not match:
            raise Hostile(f"the adapter holds {name[:80]!r}, which is no LoRA factor")
        halves.setdefault(match.group(1), {})[match.group(2)] = tensors[name]
    for module, pair in halves.items():
        if (
            pair.keys() != {"A", "B"}
            or pair["A"].ndim != 2
            or pair["B"].ndim != 2
            or len(pair["A"]) != pair["B"].shape[1]
        ):
            raise Hostile(f"the factors of {module} do not fit each other")
    if not halves:
        raise Hostile("the adapter is empty")
    return {
        f"{m}.weight": (pair["A"], pair["B"], _scale(m, len(pair["A"]), config)) for m, pair in sorted(halves.items())
    }


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """alpha / r, or alpha / sqrt(r) for rsLoRA; patterns win over the default, as in PEFT."""
    alpha: Any = config.get("lora_alpha")
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or any(re.search(r"[^\w.\-]", pattern) for pattern in patterns):
        raise Hostile("alpha_pattern has regular expressions", hint="name the modules in it one by one")
    for pattern, value in patterns.items():
        if module == pattern or module.endswith(f".{pattern}"):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UsageError("adapter_config.json has no lora_alpha", hint="was it written by PEFT?")
    if rank < 1:
        raise Hostile(f"the factors of {module} have rank 0, which changes nothing", hint="was its training cut short?")
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))

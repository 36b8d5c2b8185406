"""A published checkpoint as a base: the tensors its network learned, each once, by the names transformers gives them.

Old files also hold what is computed from the configuration, a tied head's copy, or a backbone's names alone. All of
that transformers overlooks when it loads a folder; here it is left out, and said.

    as_base(open_source("pythia-410m")).notes     # ("left out, computed from config.json: 48 tensors, …",)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from souq.errors import Hostile
from souq.model.config import allowed
from souq.model.names import HEAD, HEAD_BIAS, TOKENS, is_buffer
from souq.model.source import Sharded, Source
from souq.weights.computed import Computed
from souq.weights.delta import Array, Checkpoint
from souq.weights.safetensors import TensorFile

# Kinds that were published as a backbone, without the name under which their own class holds it.
BACKBONES = {"gpt2": "transformer.", "gpt_neo": "transformer.", "bloom": "transformer.", "opt": "model."}


def as_base(source: Source) -> Source:
    """What `souq init` keeps of a model, with a line in `notes` for all that differs from the folder.

    Raises:
        Hostile: it holds no tensor that a network learned.
    """
    config: dict[str, Any] = json.loads(source.files["config.json"])
    kinds = _kinds(source.weights)
    buffers = [name for name, (_, shape) in kinds.items() if is_buffer(name, shape)]
    names = {name: name for name in source.weights if name not in buffers}
    if not names:
        raise Hostile("the weights hold no tensor that a network learned")
    notes = [f"left out, computed from config.json: {_some(buffers)}"] if buffers else []
    if (prefix := BACKBONES.get(str(config.get("model_type")))) and not any(name.startswith(prefix) for name in names):
        heads = [name for name in names if HEAD.search(name) or HEAD_BIAS.search(name)]
        names = {name if name in heads else prefix + name: name for name in names}
        notes.append(f"named as transformers' own class has them: `{prefix}` is put before the backbone's names")
    if wide := [name for name in names.values() if kinds.get(name, ("",))[0] == "F64"]:
        notes.append(f"rounded from float64 to float32, by at most 6e-8 of each number: {_some(wide)}")
    files = dict(source.files)
    if note := _settle_head(config, names, source.weights):
        notes.append(note)
        files["config.json"] = (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
    made = {name: partial(_narrow, source.weights, own, name) for name, own in sorted(names.items())}
    weights = Computed(made) if notes else source.weights
    return replace(source, weights=weights, files=files if note else source.files, notes=(*source.notes, *notes))


def _narrow(weights: Checkpoint, own: str, name: str) -> Array:
    """A tensor, float64 as float32."""
    array = weights[own]
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if not np.array_equal(np.isfinite(narrow), np.isfinite(array)):
        raise Hostile(f"{name} is float64 and holds numbers that float32 has not", hint="save the model in float32")
    return narrow


def _settle_head(config: dict[str, Any], names: dict[str, str], weights: Checkpoint) -> str:
    """A head that config.json ties to the embedding and that is written out all the same: left out if they are equal.

    Where they are not, transformers keeps both whatever config.json says, and so it is made to say so.
    """
    heads, tables = ([name for name in names if kind.search(name)] for kind in (HEAD, TOKENS))
    if not is_tied(config) or len(heads) != 1 or len(tables) != 1:
        return ""
    head, table = (weights[names[name]] for name in (heads[0], tables[0]))
    if head.shape == table.shape and head.dtype == table.dtype and head.tobytes() == table.tobytes():
        del names[heads[0]]
        return f"left out, a copy of {tables[0]}: {heads[0]}"
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            part["tie_word_embeddings"] = False
    return (
        f"{heads[0]} is not {tables[0]}, though config.json ties them: both are kept, as transformers does, and "
        "tie_word_embeddings is written false"
    )


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether a config ties its head to its embedding, by itself or as its kind does."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        if isinstance(tied := part.get("tie_word_embeddings"), bool):
            return tied
    return config.get("model_type") in allowed()["tied"]


def _kinds(weights: Checkpoint) -> dict[str, tuple[str, tuple[int, ...]]]:
    """dtype and shape by name, where files say them without being read."""
    files = weights.files if isinstance(weights, Sharded) else [weights] if isinstance(weights, TensorFile) else []
    return {name: (spec.dtype, spec.shape) for file in files for name, spec in file.specs.items()}


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{len(names)} tensors, such as {names[0]}"

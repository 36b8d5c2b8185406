"""A configuration that would have transformers put other code or other files in the place of a network's own."""

from __future__ import annotations

import json

import pytest
from tests.tiny import write_model

from souq.errors import SouqError
from souq.lab import lm
from souq.weights.safetensors import open_tensors

KEYS = {
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "fusion_config": {"mlp": True},
    "transformers_weights": "../other.safetensors",
    "auto_map": {"AutoModelForCausalLM": "evil.Evil"},
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("judged", [True, False])
def test_the_lab_follows_none_of_it(tmp_path, key, judged):
    """In somebody's folder, and in files that a repository began with before anybody knew the key."""
    folder = write_model(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: KEYS[key]}))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}

    with pytest.raises(SouqError, match=f"{key}|run code"):
        lm.load(folder if judged else files, None if judged else open_tensors(folder / "model.safetensors"))

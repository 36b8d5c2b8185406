"""A configuration of a hundred bytes that would fill a machine, or have transformers fetch somebody's code."""

import json

import pytest
from tests.tiny import CONFIG, write_model

from attacks.attack_hostile_files import one_line

BOMBS = {
    "a vocabulary of a trillion": {"vocab_size": 10**12},
    "a million layers": {"num_hidden_layers": 10**6},
    "more layers than the weights": {"num_hidden_layers": 900},
    "a head of a gibibyte": {"head_dim": 1 << 30},
    "somebody's kernel": {"_attn_implementation": "mallory/kernels:fast"},
    "somebody's class, further in": {"rope_parameters": {"rope_type": "default", "auto_map": {"AutoModel": "mallory.Model"}}},
    "an unknown kind": {"model_type": "mallory"},
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_no_repository_begins_from_it(bazaar, tmp_path, name):
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(CONFIG | BOMBS[name]))

    one_line(bazaar, ["init", tmp_path / "new", "--from", folder, "--no-suite"], 1, "config.json")
    assert not (tmp_path / "new").exists()

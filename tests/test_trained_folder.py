"""What a trainer leaves behind is taken, or answered with the command that makes a model of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from souq.errors import Hostile, SouqError
from souq.model.source import weights_of
from souq.model.trained_folder import trained_folder
from souq.weights.safetensors import write_tensors


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def test_a_file_of_weights_means_its_folder(tmp_path):
    touch(tmp_path, "model.safetensors")

    assert trained_folder(str(tmp_path / "model.safetensors")) == tmp_path


PIECES = {
    "checkpoints": (("checkpoint-80/model.safetensors", "checkpoint-300/model.safetensors"), "checkpoint-300"),
    "DeepSpeed": (("zero_to_fp32.py", "latest", "global_step9/zero_pp_rank_0_mp_rank_00_optim_states.pt"), "zero_to_fp32.py"),
    "FSDP": (("pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0/.metadata"), "accelerate merge-weights"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PIECES)
def test_pieces_are_answered_with_what_to_type(tmp_path, kind):
    names, command = PIECES[kind]

    with pytest.raises(SouqError) as error:
        trained_folder(str(touch(tmp_path, *names)))

    assert command in error.value.hint


def test_shards_need_no_index(tmp_path):
    """Their own headers say what they hold; two that hold one tensor are refused."""
    for i in (1, 2):
        write_tensors(tmp_path / f"model-0000{i}-of-00002.safetensors", {f"t{i}": np.full(3, i, "f4")}, {})

    held = weights_of(tmp_path)
    assert {name: held[name].tolist() for name in held} == {"t1": [1, 1, 1], "t2": [2, 2, 2]}

    write_tensors(tmp_path / "more.safetensors", {"t1": np.zeros(3, "f4")}, {})
    with pytest.raises(Hostile, match="one tensor"):
        weights_of(tmp_path)


def test_an_index_of_files_that_are_gone_is_passed_over(tmp_path):
    """A single file beside it is the model, as transformers reads it; without one the index is believed, and refused."""
    index = {"weight_map": {"t": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SouqError):
        weights_of(tmp_path)

    write_tensors(tmp_path / "model.safetensors", {"t": np.ones(3, "f4")}, {})

    assert list(weights_of(tmp_path)) == ["t"]

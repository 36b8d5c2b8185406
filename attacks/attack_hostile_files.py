"""Files from outside that are not what their names say: deltas, adapters, models, GGUF."""

import json
import pickle
import struct

import pytest
from tests.tiny import write_model


def one_line(bazaar, words, code, says):
    """Exit code, one line of error, a hint, and nothing written."""
    got, out, err = bazaar.says("chen", words)
    lines = err.splitlines()
    assert (got, out) == (code, "")
    assert lines[0].startswith("Error: "), err
    assert says in lines[0], err
    assert len(lines) <= 2
    return lines


def test_a_delta_that_is_a_pickle(bazaar, tmp_path):
    (tmp_path / "x.delta").write_bytes(pickle.dumps({"w": 1}))
    words = ["pr", "create", tmp_path / "x.delta", "--title", "x", "--licence", "MIT", "--signoff"]

    one_line(bazaar, words, 1, "is not a .delta")


def test_a_delta_that_is_cut_off(bazaar, tmp_path):
    whole = bazaar.delta("greet").read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.delta").write_bytes(whole[:length])
        one_line(bazaar, ["delta", "show", tmp_path / "x.delta"], 1, "is not a .delta")


def test_a_delta_with_other_numbers(bazaar, tmp_path):
    """The tensors are not what their digests say."""
    whole = bytearray(bazaar.delta("greet").read_bytes())
    whole[-1] ^= 1
    (tmp_path / "x.delta").write_bytes(whole)

    one_line(bazaar, ["delta", "show", tmp_path / "x.delta"], 1, "is not what its name says")


def test_an_adapter_that_is_a_pickle(bazaar, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 8}))
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps({}))

    one_line(bazaar, ["delta", "make", "--from", tmp_path, "--out", tmp_path / "x.delta"], 1, "a pickle")


@pytest.mark.parametrize("key", ["use_dora", "layer_replication", "arrow_config", "a_key_of_tomorrow"])
def test_an_adapter_that_is_more_than_a_lora(bazaar, tmp_path, key):
    """What could only be kept inexactly is refused by name."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 8, key: ["x"]}))

    one_line(bazaar, ["delta", "make", "--from", tmp_path, "--out", tmp_path / "x.delta"], 1, key)


def test_a_model_that_brings_code(bazaar, tmp_path):
    folder = write_model(tmp_path / "m")
    code = {"model_type": "evil", "auto_map": {"AutoModel": "evil.Model"}}  # beside a known kind it is left out
    config = json.loads((folder / "config.json").read_text()) | code
    (folder / "config.json").write_text(json.dumps(config))

    one_line(bazaar, ["init", tmp_path / "new", "--from", folder, "--no-suite"], 1, "run code")
    assert not (tmp_path / "new").exists()


def test_a_model_of_pickles(bazaar, tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    one_line(bazaar, ["init", tmp_path / "new", "--from", folder, "--no-suite"], 1, "pickles")


def test_an_index_that_points_outside(bazaar, tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "../../etc/x.safetensors"}}))

    one_line(bazaar, ["init", tmp_path / "new", "--from", folder, "--no-suite"], 1, "outside the folder")


def gguf(architecture):
    """The smallest GGUF: a magic, a version, no tensors, one key."""

    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + text("general.architecture")
        + struct.pack("<I", 8)
        + text(architecture)
    )


def test_a_gguf_of_an_unknown_architecture(bazaar, tmp_path):
    (tmp_path / "x.gguf").write_bytes(gguf("mamba"))

    lines = one_line(
        bazaar,
        ["init", tmp_path / "new", "--from", tmp_path / "x.gguf"],
        1,
        "of architecture 'mamba'; souq reads llama",
    )
    assert lines[1].startswith("Hint: ")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("length", [3, 10, 24, 40])
def test_a_gguf_that_is_cut_off(bazaar, tmp_path, length):
    (tmp_path / "x.gguf").write_bytes(gguf("llama")[:length])

    one_line(bazaar, ["init", tmp_path / "new", "--from", tmp_path / "x.gguf"], 1, "GGUF")

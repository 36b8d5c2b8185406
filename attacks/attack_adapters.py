"""Adapters that somebody handed over: settings that reach out of their folder, never end, or are not what they say."""

from __future__ import annotations

import json
import os
import pickle
import time

import numpy as np
import pytest
from tests.adapter_kinds import Bench

from souq.cli.adapter import How, make_adapter
from souq.errors import SouqError
from souq.pulls.overview import adapter_lines
from souq.weights.safetensors import write_tensors

AT = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("hostile"))
    made.base("llama")
    return made


def adapter(folder, tensors=None, **config):
    folder.mkdir(exist_ok=True)
    chance = np.random.default_rng(0)
    pair = {f"{AT}.lora_{half}.weight": chance.standard_normal((32, 32)).astype("f4") for half in "AB"}
    write_tensors(folder / "adapter_model.safetensors", pair if tensors is None else tensors)
    told = {"peft_type": "LORA", "r": 32, "lora_alpha": 8} | config
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def turned_away(bench, folder, **how):
    """In bearable time, by a sentence with a way out."""
    begin = time.perf_counter()
    with pytest.raises(SouqError) as error:
        make_adapter(folder, bench.repos["llama"], How(**how))
    assert time.perf_counter() - begin < 20
    assert error.value.hint
    return str(error.value)


def test_it_would_be_taken_otherwise(bench, tmp_path):
    assert make_adapter(adapter(tmp_path / "a"), bench.repos["llama"], How()).delta.parts


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_file_that_is_a_link_out(bench, tmp_path, name):
    folder = adapter(tmp_path / "a")
    (folder / name).rename(tmp_path / "own")
    (folder / name).symlink_to(tmp_path / "own")

    for how in ({}, {"merged": True}):
        assert "a link out of its folder" in turned_away(bench, folder, **how)


def test_a_named_adapter_that_is_a_link_out(bench, tmp_path):
    """The folder below would be somebody's own."""
    adapter(tmp_path / "own")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sft").symlink_to(tmp_path / "own")

    assert "no adapter_config.json" in turned_away(bench, tmp_path / "a")


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "LOHA", "r": 4, "target_modules": r"(\w+\.?)+!"},
        {"peft_type": "LOHA", "r": 4, "target_modules": "(?=(a+)+$)b"},
        {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"], "exclude_modules": r"(.*\w)*\1"},
        {"peft_type": "ADALORA", "r": 4, "target_modules": ["q_proj"], "rank_pattern": {r"(\w+\.?)+!": 4}},
        {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"], "modules_to_save": [r"(\w+\.?)+!"]},
        {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": [r"(\w+\.?)+!"]},
    ],
    ids=lambda config: next(key for key in reversed(config)),
)  # fmt: skip
def test_a_pattern_that_never_ends_in_python(bench, tmp_path, config):
    """PEFT matches with Python's patterns, which go back and forth on these; none reaches it."""
    turned_away(bench, adapter(tmp_path / "a", **config))


@pytest.mark.parametrize(
    "config",
    [
        {"peft_type": "LOHA", "code": "x"},
        {"peft_type": "ADALORA", "target_modules": ["q_proj"], "init_lora_weights": "pissa"},
        {"peft_type": "LORA\u001b[2J"},
        {"peft_type": "../../LORA"},
        {"peft_type": "XLORA", "adapters": {"0": "/etc"}},
        {"peft_type": "CPT", "tokenizer_name_or_path": "/etc"},
        {"megatron_config": {"a": 1}, "megatron_core": "this"},
        {"layer_replication": [[0, 65536]] * 1000},
        {"layer_replication": [[0, 1 << 70]]},
        {"layer_replication": [[1, 0], [5, 9]]},
        {"trainable_token_indices": [1 << 62]},
        {"rank_pattern": {f"layer{i}": 32 for i in range(100_000)}},
    ],
    ids=str,
)
def test_settings_that_ask_for_more(bench, tmp_path, config):
    turned_away(bench, adapter(tmp_path / "a", **config))


NAN = np.full((32, 32), np.nan, "f4")


@pytest.mark.parametrize(
    "tensors",
    [
        {f"{AT}.lora_A.weight": NAN, f"{AT}.lora_B.weight": NAN},
        {f"{AT}.lora_A.weight": np.ones((32, 32), "f4")},
        {f"{AT}.lora_A.weight": np.ones(32, "f4"), f"{AT}.lora_B.weight": np.ones(32, "f4")},
        {f"{AT}.lora_A.weight": np.ones((32, 0), "f4"), f"{AT}.lora_B.weight": np.ones((0, 32), "f4")},
        {f"{AT}.lora_A.{name}.weight": np.ones((32, 32), "f4") for name in "ab"},
        {f"module.{AT}.weight": np.ones((32, 32), "f4"), f"{AT}.weight": np.ones((32, 32), "f4")},
        {f"{AT}.original_module.weight": np.ones((32, 32), "f4")},
        {"base_model.model.lm_head.weight": np.ones((1 << 10, 32), "f4")},
        {f"{AT}.token_adapter.trainable_tokens_delta": np.ones((1, 32), "f4")},
        {},
    ],
    ids=lambda tensors: " ".join(tensors)[-60:] or "empty",
)
def test_tensors_that_are_no_adapter(bench, tmp_path, tensors):
    turned_away(bench, adapter(tmp_path / "a", tensors))


@pytest.mark.parametrize(
    "name", ["../../../etc", "~/.ssh", "\x1b[2J\x07", "a\nb", "x" * 100_000, "/dev/zero", "\\\\host\\share"]
)
def test_a_base_by_a_name_that_is_none(bench, tmp_path, name):
    """It is compared or asked about, and shown without what a terminal would obey."""
    try:
        notes = make_adapter(adapter(tmp_path / "a", base_model_name_or_path=name), bench.repos["llama"], How()).notes
    except SouqError as error:
        notes = (str(error),)

    assert all(letter.isprintable() for letter in "".join(notes))
    assert len("".join(notes)) < 1_000


def test_files_that_a_training_began_with(bench, tmp_path):
    """PEFT would unpickle what lora_ga_config and corda_config name; souq hands neither on."""
    (tmp_path / "evil").write_bytes(pickle.dumps(Opened(tmp_path / "opened")))
    more = {
        "corda_config": {"cache_file": str(tmp_path / "evil")},
        "lora_ga_config": {"cache_file": str(tmp_path / "evil")},
    }
    make_adapter(
        adapter(tmp_path / "a", target_modules=["q_proj"], layers_to_transform=[0], **more),
        bench.repos["llama"],
        How(merged=True),
    )

    assert not (tmp_path / "opened").exists()


class Opened:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pipe_among_the_files(bench, tmp_path):
    """Nobody writes into it; who opened it would wait for ever."""
    folder = adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")

    turned_away(bench, folder)


@pytest.mark.parametrize(
    "adapter",
    ["x", 7, {"kind": "\x1b[2J", "taken": "\u202e" * 9}, {"notes": "abc"}, {"notes": ["\x1b]0;x\x07\n"] * 10_000}, {"notes": [{}]}],
    ids=lambda adapter: str(adapter)[:30],
)  # fmt: skip
def test_what_a_stranger_s_recipe_says_of_its_adapter(adapter):
    """Shown to who looks at the pull request: bounded, and nothing that steers a terminal."""
    lines = adapter_lines({"adapter": adapter})

    assert sum(map(len, lines)) < 10_000
    assert all(line.isprintable() for line in lines)
    assert len(lines) <= 21

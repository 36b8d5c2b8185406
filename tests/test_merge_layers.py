"""A frankenmerge loads: what its config says layer by layer goes with the layers."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from souq.errors import UsageError  # noqa: E402
from souq.lab.config_defaults import write_out  # noqa: E402
from souq.merge.mergekit.config import ModelRef, parse_config  # noqa: E402
from souq.merge.mergekit.files import merge_files  # noqa: E402
from souq.merge.mergekit.layers import in_order  # noqa: E402
from tests import kinds  # noqa: E402
from tests.tunes import base, edit, jiggled, load, logits  # noqa: E402

M, N = ModelRef("m"), ModelRef("n")
KINDS = {
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "cohere2": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    "smollm3": {"no_rope_layers": [1, 0, 1], "pad_token_id": 257},
    "gpt_oss": {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 8},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "conv_L_cache": 3},
    "gpt_neo": {"attention_types": [[["global", "local", "global"], 1]], "window_size": 8, "num_layers": 3},
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32},
}  # fmt: skip


def sliced(tmp_path, folder, *ranges, out="out"):
    slices = [{"sources": [{"model": str(folder), "layer_range": list(each)}]} for each in ranges]
    text = json.dumps({"merge_method": "passthrough", "slices": slices})
    merge_files(parse_config(text), text, tmp_path / out, write_out=write_out)
    return tmp_path / out


@pytest.mark.parametrize("kind", KINDS)
def test_layers_keep_what_they_are(tmp_path, kind):
    """Layers 0, 1, 1, 2 load as four layers, each of its own kind; and back again as the model they came from."""
    more = {"num_hidden_layers": 3} | KINDS[kind]
    folder = base(tmp_path / kind, kind, **more)

    deeper = sliced(tmp_path, folder, (0, 2), (1, 3))

    net, own = load(deeper), load(folder)
    for key in ("layer_types", "no_rope_layers", "attention_layers"):
        if isinstance(before := getattr(own.config, key, None), list):
            assert getattr(net.config, key) == [before[i] for i in (0, 1, 1, 2)]
    assert net.config.num_hidden_layers == 4
    again = sliced(tmp_path, deeper, (0, 2), (3, 4), out="again")
    assert torch.equal(logits(again), logits(folder))


@pytest.mark.parametrize("kind", ["llava", "bert", "t5", "whisper"])
def test_other_kinds_than_text_are_merged(tmp_path, kind):
    """What sees, reads both ways or hears: half of each of two, loaded by transformers' own class."""
    folders = [kinds.make(kind, tmp_path / "a"), tmp_path / "b"]
    auto = getattr(transformers, json.loads((folders[0] / "config.json").read_text())["architectures"][0])
    one, two = (auto.from_pretrained(folders[0]) for _ in range(2))
    jiggled(two).save_pretrained(folders[1])
    kinds.tokenizer().save_pretrained(folders[1])
    models = [{"model": str(folder), "parameters": {"weight": 0.5}} for folder in folders]
    text = json.dumps({"merge_method": "linear", "dtype": "float32", "models": models})

    merge_files(parse_config(text), text, tmp_path / "out", write_out=write_out)

    made, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(names for key, names in info.items() if key.endswith("_keys"))
    halves = one.state_dict(), two.state_dict(), made.state_dict()
    assert all(torch.allclose((halves[0][name] + halves[1][name]) / 2, halves[2][name]) for name in halves[0])


def test_the_first_of_a_published_config_says_its_pattern_by_a_number(tmp_path):
    """Older releases wrote `sliding_window_pattern` and no list: the layers' kinds are written out."""
    folder = base(tmp_path / "g", "gemma3_text", num_hidden_layers=6, head_dim=8, sliding_window=8)
    edit(folder, drop=("layer_types",), sliding_window_pattern=3)

    out = sliced(tmp_path, folder, (2, 6))

    types = json.loads((out / "config.json").read_text())["layer_types"]
    assert types == [load(folder).config.layer_types[i] for i in range(2, 6)]
    assert load(out).config.layer_types == types


def order(config, places, other=None):
    return in_order({M: config, N: other or config}, M, places)


def test_numbers_of_layers_follow_their_layers():
    """Qwen's dense layers and DeepSeek's first ones, by the numbers that they then have."""
    qwen = {"num_hidden_layers": 3, "mlp_only_layers": [1], "eos_token_id": [1, 2, 3]}
    assert order(qwen, [(M, 1), (M, 0), (M, 1)]) == {
        "num_hidden_layers": 3, "mlp_only_layers": [0, 2], "eos_token_id": [1, 2, 3],
    }  # fmt: skip
    deepseek = {"num_hidden_layers": 4, "first_k_dense_replace": 1}
    assert order(deepseek, [(M, 0), (M, 0), (M, 2)])["first_k_dense_replace"] == 2


def test_each_layer_speaks_for_itself():
    """Of two models, each layer has what its own model says of it."""
    mine = {"num_hidden_layers": 2, "layer_types": ["a", "b"], "hybrid_override_pattern": "M*"}
    theirs = {"num_hidden_layers": 3, "layer_types": ["c", "d", "e"], "hybrid_override_pattern": "-M*"}

    made = order(mine, [(M, 1), (N, 2), (N, 0)], theirs)

    assert (made["layer_types"], made["hybrid_override_pattern"]) == (["b", "e", "c"], "**-")


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"num_hidden_layers": 4, "first_k_dense_replace": 1}, [(M, 1), (M, 0)]),
        ({"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1}, [(M, 0), (M, 2)]),
        ({"num_hidden_layers": 4, "decoder_sparse_step": 2}, [(M, 1), (M, 3)]),
    ],
)
def test_what_no_number_can_say_is_refused(config, places):
    with pytest.raises(UsageError, match="other layers"):
        order(config, places)


def test_a_config_that_would_not_load_is_refused():
    def strict(config):
        if config["num_hidden_layers"] != 2:
            raise ValueError("a validator's reason")
        return config, config

    with pytest.raises(UsageError, match="a validator's reason"):
        in_order({M: {"model_type": "x", "num_hidden_layers": 2}}, M, [(M, 0)], strict)


def test_the_order_that_was_is_left_alone():
    config = {"num_hidden_layers": 2, "layer_types": ["a", "b"], "anything": [1, 2]}

    assert order(config, [(M, 0), (M, 1)]) == config

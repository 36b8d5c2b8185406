"""What people who come from mergekit are promised: their files make the model mergekit makes, within one rounding.

mergekit 0.1.5 runs in its own environment, named by SOUQ_MERGEKIT (`make test-mergekit` makes it); without one these
are skipped. Weights are random float32, so no two changes are equal and nothing is left to the order of a sort."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from souq.merge.mergekit.config import parse_config
from souq.merge.mergekit.files import merge_files
from souq.weights.safetensors import open_tensors, write_tensors
from tests.tiny import TEMPLATE

pytestmark = pytest.mark.mergekit

HIDDEN, MIDDLE, HEADS = 64, 96, 4
MODELS = {"a": 2, "b": 2, "c": 2, "d": 2, "base": 2, "deep": 4}


def tensors(layers, vocabulary, seed):
    chance = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN), "lm_head.weight": (vocabulary, HIDDEN)}
    shapes["model.norm.weight"] = (HIDDEN,)
    for i in range(layers):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{p}_proj.weight": (HIDDEN // 2 if p in "kv" else HIDDEN, HIDDEN) for p in "qkvo"}
        shapes |= {f"{at}mlp.{p}_proj.weight": (MIDDLE, HIDDEN) for p in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (HIDDEN, MIDDLE)}
        shapes |= {f"{at}{n}_layernorm.weight": (HIDDEN,) for n in ("input", "post_attention")}
    return {name: chance.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def write(folder, layers, made, *, files=None):
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32", "hidden_size": HIDDEN,
        "intermediate_size": MIDDLE, "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": 2,
        "vocab_size": len(made["model.embed_tokens.weight"]), "tie_word_embeddings": False, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    write_tensors(folder / "model.safetensors", made, {"format": "pt"})


def changed(base, seed, size=0.1):
    chance = np.random.default_rng(seed)
    return {name: value + size * chance.standard_normal(value.shape).astype("f4") for name, value in base.items()}


def adapter(folder, base, seed, **more):
    """A PEFT folder as PEFT writes it, with a rank of its own for one module."""
    folder.mkdir()
    chance = np.random.default_rng(seed)
    modules = [name.removesuffix(".weight") for name in base if ".layers." in name and "proj" in name]
    halves = {}
    for module in modules:
        m, n = base[f"{module}.weight"].shape
        rank = 3 if "down_proj" in module else 4
        halves[f"base_model.model.{module}.lora_A.weight"] = chance.standard_normal((rank, n)).astype("f4") / 8
        halves[f"base_model.model.{module}.lora_B.weight"] = chance.standard_normal((m, rank)).astype("f4") / 8
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none", "fan_in_fan_out": False,
        "target_modules": sorted({module.rpartition(".")[2] for module in modules}), "use_rslora": False,
        "rank_pattern": {"down_proj": 3}, "alpha_pattern": {"layers.1.mlp.up_proj": 5, "q_proj": 2}, "inference_mode": True,
    }  # fmt: skip
    if "lm_head" in (more.get("modules_to_save") or ()):
        halves["base_model.model.lm_head.weight"] = base["lm_head.weight"] + np.float32(0.5)
    (folder / "adapter_config.json").write_text(json.dumps(config | more))
    write_tensors(folder / "adapter_model.safetensors", halves, {"format": "pt"})


def words(extra, *, shift=0):
    """A byte-level BPE whose vocabulary is the alphabet, a few words, and `extra` special tokens at the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    order = alphabet[shift:] + alphabet[:shift]
    made = Tokenizer(
        models.BPE({letter: i for i, letter in enumerate([*order, "th", "the"])}, [("t", "h"), ("th", "e")])
    )
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<s>", "</s>", *extra])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    files = {"tokenizer.json": made.to_str(), "tokenizer_config.json": json.dumps(config | {"chat_template": TEMPLATE})}
    return files, made.get_vocab()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The models: float32 fine-tunes of one base, a deeper one, adapters, and three with tokenizers of their own."""
    home = tmp_path_factory.mktemp("models")
    base = tensors(2, 50, 0)
    for i, (name, layers) in enumerate(MODELS.items()):
        made = base if name == "base" else changed(base, i + 1) if layers == 2 else tensors(layers, 50, 9)
        write(home / name, layers, made)
    adapter(home / "low", base, 1)
    adapter(home / "slow", base, 2, use_rslora=True)
    adapter(home / "saved", base, 3, modules_to_save=["lm_head"])
    for i, (name, extra, shift, spare) in enumerate(
        [("t0", [], 0, 0), ("t1", ["<x>", "<y>"], 7, 0), ("t2", ["<y>"], 0, 5), ("t3", ["<q>"], 3, -1)]
    ):
        files, vocabulary = words(extra, shift=shift)
        write(home / name, 2, tensors(2, len(vocabulary) + spare, 20 + i), files=files)
    return home


F32 = "dtype: float32\nout_dtype: float32\n"


def listed(*models, base="base", method="ties", tail="", **shared):
    text = f"merge_method: {method}\n" + (f"base_model: {base}\n" if base else "") + "models:\n"
    for model, own in models:
        text += f"  - model: {model}\n" + (f"    parameters: {json.dumps(own)}\n" if own else "")
    return text + (f"parameters: {json.dumps(shared)}\n" if shared else "") + F32 + tail


THREE = [("a", {"weight": 0.3}), ("b", {"weight": 0.5}), ("c", {"weight": 0.4})]
TWO = THREE[:2]
ONE = [("a", {})]
DENSE = [("a", {"weight": 0.3, "density": 0.5}), ("b", {"weight": 0.5, "density": 0.31}), ("c", {"weight": -0.4})]
TURN = {"t": [{"filter": "mlp", "value": [0, 0.5, 1]}, {"value": 0.4}]}
CONFIGS = {
    "linear": listed(*THREE, base=None, method="linear"),
    "linear-as-it-is": listed(*THREE, base=None, method="linear", normalize=False),
    "linear-gradient": listed(("a", {"weight": [0, 1]}), ("b", {"weight": 0.5}), base=None, method="linear"),
    "task": listed(*THREE, method="task_arithmetic"),
    "task-normal": listed(*THREE, method="task_arithmetic", normalize=True, **{"lambda": 0.7}),
    "task-cancels": listed(("a", {"weight": 1}), ("b", {"weight": -1}), method="task_arithmetic", normalize=True),
    "ties": listed(*DENSE),
    "ties-sum": listed(*DENSE, normalize=False, int8_mask=True, **{"lambda": 1.3}),
    "ties-rescale": listed(*DENSE, rescale=True),
    "ties-filter": listed(("a", {"weight": 1, "density": [{"filter": "mlp", "value": [0.1, 0.9]}, {"value": 0.4}]}), TWO[1]),
    "ties-one-element": listed(("a", {"weight": 1, "density": 1e-9}), ("b", {"weight": 1, "density": 0})),
    "crumbs": listed(*DENSE, method="breadcrumbs", gamma=0.05),
    "crumbs-wide": listed(*DENSE, method="breadcrumbs", gamma=0.8, rescale=True),
    "crumbs-ties": listed(*DENSE, method="breadcrumbs_ties", normalize=True),
    "dare-all": listed(*THREE, method="dare_ties"),
    "dare-linear-all": listed(*THREE, method="dare_linear", normalize=True),
    "della-all": listed(*THREE, method="della"),
    "della-linear-all": listed(*THREE, method="della_linear", **{"lambda": 0.5}),
    "sce": listed(*[(m, {}) for m in "abcd"], method="sce", select_topk=0.3),
    "sce-all": listed(*[(m, {}) for m in "abcd"], method="sce"),
    "sce-none": listed(*[(m, {}) for m in "ab"], method="sce", select_topk=0),
    "slerp": listed(*ONE, method="slerp", **TURN),
    "nuslerp": listed(*TWO, base=None, method="nuslerp"),
    "nuslerp-task": listed(*TWO, method="nuslerp"),
    "nuslerp-rows": listed(*TWO, base=None, method="nuslerp", nuslerp_flatten=False),
    "nuslerp-columns": listed(*TWO, base=None, method="nuslerp", nuslerp_flatten=False, nuslerp_row_wise=True),
    "nuslerp-task-columns": listed(*TWO, method="nuslerp", nuslerp_flatten=False, nuslerp_row_wise=True),
    "multislerp": listed(*THREE, base=None, method="multislerp"),
    "multislerp-task": listed(*THREE, method="multislerp", normalize_weights=False, eps=1e-6),
    "karcher": listed(*[(m, {}) for m in "abcd"], base=None, method="karcher"),
    "karcher-far": listed(("a", {}), ("base", {}), base=None, method="karcher", max_iter=2, tol=1e-9),
    "stock": listed(*[(m, {}) for m in "abc"], method="model_stock"),
    "stock-rows": listed(*[(m, {}) for m in "abc"], method="model_stock", filter_wise=True),
    "nearswap": listed(*ONE, method="nearswap", t=0.05),
    "ram": listed(*[(m, {}) for m in "abc"], method="ram", epsilon=0.1),
    "ram-plus": listed(*[(m, {}) for m in "abc"], method="ramplus_tl", epsilon=0.1, r=0.5, alpha=0.7),
    "passthrough": listed(("a", {"scale": [{"filter": "down_proj", "value": 0.1}]}), base=None, method="passthrough"),
    "base-alone": listed(("base", {}), method="task_arithmetic", weight=1),
    "module": "merge_method: linear\nmodules: {default: {models: [{model: a}, {model: b}]}}\nparameters: {weight: 1}\n" + F32,
    "franken": f"""
merge_method: passthrough
slices:
  - sources: [{{model: a, layer_range: [0, 2]}}]
  - sources: [{{model: deep, layer_range: [1, 4]}}]
  - sources: [{{model: b, layer_range: [1, 2]}}]
    parameters: {{scale: [{{filter: o_proj, value: 0.0}}, {{value: 1}}]}}
{F32}""",
    "slices": f"""
merge_method: dare_linear
base_model: base
slices:
  - sources: [{{model: a, layer_range: [0, 1], parameters: {{weight: 0.5}}}}, {{model: base, layer_range: [1, 2]}}]
  - base_model: b
    sources: [{{model: deep, layer_range: [3, 4], parameters: {{weight: 0.2}}}}, {{model: b, layer_range: [0, 1]}}]
{F32}""",
    "stages": f"""
name: half
merge_method: linear
models: [{{model: a, parameters: {{weight: 1}}}}, {{model: b, parameters: {{weight: 2}}}}]
{F32}
---
merge_method: slerp
base_model: base
models: [{{model: half}}]
parameters: {{t: 0.3}}
{F32}""",
    "lora": listed(("base+low", {"weight": 0.6}), ("base+slow", {"weight": 0.6}), method="ties", density=0.5),
    "lora-saved": listed(("base+saved", {"weight": 1}), ("a", {"weight": 1}), base=None, method="linear"),
}  # fmt: skip


SPOKEN = [("t1", {"weight": 0.3}), ("t2", {"weight": 0.5}), ("t3", {"weight": 0.4})]
TOKENS = """
tokenizer:
  source: union
  pad_to_multiple_of: 16
  tokens:
    <x>: {source: t1, force: true}
    <y>: {source: {kind: model_token, model: t0, token: the}}
    <q>: {source: {kind: zero}}
    <new>: {source: {kind: model_token, model: t2, token_id: 5}}
"""
VOCABULARIES = {
    "union": listed(*SPOKEN, base="t0", method="task_arithmetic", tail="tokenizer_source: union\n"),
    "union-of-others": listed(*SPOKEN, base=None, method="linear", tail="tokenizer: {source: union}\n"),
    "of-the-base": listed(*SPOKEN, base="t1", tail="tokenizer_source: base\n", density=0.5),
    "of-one-more": listed(*SPOKEN[:2], base="t0", tail="tokenizer: {source: t3}\n", method="ties"),
    "by-rule": listed(*SPOKEN[:2], base="t0", method="task_arithmetic", tail=TOKENS),
    "slerp-union": listed(("t2", {}), base="t0", method="slerp", t=0.4, tail="tokenizer_source: union\n"),
}


def ours(bench, name, text):
    out = bench / f"{name}.souq"
    if not out.exists():
        here = Path.cwd()
        os.chdir(bench)
        try:
            merge_files(parse_config(text), text, out)
        finally:
            os.chdir(here)
    return out


@pytest.fixture(scope="module")
def theirs(bench):
    """Every configuration, merged by mergekit itself in one process."""
    if not (python := os.environ.get("SOUQ_MERGEKIT")):
        pytest.skip("SOUQ_MERGEKIT names no python with mergekit 0.1.5")
    script = Path(__file__).with_name("mergekit_merge.py").resolve()
    told = subprocess.run(
        [python, script], input=json.dumps(CONFIGS | VOCABULARIES), cwd=bench, capture_output=True, text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-2000:]
    return json.loads(told.stdout.splitlines()[-1])


def numbers(folder):
    return {name: file[name] for part in folder.glob("*.safetensors") for file in [open_tensors(part)] for name in file}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_model(bench, theirs, name):
    """Every tensor and every number of it: to four digits in float32, so within one rounding in bf16."""
    assert theirs[name] is None
    mine, yours = numbers(ours(bench, name, CONFIGS[name])), numbers(bench / name)

    assert mine.keys() == yours.keys()
    for tensor, value in mine.items():
        assert value.dtype == yours[tensor].dtype
        off = np.abs(value - yours[tensor]) > 1e-4 * np.maximum(np.abs(value), np.abs(yours[tensor])) + 2e-5
        assert not off.any(), f"{tensor}: {off.sum()} of {off.size}"


def read(folder):
    """Token -> number, as its tokenizer.json says."""
    told = json.loads((folder / "tokenizer.json").read_text())
    return told["model"]["vocab"] | {entry["content"]: entry["id"] for entry in told["added_tokens"]}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_the_same_vocabulary(bench, theirs, name):
    """The same tokens, each with the row mergekit gives it (its own order of new tokens differs from run to run)."""
    assert theirs[name] is None
    from tokenizers import Tokenizer as Words

    out = ours(bench, name, VOCABULARIES[name])
    mine, yours, here, there = numbers(out), numbers(bench / name), read(out), read(bench / name)

    assert Words.from_file(str(out / "tokenizer.json")).get_vocab() == here
    assert here.keys() == there.keys()
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(mine["lm_head.weight"])
    order = [there[token] for token in sorted(here, key=here.get)]
    order += range(len(order), len(mine["lm_head.weight"]))
    for tensor, value in mine.items():
        other = yours[tensor][order] if tensor in ("lm_head.weight", "model.embed_tokens.weight") else yours[tensor]
        assert np.allclose(value, other, rtol=1e-4, atol=2e-5), tensor

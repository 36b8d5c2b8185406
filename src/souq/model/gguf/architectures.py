"""The architectures of GGUF that souq reads and writes, and what each does otherwise than Llama.

by_architecture("gemma3").kind  # "gemma3_text"
by_kind("qwen3_moe").architecture  # "qwen3moe"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from souq.model.gguf.layout import (
    ATTENTION,
    GATED,
    NORMS,
    PROJECTIONS,
    TOP,
    Layout,
    Settings,
    Spelling,
    Take,
    renamed,
    stacked,
)
from souq.weights.delta import Array

# -- settings ----------------------------------------------------------------------------------------------------------

SIZES = {
    "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "max_position_embeddings": "context_length",
}  # fmt: skip
GROUPED = {"num_key_value_heads": "attention.head_count_kv"}
RMS = {"rms_norm_eps": "attention.layer_norm_rms_epsilon"}
MIDDLE = {"intermediate_size": "feed_forward_length"}
HEAD = {"head_dim": "attention.key_length"}
DENSE = SIZES | MIDDLE | GROUPED | RMS
WINDOW = {"sliding_window": "attention.sliding_window"}
CAPS = {"attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping"}
MOE = {
    "num_experts": "expert_count", "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}  # fmt: skip

# -- modules -----------------------------------------------------------------------------------------------------------

QK_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
AROUND = ("pre_feedforward_layernorm", "post_feedforward_layernorm")


# -- what single architectures do otherwise ----------------------------------------------------------------------------


def _gpt_oss_experts(layout: Layout, config: Settings, named: Callable[[str], str]) -> Iterator[Spelling]:
    """Gates and ups in turns here, apart there; matrices the other way round here; sinks without a suffix here."""
    for layer in range(int(config["num_hidden_layers"])):
        at = layout.at.format(layer)
        sinks = at + "self_attn.sinks"
        yield renamed(sinks, named(sinks) + ".weight")
        gate, up, down = (named(f"{at}mlp.experts.{p}_proj") for p in ("gate", "up", "down"))
        yield from _in_turns(at + "mlp.experts.gate_up_proj", gate + ".weight", up + ".weight", turned=True)
        yield from _in_turns(at + "mlp.experts.gate_up_proj_bias", gate + ".bias", up + ".bias", turned=False)
        turn = partial(np.swapaxes, axis1=-1, axis2=-2)
        yield renamed(at + "mlp.experts.down_proj", down + ".weight", turn, turn)
        yield renamed(at + "mlp.experts.down_proj_bias", down + ".bias")


def _in_turns(ours: str, gate: str, up: str, turned: bool) -> Iterator[Spelling]:
    axis = 1

    def read(take: Take, i: int) -> Array:
        both = np.stack([take(gate), take(up)], axis=axis + 1)
        both = both.reshape(both.shape[0], -1, *both.shape[3:])
        return both.swapaxes(1, 2) if turned else both

    def write(take: Take, i: int) -> Array:
        both = take(ours).swapaxes(1, 2) if turned else take(ours)
        return both[:, i::2]

    yield Spelling((ours,), (gate, up), read, write)


def _latent(layout: Layout, config: Settings, named: Callable[[str], str]) -> Iterator[Spelling]:
    """DeepSeek's up-projection of keys and values, which newer files hold in two, the keys' the other way round."""
    heads, rank = int(config["num_attention_heads"]), int(config["kv_lora_rank"])
    keys, values = int(config["qk_nope_head_dim"]), int(config["v_head_dim"])
    for layer in range(int(config["num_hidden_layers"])):
        at = layout.at.format(layer)
        ours = f"{at}self_attn.kv_b_proj.weight"
        k, v = (named(f"{at}self_attn.{p}_b_proj") + ".weight" for p in "kv")

        def read(take: Take, i: int, k: str = k, v: str = v) -> Array:
            both = np.concatenate([take(k).swapaxes(1, 2), take(v)], axis=1)
            return both.reshape(heads * (keys + values), rank)

        def write(take: Take, i: int, ours: str = ours) -> Array:
            both = take(ours).reshape(heads, keys + values, rank)
            return both[:, :keys].swapaxes(1, 2) if i == 0 else both[:, keys:]

        yield Spelling((ours,), (k, v), read, write)
        yield renamed(ours, named(ours.removesuffix(".weight")) + ".weight")  # as older files have it
        bias = f"{at}mlp.gate.e_score_correction"
        if config.get("model_type") == "deepseek_v3":
            yield renamed(bias + "_bias", named(bias) + ".bias")


def _turned(layout: Layout, config: Settings, named: Callable[[str], str]) -> Iterator[Spelling]:
    """GPT-2's maps are stored the other way round (Conv1D)."""
    for layer in range(int(config["n_layer"])):
        for module in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            ours = layout.at.format(layer) + module
            yield renamed(ours + ".weight", named(ours) + ".weight", np.transpose, np.transpose)
            yield renamed(ours + ".bias", named(ours) + ".bias")
    yield renamed("transformer.wpe.weight", named("transformer.wpe") + ".weight")


def _fused(layout: Layout, config: Settings, named: Callable[[str], str]) -> Iterator[Spelling]:
    """Queries, keys and values head by head here (BLOOM, GPT-NeoX), or by groups of heads (Falcon); apart there."""
    heads = int(config.get("num_attention_heads") or config["n_head"])
    groups = int(config.get("num_kv_heads") or heads) if layout.kind == "falcon" else heads
    module = "attention.query_key_value" if layout.kind == "gpt_neox" else "self_attention.query_key_value"
    if layout.kind == "falcon" and config.get("multi_query") and not config.get("new_decoder_architecture"):
        groups = 1
    size = int(config["hidden_size"]) // heads

    def order() -> Array:
        rows = np.arange((heads + 2 * groups) * size).reshape(groups, heads // groups + 2, size)
        return np.concatenate([rows[:, :-2].reshape(-1), rows[:, -2].reshape(-1), rows[:, -1].reshape(-1)])

    def back(array: Array) -> Array:
        return array[np.argsort(order())]

    def forth(array: Array) -> Array:
        return array[order()]

    for layer in range(int(config[layout.count])):
        at = layout.at.format(layer)
        ours, theirs = at + module, named(at + module)
        if layout.kind == "falcon":
            yield from _falcon_norms(at, named, config)
        for suffix in (".weight", ".bias"):
            yield renamed(ours + suffix, theirs + suffix, back, forth)


def _shared_expert(layout: Layout, config: Settings, named: Callable[[str], str]) -> Iterator[Spelling]:
    for layer in range(int(config["num_hidden_layers"])):
        ours = layout.at.format(layer) + "mlp.shared_expert_gate"
        yield renamed(ours + ".weight", named(ours) + ".weight", lambda a: a.reshape(1, -1), lambda a: a.reshape(-1))


def _head_norms(layout: Layout, config: Settings, named: Callable[[str], str]) -> Iterator[Spelling]:
    """StableLM 2's norms of each head, stacked there."""
    for layer in range(int(config["num_hidden_layers"])):
        for side, count in (("q", config["num_attention_heads"]), ("k", config["num_key_value_heads"])):
            module = f"{layout.at.format(layer)}self_attn.{side}_layernorm"
            ours = tuple(f"{module}.norms.{i}.weight" for i in range(int(count)))
            yield stacked(ours, named(module) + ".weight")


def _gemma_scale(config: Settings) -> float:
    """By what llama.cpp divides Gemma's scores before they are squared out: the largest of each family has its own."""
    largest = {"gemma2": 46, "gemma3_text": 62}.get(str(config.get("model_type")))
    if config["num_hidden_layers"] == largest:
        return float(config["hidden_size"]) / float(config["num_attention_heads"])
    return float(config["head_dim"])


def _gemma(config: Settings, read: Callable[[str], Any]) -> Settings:
    scale = _gemma_scale(config)
    more: dict[str, Any] = {"query_pre_attn_scalar": int(scale) if scale == int(scale) else scale}
    if config["model_type"] == "gemma3_text":
        count = int(config["num_hidden_layers"])
        more |= {"layer_types": _windows(count, 6)} if config.get("sliding_window") else {"layer_types": _full(count)}
    return more


def _windows(layers: int, every: int) -> list[str]:
    """Each `every`th layer sees everything, the others a window."""
    return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]


def _full(layers: int) -> list[str]:
    return ["full_attention"] * layers


def _gemma_refuses(config: Settings) -> str:
    if config.get("query_pre_attn_scalar") not in (None, _gemma_scale(config)):
        return f"query_pre_attn_scalar is {config['query_pre_attn_scalar']}; llama.cpp takes {_gemma_scale(config):g}"
    every = {"gemma2": 2, "gemma3_text": 6}[config["model_type"]]
    wanted = _windows(int(config["num_hidden_layers"]), every)
    if config.get("layer_types") not in (None, wanted):
        return f"layer_types are not those llama.cpp computes: each {every}th layer without a window"
    return ""


def _windows_refused(every: int, config: Settings) -> str:
    if config.get("layer_types") not in (None, _windows(int(config["num_hidden_layers"]), every)):
        return f"layer_types are not those llama.cpp computes: each {every}th layer without a window"
    return ""


def _no_window(config: Settings) -> str:
    used = config.get("use_sliding_window", True)
    if (
        used
        and config.get("sliding_window")
        and "sliding_attention" in (config.get("layer_types") or ["sliding_attention"])
    ):
        return f"its attention has a window of {config['sliding_window']}, which llama.cpp does not give this kind"
    return ""


def _deepseek(config: Settings, read: Callable[[str], Any]) -> Settings:
    rope = int(read("rope.dimension_count") or 64)
    whole = read("attention.key_length_mla") or read("attention.key_length")
    sigmoid = read("expert_gating_func") == 2
    more = {
        "model_type": "deepseek_v3" if sigmoid else "deepseek_v2", "qk_rope_head_dim": rope, "head_dim": rope,
        "architectures": [f"DeepseekV{3 if sigmoid else 2}ForCausalLM"],
        "qk_nope_head_dim": int(whole) - rope, "num_key_value_heads": config["num_attention_heads"],
        "v_head_dim": int(read("attention.value_length_mla") or read("attention.value_length")),
        "q_lora_rank": read("attention.q_lora_rank"), "norm_topk_prob": bool(read("expert_weights_norm") or False),
        "rope_interleave": True,
    }  # fmt: skip
    groups = {"n_group": read("expert_group_count"), "topk_group": read("expert_group_used_count")}
    if sigmoid or groups["n_group"]:
        more |= {key: value or 1 for key, value in groups.items()}
    if groups["n_group"] and not sigmoid:
        more |= {"topk_method": "group_limited_greedy"}
    return more


def _deepseek_says(config: Settings) -> Settings:
    rope, rank = config["qk_rope_head_dim"], config["kv_lora_rank"]
    more = {
        "attention.head_count_kv": 1, "rope.dimension_count": rope, "attention.key_length": rank + rope,
        "attention.value_length": rank, "attention.key_length_mla": config["qk_nope_head_dim"] + rope,
        "attention.value_length_mla": config["v_head_dim"],
        "expert_gating_func": 2 if config["model_type"] == "deepseek_v3" else 1,
    }  # fmt: skip
    if config.get("q_lora_rank"):
        more |= {"attention.q_lora_rank": config["q_lora_rank"]}
    if config.get("norm_topk_prob"):
        more |= {"expert_weights_norm": True}
    if (config.get("n_group") or 1) > 1:
        more |= {"expert_group_count": config["n_group"], "expert_group_used_count": config["topk_group"]}
    return more


def _falcon_norms(at: str, named: Callable[[str], str], config: Settings) -> Iterator[Spelling]:
    """Newer Falcons have a norm before attention and one before the rest, which the file calls the first of all."""
    two = bool(config.get("new_decoder_architecture")) and config.get("num_ln_in_parallel_attn") != 1
    for norm in ("ln_attn", "ln_mlp") if two else ("input_layernorm",):
        for suffix in (".weight", ".bias"):
            yield renamed(at + norm + suffix, named(at + norm) + suffix)


def _falcon(config: Settings, read: Callable[[str], Any]) -> Settings:
    two, groups = config["num_ln_in_parallel_attn"], config["num_kv_heads"]
    new = two or groups not in (1, config["num_attention_heads"])
    return {
        "multi_query": groups == 1,
        "new_decoder_architecture": new,
        "num_ln_in_parallel_attn": 2 if two else 1 if new else None,
    }


def _falcon_says(config: Settings) -> Settings:
    one = config["multi_query"] and not config["new_decoder_architecture"]
    return {"attention.head_count_kv": 1} if one else {}


def _tempered(config: Settings) -> Settings:
    return {"attention.temperature_scale": config["rope_parameters"]["llama_4_scaling_beta"]}


def _norms_refused(config: Settings) -> str:
    if config.get("use_qk_norm") and config["num_hidden_layers"] < 64:
        return "llama.cpp looks for norms of queries and keys from 64 layers on"
    return ""


def _cohere2_refused(config: Settings) -> str:
    if config["head_dim"] * config["num_attention_heads"] != config["hidden_size"]:
        return "its heads together are not as wide as the model"
    return _windows_refused(4, config)


def _turning_refused(config: Settings) -> str:
    return "" if config.get("no_rope_layers") in (None, _turning(config)) else "no_rope_layers are not each fourth"


def _parallel_says(config: Settings) -> Settings:
    return {"use_parallel_residual": bool(config["use_parallel_residual"])}


def _turning(config: Settings) -> list[int]:
    """SmolLM 3: each fourth layer turns nothing."""
    return [int((i + 1) % 4 != 0) for i in range(int(config["num_hidden_layers"]))]


LLAMA = Layout(
    "llama", "llama", "LlamaForCausalLM", DENSE | HEAD, rotary="pairs", scaling=("default", "linear", "yarn", "llama3"),
    fixed={"hidden_act": "silu"}, bias=("attention_bias:attn_q.bias", "mlp_bias:ffn_gate.bias"), refuses=_no_window,
)  # fmt: skip
MIXTRAL = replace(
    LLAMA, kind="mixtral", model="MixtralForCausalLM", modules=(*ATTENTION, *NORMS, "block_sparse_moe.gate"),
    experts="block_sparse_moe.experts.{}.{}",
    stacks={w: f"layers.{{}}.feed_forward.experts.{w}" for w in ("w1", "w2", "w3")},
    settings=DENSE | HEAD | {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}, bias=(),
)  # fmt: skip
MOE_LAYER = (*ATTENTION, *NORMS, "mlp.gate")
SHARED = tuple(f"mlp.shared_expert.{p}" for p in PROJECTIONS)
EXPERTS = "mlp.experts.{}.{}"
GPT2_SIZES = {
    "n_embd": "embedding_length", "n_layer": "block_count", "n_head": "attention.head_count",
    "n_positions": "context_length", "n_inner": "feed_forward_length",
    "layer_norm_epsilon": "attention.layer_norm_epsilon",
}  # fmt: skip
LAYER_NORM = {"layer_norm_eps": "attention.layer_norm_epsilon"}

LAYOUTS = (
    LLAMA,
    MIXTRAL,
    replace(LLAMA, kind="mistral", model="MistralForCausalLM", bias=()),  # written; what is read is a llama
    replace(
        LLAMA,
        architecture="mistral3",
        kind="ministral3",
        model="Ministral3ForCausalLM",
        bias=(),
        scaling=("yarn",),
        says=_tempered,
    ),
    Layout("qwen2", "qwen2", "Qwen2ForCausalLM", DENSE | HEAD, fixed={"use_sliding_window": False}, refuses=_no_window),
    Layout(
        "qwen3",
        "qwen3",
        "Qwen3ForCausalLM",
        DENSE | HEAD,
        ATTENTION + GATED + NORMS + QK_NORMS,
        fixed={"use_sliding_window": False},
        bias=("attention_bias:attn_q.bias",),
        refuses=_no_window,
    ),
    Layout(
        "qwen2moe",
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        DENSE | MOE | {"shared_expert_intermediate_size": "expert_shared_feed_forward_length"},
        MOE_LAYER + SHARED,
        experts=EXPERTS,
        others=_shared_expert,
        refuses=_no_window,
        fixed={"use_sliding_window": False, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
    ),
    Layout(
        "qwen3moe",
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        DENSE | HEAD | MOE,
        MOE_LAYER + QK_NORMS,
        experts=EXPERTS,
        fixed={"use_sliding_window": False, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
        bias=("attention_bias:attn_q.bias",),
        refuses=_no_window,
    ),
    Layout(
        "gemma",
        "gemma",
        "GemmaForCausalLM",
        DENSE | HEAD,
        norm=1.0,
        top=TOP[:2],
        fixed={"hidden_activation": "gelu_pytorch_tanh"},
    ),
    Layout(
        "gemma2",
        "gemma2",
        "Gemma2ForCausalLM",
        DENSE | HEAD | WINDOW | CAPS,
        ATTENTION + GATED + NORMS + AROUND,
        norm=1.0,
        top=TOP[:2],
        fixed={"hidden_activation": "gelu_pytorch_tanh"},
        more=_gemma,
        refuses=_gemma_refuses,
    ),
    Layout(
        "gemma3",
        "gemma3_text",
        "Gemma3ForCausalLM",
        DENSE | HEAD | WINDOW | {"final_logit_softcapping": "final_logit_softcapping"},
        ATTENTION + GATED + NORMS + AROUND + QK_NORMS,
        norm=1.0,
        fixed={"hidden_activation": "gelu_pytorch_tanh"},
        more=_gemma,
        refuses=_gemma_refuses,
    ),
    Layout(
        "phi3",
        "phi3",
        "Phi3ForCausalLM",
        DENSE | WINDOW,
        ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj", *NORMS),
        fixed={"hidden_act": "silu"},
        scaling=("default", "longrope"),
        partial=True,
    ),
    Layout(
        "gpt-oss",
        "gpt_oss",
        "GptOssForCausalLM",
        DENSE | HEAD | WINDOW | {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"},
        (*ATTENTION, *NORMS, "mlp.router"),
        others=_gpt_oss_experts,
        refuses=partial(_windows_refused, 2),
        fixed={"attention_bias": True, "hidden_act": "silu", "swiglu_limit": 7.0, "swiglu_alpha": 1.702},
        says=lambda config: {"expert_feed_forward_length": config["intermediate_size"]},
    ),
    Layout(
        "deepseek2",
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        SIZES
        | MIDDLE
        | RMS
        | {
            "kv_lora_rank": "attention.kv_lora_rank",
            "n_routed_experts": "expert_count",
            "num_experts_per_tok": "expert_used_count",
            "n_shared_experts": "expert_shared_count",
            "first_k_dense_replace": "leading_dense_block_count",
            "routed_scaling_factor": "expert_weights_scale",
            "moe_intermediate_size": "expert_feed_forward_length",
        },
        (
            *NORMS,
            *GATED,
            "self_attn.q_proj",
            "self_attn.q_a_proj",
            "self_attn.q_a_layernorm",
            "self_attn.q_b_proj",
            "self_attn.kv_a_proj_with_mqa",
            "self_attn.kv_a_layernorm",
            "self_attn.o_proj",
            "mlp.gate",
            *(f"mlp.shared_experts.{p}" for p in PROJECTIONS),
        ),
        experts=EXPERTS,
        others=_latent,
        more=_deepseek,
        says=_deepseek_says,
        fixed={"hidden_act": "silu"},
    ),
    Layout(
        "starcoder2",
        "starcoder2",
        "Starcoder2ForCausalLM",
        SIZES | MIDDLE | GROUPED | {"norm_epsilon": "attention.layer_norm_epsilon"},
        (*ATTENTION, "mlp.c_fc", "mlp.c_proj", *NORMS),
        fixed={"hidden_act": "gelu_pytorch_tanh"},
        bias=("use_bias:attn_q.bias",),
        scaling=("default",),
    ),
    Layout(
        "stablelm",
        "stablelm",
        "StableLmForCausalLM",
        SIZES | MIDDLE | GROUPED | LAYER_NORM,
        fixed={"hidden_act": "silu"},
        others=_head_norms,
        bias=("use_qkv_bias:attn_q.bias", "qk_layernorm:attn_q_norm.weight", "!use_parallel_residual:ffn_norm.weight"),
        scaling=("default",),
        partial=True,
        says=_parallel_says,
    ),
    Layout(
        "falcon",
        "falcon",
        "FalconForCausalLM",
        SIZES
        | {
            "num_kv_heads": "attention.head_count_kv",
            "ffn_hidden_size": "feed_forward_length",
            "layer_norm_epsilon": "attention.layer_norm_epsilon",
        },
        ("self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        ("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
        "transformer.h.{}.",
        fixed={"alibi": False, "parallel_attn": True, "activation": "gelu"},
        others=_fused,
        more=_falcon,
        says=_falcon_says,
        bias=("bias:attn_output.bias", "num_ln_in_parallel_attn:attn_norm_2.weight"),
        scaling=("default",),
    ),
    Layout(
        "gpt2",
        "gpt2",
        "GPT2LMHeadModel",
        GPT2_SIZES,
        ("ln_1", "ln_2"),
        ("transformer.wte", "transformer.ln_f", "lm_head"),
        "transformer.h.{}.",
        fixed={"activation_function": "gelu_new"},
        others=_turned,
        scaling=(),
    ),
    Layout(
        "bloom",
        "bloom",
        "BloomForCausalLM",
        {
            "hidden_size": "embedding_length",
            "n_layer": "block_count",
            "n_head": "attention.head_count",
            "layer_norm_epsilon": "attention.layer_norm_epsilon",
        },
        ("self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", *NORMS),
        ("transformer.word_embeddings", "transformer.word_embeddings_layernorm", "transformer.ln_f"),
        "transformer.h.{}.",
        others=_fused,
        scaling=(),
    ),
    Layout(
        "gptneox",
        "gpt_neox",
        "GPTNeoXForCausalLM",
        SIZES | MIDDLE | LAYER_NORM,
        ("attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", *NORMS),
        ("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
        "gpt_neox.layers.{}.",
        others=_fused,
        fixed={"hidden_act": "gelu"},
        scaling=("default",),
        partial=True,
        says=_parallel_says,
        more=lambda config, read: {"use_parallel_residual": bool(read("use_parallel_residual"))},
    ),
    Layout(
        "phi2",
        "phi",
        "PhiForCausalLM",
        SIZES | MIDDLE | GROUPED | LAYER_NORM,
        (
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.dense",
            "mlp.fc1",
            "mlp.fc2",
            "input_layernorm",
        ),
        ("model.embed_tokens", "model.final_layernorm", "lm_head"),
        fixed={"hidden_act": "gelu_new", "qk_layernorm": False},
        scaling=("default",),
        partial=True,
    ),
    Layout(
        "nemotron",
        "nemotron",
        "NemotronForCausalLM",
        SIZES | MIDDLE | GROUPED | {"norm_eps": "attention.layer_norm_epsilon"},
        (*ATTENTION, "mlp.up_proj", "mlp.down_proj", *NORMS),
        norm=1.0,
        fixed={"hidden_act": "relu2"},
        bias=("attention_bias:attn_q.bias", "mlp_bias:ffn_up.bias"),
        scaling=("default", "linear"),
        partial=True,
    ),
    Layout(
        "olmo2",
        "olmo2",
        "Olmo2ForCausalLM",
        DENSE,
        (*ATTENTION, *GATED, NORMS[1], AROUND[1], *QK_NORMS),
        fixed={"hidden_act": "silu"},
        bias=("attention_bias:attn_q.bias",),
        scaling=("default", "yarn"),
    ),
    replace(
        LLAMA,
        architecture="granite",
        kind="granite",
        model="GraniteForCausalLM",
        refuses=lambda _: "",
        settings=DENSE
        | {
            "embedding_multiplier": "embedding_scale",
            "residual_multiplier": "residual_scale",
            "attention_multiplier": "attention.scale",
            "logits_scaling": "logit_scale",
        },
    ),
    replace(
        LLAMA,
        architecture="smollm3",
        kind="smollm3",
        model="SmolLM3ForCausalLM",
        settings=DENSE,
        more=lambda config, read: {
            "no_rope_layers": _turning(config),
            "layer_types": _full(config["num_hidden_layers"]),
        },
        refuses=_turning_refused,
    ),
    Layout(
        "command-r",
        "cohere",
        "CohereForCausalLM",
        SIZES | MIDDLE | GROUPED | LAYER_NORM | {"logit_scale": "logit_scale"},
        (*ATTENTION, *GATED, NORMS[0], *QK_NORMS),
        top=TOP[:2],
        fixed={"hidden_act": "silu"},
        bias=("attention_bias:attn_q.bias", "use_qk_norm:attn_q_norm.weight"),
        scaling=("default", "linear"),
        refuses=_norms_refused,
    ),
    Layout(
        "cohere2",
        "cohere2",
        "Cohere2ForCausalLM",
        SIZES | MIDDLE | GROUPED | LAYER_NORM | HEAD | WINDOW | {"logit_scale": "logit_scale"},
        (*ATTENTION, *GATED, NORMS[0]),
        top=TOP[:2],
        fixed={"hidden_act": "silu"},
        bias=("attention_bias:attn_q.bias",),
        more=lambda config, read: {"layer_types": _windows(config["num_hidden_layers"], 4)},
        refuses=_cohere2_refused,
        scaling=("default",),
    ),
)


def by_architecture(name: str, *, experts: bool = False, tempered: bool = False) -> Layout | None:
    """The layout of a file that says `general.architecture`.

    With experts a llama is a Mixtral; a Mistral 3 whose scores are not tempered by position is a Mistral.
    """
    if name == "llama" and experts:
        return MIXTRAL
    if name == "mistral3" and not tempered:
        return replace(LLAMA, architecture="mistral3", kind="mistral", model="MistralForCausalLM", bias=())
    return next((layout for layout in LAYOUTS if layout.architecture == name), None)


def by_kind(kind: str) -> Layout | None:
    """The layout a model of this model_type is written by."""
    if kind == "deepseek_v3":
        return replace(next(layout for layout in LAYOUTS if layout.architecture == "deepseek2"), kind=kind)
    return next((layout for layout in LAYOUTS if layout.kind == kind), None)


def architectures() -> Sequence[str]:
    """Those that are read, once each."""
    return tuple(dict.fromkeys(layout.architecture for layout in LAYOUTS))


def kinds() -> Sequence[str]:
    """Those that are written."""
    return (*(layout.kind for layout in LAYOUTS), "deepseek_v3")

"""Tiny models of every kind that souq reads from GGUF and writes to it, with random weights that bf16 holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import VOCAB, tokenizer_files

SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ALONE = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
WIDE = {"head_dim": 16}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = SIZES | EXPERTS | {
    "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.5,
}  # fmt: skip
GEMMA = SIZES | WIDE | {"query_pre_attn_scalar": 16, "sliding_window": 4, "num_hidden_layers": 6}


def rope(kind: str, theta: float = 10000.0, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": theta, "rope_type": kind, **settings}}


LLAMA_3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
OTHER_3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 8.0, "original_max_position_embeddings": 4096}
# name: (model_type, configuration)
ZOO: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SIZES),
    "llama with biases": ("llama", SIZES | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama linear": ("llama", SIZES | rope("linear", factor=4.0)),
    "llama yarn": ("llama", SIZES | rope("yarn", factor=4.0, original_max_position_embeddings=64)),
    "llama 3": ("llama", SIZES | WIDE | rope("llama3", **LLAMA_3)),
    "llama 3 otherwise": ("llama", SIZES | {"head_dim": 64} | rope("llama3", **OTHER_3)),
    "mistral": ("mistral", SIZES | {"sliding_window": None}),
    "ministral 3": ("ministral3", SIZES | WIDE | rope(
        "yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=32.0, beta_slow=1.0, mscale=1.0,
        mscale_all_dim=1.0, llama_4_scaling_beta=0.5)),
    "mixtral": ("mixtral", SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("qwen2", SIZES | {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", SIZES | WIDE),
    "qwen2 moe": ("qwen2_moe", SIZES | EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 32}),
    "qwen3 moe": ("qwen3_moe", SIZES | EXPERTS | WIDE | {"num_experts": 4, "norm_topk_prob": True}),
    "gemma": ("gemma", SIZES | WIDE),
    "gemma2": ("gemma2", GEMMA | {"num_hidden_layers": 4}),
    "gemma3": ("gemma3_text", GEMMA),
    "gemma3 linear": ("gemma3_text", GEMMA | {"rope_parameters": {
        "full_attention": rope("linear", 1e6, factor=8.0)["rope_parameters"],
        "sliding_attention": rope("default")["rope_parameters"]}}),
    "phi3": ("phi3", SIZES | {"sliding_window": None, "original_max_position_embeddings": 256}),
    "phi3 long": ("phi3", SIZES | {"max_position_embeddings": 1024, "original_max_position_embeddings": 256} | rope(
        "longrope", short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[2.0, 2.5, 3.0, 3.5],
        original_max_position_embeddings=256)),
    "gpt-oss": ("gpt_oss", SIZES | WIDE | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4}),
    "deepseek 2": ("deepseek_v2", LATENT),
    "deepseek 3": ("deepseek_v3", LATENT | {"n_group": 2, "topk_group": 1, "norm_topk_prob": True}),
    "deepseek 2 yarn": ("deepseek_v2", LATENT | rope(
        "yarn", factor=4.0, original_max_position_embeddings=64, mscale=0.707, mscale_all_dim=0.707)),
    "deepseek 3 yarn": ("deepseek_v3", LATENT | {"n_group": 2, "topk_group": 1, "norm_topk_prob": True} | rope(
        "yarn", factor=4.0, original_max_position_embeddings=64, mscale=1.0, mscale_all_dim=1.0)),
    "gemma3 yarn": ("gemma3_text", GEMMA | {"rope_parameters": {
        "full_attention": rope("yarn", 1e6, factor=8.0, original_max_position_embeddings=64)["rope_parameters"],
        "sliding_attention": rope("default")["rope_parameters"]}}),
    "gpt-oss yarn": ("gpt_oss", SIZES | WIDE | {
        "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4} | rope(
        "yarn", 150000.0, factor=8.0, original_max_position_embeddings=64, beta_fast=32.0, beta_slow=1.0,
        truncate=False)),
    "starcoder2": ("starcoder2", SIZES),
    "stablelm": ("stablelm", SIZES | {"partial_rotary_factor": 0.5, "use_qkv_bias": True}),
    "stablelm 2": ("stablelm", SIZES | {
        "partial_rotary_factor": 0.5, "qk_layernorm": True, "use_parallel_residual": True}),
    "falcon 7b": ("falcon", ALONE | {"multi_query": True, "bias": False}),
    "falcon 40b": ("falcon", ALONE | {"num_kv_heads": 2, "new_decoder_architecture": True, "bias": False}),
    "gpt2": ("gpt2", {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256,
                      "bos_token_id": 1, "eos_token_id": 2}),
    "bloom": ("bloom", {"vocab_size": VOCAB, "hidden_size": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1,
                        "eos_token_id": 2}),
    "gpt-neox": ("gpt_neox", ALONE | {"rotary_pct": 0.5, "hidden_act": "gelu"}),
    "phi 2": ("phi", ALONE | {"partial_rotary_factor": 0.5, "num_key_value_heads": 4, "intermediate_size": 128}),
    "nemotron": ("nemotron", SIZES | {"partial_rotary_factor": 0.5, "hidden_act": "relu2"}),
    "olmo2": ("olmo2", SIZES),
    "granite": ("granite", SIZES | {"embedding_multiplier": 3.0, "residual_multiplier": 0.5,
                                    "attention_multiplier": 0.1, "logits_scaling": 2.0}),
    "smollm3": ("smollm3", SIZES | {"num_hidden_layers": 4}),
    "command r": ("cohere", SIZES | {"logit_scale": 0.25}),
    "command r 2": ("cohere2", SIZES | {"logit_scale": 0.25, "sliding_window": 4, "num_hidden_layers": 4}),
}  # fmt: skip
TEXT = [(7 * i * i + 3 * i + 5) % 250 + 3 for i in range(30)]


def make(name: str, folder: Path) -> Any:
    """A model of the zoo with its tokenizer, saved to `folder` in float32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, settings = ZOO[name]
    generator = torch.Generator().manual_seed(len(name))
    net = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings), dtype=torch.float32).eval()
    with torch.no_grad():
        for part in (*net.parameters(), *(b for name, b in net.named_buffers() if "e_score" in name)):
            random = torch.randn(part.shape, generator=generator) * (0.2 if part.ndim > 1 else 0.1)
            part.copy_((random + (0 if part.ndim > 1 else part)).bfloat16().float())
    net.tie_weights()
    net.save_pretrained(folder)
    for file, text in tokenizer_files().items():
        (folder / file).write_text(text)
    return net


def odds(net: Any, ids: list[int] = TEXT) -> Any:
    """What it says comes next, as log-probabilities."""
    import torch

    with torch.no_grad():
        return net(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1).numpy()

"""Model folders laid out as their publishers did: the keys their configurations have, weights of a few numbers.

Written down from what the files are known to hold; sizes are small, texts short. `write_layout(folder, "pythia-410m")`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from souq.weights.safetensors import write_tensors
from tests.tiny import TEMPLATE, tokenizer_files

HIDDEN, LAYERS, VOCAB = 64, 2, 320
SIZE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 128, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.02,
    "use_cache": True, "transformers_version": "4.40.0", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BF16, F16, F32 = {"torch_dtype": "bfloat16"}, {"torch_dtype": "float16"}, {"torch_dtype": "float32"}
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False, "attention_bias": False, "rope_scaling": None, "pretraining_tp": 1, **SIZE,
}  # fmt: skip
LLAMA_2 = {"sp_model_kwargs": {}, "legacy": False, "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"}
GPT_NEOX = {"name_or_path": "EleutherAI/gpt-neox-20b", "special_tokens_map_file": "/admin/home-hailey/.cache/x.json"}
PHI_3 = {
    "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "attention_bias": False, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "rope_theta": 10000.0, "sliding_window": 262144,
    "original_max_position_embeddings": 256, "tie_word_embeddings": False, **SIZE, **BF16,
    "rope_scaling": {"long_factor": [1.0] * 8, "short_factor": [1.0] * 8, "type": "longrope"},
}  # fmt: skip
PHI_CODE = {
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
}
DEEPSEEK = {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "aux_loss_alpha": 0.001, "ep_size": 1,
    "first_k_dense_replace": 1, "kv_lora_rank": 16, "moe_intermediate_size": 32, "moe_layer_freq": 1, "n_group": 2,
    "n_routed_experts": 4, "n_shared_experts": 1, "norm_topk_prob": True, "num_experts_per_tok": 2,
    "num_nextn_predict_layers": 1, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": True, "topk_group": 1, "topk_method": "noaux_tc",
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False, **SIZE, **BF16,
}  # fmt: skip
DEEPSEEK_CODE = {"auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}}
GPT_OSS = {
    "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "attention_bias": True, "experts_per_token": 2,
    "head_dim": 16, "initial_context_length": 512, "layer_types": ["sliding_attention", "full_attention"],
    "num_experts_per_tok": 2, "num_local_experts": 4, "output_router_logits": False, "router_aux_loss_coef": 0.9,
    "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 2.0, "original_max_position_embeddings": 256,
                     "rope_type": "yarn", "truncate": False},
    "rope_theta": 150000, "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": False, **SIZE,
}  # fmt: skip
QWEN_2 = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "max_window_layers": 2,
    "rms_norm_eps": 1e-6, "rope_theta": 1e6, "sliding_window": 512, "tie_word_embeddings": False,
    "use_sliding_window": False, **SIZE, **BF16,
}  # fmt: skip
GEMMA = {
    "attention_bias": False, "head_dim": 16, "hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6,
    "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16, "rope_theta": 1e4, "sliding_window": 128,
    **SIZE, **BF16, "eos_token_id": [1, 106],
}  # fmt: skip

# name -> config.json, tokenizer_config.json, and how the weights are named and what odd things stand among them
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "Llama-2-7b-hf": ({**LLAMA, **F16, "_name_or_path": "meta-llama/Llama-2-7b-hf"}, LLAMA_2, "inv_freq"),
    "Llama-3.1-8B": ({**LLAMA, **BF16, "mlp_bias": False, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128, "rope_type": "llama3"}},
                     {"model_input_names": ["input_ids", "attention_mask"], "tokenizer_class": "PreTrainedTokenizerFast"}, ""),
    "TinyLlama-1.1B-Chat-v1.0": ({**LLAMA, **BF16}, LLAMA_2, ""),
    "unsloth/Llama-3.2-1B": ({**LLAMA, **BF16, "unsloth_fixed": True, "head_dim": 16, "tie_word_embeddings": True}, {"unsloth_fixed": True, "padding_side": "left"}, ""),
    "CodeLlama-7b-hf": ({**LLAMA, **BF16, "rope_theta": 1000000}, {**LLAMA_2, "prefix_token": "<PRE>", "middle_token": "<MID>", "suffix_token": "<SUF>", "eot_token": "<EOT>", "fill_token": "<FILL_ME>", "suffix_first": False, "use_default_system_prompt": False}, ""),
    "an axolotl fine-tune": ({**LLAMA, **BF16, "_name_or_path": "/workspace/base"}, {"name_or_path": "meta-llama/Llama-3.1-8B", "use_fast": True, "trust_remote_code": False, "padding_side": "left"}, ""),
    "Mistral-7B-v0.1": ({**LLAMA, **BF16, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4096}, {**LLAMA_2, "use_default_system_prompt": False, "additional_special_tokens": []}, ""),
    "zephyr-7b-beta": ({**LLAMA, **BF16, "model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 4096, "pad_token_id": 2}, {**LLAMA_2, "truncation_side": "left", "use_default_system_prompt": True}, ""),
    "Mixtral-8x7B-v0.1": ({**LLAMA, **BF16, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_experts_per_tok": 2, "num_local_experts": 4, "output_router_logits": False, "router_aux_loss_coef": 0.02, "sliding_window": None}, LLAMA_2, ""),
    "Qwen2.5-7B": ({**QWEN_2, "use_mrope": False}, {"errors": "replace", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer"}, ""),
    "Qwen2.5-7B-Instruct": (QWEN_2, {"errors": "replace", "tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False}, ""),
    "DeepSeek-R1-Distill-Qwen-7B": ({**QWEN_2, "use_mrope": False}, {"sp_model_kwargs": {}, "legacy": True, "tokenizer_class": "LlamaTokenizerFast"}, ""),
    "Qwen3-8B": ({**QWEN_2, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 16}, {"tokenizer_class": "Qwen2Tokenizer", "errors": "replace"}, ""),
    "Qwen3-30B-A3B": ({**QWEN_2, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "head_dim": 16, "decoder_sparse_step": 1, "mlp_only_layers": [], "moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 4, "num_experts_per_tok": 2, "output_router_logits": False, "router_aux_loss_coef": 0.001}, {"tokenizer_class": "Qwen2Tokenizer"}, ""),
    "gemma-2-9b-it": ({**GEMMA, "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "cache_implementation": "hybrid", "sliding_window_size": 4096}, {"sp_model_kwargs": {}, "tokenizer_class": "GemmaTokenizer", "use_default_system_prompt": False}, ""),
    "gemma-3-1b-it": ({**GEMMA, "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "rope_local_base_freq": 10000, "sliding_window_pattern": 2, "cache_implementation": "hybrid", "attn_logit_softcapping": None, "final_logit_softcapping": None}, {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>", "sp_model_kwargs": None, "processor_class": "Gemma3Processor", "tokenizer_class": "GemmaTokenizer"}, ""),
    "gemma-3-270m as transformers 5 writes it": ({**GEMMA, "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "dtype": "bfloat16", "layer_types": ["sliding_attention", "full_attention"], "use_bidirectional_attention": False, "tie_word_embeddings": True, "rope_parameters": {"full_attention": {"rope_theta": 1000000.0, "rope_type": "default"}, "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}}}, {"backend": "tokenizers", "is_local": True, "local_files_only": False, "model_specific_special_tokens": {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}, "tokenizer_class": "GemmaTokenizer", "sp_model_kwargs": None, "mask_token": "<mask>"}, ""),
    "phi-2": ({**SIZE, **F16, "model_type": "phi", "architectures": ["PhiForCausalLM"], "auto_map": {"AutoConfig": "configuration_phi.PhiConfig", "AutoModelForCausalLM": "modeling_phi.PhiForCausalLM"}, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "qk_layernorm": False, "embd_pdrop": 0.0, "resid_pdrop": 0.1, "rope_theta": 10000.0, "tie_word_embeddings": False}, {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False}, ""),
    "Phi-3.5-mini-instruct": ({**PHI_3, **PHI_CODE}, {**LLAMA_2, "padding_side": "left"}, ""),
    "Phi-4-mini-instruct": ({**PHI_3, **PHI_CODE, "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False, "partial_rotary_factor": 1.0, "tie_word_embeddings": True}, {"tokenizer_class": "GPT2Tokenizer"}, ""),
    "phi-4": ({**PHI_3, "rope_scaling": None, "sliding_window": None}, {"tokenizer_class": "GPT2Tokenizer"}, ""),
    "DeepSeek-V3, in bf16": ({**DEEPSEEK, **DEEPSEEK_CODE}, {"sp_model_kwargs": {}, "legacy": True, "tokenizer_class": "LlamaTokenizerFast"}, "next"),
    "gpt-oss-20b, in bf16": ({**GPT_OSS, **BF16}, {"tokenizer_class": "PreTrainedTokenizerFast"}, ""),
    "pythia-410m": ({**SIZE, **F16, "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_act": "gelu", "layer_norm_eps": 1e-5, "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True}, {**GPT_NEOX, "tokenizer_class": "GPTNeoXTokenizer"}, "neox"),
    "opt-125m": ({**SIZE, **F16, "model_type": "opt", "architectures": ["OPTForCausalLM"], "activation_function": "relu", "do_layer_norm_before": True, "_remove_final_layer_norm": False, "dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0, "ffn_dim": 128, "init_std": 0.02, "layerdrop": 0.0, "prefix": "</s>", "word_embed_proj_dim": 64}, {"errors": "replace", "add_bos_token": True, "name_or_path": "patrickvonplaten/opt-30b", "special_tokens_map_file": None, "tokenizer_class": "GPT2Tokenizer"}, "opt"),
    "bloom-560m": ({"model_type": "bloom", "architectures": ["BloomForCausalLM"], "vocab_size": VOCAB, "n_embed": HIDDEN, "n_layer": LAYERS, "num_attention_heads": 4, "apply_residual_connection_post_layernorm": False, "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "masked_softmax_fusion": True, "offset_alibi": 100, "pretraining_tp": 1, "seq_length": 2048, "skip_bias_add": True, "skip_bias_add_qkv": False, "unk_token_id": 0}, {"name_or_path": "bigscience/tokenizer", "special_tokens_map_file": None, "padding_side": "left", "tokenizer_class": "BloomTokenizerFast"}, "bloom"),
    "falcon-7b": ({**SIZE, **BF16, "model_type": "falcon", "architectures": ["FalconForCausalLM"], "auto_map": {"AutoConfig": "configuration_falcon.FalconConfig", "AutoModel": "modeling_falcon.FalconModel"}, "alibi": False, "apply_residual_connection_post_layernorm": False, "bias": False, "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True}, {"name_or_path": "tiiuae/falcon_tokenizer", "special_tokens_map_file": None, "tokenizer_class": "PreTrainedTokenizerFast"}, "falcon"),
    "starcoder2-3b": ({**SIZE, **F32, "model_type": "starcoder2", "architectures": ["Starcoder2ForCausalLM"], "activation_function": "gelu", "hidden_act": "gelu_pytorch_tanh", "attention_softmax_in_fp32": True, "layer_norm_epsilon": 1e-5, "mlp_type": "default", "norm_epsilon": 1e-5, "norm_type": "layer_norm", "residual_dropout": 0.1, "scale_attention_softmax_in_fp32": True, "scale_attn_weights": True, "sliding_window": 4096, "use_bias": True, "rope_theta": 999999.4}, {"tokenizer_class": "GPT2Tokenizer", "vocab_size": 49152}, ""),
    "stablelm-2-1_6b": ({**SIZE, **F16, "model_type": "stablelm", "architectures": ["StableLmForCausalLM"], "hidden_act": "silu", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "use_qkv_bias": True, "rope_theta": 10000, "tie_word_embeddings": False, "norm_eps": 1e-5, "rope_pct": 0.25}, {"tokenizer_class": "GPT2Tokenizer"}, ""),
    "c4ai-command-r-v01": ({**SIZE, **F16, "model_type": "cohere", "architectures": ["CohereForCausalLM"], "hidden_act": "silu", "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "model_max_length": 131072, "pretraining_tp": 1, "rope_theta": 8000000.0, "use_qk_norm": False}, {"errors": "replace", "legacy": True, "merges_file": None, "vocab_file": None, "sp_model_kwargs": {}, "spaces_between_special_tokens": False, "tokenizer_class": "CohereTokenizer", "use_default_system_prompt": False}, ""),
    "c4ai-command-r7b-12-2024": ({**SIZE, **BF16, "model_type": "cohere2", "architectures": ["Cohere2ForCausalLM"], "cache_implementation": "hybrid", "head_dim": 16, "hidden_act": "silu", "layer_norm_eps": 1e-5, "layer_switch": 4, "logit_scale": 0.25, "order_of_interleaved_layers": "local_attn_first", "position_embedding_type": "rope_gptj", "rotary_pct": 1.0, "sliding_window": 4096, "sliding_window_pattern": 4, "use_embedding_sharing": True, "use_gated_activation": True, "use_parallel_block": True, "use_parallel_embedding": True, "rope_theta": 50000}, {"errors": "replace", "tokenizer_class": "CohereTokenizer"}, ""),
    "OLMo-2-1124-7B": ({**SIZE, **F32, "model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "attention_bias": False, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 500000, "tie_word_embeddings": False}, {"tokenizer_class": "GPT2Tokenizer", "errors": "replace"}, ""),
    "granite-3.3-8b-instruct": ({**LLAMA, **BF16, "model_type": "granite", "architectures": ["GraniteForCausalLM"], "attention_multiplier": 0.0078125, "embedding_multiplier": 12.0, "logits_scaling": 16.0, "residual_multiplier": 0.22, "tie_word_embeddings": True}, {"tokenizer_class": "GPT2Tokenizer", "errors": "replace", "vocab_size": 49152}, ""),
    "SmolLM2-1.7B": ({**LLAMA, **BF16, "is_llama_config": True, "rope_interleaved": False, "tie_word_embeddings": True}, {"tokenizer_class": "GPT2Tokenizer", "vocab_size": 49152}, "head"),
    "mamba2, which has an Infinity": ({"model_type": "mamba2", "architectures": ["Mamba2ForCausalLM"], "vocab_size": VOCAB, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "expand": 2, "time_step_limit": [0.0, float("inf")], "rms_norm": True, "norm_before_gate": True, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}, {"tokenizer_class": "GPTNeoXTokenizer", **GPT_NEOX}, "mamba"),
}  # fmt: skip

# how a layer and the embedding are called, where not as in a Llama
NAMES = {
    "neox": ("gpt_neox.embed_in.weight", "gpt_neox.layers.{}.attention.dense.weight"),
    "opt": ("model.decoder.embed_tokens.weight", "model.decoder.layers.{}.fc1.weight"),
    "bloom": ("word_embeddings.weight", "h.{}.mlp.dense_h_to_4h.weight"),
    "falcon": ("transformer.word_embeddings.weight", "transformer.h.{}.mlp.dense_h_to_4h.weight"),
    "mamba": ("backbone.embeddings.weight", "backbone.layers.{}.mixer.out_proj.weight"),
}


def write_layout(folder: Path, name: str) -> Path:
    """A folder as `name` was published."""
    config, tokenizer, odd = LAYOUTS[name]
    folder.mkdir(parents=True)
    files = tokenizer_files()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(files["tokenizer.json"])
    settings = json.loads(files["tokenizer_config.json"]) | {"chat_template": TEMPLATE} | tokenizer
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    write_tensors(folder / "model.safetensors", tensors(config, odd), {"format": "pt"})
    return folder


def tensors(config: dict[str, Any], odd: str) -> dict[str, np.ndarray]:
    """An embedding, one tensor a layer, and what is odd about the published file."""
    chance = np.random.default_rng(0)
    embedding, layer = NAMES.get(odd, ("model.embed_tokens.weight", "model.layers.{}.mlp.up_proj.weight"))
    count = LAYERS + (1 if odd == "next" else 0)
    shapes = {embedding: (VOCAB, HIDDEN), **{layer.format(i): (HIDDEN, HIDDEN) for i in range(count)}}
    made = {name: chance.standard_normal(shape).astype(ml_dtypes.bfloat16) for name, shape in shapes.items()}
    if odd == "inv_freq":
        made |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(8, "f4") for i in range(LAYERS)}
    if odd == "neox":
        made |= {f"gpt_neox.layers.{i}.attention.bias": np.ones((1, 1, 8, 8), "u1") for i in range(LAYERS)}
        made |= {f"gpt_neox.layers.{i}.attention.masked_bias": np.array(-1e9, "f4") for i in range(LAYERS)}
        made |= {f"gpt_neox.layers.{i}.attention.rotary_emb.inv_freq": np.ones(8, "f4") for i in range(LAYERS)}
    if odd == "head":
        made["lm_head.weight"] = made[embedding].copy()
    return made

"""Tiny models of many kinds, made by transformers with random weights: what people bring, in a few kilobytes each.

folder = make("gpt_neox", Path("neox"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SIZE = {
    "vocab_size": 258, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 256, "eos_token_id": 256,
    "pad_token_id": 257, "initializer_range": 0.1,
}  # fmt: skip
HEAD = {"head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
LATENT = {
    "moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "num_key_value_heads": 4, "head_dim": 8,
}  # fmt: skip
SSM = {"state_size": 16, "expand": 2, "conv_kernel": 4}
LANGUAGE: dict[str, dict[str, Any]] = {
    "llama": {}, "mistral": {}, "ministral": HEAD, "ministral3": HEAD, "qwen2": {}, "qwen3": HEAD, "smollm3": {},
    "gemma": HEAD, "gemma2": HEAD | {"final_logit_softcapping": 3.0}, "gemma3_text": HEAD | {"sliding_window": 48},
    "phi": {}, "phi3": {}, "olmo": {}, "olmo2": {}, "olmo3": {},
    "granite": {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "attention_multiplier": 0.0625,
                "residual_multiplier": 0.22},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 4.0},
    "granitemoehybrid": {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 32,
                         "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 16,
                         "mamba_d_state": 16, "mamba_n_groups": 1, "position_embedding_type": "rope"},
    "gpt2": GPT, "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": {}, "gptj": GPT | {"rotary_dim": 8}, "gpt_bigcode": GPT, "codegen": GPT | {"rotary_dim": 8, "n_ctx": 512},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64}, "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 64, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2, "max_seq_len": 512},
    "falcon": {}, "stablelm": {}, "starcoder2": {}, "nemotron": HEAD, "persimmon": {},
    "cohere": {"logit_scale": 0.25}, "cohere2": {"logit_scale": 0.25}, "glm": HEAD, "glm4": HEAD, "exaone4": HEAD,
    "lfm2": {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention"]}, "apertus": {},
    "seed_oss": HEAD, "ernie4_5": HEAD, "hunyuan_v1_dense": HEAD, "helium": HEAD,
    "mixtral": {"num_local_experts": 4}, "phimoe": {"num_local_experts": 4}, "qwen3_moe": HEAD | EXPERTS,
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 32}, "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v2": LATENT | {"topk_method": "greedy"}, "deepseek_v3": LATENT,
    "glm4_moe": LATENT | HEAD | {"num_key_value_heads": 2},
    "gpt_oss": HEAD | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 48},
    "llama4_text": HEAD | {"num_local_experts": 4, "intermediate_size_mlp": 96, "attention_chunk_size": 64},
    "qwen3_next": HEAD | EXPERTS | {"shared_expert_intermediate_size": 32, "linear_num_value_heads": 4,
                                    "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
                                    "layer_types": ["linear_attention", "full_attention"]},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16, "head_dim": 16},
    "mamba": SSM | {"time_step_rank": 4}, "mamba2": SSM | {"num_heads": 8, "head_dim": 16, "n_groups": 1},
    "jamba": {"num_experts": 2, "mamba_d_state": 8, "use_mamba_kernels": False, "attn_layer_period": 2,
              "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
}  # fmt: skip


WORDS = SIZE | HEAD
EYES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
QWEN_EYES = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}
SEEING: dict[str, dict[str, Any]] = {
    "gemma3": {"text_config": WORDS | {"model_type": "gemma3_text"},
               "vision_config": EYES | {"model_type": "siglip_vision_model"}, "mm_tokens_per_image": 4},
    "qwen2_vl": {"text_config": WORDS | MROPE, "vision_config": QWEN_EYES},
    "qwen2_5_vl": {"text_config": WORDS | MROPE,
                   "vision_config": {"depth": 1, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2,
                                     "intermediate_size": 48, "fullatt_block_indexes": [0]}},
    "llava": {"text_config": WORDS | {"model_type": "llama"},
              "vision_config": EYES | {"model_type": "clip_vision_model"}, "image_token_index": 255},
    "mistral3": {"text_config": WORDS | {"model_type": "mistral"},
                 "vision_config": EYES | {"model_type": "pixtral", "head_dim": 16}, "image_token_index": 255},
    "idefics3": {"text_config": WORDS | {"model_type": "llama"},
                 "vision_config": EYES | {"model_type": "idefics3_vision"}, "scale_factor": 2},
    "smolvlm": {"text_config": WORDS | {"model_type": "llama"},
                "vision_config": EYES | {"model_type": "smolvlm_vision"}, "scale_factor": 2},
}  # fmt: skip
ENCODING: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("AutoModelForMaskedLM", {}), "roberta": ("AutoModelForMaskedLM", {}), "distilbert": (
        "AutoModelForMaskedLM", {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96}),
    "modernbert": ("AutoModelForMaskedLM", {"cls_token_id": 256, "sep_token_id": 256}),
    "t5": ("AutoModelForSeq2SeqLM", {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4,
                                     "decoder_start_token_id": 257}),
    "bart": ("AutoModelForSeq2SeqLM", {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1,
                                       "encoder_attention_heads": 4, "decoder_attention_heads": 4,
                                       "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "decoder_start_token_id": 256}),
    "whisper": ("AutoModelForSpeechSeq2Seq", {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1,
                                              "encoder_attention_heads": 4, "decoder_attention_heads": 4,
                                              "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "num_mel_bins": 16,
                                              "max_source_positions": 40, "max_target_positions": 40,
                                              "decoder_start_token_id": 256}),
}  # fmt: skip
KINDS = (*LANGUAGE, *SEEING, *ENCODING)


def tokenizer() -> Any:
    """Bytes as tokens, with an end of turn, padding and a chat template."""
    bytes_ = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytes_, bos_token="<|end|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
    return fast


def network(kind: str, **more: Any) -> Any:
    """A model of random weights, of transformers' class for its kind."""
    torch.manual_seed(0)
    if kind in SEEING:
        auto, settings = "AutoModelForImageTextToText", SEEING[kind]
    elif kind in ENCODING:
        auto, settings = ENCODING[kind][0], {**SIZE, **ENCODING[kind][1]}
    else:
        auto, settings = "AutoModelForCausalLM", {**SIZE, **LANGUAGE.get(kind, {})}
    config = transformers.AutoConfig.for_model(kind, **{**settings, **more})
    return getattr(transformers, auto).from_config(config)


def make(kind: str, folder: Path, **more: Any) -> Path:
    """The folder that transformers writes of one."""
    network(kind, **more).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder

"""A language model of a few thousand numbers: real files, real tokenizer, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np

from souq.weights.safetensors import write_tensors

HIDDEN, LAYERS, HEADS, MIDDLE, VOCAB = 32, 2, 4, 48, 320
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "hidden_size": HIDDEN,
    "intermediate_size": MIDDLE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": 2,
    "head_dim": 8, "max_position_embeddings": 512, "vocab_size": VOCAB, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under transformers' names, bf16."""
    chance = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (VOCAB, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{p}_proj.weight": (16 if p in "kv" else HIDDEN, HIDDEN) for p in "qkvo"}
        shapes |= {f"{at}mlp.{p}_proj.weight": (MIDDLE, HIDDEN) for p in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (HIDDEN, MIDDLE)}
        shapes |= {f"{at}{n}_layernorm.weight": (HIDDEN,) for n in ("input", "post_attention")}
    made = {
        name: chance.standard_normal(shape) * 0.2 if len(shape) > 1 else np.ones(shape)
        for name, shape in shapes.items()
    }
    return {name: array.astype(ml_dtypes.bfloat16) for name, array in made.items()}


def tokenizer_files() -> dict[str, str]:
    """A byte-level BPE trained on the spot."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(["the user and the assistant talk about the model"] * 3, trainer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
    }
    return {
        "tokenizer.json": made.to_str(),
        "tokenizer_config.json": json.dumps(config),
        "chat_template.jinja": TEMPLATE,
    }


def write_model(folder: Path, seed: int = 0) -> Path:
    """A Hugging Face folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for name, text in tokenizer_files().items():
        (folder / name).write_text(text)
    write_tensors(folder / "model.safetensors", tensors(seed), {"format": "pt"})
    return folder

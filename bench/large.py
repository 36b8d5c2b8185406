"""A merge of four checkpoints with the shapes of an 8B Llama: peak memory, and its rate beside `cp` of the same files.

The weights are random bf16, cut anew for every tensor out of a pool of 32 million drawn numbers, in shards of 2 GB.
All shapes are the 8B's (hidden 4096, middle 14336, vocabulary 128256, untied head); its 32 layers are LAYERS here, so
that four inputs, a copy of one and the result fit on a small disk. Neither memory nor rate depends on how many there are.

    python bench/large.py [LAYERS] [METHOD …]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from machine import describe
from merge import cold

ROUNDS = 2
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
SETTINGS = {"linear": "weight: 0.25", "ties": "weight: 0.4, density: 0.5"}


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (128256, 4096)
    yield "lm_head.weight", (128256, 4096)
    yield "model.norm.weight", (4096,)
    for i in range(layers):
        at = f"model.layers.{i}."
        for part, m, n in (("q", 4096, 4096), ("k", 1024, 4096), ("v", 1024, 4096), ("o", 4096, 4096)):
            yield f"{at}self_attn.{part}_proj.weight", (m, n)
        for part, m, n in (("gate", 14336, 4096), ("up", 14336, 4096), ("down", 4096, 14336)):
            yield f"{at}mlp.{part}_proj.weight", (m, n)
        for part in ("input", "post_attention"):
            yield f"{at}{part}_layernorm.weight", (4096,)


def checkpoint(folder: Path, layers: int, seed: int) -> int:
    """One random model; returns its bytes."""
    import ml_dtypes
    import numpy as np

    from souq.weights.safetensors import write_tensors

    chance = np.random.default_rng(seed)
    pool = (chance.standard_normal(1 << 25, np.float32) * 0.02).astype(ml_dtypes.bfloat16)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, shape in shapes(layers):
        if shards[-1] and 2 * sum(int(np.prod(held)) for held in [*shards[-1].values(), shape]) > 2 * 10**9:
            shards.append({})
        shards[-1][name] = shape
    folder.mkdir()
    where, total = {}, 0
    for number, held in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        tensors = {}
        for name, shape in held.items():
            size = int(np.prod(shape))
            begin = int(chance.integers(0, len(pool)))
            tensors[name] = np.resize(np.roll(pool, -begin), size).reshape(shape)
            where[name], total = file, total + 2 * size
        write_tensors(folder / file, tensors, {"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}))
    return total


def copied(models: list[Path], to: Path) -> float:
    """Seconds of `cp` for all of them, one after another, each copy removed before the next."""
    took = 0.0
    for model in models:
        begun = time.perf_counter()
        subprocess.run(["cp", "-r", model, to], check=True)
        took += time.perf_counter() - begun
        shutil.rmtree(to)
    return took


def main() -> None:
    words = sys.argv[1:]
    layers = int(words.pop(0)) if words and words[0].isdigit() else 4
    print(describe())
    souq = Path(sys.executable).with_name("souq")
    with tempfile.TemporaryDirectory(prefix="souq-bench-") as name:
        folder = Path(name)
        models = [folder / f"model-{seed}" for seed in range(4)]
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            total = sum(pool.submit(checkpoint, model, layers, seed).result() for seed, model in enumerate(models))
        print(f"four checkpoints of {layers} layers, {total / 1e9:.1f} GB in all")
        for method in words or list(SETTINGS):
            lines = [f"merge_method: {method}", "dtype: float32", "out_dtype: bfloat16", "models:"]
            lines += [f"  - {{model: {model}, parameters: {{{SETTINGS[method]}}}}}" for model in models]
            lines += [f"base_model: {models[0]}"] if method == "ties" else []
            (folder / "merge.yml").write_text("\n".join(lines) + "\n")
            best, peak, copy = float("inf"), 0.0, float("inf")
            for _ in range(ROUNDS):
                seconds, memory = cold([souq, "merge", folder / "merge.yml", folder / "out", "--shard-size", "2GB"])
                files = len(list((folder / "out").glob("*.safetensors")))
                shutil.rmtree(folder / "out")
                best, peak = min(best, seconds), max(peak, memory)
                copy = min(copy, copied(models, folder / "copy"))
            print(
                f"{method:8} {best:6.1f} s, {total / best / 1e9:.2f} GB/s of input, {files} shards, peak {peak:.0f} MB "
                f"(goal 1500); cp {copy:6.1f} s, {total / copy / 1e9:.2f} GB/s: ratio of rates {copy / best:.2f} (goal 0.5)",
                flush=True,
            )


if __name__ == "__main__":
    main()

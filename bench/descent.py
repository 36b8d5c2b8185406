"""How often souq.audit.descent is right: bases and descendants really trained here, thresholds on one half, judged on the other.

Seven byte models of three shapes, trained on Python's documentation from seeds of their own (so strangers share data, tokenizer
and often shape). Their descendants by kind are dealt by base: three bases choose, four judge. Merges' own parents are known too.

    python bench/descent.py           # prints the tables, writes src/souq/audit/descent.toml
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tomli_w

from machine import describe
from souq.audit import descent as d

SHAPES = {"a": (64, 96, 4), "b": (48, 80, 6), "c": (80, 128, 3)}  # width, neurons, layers
BASES = [("a", 1), ("a", 2), ("b", 3), ("a", 4), ("a", 5), ("c", 6), ("c", 7)]
CHOOSING = 3  # of the bases; the others judge
STEPS = 120  # of a base
OUT = Path(__file__).parent.parent / "src" / "souq" / "audit" / "descent.toml"
FRESH = 50 if "--fresh" in sys.argv else 0  # other seeds throughout: judged again, nothing written
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Animal:
    """A model of the zoo, the kind it was made by, and who it comes from."""

    model: d.Model
    kind: str
    parents: tuple[str, ...]
    ancestors: frozenset[str]
    half: int


def text() -> np.ndarray:
    from pydoc_data.topics import topics

    return np.frombuffer("".join(topics[k] for k in sorted(topics)).encode(), np.uint8)


def net(shape: str, seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    wide, middle, layers = SHAPES[shape]
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(hidden_size=wide, intermediate_size=middle, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=256, max_position_embeddings=64, tie_word_embeddings=True))  # fmt: skip


def train(model: Any, steps: int, lr: float, seed: int, part: slice = slice(None)) -> Any:
    """AdamW on random pieces of 48 bytes."""
    import torch

    said, chance = text()[part], np.random.default_rng(seed)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        at = chance.integers(0, len(said) - 48, 12)
        ids = torch.from_numpy(np.stack([said[i : i + 48] for i in at]).astype(np.int64))
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def weights(model: Any) -> Weights:
    return {n: p.detach().numpy().copy() for n, p in model.state_dict().items() if n != "lm_head.weight"}


def lora(base: Any, rank: int, lr: float, steps: int, seed: int) -> Weights:
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "v_proj", "up_proj"] if seed % 2 else "all-linear"
    tuned = get_peft_model(copy.deepcopy(base), LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))
    return weights(train(tuned, steps, lr, seed, slice(0, 150_000)).merge_and_unload())


def blend(*parts: tuple[float, Weights]) -> Weights:
    return {n: sum(share * w[n] for share, w in parts).astype(np.float32) for n in parts[0][1]}


def rounded(w: Weights, bits: int, block: int) -> Weights:
    def one(a: np.ndarray) -> np.ndarray:
        parts = a.reshape(-1, block if block and a.shape[1] % block == 0 else a.shape[1])
        step = np.abs(parts).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
        return (np.round(parts / step) * step).reshape(a.shape).astype(np.float32)

    return {n: one(a) if "_proj" in n else a for n, a in w.items()}


def some_layers(w: Weights, keep: list[int]) -> Weights:
    out = {n: a for n, a in w.items() if ".layers." not in n}
    return out | {n.replace(f".{j}.", f".{i}.", 1): a for i, j in enumerate(keep) for n, a in w.items() if f".layers.{j}." in n}  # fmt: skip


def narrow(w: Weights, share: float, seed: int) -> Weights:
    """A random share of the channels and of the neurons."""
    chance = np.random.default_rng(seed)
    wide, middle = len(w["model.norm.weight"]), len(w["model.layers.0.mlp.up_proj.weight"])
    lanes, neurons = (np.sort(chance.choice(n, int(n * share), replace=False)) for n in (wide, middle))
    out = {}
    for n, a in w.items():
        a = a[neurons] if "gate_proj" in n or "up_proj" in n else a
        a = a[:, neurons] if "down_proj" in n else a
        rows = "o_proj" in n or "down_proj" in n or a.ndim == 1
        out[n] = a[lanes] if rows else a[:, lanes]
    return out


def upcycle(w: Weights, experts: int, noise: float, seed: int) -> Weights:
    chance = np.random.default_rng(seed)
    out = {n: a for n, a in w.items() if ".mlp." not in n}
    for n, a in w.items():
        for e in range(experts if ".mlp." in n else 0):
            out[n.replace(".mlp.", f".mlp.experts.{e}.")] = (a + noise * a.std() * chance.standard_normal(a.shape)).astype("f4")  # fmt: skip
    return out


def zoo() -> Iterator[Animal]:
    made: dict[str, Weights] = {}
    for number, (shape, seed) in enumerate(BASES):
        name, half = f"{shape}{seed}", int(number >= CHOOSING)
        base = train(net(shape, seed + FRESH), STEPS, 3e-3, seed + FRESH)
        made[name] = w = weights(base)
        yield Animal(d.Model.of(name, w), "base", (), frozenset({name}), half)

        def say(kind: str, made: Weights, *parents: str, i: int = 0, of: str = name, h: int = half) -> Animal:
            return Animal(d.Model.of(f"{of}-{kind}-{i}", made), kind, parents or (of,), frozenset({of, *parents}), h)

        tuned = []
        for i, (steps, lr) in enumerate([(8, 1e-3), (40, 1e-3), (15, 3e-3), (60, 3e-3), (30, 1e-2), (10, 1e-4)]):
            tuned.append(weights(train(copy.deepcopy(base), steps, lr, i + FRESH, slice(150_000, 300_000) if i % 2 else slice(300_000, None))))  # fmt: skip
            yield say("fine-tune", tuned[-1], i=i)
        for i, (rank, lr) in enumerate([(2, 1e-3), (4, 1e-2), (8, 3e-3)]):
            yield say("lora", lora(base, rank, lr, 20, i + FRESH), i=i)
        yield say("merge", blend((0.5, tuned[0]), (0.5, tuned[1])), f"{name}-fine-tune-0", f"{name}-fine-tune-1", i=0)
        yield say("merge", blend((0.3, tuned[0]), (0.7, tuned[1])), f"{name}-fine-tune-0", f"{name}-fine-tune-1", i=1)
        for i, (bits, block) in enumerate([(8, 0), (8, 32), (4, 0), (4, 32)]):
            yield say("quantised", rounded(w, bits, block), i=i)
        layers = SHAPES[shape][2]
        yield say("pruned-layers", some_layers(w, [*range(layers - 1)]), i=0)
        yield say("pruned-layers", some_layers(tuned[1], [0, *range(2, layers)]), f"{name}-fine-tune-1", i=1)
        yield say("pruned-width", narrow(w, 0.75, 0), i=0)
        yield say("pruned-width", narrow(w, 0.5, 1), i=1)
        yield say("upcycled", upcycle(w, 4, 0.0, 0), i=0)
        yield say("upcycled", upcycle(w, 8, 0.1, 1), i=1)
        yield Animal(
            d.Model.of(f"{name}-random", weights(net(shape, 100 + seed + FRESH))), "unrelated", (), frozenset(), half
        )
        other = weights(train(net(shape, 200 + seed + FRESH), 60, 3e-3, seed + FRESH))
        yield Animal(d.Model.of(f"{name}-stranger", other), "unrelated", (), frozenset(), half)
        twins = [m for m in made if m[0] == shape and m != name and int(int(m[1:]) > CHOOSING) == half]
        for i, (twin, share) in enumerate([(m, s) for m in twins for s in (0.5, 0.3)]):
            yield say("merge", blend((1 - share, w), (share, made[twin])), name, twin, i=2 + i)


def auc(yes: list[float], no: list[float]) -> float:
    """The chance that a related pair scores above an unrelated one."""
    low = np.sort(no)
    return float(np.mean((np.searchsorted(low, yes, "left") + np.searchsorted(low, yes, "right")) / 2 / len(low)))


def main() -> None:
    import torch

    torch.set_num_threads(1)
    begun = time.perf_counter()
    animals = list(zoo())
    print(f"{describe()}\n{len(animals)} models in {time.perf_counter() - begun:.0f} s")
    blank = replace_rules(d.shipped(), related=2.0)  # every pair is tried both ways
    pairs: dict[int, list[tuple[Animal, Animal, float, float]]] = {0: [], 1: []}
    for half in (0, 1):
        mine = [a for a in animals if a.half == half]
        for base in (a for a in mine if a.kind == "base"):
            for one in (a for a in mine if a is not base):
                pairs[half].append((one, base, d.pair(one.model, base.model, blank).score, profile(one.model, base.model)))  # fmt: skip
    no, yes = ([s for one, base, s, _ in pairs[0] if (base.model.name in one.ancestors) is told] for told in (False, True))  # fmt: skip
    rules = replace_rules(d.shipped(), related=round((max(no) + float(np.quantile(yes, 0.01))) / 2, 3))
    print(f"chosen on {len(pairs[0])} pairs: related {rules.related} (strangers at most {max(no):.3f}, relatives from {min(yes):.3f})")  # fmt: skip
    strangers = [(s, f) for one, base, s, f in pairs[1] if base.model.name not in one.ancestors]
    wrong = sum(s >= rules.related for s, _ in strangers)
    print(
        f"judged: {wrong} of {len(strangers)} unrelated pairs called related, at most {max(s for s, _ in strangers):.3f}"
    )
    judged = [a for a in animals if a.half]
    known = [a.model for a in judged if a.kind == "base" or a.model.name.endswith(("fine-tune-0", "fine-tune-1"))]
    right, called = {}, {}
    print(
        "| kind | pairs | AUC | missed | AUC of attention's spread alone | right kind | right parents | right family |\n|---|---|---|---|---|---|---|---|"
    )
    for kind in sorted({a.kind for a in judged} - {"base"}):
        mine = [a for a in judged if a.kind == kind]
        near = [(s, f) for one, base, s, f in pairs[1] if one.kind == kind and base.model.name in one.ancestors]
        found = [(a, d.descent(a.model, [m for m in known if m.name != a.model.name], rules)) for a in mine]
        good = sum(set(f.parents) == set(a.parents) for a, f in found)
        family = sum({p.split("-")[0] for p in f.parents} <= {p.split("-")[0] for p in a.ancestors} for a, f in found)
        called[kind] = [f.kind for _, f in found]
        right[kind] = (sum(f.kind == kind and set(f.parents) == set(a.parents) for a, f in found), len(found))
        told = f"{auc([s for s, _ in near], [s for s, _ in strangers]):.4f} | {sum(s < rules.related for s, _ in near)}/{len(near)} | {auc([f for _, f in near], [f for _, f in strangers]):.3f}" if near else " | | "  # fmt: skip
        print(
            f"| {kind} | {len(near)} | {told} | {called[kind].count(kind)}/{len(found)} | {good}/{len(found)} | {family}/{len(found)} |"
        )
    print("called:", {kind: {k: names.count(k) for k in sorted(set(names))} for kind, names in called.items()})
    rules = msgspec.structs.replace(rules, false_alarms=(wrong, len(strangers)), right=right)
    if not FRESH:
        OUT.write_text("# Written by bench/descent.py: chosen on three bases and theirs, judged on four others and theirs.\n" + tomli_w.dumps(msgspec.to_builtins(rules)))  # fmt: skip
    print(f"all in {time.perf_counter() - begun:.0f} s", flush=True)
    if "--real" in sys.argv:
        real()


def profile(child: d.Model, parent: d.Model) -> float:
    """How alike the spreads of attention are over the layers (arXiv 2507.03014): the mean correlation over q, k, v, o."""
    alike = []
    for kind in ("q_proj", "k_proj", "v_proj", "o_proj"):
        ours, theirs = (
            [float(np.std(model.weights[layer[kind]])) for layer in model.print.layers if kind in layer]
            for model in (child, parent)
        )
        if len(ours) == len(theirs) > 2 and min(np.std(ours), np.std(theirs)) > 0:
            alike.append(float(np.corrcoef(ours, theirs)[0, 1]))
    return float(np.mean(alike)) if alike else 0.0


def replace_rules(rules: d.Rules, **changes: Any) -> d.Rules:
    return msgspec.structs.replace(rules, **changes)


def real() -> None:
    """Seconds to compare two folders of the 135M, read from disk, prints and kind included."""
    from contributors import real_model
    from souq.model.source import open_source
    from souq.weights.safetensors import write_tensors

    source = open_source(str(real_model()))
    with tempfile.TemporaryDirectory() as folder:
        for name, noise in (("base", 0.0), ("child", 0.02)):
            (place := Path(folder) / name).mkdir()
            (place / "config.json").write_bytes(source.files["config.json"])
            chance = np.random.default_rng(0)
            made = {n: (a.astype("f4") * (1 + noise * chance.standard_normal(a.shape, np.float32))).astype(a.dtype) for n, a in source.weights.items()}  # fmt: skip
            write_tensors(place / "model.safetensors", made)
        begun = time.perf_counter()
        found = d.descent(d.Model.open(f"{folder}/child"), [d.Model.open(f"{folder}/base")])
        print(f"135M: {found.kind}, cosine {found.score}, {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()

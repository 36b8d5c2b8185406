"""Generations trained on their own output: what is lost, and what the guard keeps.

    python bench/collapse.py [trigram|transformer] [GENERATIONS] [SEEDS] [TEMPERATURE] [ARM ...]

An interpolated trigram model, or a small transformer that begins anew each generation, over Python's documentation
(pydoc_data.topics, on every machine), pieces of 32 words. Every arm
trains on the same number of words. `subsample`, `floor + newest` and the guards have the same share of real text; `replace`
has none, `real` nothing else. Rare: words that the first training text has at most five times. The transformer writes at
TEMPERATURE, as people have models write; it is judged at 1. Prints a table and writes docs/collapse.svg, or
docs/collapse-transformer-TEMPERATURE.svg.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from machine import describe
from souq.corpus.guard import Piece, choose, rare_words

LENGTH, SHARE, DEEPEST = 32, 0.3, 1
WEIGHTS = (0.5, 0.3, 0.19, 0.01)  # three words, two, one, any
SEEDS, GENERATIONS = 3, 6
Pool = list[Piece]


def pieces() -> tuple[Pool, Pool]:
    """Training and held-out text: every fifth piece is held out."""
    from pydoc_data.topics import topics

    words = [w for _, text in sorted(topics.items()) for w in re.findall(r"[A-Za-z_]+|[^\sA-Za-z_]", text)]
    made = [Piece(tuple(words[i : i + LENGTH])) for i in range(0, len(words) - LENGTH + 1, LENGTH)]
    return [p for i, p in enumerate(made) if i % 5], made[::5]


class Trigram:
    """p = a c(xyz)/c(xy) + b c(yz)/c(y) + c c(z)/n + d/V over the words of the first text."""

    def __init__(self, pool: Pool, known: dict[str, int]) -> None:
        self.known = known
        self.text = np.array([[known[w] for w in piece.words] for piece in pool])
        size = len(known)
        one, two, three = self.text[:, :-2], self.text[:, 1:-1], self.text[:, 2:]
        self.ones = np.bincount(self.text.ravel(), minlength=size)
        self.pairs = _counted(self.text[:, :-1] * size + self.text[:, 1:])
        self.starts = _counted(self.text[:, :-1])
        self.heads = _counted(one * size + two)
        self.threes = _counted((one * size + two) * size + three)
        self.by_word = _followers(self.text[:, :-1].ravel(), self.text[:, 1:].ravel())
        self.by_pair = _followers((one * size + two).ravel(), three.ravel())

    def probability(self, text: np.ndarray) -> np.ndarray:
        """Of each third and later word of the rows."""
        size, a = len(self.known), WEIGHTS
        x, y, z = text[:, :-2], text[:, 1:-1], text[:, 2:]
        three = _ratio(_look(self.threes, (x * size + y) * size + z), _look(self.heads, x * size + y))
        two = _ratio(_look(self.pairs, y * size + z), _look(self.starts, y))
        return a[0] * three + a[1] * two + a[2] * self.ones[z] / self.ones.sum() + a[3] / size

    def write(self, count: int, depth: int, chance: np.random.Generator, names: list[str]) -> Pool:
        """Pieces drawn word by word; the uniform part is for measuring alone and writes nothing."""
        size, flat = len(self.known), self.text.ravel()
        found = np.empty((count, LENGTH), np.int64)
        found[:, :2] = self.text[chance.integers(0, len(self.text), count), :2]
        share = np.array(WEIGHTS[:3]) / sum(WEIGHTS[:3])
        for i in range(2, LENGTH):
            x, y = found[:, i - 2], found[:, i - 1]
            which = chance.choice(3, count, p=share)
            alone = flat[chance.integers(0, len(flat), count)]
            two = _draw(self.by_word, y, chance, alone)
            three = _draw(self.by_pair, x * size + y, chance, two)
            found[:, i] = np.choose(which, [three, two, alone])
        return [Piece(tuple(names[i] for i in row), depth) for row in found.tolist()]


def _counted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.unique(keys.ravel(), return_counts=True)


def _look(table: tuple[np.ndarray, np.ndarray], keys: np.ndarray) -> np.ndarray:
    at = np.searchsorted(table[0], keys).clip(max=len(table[0]) - 1)
    return np.where(table[0][at] == keys, table[1][at], 0)


def _ratio(some: np.ndarray, of: np.ndarray) -> np.ndarray:
    return some / np.maximum(of, 1)


def _followers(keys: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    return keys[order], after[order]


def _draw(table: tuple[np.ndarray, np.ndarray], keys: np.ndarray, chance: np.random.Generator, otherwise: np.ndarray) -> np.ndarray:  # fmt: skip
    low, high = np.searchsorted(table[0], keys), np.searchsorted(table[0], keys, side="right")
    at = low + (chance.random(len(keys)) * (high - low)).astype(int)
    return np.where(high > low, table[1][at.clip(max=len(table[1]) - 1)], otherwise)


class Transformer:
    """Llama's architecture, two layers of 128, a token a word; trained on the pieces alone, from random numbers on."""

    def __init__(self, pool: Pool, known: dict[str, int], seed: int, temperature: float) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.begin, self.temperature = len(known), temperature
        self.net = LlamaForCausalLM(LlamaConfig(vocab_size=len(known) + 1, hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=True))  # fmt: skip
        self.net.set_attn_implementation("eager")  # for 33 words the quickest, and with bf16 twice as quick as without
        text = self._with_begin(np.array([[known[w] for w in piece.words] for piece in pool]))
        steps, chance = EPOCHS * (len(text) // BATCH), np.random.default_rng(seed)
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=RATE, weight_decay=0.1, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
        for _ in range(EPOCHS):
            order = chance.permutation(len(text))[: len(text) // BATCH * BATCH].reshape(-1, BATCH)
            for rows in order:
                batch = text[torch.from_numpy(rows)]
                with torch.autocast("cpu", torch.bfloat16):
                    loss = self.net(input_ids=batch, labels=batch).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                schedule.step()
        self.net.eval()

    def _with_begin(self, text: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.concatenate([np.full((len(text), 1), self.begin), text], 1))

    def probability(self, text: np.ndarray) -> np.ndarray:
        """Of each third and later word of the rows, at temperature 1: how a model is judged, however it writes."""
        import torch

        found = []
        with torch.inference_mode():
            for rows in np.array_split(text, max(1, len(text) // 64)):
                ids = self._with_begin(rows)
                odds = torch.softmax(self.net(input_ids=ids).logits.float(), -1)[:, :-1]
                found.append(odds.gather(-1, ids[:, 1:, None])[:, 2:, 0].numpy())
        return np.concatenate(found).clip(1e-12)

    def write(self, count: int, depth: int, chance: np.random.Generator, names: list[str]) -> Pool:
        """Pieces drawn word by word at its temperature, nothing else cut off."""
        import torch

        drawn = torch.Generator().manual_seed(int(chance.integers(1 << 62)))
        made = Pool()
        with torch.inference_mode():
            for start in range(0, count, 512):
                ids, cache = torch.full((min(512, count - start), 1), self.begin), None
                said = []
                for _ in range(LENGTH):
                    told = self.net(input_ids=ids, past_key_values=cache, use_cache=True)
                    cache = told.past_key_values
                    odds = torch.softmax(told.logits[:, -1].double()[:, : self.begin] / self.temperature, -1).cumsum(-1)
                    # by the inverse of the distribution: twenty times as quick as torch.multinomial
                    ids = torch.searchsorted(odds, torch.rand(len(odds), 1, generator=drawn) * odds[:, -1:])
                    said.append(ids[:, 0])
                made += [Piece(tuple(names[i] for i in row), depth) for row in torch.stack(said, 1).tolist()]
        return made


EPOCHS, BATCH, RATE = 5, 32, 3e-3
FEW = ("replace", "guard", "subsample", "real (the ceiling)", "floor + newest", "guard, depth 3")

Told = tuple[float, float, float]  # bits a word, bits a rare word, share of rare words left in what was trained on
Next = Callable[[Pool, Pool, int, int], Pool]  # real, everything made so far, words, seed -> what is trained on


def arms(rare: frozenset[str]) -> dict[str, Next]:
    def of(**more: object) -> Next:
        return lambda real, made, size, seed: choose([*real, *made], size, rare=rare, floor=SHARE, seed=seed, **more)  # type: ignore[arg-type]

    def newest(made: Pool) -> Pool:
        return [piece for piece in made if piece.depth == max(p.depth for p in made)]

    plain = {"rarity": 0.0, "cover": False}
    return {
        "real (the ceiling)": lambda real, made, size, seed: real,
        "replace": lambda real, made, size, seed: newest(made),
        "subsample": of(**plain),
        "floor + newest": lambda real, made, size, seed: of(**plain)(real, newest(made), size, seed),
        "guard": of(deepest=DEEPEST),
        "guard, no cover": of(deepest=DEEPEST, cover=False),
        "guard, no rarity": of(deepest=DEEPEST, rarity=0.0),
        "guard, depth 3": of(deepest=3),
        "guard, no depth cap": of(),
        "guard, never accumulates": lambda real, made, size, seed: of()(real, newest(made), size, seed),
    }


@dataclass(frozen=True)
class Case:
    """What every arm is measured on: real text, held-out text, the words, and which of them are rare."""

    real: Pool
    held: np.ndarray
    known: dict[str, int]
    rare: frozenset[str]

    @classmethod
    def read(cls) -> Case:
        real, held_out = pieces()
        known = {word: i for i, word in enumerate(sorted({w for p in real for w in p.words}))}
        held = np.array([[known[w] for w in p.words] for p in held_out if all(w in known for w in p.words)])
        return cls(real, held, known, rare_words(real))

    def told(self, model: Trigram | Transformer, training: Pool) -> Told:
        is_rare = np.array([word in self.rare for word in self.known])[self.held[:, 2:]]
        bits = -np.log2(model.probability(self.held))
        left = len({word for piece in training for word in piece.words} & self.rare) / len(self.rare)
        return float(bits.mean()), float(bits[is_rare].mean()), left


def train(case: Case, kind: str, temperature: float, training: Pool, seed: int) -> Trigram | Transformer:
    return Trigram(training, case.known) if kind == "trigram" else Transformer(training, case.known, seed, temperature)


def first(kind: str, temperature: float, seed: int) -> tuple[Told, Pool, np.random.Generator]:
    """The generation that all arms have in common: trained on real text, and what it then wrote."""
    case, chance = Case.read(), np.random.default_rng([seed, 7])
    model = train(case, kind, temperature, case.real, seed * 1000)
    return case.told(model, case.real), model.write(len(case.real), 1, chance, list(case.known)), chance


def one(name: str, kind: str, temperature: float, generations: int, seed: int, told: Told, made: Pool, chance: np.random.Generator) -> list[Told]:  # fmt: skip
    """One arm and seed from the first generation on, in a process of its own."""
    case, found = Case.read(), [told]
    arm, names, size = arms(case.rare)[name], list(case.known), sum(len(piece.words) for piece in case.real)
    for generation in range(1, generations + 1):
        training = arm(case.real, made, size, seed * 1000 + generation)
        model = train(case, kind, temperature, training, seed * 1000 + generation)
        found.append(case.told(model, training))
        if kind != "trigram":  # an hour's work shows where it is
            print(f"  {name}, seed {seed}, generation {generation}: {found[-1][0]:.3f} bits, rare {found[-1][1]:.3f}, {found[-1][2]:.0%} left", flush=True)  # fmt: skip
        if generation < generations:
            made = [*made, *model.write(len(case.real), 1 + max(p.depth for p in training), chance, names)]
    return found


def main(kind: str = "trigram", generations: str | int = GENERATIONS, seeds: str | int = SEEDS, warmth: str = "1", *some: str) -> int:  # fmt: skip
    print(describe(), flush=True)
    begun, generations, seeds, temperature = time.perf_counter(), int(generations), int(seeds), float(warmth)
    case = Case.read()
    names = list(some or (arms(case.rare) if kind == "trigram" else FEW))
    print(f"{kind}: {len(case.real) * LENGTH:,} words, {len(case.known):,} different, {len(case.rare):,} rare; real share {SHARE}, {generations} generations, {seeds} seeds, temperature {temperature}", flush=True)  # fmt: skip
    with ProcessPoolExecutor(2) as pool:
        firsts = list(pool.map(partial(first, kind, temperature), range(seeds)))
        waiting = {(name, seed): pool.submit(one, name, kind, temperature, generations, seed, *firsts[seed]) for seed in range(seeds) for name in names}  # fmt: skip
        found = {name: np.array([waiting[name, seed].result() for seed in range(seeds)]) for name in names}
    print(f"{'arm':26} {'bits/word':>16} {'bits/rare word':>16} {'rare words left':>16}")
    for name, told in found.items():
        last = told[:, -1]
        cells = [f"{last[:, i].mean():.3f} ±{np.ptp(last[:, i]) / 2:.3f}" for i in range(3)]
        print(f"{name:26} " + " ".join(f"{cell:>16}" for cell in cells))
    bars(found)
    draw(found, Path(__file__).parent.parent / "docs" / ("collapse.svg" if kind == "trigram" else f"collapse-transformer-{temperature}.svg"))  # fmt: skip
    print(f"{time.perf_counter() - begun:.0f} s")
    return 0


def bars(found: dict[str, np.ndarray]) -> None:
    """What the guard promises, each with its figures and whether it held."""
    start = found["replace"][:, 0, 1].mean()
    mean, rare, left = ({name: told[:, -1, i].mean() for name, told in found.items()} for i in range(3))
    share = (rare["guard"] - start) / (rare["replace"] - start)
    for holds, text in (
        (mean["guard"] <= mean["subsample"], f"bits a word: guard {mean['guard']:.3f}, subsample {mean['subsample']:.3f}"),
        (rare["guard"] < rare["subsample"], f"bits a rare word: guard {rare['guard']:.3f}, subsample {rare['subsample']:.3f}"),
        (share <= 1 / 3, f"rise on the rare: guard {rare['guard'] - start:.3f} bits, replace {rare['replace'] - start:.3f}: {share:.2f} of it, and at most a third is promised"),
        (left["guard"] >= 0.8, f"rare words left: guard {left['guard']:.0%}, and at least 80% is promised"),
        (left["replace"] < 0.4, f"rare words left: replace {left['replace']:.0%}, and collapse means less than 40%"),
    ):  # fmt: skip
        print(f"{'holds' if holds else 'FAILS'}  {text}")


COLOURS = {
    "real (the ceiling)": "#111", "replace": "#c0392b", "subsample": "#2471a3", "floor + newest": "#b7950b", "guard": "#1e8449",
    "guard, no cover": "#7dcea0", "guard, no rarity": "#76d7c4", "guard, depth 3": "#a569bd", "guard, no depth cap": "#e59866",
    "guard, never accumulates": "#999",
}  # fmt: skip


def draw(found: dict[str, np.ndarray], path: Path) -> None:
    """Two panels, a line an arm: bits a rare word, and the share of rare words left, by generation."""
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 420" font-family="sans-serif" font-size="12">']
    for panel, (which, title) in enumerate(((1, "bits a rare word"), (2, "share of rare words left"))):
        low, high = min(f[..., which].min() for f in found.values()), max(f[..., which].max() for f in found.values())
        left = 60 + 400 * panel
        parts.append(f'<text x="{left}" y="24">{title}, by generation</text>')
        for value in (low, (low + high) / 2, high):
            y = 380 - 330 * (value - low) / (high - low)
            parts.append(f'<text x="{left - 44}" y="{y:.0f}">{value:.2f}</text><path d="M{left} {y:.0f}h320" stroke="#ddd"/>')  # fmt: skip
        for name, told in found.items():
            line = told[..., which].mean(0)
            points = " ".join(f"{left + 320 * i / (len(line) - 1):.1f},{380 - 330 * (v - low) / (high - low):.1f}" for i, v in enumerate(line))  # fmt: skip
            parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        parts += [f'<text x="{left + 320 * i / (len(line) - 1):.0f}" y="400">{i}</text>' for i in range(len(line))]
    parts += [f'<text x="810" y="{50 + 20 * i}" fill="{COLOURS[name]}">{name}</text>' for i, name in enumerate(found)]  # fmt: skip
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

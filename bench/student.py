"""A specialised student from a recipe, whole: `souq distill examples/geography.toml` on a real release, and what it is worth.

    python bench/student.py

SmolLM2-135M-Instruct becomes a repository, the demo's continents contribution lands in it, and the release is the teacher.
Then, with the same steps of training each: the student of the recipe; the same student on the sixty answers of its seeds
alone; and, as the harder control, on the rows the teacher itself was taught with. Held-out cases are in none of them.
Prints scores, paired standard errors, sizes, seconds, and whether llama.cpp answers the GGUF's questions as transformers does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import conftest  # noqa: F401  git knows nobody but who they say

from machine import describe
from souq.cli import run
from souq.cli.demo.skills import skills
from souq.cli.demo.stage import Stage
from souq.cli.demo.story import real_model
from souq.corpus.recipe import read_recipe
from souq.evals.eval import read_eval, read_folder

RECIPE = Path(__file__).parent.parent / "examples" / "geography.toml"
SEEDS = (0, 1, 2)


def release(folder: Path) -> Path:
    """A repository of one person whose main knows continents."""
    stage = Stage(folder, lambda line: None, run)
    actor = stage.actor("amira", "Atlas")
    skill = next(skill for skill in skills() if skill.name == "continents")
    (actor.home / "rows.jsonl").write_bytes(skill.jsonl())
    exam = actor.home / "evals" / "continents"
    exam.mkdir(parents=True)
    for name, data in skill.files().items():
        (exam / name).write_bytes(data)
    stage.types(actor, "init", "smol", "--from", real_model(), "--governance", "solo", "--evals", exam, at=actor.home)
    settings = [word for key, value in skill.training.items() for word in (f"--{key}", str(value))]
    stage.types(actor, "train", actor.home / "rows.jsonl", "--out", actor.home / "adapter", *settings)
    stage.types(actor, "delta", "make", "--from", actor.home / "adapter", "--data", actor.home / "rows.jsonl", "--out", actor.home / "c.delta")  # fmt: skip
    stage.types(actor, "pr", "create", actor.home / "c.delta", "--title", "Continents", "--licence", "CC-BY-4.0", "--signoff", "--unchecked", "--fixes", "continents")  # fmt: skip
    for words in (
        ("pr", "checks", "1"),
        ("pr", "review", "1", "--approve", "--reason", "measured"),
        ("pr", "merge", "1"),
    ):
        stage.types(actor, *words)
    return actor.clone


def cases_of() -> list[tuple[str, str]]:
    held = read_eval("held", read_folder(RECIPE.parent / "geography" / "held"))
    return [(case.prompt, case.expected) for case in held.cases]


def right(folder: Path, cases: list[tuple[str, str]]) -> tuple[np.ndarray, list[str], float]:
    """Which cases a model answers, what it says, and seconds; in bf16 where the machine computes in it."""
    from souq.lab import generate
    from souq.lab import lm as lab

    lm = lab.load(folder, dtype=lab.best_dtype())
    generate.answers(lm, [asked for asked, _ in cases[:4]], max_tokens=2)
    begun = time.perf_counter()
    said = generate.answers(lm, [asked for asked, _ in cases], max_tokens=8)
    took = time.perf_counter() - begun
    return np.array([a == b for a, (_, b) in zip(said, cases, strict=True)], float), said, took


def control(teacher: Path, rows: list[dict[str, Any]], steps: int, seed: int, target: Path) -> Path:
    """The recipe's student, taught the words of other rows for as many batches."""
    import msgspec

    from souq.lab import distil
    from souq.lab import lm as lab

    lesson = read_recipe(RECIPE).student
    assert lesson is not None
    batches = -(-len(rows) // lesson.batch)
    other = msgspec.structs.replace(lesson, loss="words", epochs=max(1, round(steps / batches)), seed=seed)
    lm = lab.load(teacher, dtype=lab.best_dtype())
    student = distil.distil(lm, rows, other)
    distil.save(student.lm, {p.name: p.read_bytes() for p in teacher.iterdir() if p.suffix != ".safetensors"}, target)
    return target


def beside(folder: Path, said: list[str], cases: list[tuple[str, str]]) -> float:
    """The share of greedy answers that llama.cpp gives as transformers does, float32 against the file as it is."""
    from souq.lab.chat import ChatRequest, Message, Sampling
    from souq.lab.writers import writer

    file = next(folder.glob("*.gguf"))
    asks = [ChatRequest(messages=(Message(role="user", content=asked),)) for asked, _ in cases]
    found = {i: t.text for part in writer(f"llama.cpp:{file}").generate(asks, Sampling(max_tokens=8)) for i, t in part}  # fmt: skip
    return sum(found[i] == text for i, text in enumerate(said)) / len(said)


def speed(folder: Path, tokens: int = 96) -> float:
    """Tokens a second that llama.cpp generates, one question at a time."""
    from souq.lab.chat import ChatRequest, Message, Sampling
    from souq.lab.writers import writer

    with_words = writer(f"llama.cpp:{next(folder.glob('*.gguf'))}")
    asks = [ChatRequest(messages=(Message(role="user", content="Tell me a long story about a river."),))]
    drawn = Sampling(max_tokens=tokens, temperature=1.0)
    list(with_words.generate(asks, drawn))
    begun = time.perf_counter()
    told = [t for _ in range(4) for part in with_words.generate(asks, drawn) for _, t in part]
    return sum(t.completion_tokens for t in told) / (time.perf_counter() - begun)


def main() -> int:
    print(describe(), flush=True)
    begun = time.perf_counter()
    cases = cases_of()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        clone = release(home / "stage")
        print(f"a release that knows continents: {time.perf_counter() - begun:.0f} s", flush=True)
        teacher, student = home / "teacher", home / "geography"
        _typed(clone, "export", teacher)
        started = time.perf_counter()
        _typed(clone, "distill", RECIPE, "--out", student, "--report", home / "report.json")
        took = time.perf_counter() - started
        told = json.loads((home / "report.json").read_bytes())
        rows = _rows(home / "geography.corpus")
        steps = len(told["curve"])
        real = [row for row in rows if row["origin"] == "real"]
        taught = [json.loads(line) for line in next(skill for skill in skills() if skill.name == "continents").jsonl().splitlines()]  # fmt: skip
        print(f"`souq distill examples/geography.toml`: {took:.0f} s, {len(rows):,} rows, {steps} batches, {told['parameters']['student'] / told['parameters']['teacher']:.2f} of the teacher's parameters", flush=True)  # fmt: skip
        best, _, slow = right(teacher, cases)
        mine, said, fast = right(student, cases)
        print(f"{'':34} {'held out':>9} {'of release':>11} {'seconds':>8}")
        print(f"{'the release':34} {best.mean():9.3f} {1:11.3f} {slow:8.2f}")
        print(f"{'the student':34} {mine.mean():9.3f} {mine.mean() / best.mean():11.3f} {fast:8.2f}")
        for title, others in (("on the seeds' answers alone", real), ("on the teacher's own rows", taught)):
            for seed in SEEDS if others is real else SEEDS[:1]:
                found, _, _ = right(control(teacher, others, steps, seed, home / f"{title[:8]}{len(others)}-{seed}"), cases)  # fmt: skip
                gap = mine - found
                error = gap.std(ddof=1) / len(gap) ** 0.5
                print(f"{f'{title}, seed {seed} ({len(others)})':34} {found.mean():9.3f} {found.mean() / best.mean():11.3f} {'':8} student better by {gap.mean():.3f}, {gap.mean() / error if error else 0:.1f} standard errors", flush=True)  # fmt: skip
        _gguf(teacher)
        print(f"speed, {len(cases)} cases through transformers: {slow / fast:.2f}x; llama.cpp q8_0, a token at a time: {speed(student) / speed(teacher):.2f}x")  # fmt: skip
        print(f"the GGUF in llama.cpp says what transformers says in {100 * beside(student, said, cases):.1f}% of {len(cases)} cases; {time.perf_counter() - begun:.0f} s in all")  # fmt: skip
    return 0


def _gguf(folder: Path) -> None:
    from souq.model.gguf.writer import write_gguf

    write_gguf(folder, folder / "teacher.q8_0.gguf", "q8_0")


def _rows(folder: Path) -> list[dict[str, Any]]:
    from souq.corpus.dump import read_rows

    return read_rows(folder)


def _typed(clone: Path, *words: str | Path) -> None:
    import contextlib

    with contextlib.chdir(clone):
        code = run([str(word) for word in words])
    if code:
        raise SystemExit(f"souq {words[0]} answered {code}")


if __name__ == "__main__":
    sys.exit(main())

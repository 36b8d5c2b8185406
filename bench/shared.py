"""The gate's evals by another souq and by this one, on the real model: seconds, their ratio, and every value compared.

    git worktree add ../old COMMIT
    python bench/shared.py ../old build/shared     # trains two LoRAs of `iso-dates` there first; half an hour

Four pull requests, one after the other in one repository each: a LoRA on layers 20-29 where nothing is kept, a second
one with the first one's cases kept of main, a LoRA on all layers, and that again with main known. `gate` is the check
as it is, look by look; `all` are all cases but the open ones, both models. Built, and transformers imported, before the
clock starts; each run a process of its own, one thread, theirs and ours in turn.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v1m2vUeWnK9wZk3yqJ2qJ2qJ2qJ2qJ2qJ2qJ2qJ2q"
SKILL, KINDS = "iso-dates", {"upper": range(20, 30), "all": range(30)}
STEPS = (  # name, how, LoRA, scale, in which copy of the repository
    ("gate, layers 20-29, nothing kept", "gate", "upper", 1.0, "one"),
    ("gate, layers 20-29, the second", "gate", "upper", 0.9, "one"),
    ("gate, all layers, nothing kept", "gate", "all", 1.0, "two"),
    ("all 277, layers 20-29, nothing kept", "all", "upper", 1.0, "three"),
    ("all 277, layers 20-29, the second", "all", "upper", 0.9, "three"),
    ("all 277, all layers, main kept", "all", "all", 1.0, "three"),
)


def prepare(folder: Path) -> None:
    """Two adapters, a repository, and two deltas, what is there already left as it is."""
    from contributors import contributors, real_model
    from souq import governance
    from souq.build import delta_file, deltas
    from souq.evals import suite
    from souq.lab.lm import load
    from souq.lab.train import train_lora
    from souq.model.adapter.peft import open_adapter
    from souq.model.source import open_source
    from souq.repo.init import Beginning, init
    from souq.repo.remote import Repo
    from souq.repo.snapshot import Snapshot

    skill, source = next(s for s in contributors() if s.name == SKILL), open_source(str(real_model()))
    for name, layers in KINDS.items():
        if not (folder / name).is_dir():
            settings = {key: value for key, value in skill.training.items() if key != "layers"}
            train_lora(
                load(source.files, source.weights), skill.rows, folder / name, layers=layers, replay=40, **settings
            )
    if not (folder / "repo").is_dir():
        evals = suite.files() | {f"{SKILL}/{path}": data for path, data in skill.files().items()}
        init(folder / "repo", source, Beginning("bench", "Apache-2.0", governance.solo("bench", "bench", KEY), evals))
    main = Snapshot(Repo.find(folder / "repo"), "main")
    for name in KINDS:
        if not (folder / f"{name}.delta").is_file():
            delta_file.write_delta(folder / f"{name}.delta", *deltas.from_adapter(open_adapter(folder / name), main))


def measure(repo: Path, delta: Path, how: str, scale: float) -> dict[str, Any]:
    """One pull request's evals in this process, by whichever souq is imported: seconds, and what each model scored."""
    from dataclasses import replace

    import msgspec
    import transformers.models.llama.modeling_llama  # noqa: F401

    from souq.build import build, delta_file
    from souq.checks.evals import trials
    from souq.lab import engines
    from souq.lab.score_cache import kept_of
    from souq.progress import quiet
    from souq.records import Author, Contribution, format_toml
    from souq.repo.contribution import Offer
    from souq.repo.remote import Repo
    from souq.repo.snapshot import Snapshot
    from souq.weights.lockfile import format_delta

    main = Snapshot(Repo.find(repo), "main")
    made, tensors = delta_file.read_delta(delta)
    delta_file.keep(made, tensors, main)
    parts = {name: msgspec.structs.replace(part, scale=part.scale * scale) for name, part in made.parts.items()}
    author = Author(name="bench", email="bench@souq.example", key=KEY)
    words = Contribution(title=SKILL, kind="weights", author=author, licence="CC0-1.0", signoff="bench", fixes=(SKILL,))
    lock = format_delta(replace(made, parts=parts)).encode()
    offer = Offer("0001-x", {"contribution.toml": format_toml(words).encode(), "delta.lock": lock})
    built = build(main), build(main, offer, settled=False)
    before, processor = time.perf_counter(), time.process_time()
    if how == "gate":
        tried = trials(main, main, (SKILL,), quiet, offer)
        values = {name: {"before": t.before.cases, "after": t.after.cases} for name, t in tried.items()}
    else:
        asked = {name: suite for name, suite in main.evals.items() if suite.spec.kind != "open"}
        pair = _readers(main, *built)
        scored = [engines.scores(main.repo, asked, engine, quiet) for engine in pair]
        values = {n: {"before": scored[0][n].cases, "after": scored[1][n].cases} for n in asked}
    took = {"wall": time.perf_counter() - before, "processor": time.process_time() - processor}
    keys = [engines.of_built(main, model) for model in built]
    answers = {
        f"{side} {case}": kept.answer
        for side, engine in zip(("before", "after"), keys, strict=True)
        for suite in main.evals.values()
        for case, kept in kept_of(main.repo, engine.model, suite, engine.under).items()
        if suite.spec.kind == "open" and how == "gate"
    }
    return {"took": took, "values": values, "answers": answers}


def _readers(main: Any, before: Any, after: Any) -> list[Any]:
    """The engines of both models, side by side where this souq knows how."""
    from souq.lab import engines

    try:
        from souq.lab.family import Family
    except ImportError:
        return [engines.of_built(main, before), engines.of_built(main, after)]
    family = Family(main.repo.cache, lambda: (before.lock, after.lock))
    return [engines.of_built(main, before, family), engines.of_built(main, after, family)]


def compare(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """How the values differ: right or wrong, nats, answers."""
    pairs = [
        (name in ("prose", "everyday"), old, ours["values"][name][side][case])
        for name, sides in theirs["values"].items()
        for side, cases in sides.items()
        for case, old in cases.items()
    ]
    flips = sum(old != new for nats, old, new in pairs if not nats)
    apart = max((abs(old - new) for nats, old, new in pairs if nats), default=0.0)
    words = sum(text != ours["answers"].get(case) for case, text in theirs["answers"].items())
    return f"{len(pairs)} values: {flips} others, nats {apart:.1e} apart at most; {len(theirs['answers'])} answers: {words} others"


def main(old: Path, folder: Path, only: str = "") -> None:
    from machine import describe

    prepare(folder)
    print(describe(), {k: v for k, v in os.environ.items() if k.startswith(("ATEN", "ONEDNN", "OMP"))}, flush=True)
    for name in ("one", "two", "three"):
        for whose in ("theirs", "ours"):
            shutil.rmtree(folder / f"{whose}-{name}", ignore_errors=True)
            shutil.copytree(folder / "repo", folder / f"{whose}-{name}", symlinks=True)
    for title, how, delta, scale, copy in STEPS:
        if only not in title:
            continue
        results = {}
        for whose, source in (("theirs", old / "src"), ("ours", Path(__file__).parent.parent / "src")):
            words = [sys.executable, __file__, "one", folder / f"{whose}-{copy}", folder / f"{delta}.delta", how, scale]
            env = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
            done = subprocess.run([str(word) for word in words], env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            results[whose] = json.loads(done.stdout.splitlines()[-1])
        a, b = results["theirs"], results["ours"]
        seconds = [
            f"{a['took'][k]:.1f} s, now {b['took'][k]:.1f} s, {a['took'][k] / b['took'][k]:.2f}x" for k in a["took"]
        ]
        print(f"{title}: processor {seconds[1]} (clock {seconds[0]}); {compare(a, b)}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "one":
        print(json.dumps(measure(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], float(sys.argv[5]))))
    else:
        main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), *sys.argv[3:4])

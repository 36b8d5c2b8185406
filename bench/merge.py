"""`souq merge` against mergekit 0.1.5: four fine-tunes of the real 135M model, each run a cold process, in turn.

The fine-tunes are made on the spot: the real model with a random low-rank and a random sparse change in every matrix
of every layer, so nothing can be skipped as equal. Both write bf16 and compute in float32 (mergekit's `dtype`).

    make build/mergekit/.ready       # mergekit in an environment of its own, once
    python bench/merge.py [METHOD …]
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import ml_dtypes
import numpy as np

from contributors import real_model
from machine import describe
from souq.model.source import open_source
from souq.weights.safetensors import write_tensors

ROOT = Path(__file__).resolve().parent.parent
MERGEKIT = Path(os.environ.get("SOUQ_MERGEKIT", ROOT / "build" / "mergekit" / "bin" / "python"))
ROUNDS = 5
GOALS = {"ties": 14, "dare_ties": 8, "linear": 5}
METHODS = {
    "linear": "weight: 0.25",
    "task_arithmetic": "weight: 0.4",
    "ties": "weight: 0.4, density: 0.5",
    "dare_linear": "weight: 0.4, density: 0.5",
    "dare_ties": "weight: 0.4, density: 0.5",
    "breadcrumbs": "weight: 0.4, density: 0.5",
    "della": "weight: 0.4, density: 0.5",
    "sce": "weight: 0.4",
}


def fine_tunes(folder: Path, count: int = 4) -> list[Path]:
    """The base and `count` changed copies, as Hugging Face folders."""
    source = open_source(str(real_model()))
    made = []
    for number in range(count + 1):
        chance, tensors = np.random.default_rng(number), {}
        for name, base in source.weights.items():
            wide = base.astype(np.float32)
            if number and wide.ndim == 2:
                size = 0.05 * wide.std()
                left, right = chance.standard_normal((len(wide), 8)), chance.standard_normal((8, wide.shape[1]))
                wide = wide + size * (left @ right / 3).astype(np.float32)
                wide[chance.random(wide.shape, np.float32) < 0.1] += size
            tensors[name] = wide.astype(ml_dtypes.bfloat16)
        made.append(folder / ("base" if not number else f"tuned-{number}"))
        made[-1].mkdir()
        write_tensors(made[-1] / "model.safetensors", tensors, {"format": "pt"})
        for name, data in source.files.items():
            (made[-1] / name).write_bytes(data)
    return made


def config(method: str, models: list[Path]) -> str:
    base, *tuned = models
    lines = [f"merge_method: {method}", "dtype: float32", "out_dtype: bfloat16"]
    lines += [] if method == "linear" else [f"base_model: {base}"]
    lines += ["parameters: {select_topk: 0.5}"] if method == "sce" else []
    lines += ["models:"]
    for model in tuned:
        lines += [f"  - model: {model}", f"    parameters: {{{METHODS[method]}}}"]
    return "\n".join(lines) + "\n"


def cold(words: list[str | Path]) -> tuple[float, float]:
    """Seconds and peak megabytes of a process."""
    begun = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[0]} failed:\n{said.decode()[-2000:]}")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def main() -> None:
    if not MERGEKIT.is_file():
        raise SystemExit(f"no mergekit at {MERGEKIT}: run `make build/mergekit/.ready`, or set SOUQ_MERGEKIT")
    print(describe())
    souq, theirs = Path(sys.executable).with_name("souq"), MERGEKIT.with_name("mergekit-yaml")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="souq-bench-") as name:
        folder = Path(name)
        # In a process of its own: what this one once held would count as its children's peak (see wait4(2)).
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            models = pool.submit(fine_tunes, folder).result()
        out = folder / "out"
        for method in sys.argv[1:] or list(METHODS):
            (folder / "merge.yml").write_text(config(method, models))
            ours: list[str | Path] = [souq, "merge", folder / "merge.yml", out]
            peer: list[str | Path] = [theirs, folder / "merge.yml", out, "--allow-crimes"]
            runs: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
            cold(ours)  # numba compiles once a machine, and says so
            for _ in range(ROUNDS):
                for side, words in (("ours", ours), ("theirs", peer)):
                    shutil.rmtree(out, ignore_errors=True)
                    runs[side].append(cold(words))
            shutil.rmtree(out, ignore_errors=True)
            (a, a_peak), (b, b_peak) = (
                [statistics.median(run[i] for run in runs[side]) for i in (0, 1)] for side in ("ours", "theirs")
            )
            faster = statistics.median(y[0] / x[0] for x, y in zip(runs["ours"], runs["theirs"], strict=True))
            found[method] = {"souq": a, "mergekit": b, "faster": faster, "memory": a_peak / b_peak}
            goal = f" (goal {GOALS[method]}x)" if method in GOALS else ""
            print(
                f"{method:16} souq {a:5.2f} s {a_peak:5.0f} MB, mergekit {b:6.2f} s {b_peak:6.0f} MB: "
                f"{faster:5.1f}x faster{goal}, {a_peak / b_peak:.2f} of the memory (goal 0.17)",
                flush=True,
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()

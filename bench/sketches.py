"""Sketches in seconds: what a sketch of 2,000 tokens, `souq delta make --data` and a first build cost, and how good it is.

One LoRA of rank 8 on all linear layers of the real model, trained on the rows it is sketched on. Each step is a process
of its own on one thread, timed by the processor's seconds, which a crowded machine does not lengthen much. With the
`src` of an older checkout named, each step is run in it as well, in turn: before, after, their ratio. Then, of a few
layers: how far a sketch is from the whole Gram matrix, and how far a covariance merge by it is from one by the matrix.

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python bench/sketches.py [FOLDER [OLD/src]]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from contributors import contributors, real_model
from machine import describe
from souq.build.delta_file import keep, read_delta
from souq.evals import suite
from souq.governance import solo
from souq.merge.methods import Change, Sketch, balance, solve, times_gram
from souq.model.source import open_source
from souq.records import Author, Contribution, format_toml
from souq.repo.contribution import Offer
from souq.repo.init import Beginning, init
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta
from souq.weights.lockfile import format_delta, lock_digest

HERE = Path(__file__).resolve().parent
ROWS, TEXTS = 78, 16  # 78 rows of `iso-dates` are 2,012 tokens as they are packed; a base sketched on few texts is one
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr"
LAYERS = (1, 5, 15, 25, 29)
MEMBERS = {"self_attn.q_proj": "self_attn.v_proj", "mlp.gate_proj": "mlp.up_proj", "mlp.down_proj": "mlp.down_proj"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SKETCH = """
import sys, time
from souq.lab import lm, sketching
from souq.lab.packing import sequence_of
from souq.model.source import open_source
from souq.repo.rows import read_rows
source = open_source(sys.argv[1])
model = lm.load(source.files, source.weights)
sequences = [sequence_of(model, row) for row in read_rows(__import__("pathlib").Path(sys.argv[2]))]
begun = time.process_time()
sketching.sketch(model, sequences)
print(time.process_time() - begun)
"""
BUILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from sketches import offered
from souq.build.model import build
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
main = Snapshot(Repo.find(Path(sys.argv[1]) / "repo"), "main")
offer = offered(main, Path(sys.argv[1]) / "after.delta")
begun = time.process_time()
built = build(main, offer)
print(time.process_time() - begun, built.digest)
"""


def prepare(folder: Path) -> None:
    """A repository of the real model, an adapter, and the rows it was trained on; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    skill = next(skill for skill in contributors() if skill.name == "iso-dates")
    (folder / "rows.jsonl").write_bytes(b"".join(skill.jsonl().splitlines(keepends=True)[:ROWS]))
    source = open_source(str(real_model()))
    if not (folder / "adapter").is_dir():
        from souq.lab.lm import load
        from souq.lab.train import train_lora

        train_lora(load(source.files, source.weights), skill.rows[:32], folder / "adapter", epochs=1)
    if not (folder / "repo" / "souq.toml").is_file():
        from souq.lab.sketching import of_base

        texts = suite.general_texts()[:TEXTS]
        begin = Beginning(
            "sketches", "Apache-2.0", solo("bench", "bench", KEY), {},
            sketch=lambda source, lock: of_base(source, lock_digest(lock), texts),
        )  # fmt: skip
        init(folder / "repo", source, begin)


def offered(main: Snapshot, path: Path) -> Offer:
    """A `.delta` file as a contribution that is not merged yet."""
    delta, tensors = read_delta(path)
    keep(delta, tensors, main)
    author = Author(name="bench", email="bench@localhost", key="")
    signoff = "bench <bench@localhost>"
    text = Contribution(title="One", kind="weights", author=author, licence="CC0-1.0", signoff=signoff)
    files = {"contribution.toml": format_toml(text), "delta.lock": format_delta(delta)}
    return Offer("c0001", {name: text.encode() for name, text in files.items()})


def run(words: list[str | Path], src: Path, cwd: Path) -> tuple[float, list[str]]:
    """The processor's seconds of a process on one thread, and the words it printed."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(src)}
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, env=env, cwd=cwd)
    assert process.stdout is not None
    printed = process.stdout.read().decode().split()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[:3]} failed in {src}")
    return usage.ru_utime + usage.ru_stime, printed


def steps(folder: Path, src: Path, made: Path) -> tuple[dict[str, float], str]:
    """Seconds of each step with the souq of one `src`, and the digest of what it builds of `after.delta`."""
    rows, repo = folder / "rows.jsonl", folder / "repo"
    _, (sketch,) = run(["-c", SKETCH, real_model(), rows], src, folder)
    words: list[str | Path] = ["delta", "make", "--from", folder / "adapter", "--data", rows, "--out", made]
    make, _ = run(["-m", "souq", *words], src, repo)
    for name in ("built", "sums"):
        shutil.rmtree(Repo.find(repo).cache / name, ignore_errors=True)
    _, (build, digest) = run(["-c", BUILD, folder, HERE], src, folder)
    return {
        "sketch of 2,000 tokens": float(sketch),
        "souq delta make --data": make,
        "first build": float(build),
    }, digest


# -- how good a sketch is ----------------------------------------------------------------------------------------------


def whole_grams(folder: Path, main: Snapshot, path: Path) -> dict[str, np.ndarray]:
    """The Gram matrices, float64 (n, n), of a few groups: what a sketch of them is an approximation of."""
    import torch

    from souq.lab import sketching

    delta, tensors = read_delta(path)
    wanted = {f"model.layers.{layer}.{group}" for layer in LAYERS for group in MEMBERS}
    seen: dict[str, list[Any]] = {}

    class Watch(sketching._Watch):
        def end(self, answers: list[int]) -> None:
            by = torch.bincount(torch.tensor(answers), minlength=self._length).double()
            for group, x, weights in self._now.values():
                if group in wanted:
                    x_TN = x.detach().reshape(self._length, -1).double()
                    seen.setdefault(group, []).append((x_TN, by, weights.double()))
            super().end(answers)

    real, sketching._Watch = sketching._Watch, Watch
    try:
        sketching.of_change(main, delta, tensors, folder / "rows.jsonl", rank=64)
    finally:
        sketching._Watch = real
    grams = {}
    for group, rows in seen.items():
        x_TN, *weights = (torch.cat(parts) for parts in zip(*rows, strict=True))
        halves = [(x_TN * by[:, None]).T @ x_TN for by in weights]
        grams[group] = sum(half / half.diagonal().mean() for half in halves).numpy() / 2
    return grams


def quality(main: Snapshot, path: Path, grams: dict[str, np.ndarray]) -> None:
    """Of each group: the sketch's error of the whole matrix, the least there is, and the error of a merge by it."""
    delta, tensors = read_delta(path)
    errors, least, merged = [], [], []
    for group, whole in grams.items():
        gram = delta.grams[group]
        sketch = Sketch(*(tensors[ref.digest].astype(np.float64) for ref in (gram.factor, gram.diag))).unit()
        exact = whole * (len(whole) / np.trace(whole))
        values, vectors = np.linalg.eigh(exact)
        best = (vectors[:, -64:] * values[-64:]) @ vectors[:, -64:].T
        errors.append(_apart(sketch.whole(), exact))
        least.append(_apart(best + np.diag(np.diag(exact - best)), exact))
        name = next(n for n, g in delta.inputs.items() if g == group and MEMBERS[group.split(".", 3)[3]] in n)
        root = Sketch((vectors * np.sqrt(np.maximum(values, 0))).T, np.zeros(len(values)))
        merged.append(_apart(_answer(main, delta, name, tensors, sketch), _answer(main, delta, name, tensors, root)))
    print(
        f"  {len(grams)} groups: error of a sketch {np.mean(errors):.5f} (worst {np.max(errors):.5f}), the least of its "
        f"rank {np.mean(least):.5f}; a merge by it is {np.mean(merged):.4f} (worst {np.max(merged):.4f}) from one by "
        "the whole matrix"
    )


def _answer(main: Snapshot, delta: Delta, name: str, tensors: Any, sketch: Sketch) -> np.ndarray:
    """The covariance merge of one change with the base's own sketch."""
    part, own = delta.parts[name], main.sketch
    assert own is not None
    base = own.grams[own.inputs[name]]
    beside = Sketch(*(main.repo.store.get(ref.digest).astype(np.float64) for ref in (base.factor, base.diag)))
    left, right = tensors[part.b.digest].astype(np.float64), tensors[part.a.digest].astype(np.float64)
    change = Change(left, right * part.scale, sketch)
    return left @ solve(times_gram(change), balance(sketch.whole(), 0.0, beside, base_weight=1.0, ridge=1e-4))


def _apart(mine: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))


def main() -> None:
    instructions = "AVX2" if all(os.environ.get(key) == value for key, value in AVX2.items()) else "all instructions"
    print(f"{describe()}; one thread, float32, {instructions}")
    with tempfile.TemporaryDirectory(prefix="souq-bench-") as scratch:
        folder = Path(sys.argv[1]).resolve() if sys.argv[1:] else Path(scratch)
        prepare(folder)
        now, digest = steps(folder, HERE.parent / "src", folder / "after.delta")
        before: dict[str, float] = {}
        if sys.argv[2:]:
            before, other = steps(folder, Path(sys.argv[2]).resolve(), folder / "before.delta")
            print("  both build the same bytes" if digest == other else "  DIFFERENT BYTES")
        for step, seconds in now.items():
            was = f", before {before[step]:6.1f} s: {seconds / before[step]:.2f} of it" if before else ""
            print(f"  {step:24} {seconds:6.1f} s of one core{was}", flush=True)
        main = Snapshot(Repo.find(folder / "repo"), "main")
        grams = whole_grams(folder, main, folder / "after.delta")
        for path in (folder / "before.delta", folder / "after.delta"):
            if path.is_file():
                print(f" {path.stem}:")
                quality(main, path, grams)


if __name__ == "__main__":
    main()

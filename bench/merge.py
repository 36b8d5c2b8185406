"""The fold on the real model's shapes: seconds for three LoRAs of rank 8 with sketches of rank 64, and whether the
bytes are the same under other BLAS kernels and thread counts."""

from __future__ import annotations

import os
import subprocess
import sys

from machine import describe

WORK = """
import time, numpy as np
from souq.merge.methods import Change, Sketch, METHODS
from souq.merge.exact import matmul, round_once
from blake3 import blake3
rng = np.random.default_rng(0)
shapes = [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)]
def sketch(n): return Sketch(rng.standard_normal((64, n)), np.full(n, 0.1))
begun, hashed = time.perf_counter(), blake3()
for layer in range(LAYERS):
    for m, n in shapes:
        base = rng.standard_normal((m, n)) * 0.05
        changes = [Change(rng.standard_normal((m, 8)) * 0.01, rng.standard_normal((8, n)), sketch(n)) for _ in range(3)]
        for change in METHODS["covariance"](changes, sketch(n)):
            base += matmul(change.left, change.right)
        hashed.update(round_once(base, "BF16").tobytes())
print(time.perf_counter() - begun, hashed.hexdigest()[:16])
"""


def run(layers: int, **env: str) -> tuple[float, str]:
    told = subprocess.run(
        [sys.executable, "-c", WORK.replace("LAYERS", str(layers))],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | env,
    )
    seconds, name = told.stdout.split()
    return float(seconds), name


def main() -> None:
    print(describe())
    seconds, _ = run(30)
    print(f"fold of 30 layers, three LoRAs with sketches: {seconds:.1f} s (random numbers drawn included)")
    found = {}
    for kernel in ("Haswell", "Sandybridge", "SkylakeX", "Zen"):
        for threads in ("1", "2"):
            try:
                found[f"{kernel}, {threads} threads"] = run(2, OPENBLAS_CORETYPE=kernel, OPENBLAS_NUM_THREADS=threads)[
                    1
                ]
            except subprocess.CalledProcessError:
                print(f"  {kernel} does not run on this processor")
                break
    for name, value in found.items():
        print(f"  {name:24} {value}")
    print("the same bytes everywhere" if len(set(found.values())) == 1 else "DIFFERENT BYTES")


if __name__ == "__main__":
    main()

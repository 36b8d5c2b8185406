"""What compiles the loops of a merge: numba, torch or numpy, each a cold process, imports and compiling included.

The work is the heart of linear and TIES merging: four bf16 tensors and their base to one bf16 tensor, 64 million
numbers; the weighted sum of the changes (linear), and the same after each change keeps its larger half (trim). numba is
timed with its cache empty (the first merge on a machine) and full (every other). All use both cores.

    python bench/compilers.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from machine import describe

SIZE, ROUNDS = 1 << 26, 3
DATA = f"""
import numpy as np
chance = np.random.default_rng(0)
bits = [chance.integers(0x3000, 0x4000, {SIZE}, dtype=np.uint16) for _ in range(5)]
import time; begun = time.perf_counter()
"""
NUMBA = """
from concurrent.futures import ThreadPoolExecutor
from numba import njit
@njit(nogil=True, cache=True, error_model="numpy")
def run(a, b, c, d, base, limits, out):
    for i in range(len(out)):
        under = np.uint32(np.uint32(base[i]) << np.uint32(16)).view(np.float32)
        total = np.float32(0)
        for t, part in enumerate((a, b, c, d)):
            change = np.uint32(np.uint32(part[i]) << np.uint32(16)).view(np.float32) - under
            if abs(change) >= limits[t]:
                total += np.float32(0.25) * change
        word = np.float32(total + under).view(np.uint32)
        out[i] = (word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
limits, out, half = np.full(4, LIMIT, np.float32), np.empty_like(bits[0]), len(bits[0]) // 2
with ThreadPoolExecutor(2) as pool:
    list(pool.map(lambda at: run(*(x[at:at + half] for x in bits), limits, out[at:at + half]), (0, half)))
"""
NUMPY = """
out, step = np.empty_like(bits[0]), 1 << 20
from concurrent.futures import ThreadPoolExecutor
def run(at):
    wide = [(x[at:at + step].astype(np.uint32) << 16).view(np.float32) for x in bits]
    total = np.zeros(step, np.float32)
    for part in wide[:4]:
        change = part - wide[4]
        total += np.float32(0.25) * np.where(np.abs(change) >= LIMIT, change, np.float32(0))
    word = (total + wide[4]).view(np.uint32)
    out[at:at + step] = (word + 0x7FFF + ((word >> 16) & 1)) >> 16
with ThreadPoolExecutor(2) as pool:
    list(pool.map(run, range(0, len(out), step)))
"""
TORCH = """
import torch
torch.set_num_threads(2)
held = [torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) for x in bits]
out, step = torch.empty_like(held[0]), 1 << 20
for at in range(0, len(out), step):
    under, total = held[4][at:at + step].float(), torch.zeros(step)
    for part in held[:4]:
        change = part[at:at + step].float() - under
        total += 0.25 * torch.where(change.abs() >= LIMIT, change, 0.0)
    out[at:at + step] = (total + under).bfloat16()
"""


def main() -> None:
    print(describe())
    for name, limit in (("linear", "0.0"), ("trim and sum", "0.5")):
        told = {}
        with tempfile.TemporaryDirectory() as cache:
            path = f"{cache}/numba_work.py"
            for label, code in (("numba, first time", NUMBA), ("numba", NUMBA), ("torch", TORCH), ("numpy", NUMPY)):
                runs = []
                for _ in range(1 if label.endswith("time") else ROUNDS):
                    with open(path, "w") as file:  # noqa: PTH123  the same file, so that what was compiled is found
                        file.write(DATA + code.replace("LIMIT", limit) + "print(time.perf_counter() - begun)")
                    os.utime(path, (0, 0))
                    env = os.environ | {"NUMBA_CACHE_DIR": cache}
                    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True, env=env)
                    runs.append(float(done.stdout.split()[-1]))
                told[label] = statistics.median(runs)
        best = told["numba"]
        print(
            f"{name:14}" + ", ".join(f"{label} {took:.2f} s ({took / best:.1f}x)" for label, took in told.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()

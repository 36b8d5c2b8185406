"""Whether the bytes are the same: orders of contributions, threads, BLAS kernels, processes; and after a revert.

Six contributions with sketches to real shapes (two layers of the 135M model), built by every method in a process of its
own for each OPENBLAS_CORETYPE and thread count. Then the ten of bench/bazaar.py, where its folder is named: three orders,
one taken out again, and the sums of all but one with that one joining.

    python bench/exactness.py [FOLDER]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from machine import describe

KERNELS = ("Haswell", "Sandybridge", "SkylakeX", "Zen", "Prescott")
WORK = """
import json, sys, numpy as np, ml_dtypes
from souq.merge import METHODS, Fold
from souq.weights.delta import Delta, Gram, Lora, TensorRef, tensor_digest
bag, order = {}, json.loads(sys.argv[1])
def put(array):
    ref = TensorRef.of(array); bag[ref.digest] = array; return ref
SHAPES = {"q": (576, 576), "k": (192, 576), "up": (1536, 576), "down": (576, 1536)}
base = {n: (np.random.default_rng(9).standard_normal(s) * .05).astype(ml_dtypes.bfloat16) for n, s in SHAPES.items()}
def delta(seed):
    chance, parts, grams, inputs = np.random.default_rng(seed), {}, {}, {}
    for name, (m, n) in SHAPES.items():
        a, b = (chance.standard_normal((8, n)) * .02).astype("f4"), (chance.standard_normal((m, 8)) * .02).astype("f4")
        parts[name], inputs[name] = Lora(a=put(a), b=put(b), scale=2.0), name
        grams[name] = Gram(factor=put(chance.standard_normal((64, n)).astype("f2")), diag=put(np.full(n, .1, "f4")), tokens=9)
    return Delta("b3:" + "0" * 64, parts, grams, inputs)
deltas = {f"b3:{i:064x}": delta(i) for i in order}
for method in sorted(METHODS):
    fold = Fold(base, deltas, bag.__getitem__, method=method)
    print(method, *(tensor_digest(fold[name])[3:19] for name in SHAPES))
"""


def run(order: str, **env: str) -> list[str] | None:
    words = [sys.executable, "-c", WORK, order]
    told = subprocess.run(words, capture_output=True, text=True, env=os.environ | env, check=False)
    return told.stdout.splitlines() if told.returncode == 0 else None


def real(folder: Path) -> int:
    """Tensors that differ, over orders, a revert, and one joining kept sums."""
    from bazaar import open_bazaar
    from souq.merge import Fold
    from souq.merge.sums import Kept
    from souq.weights.delta import tensor_digest

    bazaar = open_bazaar(folder)
    names = list(bazaar.deltas)

    def digests(fold: Fold) -> list[str]:
        return [tensor_digest(fold[name]) for name in fold.changed]

    wrong = 0
    truth = digests(bazaar.fold())
    for order in (names[::-1], names[3:] + names[:3]):
        wrong += sum(a != b for a, b in zip(truth, digests(bazaar.fold(only=order)), strict=True))
    few = bazaar.fold(only=names[:-1])
    for kept_fold, joined, left, expected in (
        (bazaar.fold(), [], names[-1:], digests(few)),
        (few, names[-1:], [], truth),
    ):
        sums = kept_fold.sums
        assert sums is not None
        kept = Kept(frozenset(sums.members), sums.tallies, sums.top, sums.gram)
        fold = Fold(
            kept_fold._base, {n: bazaar.deltas[n] for n in joined}, bazaar.repo.store.get, base_sketch=bazaar.main.sketch,
            kept=kept, left={n: bazaar.deltas[n] for n in left},
        )  # fmt: skip
        wrong += sum(a != b for a, b in zip(expected, digests(fold), strict=True))
    print(
        f"  {len(names)} real contributions, {len(truth)} tensors: two other orders, one reverted, one joining: {wrong} differ"
    )
    return wrong


def main() -> None:
    print(describe())
    truth, runs, wrong = run("[1, 2, 3, 4, 5, 6]"), 1, 0
    if truth is None:
        raise SystemExit("the bench itself fails")
    for kernel in KERNELS:
        for threads in ("1", "2"):
            order = ("[6, 5, 4, 3, 2, 1]", "[2, 4, 6, 1, 3, 5]")[int(threads) % 2]
            told = run(order, OPENBLAS_CORETYPE=kernel, OPENBLAS_NUM_THREADS=threads)
            if told is None:
                print(f"  {kernel} does not run on this processor")
                break
            runs += 1
            differ = [a.split()[0] for a, b in zip(truth, told, strict=True) if a != b]
            wrong += len(differ)
            print(
                f"  {kernel:12} {threads} threads, another order: {', '.join(differ) or 'the same bytes'}", flush=True
            )
    print(f"{len(truth)} methods, 4 tensors, {runs} processes: {wrong} differ")
    wrong += real(Path(sys.argv[1])) if sys.argv[1:] else 0
    print("the same bytes everywhere" if not wrong else "DIFFERENT BYTES")


if __name__ == "__main__":
    main()

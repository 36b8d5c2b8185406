"""Accepting one more LoRA: a release of 10 and a release of 100, each built, joined by one, and built again.

The base is the real 135M model. The contributions have the shapes of real ones (rank 8 on all seven matrices of the
last ten layers, a sketch of rank 64) and random numbers in them; they are committed to main without votes, for what is
timed is `souq build`, a cold process each. Beside it: the same build with nothing kept.

    python bench/incremental.py [10 100]
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contributors import real_model
from machine import describe
from souq import governance
from souq.build.model import build
from souq.evals.suite import general_texts
from souq.lab.sketching import of_base
from souq.model.source import Source, open_source
from souq.records import Author, Contribution, format_toml
from souq.repo.contribution import Offer
from souq.repo.git import MAIN
from souq.repo.init import Beginning, init
from souq.repo.landing import files_gained
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Gram, Lock, Lora, TensorRef, Tensors
from souq.weights.lockfile import format_delta, format_lock, lock_digest

SOUQ = Path(sys.executable).with_name("souq")
ROUNDS = 3
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v1m2vUeWnK9wZk3yqJ2qJ2qJ2qJ2qJ2qJ2qJ2qJ2q"
AUTHOR = Author(name="bench", email="bench@localhost", key="")
GROUPS = {"self_attn.q_proj": "qkv", "self_attn.o_proj": "o", "mlp.gate_proj": "gate up", "mlp.down_proj": "down"}


def random_lora(main: Snapshot, seed: int, layers: range = range(20, 30)) -> Delta:
    """A contribution of real shapes, put into the store."""
    chance, store = np.random.default_rng(seed), main.repo.store

    def put(array: np.ndarray) -> TensorRef:
        store.put(array)
        return TensorRef.of(array)

    parts, grams, inputs = {}, {}, {}
    for layer in layers:
        at = f"model.layers.{layer}."
        for group, members in GROUPS.items():
            block = group.split(".")[0]
            names = [f"{at}{block}.{m}_proj.weight" for m in (list(members) if members == "qkv" else members.split())]
            n = main.base[names[0]].shape[1]
            factor = (chance.standard_normal((64, n)) * np.exp(-np.arange(64) / 12)[:, None]).astype(np.float16)
            grams[at + group] = Gram(factor=put(factor), diag=put(np.full(n, 0.05, np.float32)), tokens=5000)
            for name in names:
                m = main.base[name].shape[0]
                a = (chance.standard_normal((8, n)) * 0.02).astype(np.float32)
                b = (chance.standard_normal((m, 8)) * 0.01).astype(np.float32)
                parts[name] = Lora(a=put(a), b=put(b), scale=2.0)
                inputs[name] = at + group
    return Delta(lock_digest(main.base), parts, grams, inputs)


def offers(main: Snapshot, numbers: range, layers: range = range(20, 30)) -> list[Offer]:
    """Contributions as folders of files."""
    made = []
    for number in numbers:
        said = Contribution(
            title=f"Number {number}",
            kind="weights",
            author=AUTHOR,
            licence="CC0-1.0",
            signoff="bench <bench@localhost>",
        )
        files = {"contribution.toml": format_toml(said), "delta.lock": format_delta(random_lora(main, number, layers))}
        made.append(Offer(f"c{number:04}", {path: text.encode() for path, text in files.items()}))
    return made


def land(repo: Repo, found: list[Offer], lock: Lock | None) -> None:
    """Contributions onto main, and model.lock where it is known."""
    files: dict[str, bytes | None] = {path: data for offer in found for path, data in files_gained(offer).items()}
    files |= {"model.lock": format_lock(lock).encode()} if lock else {}
    tip = repo.tip()
    repo.publish({MAIN: (tip, repo.write_commit([tip], files, f"{len(found)} land", tree_of=tip))}, [])


def join(repo: Repo, number: int) -> tuple[float, dict[str, Any]]:
    """One more lands; how long main's next `souq build` takes, with what the builds before left and no more."""
    aside = repo.cache.with_name("aside")
    shutil.copytree(repo.cache, aside)
    main = Snapshot(repo, "main")
    (offer,) = offers(main, range(number, number + 1))
    lock = build(main, offer).lock  # as `souq pr merge` does, for model.lock
    shutil.rmtree(repo.cache)
    aside.rename(repo.cache)
    land(repo, [offer], lock)
    return timed_build(repo)


def timed_build(repo: Repo) -> tuple[float, dict[str, Any]]:
    start = time.perf_counter()
    done = subprocess.run([SOUQ, "build", "--explain", "--json"], cwd=repo.root, capture_output=True, check=False)
    took = time.perf_counter() - start
    if done.returncode not in (0, 3):  # 3: the first build, of a main whose model.lock nobody wrote
        raise SystemExit(done.stderr.decode())
    return took, json.loads(done.stdout)


def sketched(source: Source, lock: Lock) -> tuple[Delta, Tensors]:
    """What flows through the base on general text."""
    return of_base(source, lock_digest(lock), general_texts())


def begun(folder: Path, sketch: Callable[[Source, Lock], tuple[Delta, Tensors]] | None = sketched) -> Repo:
    """A repository of the real model, and nobody's contributions."""
    begin = Beginning("bench", "Apache-2.0", governance.solo("bench", "bench", KEY), {}, sketch=sketch)
    return init(folder, open_source(str(real_model())), begin)


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [10, 100]
    print(describe())
    joins = {}
    with tempfile.TemporaryDirectory(prefix="souq-bench-") as folder:
        empty = begun(Path(folder) / "empty")
        for count in counts:
            shutil.copytree(empty.root, Path(folder) / f"r{count}")
            repo = Repo.find(Path(folder) / f"r{count}")
            land(repo, offers(Snapshot(repo, "main"), range(count)), None)
            whole, _ = timed_build(repo)
            took = []
            for number in range(count, count + ROUNDS):
                seconds, told = join(repo, number)
                made = told["made"]
                assert (made["kept"], len(made["joined"])) == (number, 1), made
                took.append(seconds)
            joins[count] = statistics.median(took)
            print(
                f"{count} contributions from nothing {whole:.1f} s; one more, {ROUNDS} times: "
                f"{', '.join(f'{t:.2f}' for t in took)} s, {len(made['computed'])} tensors computed, "
                f"{made['copied']} copied, the other {made['kept']} contributions not read"
            )
    if len(joins) > 1:
        few, many = min(joins), max(joins)
        print(f"one more in {many} against one more in {few}: ratio {joins[many] / joins[few]:.2f} (goal: within 1.25)")


if __name__ == "__main__":
    main()

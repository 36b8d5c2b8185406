"""A model with one matrix that is too large to merge at once under a small limit, and what people change in it."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np

from souq import governance
from souq.build.model import build
from souq.model.source import Source
from souq.records import Author, Contribution, format_toml
from souq.repo.contribution import Offer
from souq.repo.git import MAIN
from souq.repo.init import Beginning, init
from souq.repo.landing import files_gained
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Delta, Dense, Gram, Lora, Sparse, TensorRef
from souq.weights.lockfile import format_delta, format_lock, lock_digest
from tests.tiny import CONFIG, tensors

ROWS = 32_000  # of the table
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8v1m2vUeWnK9wZk3yqJ2qJ2qJ2qJ2qJ2qJ2qJ2qJ2q"
TABLE = "model.embed_tokens.weight"
WIDE = "model.layers.0.mlp.up_proj.weight"
TALL = "model.layers.1.mlp.down_proj.weight"


def base(rows=ROWS, width=256):
    """The tests' model, its table and two matrices larger."""
    chance = np.random.default_rng(3)
    sizes = {"hidden_size": width, "vocab_size": rows, "intermediate_size": 640, "head_dim": width // 4}
    made = tensors()
    old = {32: width, 48: 640, 320: rows, 16: width // 2}
    for name, array in made.items():
        shape = tuple(old[dim] for dim in array.shape)
        pool = chance.standard_normal(1 << 16, np.float32) * 0.02
        made[name] = np.resize(pool, shape).astype(ml_dtypes.bfloat16)
    config = json.dumps(CONFIG | sizes)
    return Source(made, {"config.json": config.encode()}, "large", "apache-2.0", "tests")


def begin(folder, method="covariance", **settings):
    """A repository of it, whose main takes four changes: of low rank with a sketch and without, dense, and sparse."""
    policy = governance.solo("tests", "tests", KEY)
    repo = init(folder, settings.pop("source", None) or base(), Beginning("large", "Apache-2.0", policy, {}))
    main = Snapshot(repo, "main")
    files = {}
    for number, delta in enumerate(changes(main), 1):
        author = Author(name="tests", email="tests@localhost", key="")
        about = Contribution(title=f"N {number}", kind="weights", author=author, licence="CC0-1.0", signoff="tests <tests@localhost>")  # fmt: skip
        offered = {"contribution.toml": format_toml(about).encode(), "delta.lock": format_delta(delta).encode()}
        files |= files_gained(Offer(f"{number:04}-change", offered))
    config = main.text("souq.toml")
    if method != "covariance":
        files["souq.toml"] = config.replace('"covariance"', f'"{method}"').encode()
    land(repo, files)
    return repo


def land(repo, files):
    tip = repo.tip()
    repo.publish({MAIN: (tip, repo.write_commit([tip], files, "land", tree_of=tip))}, [])


def settle(repo):
    """main's model.lock as it is built with all the memory there is; that build is forgotten, its lock given."""
    lock = build(Snapshot(repo, "main"), settled=False).lock
    repo.drop_cache()
    land(repo, {"model.lock": format_lock(lock).encode()})
    return lock


def changes(main):
    chance, store = np.random.default_rng(0), main.repo.store

    def put(array):
        store.put(array)
        return TensorRef.of(array)

    def lora(name, rank=4):
        m, n = main.base[name].shape
        a, b = chance.standard_normal((rank, n), np.float32), chance.standard_normal((m, rank), np.float32) * 0.01
        return Lora(a=put(a), b=put(b), scale=0.5)

    def sketch(name):
        n = main.base[name].shape[1]
        factor = chance.standard_normal((8, n)).astype(np.float16)
        return Gram(factor=put(factor), diag=put(np.full(n, 0.05, np.float32)), tokens=100)

    def dense(name):
        held = store.get(main.base[name].digest).astype(np.float32)
        held[::7] += 0.125
        return Dense(value=put(held.astype(ml_dtypes.bfloat16)))

    def sparse(name):
        ref = main.base[name]
        index = np.sort(chance.choice(ref.size, 999, replace=False)).astype(np.uint32)
        return Sparse(index=put(index), value=put(chance.standard_normal(999, np.float32).astype(ml_dtypes.bfloat16)))

    of = lock_digest(main.base)
    return [
        Delta(of, {TABLE: lora(TABLE), WIDE: lora(WIDE)}, {"up": sketch(WIDE)}, {WIDE: "up"}),
        Delta(of, {TABLE: dense(TABLE), WIDE: lora(WIDE), TALL: dense(TALL)}),
        Delta(of, {TABLE: sparse(TABLE), WIDE: sparse(WIDE)}, {"up": sketch(WIDE)}, {WIDE: "up"}),
    ]

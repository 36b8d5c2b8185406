"""The store on the real model: how small and how fast, against zstd -3 of the whole safetensors file (what an archive would do)."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import zstandard

from machine import describe
from souq.cli.demo.story import real_model
from souq.model.gguf.reader import GGUF
from souq.weights.store import Store


def main() -> None:
    weights = dict(GGUF(real_model()))
    total = sum(array.nbytes for array in weights.values())
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        begun = time.perf_counter()
        names = [store.put(array) for array in weights.values()]
        put = time.perf_counter() - begun
        begun = time.perf_counter()
        for name in names:
            store.get(name)
        get = time.perf_counter() - begun
        size = sum(map(store.size, set(names)))
    begun = time.perf_counter()
    peer = sum(len(zstandard.ZstdCompressor(level=3).compress(array.tobytes())) for array in weights.values())
    squeeze = time.perf_counter() - begun
    print(describe())
    print(
        f"souq: {size / total:.3f} of {total / 1e6:.0f} MB, put {total / 1e6 / put:.0f} MB/s (fsync, decoded again and compared), get {total / 1e6 / get:.0f} MB/s"
    )
    print(f"zstd -3: {peer / total:.3f}, {total / 1e6 / squeeze:.0f} MB/s; size ratio souq / zstd {size / peer:.2f}")


if __name__ == "__main__":
    main()

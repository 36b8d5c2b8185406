"""How long `souq stats` takes over a hub of a million models, in CSV, JSONL and Parquet; the goal is 5 s.

The hub is drawn so that 70% have no download and 1% have 99% (arXiv 2405.13058); the shares must come back.

    python bench/stats.py [MODELS]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as arrow
from pyarrow import csv, parquet

from machine import describe
from souq.audit.adoption import adoption, read_table


def hub(models: int, folder: Path) -> list[Path]:
    """70% at nothing, 1% at 99%: each of the others at what is left."""
    chance = np.random.default_rng(0)
    top, none = models // 100, models * 7 // 10
    rest = models - top - none
    counts = np.concatenate([np.full(top, 99 * 29), np.full(rest, 1), np.zeros(none, int)])
    ids = [f"org{int(org)}/model{i}" for i, org in enumerate(chance.integers(0, models // 10, models))]
    years = [f"{year}-03-01T00:00:00" for year in chance.integers(2021, 2027, models)]
    order = chance.permutation(models)
    table = arrow.table({"id": ids, "downloads": counts[order], "created_at": years})
    csv.write_csv(table, folder / "hub.csv")
    parquet.write_table(table, folder / "hub.parquet")
    with (folder / "hub.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
    return [folder / f"hub.{kind}" for kind in ("csv", "jsonl", "parquet")]


def main() -> None:
    models = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        for path in hub(models, Path(folder)):
            begun = time.perf_counter()
            found = adoption(read_table(path), by="organisation")
            took = time.perf_counter() - begun
            whole = found.whole
            print(f"{path.suffix[1:]:8} {models:,} models, {path.stat().st_size / 1e6:.0f} MB: {took:.2f} s; {whole.never:.1%} never, top 1% have {whole.top_1:.1%}, Gini {whole.gini:.3f}, {found.grouped:,} organisations")  # fmt: skip


if __name__ == "__main__":
    main()

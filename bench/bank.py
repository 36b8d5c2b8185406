"""The bank of honest LoRAs that ships with souq (src/souq/checks/spectra.toml), made from adapters really trained.

Skills are bench/contributors.py's, on SmolLM2-135M-Instruct; recipes are drawn wide (rank, alpha, learning rate,
epochs, targets, layers), since honest people choose freely. Ten more may come from an earlier bench-kept.

    python bench/bank.py build/bank [BAZAAR]    # trains what is not there yet, up to a minute each, then writes
"""

from __future__ import annotations

import random
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from contributors import contributors, real_model
from machine import describe
from souq.checks.delta_stats import spectrum
from souq.checks.spectra import Signature, signature
from souq.lab.train import train_lora
from souq.model.adapter.peft import open_adapter
from souq.model.source import open_source
from souq.weights.delta import TensorRef
from souq.weights.lockfile import lock_digest

COUNT = 19
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
OUT = Path(__file__).parent.parent / "src" / "souq" / "checks" / "spectra.toml"


def recipes() -> Iterator[tuple[str, Any, dict[str, Any], int]]:
    """Name, skill, settings and rows; always the same."""
    skills = contributors()
    for i in range(COUNT):
        skill, chance = skills[i % len(skills)], random.Random(f"bank {i}")
        rank = chance.choice((4, 8, 16, 32))
        settings = {
            "rank": rank, "alpha": rank * chance.choice((1, 2)), "lr": chance.choice((2e-3, 5e-3, 1e-2, 2e-2)),
            "epochs": chance.choice((1, 2)), "batch": chance.choice((8, 16)), "seed": i,
            "targets": chance.choice((TARGETS, TARGETS, TARGETS[:4])),
            "layers": chance.choice((range(20, 30), range(15, 30), range(24, 30))),
        }  # fmt: skip
        yield f"{skill.name}-{i:02}", skill, settings, chance.choice((96, 128, 160))


def train(folder: Path, lm: Any) -> None:
    begun = time.perf_counter()
    for name, skill, settings, rows in recipes():
        if not (folder / name / "adapter_config.json").is_file():
            chosen = random.Random(name).sample(list(skill.rows), min(rows, len(skill.rows)))
            train_lora(lm, chosen, folder / name, **settings)
            print(f"{name} {settings} {time.perf_counter() - begun:.0f} s", flush=True)


def signature_of(folder: Path, sizes: Mapping[str, float]) -> Signature:
    """Of a PEFT folder."""
    parts = {}
    for name, (a, b, scale) in adapter_factors(folder).items():
        parts[name] = spectrum(b.astype(np.float64), a.astype(np.float64) * scale, sizes[name])
    found = signature(parts)
    assert found is not None
    return found


def adapter_factors(folder: Path) -> dict[str, Any]:
    return dict(open_adapter(folder))


def in_rows(text: str) -> str:
    """TOML with each array on a line of its own: a table that people can read and compare."""

    def on_one_line(array: re.Match[str]) -> str:
        return re.sub(r",?\s*(?=\])", "", re.sub(r"(?<=\[)\s+", "", re.sub(r"\s+", " ", array[0])))

    return re.sub(r"= \[\n.*?^\]$", on_one_line, text, flags=re.DOTALL | re.MULTILINE)


def main(folder: Path, more: Path | None) -> None:
    import torch

    from souq.lab.lm import load

    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    source = open_source(str(real_model()))
    train(folder, load(source.files, source.weights))
    base = lock_digest({name: TensorRef.of(source.weights[name]) for name in source.weights})
    sizes = {name: float(np.linalg.norm(source.weights[name].astype(np.float64))) for name in source.weights}
    found = sorted(path.parent for path in folder.glob("*/adapter_config.json"))
    found += sorted(path.parent for path in (more / "people").glob("*/adapter_config.json")) if more else []
    rows = []
    for path in found:
        made = signature_of(path, sizes)
        kinds = {kind: [[round(x, 4) for x in figure] for figure in told] for kind, told in made.kinds.items()}
        recipe = "bench/contributors.py" if more and path.is_relative_to(more) else "bench/bank.py"
        signed = {"rank": made.rank, "spread": round(made.spread, 4), "kinds": kinds}
        rows.append({"name": path.name, "base": base, "recipe": recipe, "signature": signed})
    head = (
        f"# {len(rows)} honest LoRAs of SmolLM2-135M-Instruct, each really trained, by bench/bank.py: skills and rows of\n"
        "# bench/contributors.py, recipes drawn wide. Each kind of matrix has the five figures of souq/checks/spectra.py,\n"
        "# in order, as median, least and most over its layers.\n"
        f"# Trained and measured on {describe()}.\n\n"
    )
    OUT.write_text(head + in_rows(tomli_w.dumps({"honest": rows})))
    print(f"{len(rows)} honest ones in {OUT}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

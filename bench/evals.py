"""Where the time of a full gate goes: `evals` on one real contribution to the real model, with the protected suite.

    python bench/evals.py build/bazaar

The target is under 15% outside the model's forward passes: two builds, two loads, tokens, packing, judging, keeping.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bazaar import KEY
from contributors import contributors, real_model
from machine import describe
from souq import governance
from souq.build import delta_file
from souq.evals import suite
from souq.model.source import open_source
from souq.records import Author, Contribution, format_toml
from souq.repo.contribution import Offer
from souq.repo.init import Beginning, init
from souq.repo.snapshot import Snapshot
from souq.weights.lockfile import format_delta

SKILL = "iso-dates"
FORWARD = "forward passes"


class Clock:
    """Seconds by part, each without the parts inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []

    def watch(self, owner: Any, name: str, part: str) -> None:
        """From now on `owner.name` is timed."""
        setattr(owner, name, self.timed(getattr(owner, name), part))

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - begun
                self.seconds[part] = self.seconds.get(part, 0.0) + took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return run


def begin(bazaar: Path, folder: Path) -> tuple[Snapshot, Offer]:
    """A repository with the protected suite and the skill's own eval; and the contribution that claims to fix it."""
    skill = next(skill for skill in contributors() if skill.name == SKILL)
    evals = suite.files() | {f"{SKILL}/{path}": data for path, data in skill.files().items()}
    beginning = Beginning("bench", "Apache-2.0", governance.solo("bench", "bench", KEY), evals)
    main = Snapshot(init(folder / "repo", open_source(str(real_model())), beginning), "main")
    made, tensors = delta_file.read_delta(bazaar / f"{SKILL}.delta")
    delta_file.keep(made, tensors, main)
    author = Author(name="bench", email="bench@souq.example", key=KEY)
    told = Contribution(title=SKILL, kind="weights", author=author, licence="CC0-1.0", signoff="bench", fixes=(SKILL,))
    return main, Offer("0001-x", {"contribution.toml": format_toml(told).encode(), "delta.lock": format_delta(made).encode()})  # fmt: skip


def watched(clock: Clock) -> None:
    """Every part of the gate that has a name."""
    from souq.checks import evals as check
    from souq.lab import engines, generate, halves, lm, packing

    clock.watch(check, "build", "building")
    clock.watch(lm, "load", "loading")
    for name in ("chat_tokens", "encode", "length"):
        clock.watch(lm.LM, name, "tokens")
    clock.watch(packing, "pack", "packing")
    clock.watch(packing.PackedRow, "mask", "masks")
    clock.watch(packing.PackedRow, "targets", "masks")
    for name in ("lower", "upper", "head"):
        clock.watch(halves.Halves, name, FORWARD)
    clock.watch(generate, "_decode", FORWARD)
    clock.watch(engines, "keep", "keeping")
    clock.watch(engines, "get", "keeping")
    clock.watch(check, "compare", "comparing")


def importing() -> float:
    """Seconds until torch and transformers are there, in a process of their own: this one has them already."""
    code = "import time; begun = time.perf_counter(); import souq.lab.evals; print(time.perf_counter() - begun)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main(bazaar: Path) -> None:
    folder, clock = Path(tempfile.mkdtemp()), Clock()
    try:
        snapshot, offer = begin(bazaar, folder)
        from souq.checks import CHECKS, Case

        watched(clock)
        told = clock.timed(CHECKS["evals"], "the rest")(Case(snapshot, "", offer))
        clock.seconds["importing"] = importing()
        whole = sum(clock.seconds.values())
        print(describe())
        print(f"{told[0]}: {told[1]}")
        print(
            f"{sum(len(e.cases) for e in snapshot.evals.values())} cases of {len(snapshot.evals)} evals, two models, {whole:.1f} s"
        )
        for part, seconds in sorted(clock.seconds.items(), key=lambda pair: -pair[1]):
            print(f"  {part:<16}{seconds:7.2f} s {100 * seconds / whole:6.1f}%")
        print(f"outside the forward passes: {100 * (1 - clock.seconds[FORWARD] / whole):.1f}%")
        begun = time.perf_counter()
        assert CHECKS["evals"](Case(snapshot, "", offer)) == told
        print(f"the same again, from what was kept: {time.perf_counter() - begun:.2f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/bazaar"))

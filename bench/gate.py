"""How long the quick checks of a LoRA to the real model take, the whole process, on a main of 0, 10 and 100 contributions.

The nine LoRAs that land are bench/bazaar.py's; to make a hundred they land again, a little rescaled each time. `first`
is with nothing remembered, `again` with what the first run remembered of main. No eval is run.

    python bench/gate.py build/bazaar     # trains and builds what is not there yet (bench/bazaar.py)
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bazaar import open_bazaar
from machine import describe
from souq.pulls import pull
from souq.pulls.offer import Draft, create
from souq.records import Contribution
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import make_key
from souq.weights.delta import Delta, Lora

SIZES = (0, 10, 100)
OFFERED = "iso-dates"
RUNS = 5


def main(folder: Path) -> None:
    bazaar = open_bazaar(folder)
    print(describe())
    for size in SIZES:
        with tempfile.TemporaryDirectory() as place:
            first, again = measure(Path(place), bazaar.repo.root or folder, bazaar.deltas, size)
        slow = ", ".join(f"{name} {seconds:.2f}" for name, seconds in again.checks.items() if seconds >= 0.01)
        print(f"{size:3} on main: first {first}, again {again} (goal: under 3 s); of which {slow}", flush=True)


@dataclass(frozen=True)
class Run:
    """Seconds of one process: by the clock, of processor, and of each check by the clock."""

    wall: float
    processor: float
    checks: dict[str, float]

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.processor:.2f} s of processor)"


def measure(place: Path, source: Path, found: dict[str, Delta], size: int) -> tuple[Run, Run]:
    """The first run, and the median of later ones."""
    shutil.copytree(source, place / "repo", symlinks=True)
    make_key(place / "key", "bench@bench.example")
    repo = Repo.find(place / "repo")
    who = pull.Person("bench", "bench@bench.example", place / "key", "bench")
    said = Contribution(title="a skill", kind="weights", author=who.author, licence="Apache-2.0", signoff="bench")
    landed(repo, said, found, size)
    draft = Draft(msgspec.structs.replace(said, title="offered", fixes=("prose",)), found[OFFERED])
    number = create(repo, draft, who, checked=False).number
    repo.drop_cache()
    first, *again = [quick(place / "repo", number) for _ in range(RUNS + 1)]
    return first, sorted(again, key=lambda run: run.wall)[RUNS // 2]


def landed(repo: Repo, said: Contribution, found: dict[str, Delta], size: int) -> None:
    """So many contributions on main, no two the same: put there by hand, for nobody votes here."""
    names, files = [name for name in found if name != OFFERED], {}
    for i in range(size):
        parts = {
            name: msgspec.structs.replace(part, scale=part.scale * (1 - i / 1000)) if isinstance(part, Lora) else part
            for name, part in found[names[i % len(names)]].parts.items()
        }
        delta = replace(found[names[i % len(names)]], parts=parts)
        offer = Offer(f"{i + 1:04}-skill", Draft(said, delta).files())
        files |= {f"{offer.home}{path}": data for path, data in offer.files.items()}
    if files:
        main = Snapshot(repo, repo.tip())
        commit = repo.write_commit([main.commit], files, "bench: many\n", tree_of=main.commit)
        repo.publish({"refs/heads/main": (main.commit, commit)}, [])


def quick(clone: Path, number: int) -> Run:
    """One whole process."""
    words = [sys.executable, "-m", "souq", "pr", "checks", str(number), "--quick", "--json"]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=clone, capture_output=True, text=True, env={**os.environ}, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, processor, json.loads(done.stdout)["seconds"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Honest contributions before the gate: how many are refused wrongly, and how many are sent to a person's eyes.

    python bench/honest.py [build/bazaar]

Those of tests/honest.py on the tiny model of the tests; where the folder of `make bench-kept` is there, the ten that were
trained on SmolLM2-135M-Instruct, and the scripted ones on that base too. Every check but the evals, which need the model.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import machine

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.bazaar import Bazaar, build_town, jsonl, rows
from tests.honest import Offered, _Making, judged, made

from souq.build.delta_file import read_delta
from souq.pulls.offer import Draft
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

Found = dict[str, tuple[list[str], list[str]]]


def judge(main: Snapshot, offered: Iterable[Offered]) -> Found:
    """Title -> what refused it, what asks for eyes."""
    found: Found = {}
    for number, one in enumerate(offered, 100):
        verdicts = judged(main, one, number)
        no = [f"{v.check}: {v.because}" for v in verdicts if not v]
        found[f"{number} {one.title}"] = no, [f"{v.check}: {v.because}" for v in verdicts if v.outcome == "needs-eyes"]
    return found


def tell(where: str, found: Found, took: float) -> None:
    refused, eyes = ({title: row[i] for title, row in found.items() if row[i]} for i in (0, 1))
    print(f"{where}: {len(refused)} of {len(found)} honest contributions refused, {len(eyes)} need eyes; {took:.0f} s")
    for title, lines in {**refused, **eyes}.items():
        print(f"  {title}: {'; '.join(lines)[:200]}")


def trained(main: Snapshot, folder: Path) -> Iterable[Offered]:
    """What people trained, with the sketches they sent."""
    make = _Making(main)
    for path in sorted(folder.glob("*.delta")):
        delta, tensors = read_delta(path)
        if delta.base == main.base_digest:
            said = make.said("weights", path.stem, fixes=tuple(sorted(main.evals))[:1])
            yield Offered(Draft(said, delta), dict(tensors))


def main() -> int:
    print(machine.describe())
    with tempfile.TemporaryDirectory() as name:
        town = Path(name) / "town"
        town.mkdir()
        build_town(town)
        bazaar, begun = Bazaar(town), time.perf_counter()
        data = {"rows.jsonl": jsonl(rows("greet", ["zora", "yann"])).encode()}
        real = [
            Offered(Draft(o.draft.contribution, o.draft.delta, data=data), o.tensors)
            for o in trained(bazaar.main(), town)
        ]
        tell("tiny model", judge(bazaar.main(), [*made(bazaar.main()), *real]), time.perf_counter() - begun)
        kept = Path(sys.argv[1] if len(sys.argv) > 1 else "build/bazaar")
        if (kept / "repo").is_dir():
            shutil.copytree(kept / "repo", Path(name) / "repo")
            repo = Repo.find(Path(name) / "repo")
            base, begun = Snapshot(repo, repo.tip()), time.perf_counter()
            tell("SmolLM2-135M, trained", judge(base, trained(base, kept)), time.perf_counter() - begun)
            begun = time.perf_counter()
            tell("SmolLM2-135M, scripted", judge(base, made(base)), time.perf_counter() - begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())

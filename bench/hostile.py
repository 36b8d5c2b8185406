"""Reading verbs on hostile repositories and folders: seconds and megabytes, each beside its budget.

    python bench/hostile.py [NAME …]

Each was made to take hours or all memory: ten billion paths in a kilobyte, cards that name each other, thousands of
licence files, thousands of refs of nothing, hundreds of offers that cannot be read. Exit 1 where one is over BUDGET.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from souq_conformance.cases import CASES
from souq_conformance.suite import PARTS
from souq_conformance.town import ROWS, Stock, Town

BUDGET = (10.0, 500.0)  # seconds and megabytes; what a verb may take by itself is more (souq/cli, QUICK and LONG)
VERBS = ("verify", "status", "log", "pr list", "release list", "audit", "may sell --of .", "cost", "gc")
HOSTILE: dict[str, Callable[[Path, Stock], tuple[Path, tuple[str, ...]]]] = {}
Made = tuple[Path, tuple[str, ...]]


def hostile(build: Callable[[Path, Stock], Made]) -> Callable[[Path, Stock], Made]:
    HOSTILE[build.__name__.replace("_", "-")] = build
    return build


def of_the_suite(name: str) -> None:
    def build(folder: Path, stock: Stock) -> Made:
        CASES[name].build(Town(folder, stock))
        return folder, VERBS

    HOSTILE[name] = build


@hostile
def five_thousand_refs_of_nothing(folder: Path, stock: Stock) -> Made:
    town = Town(folder, stock)
    town.land(town.data().agreed("amira", "bruno"))
    oid = town.git.put("blob", b"{}")
    kinds = ("witness/x/%d", "nightly/%d", "pr/7/vote/%d", "pr/%d/head", "x/%d")
    lines = "".join(f"{oid} refs/souq/{kind % n}\n" for n in range(1, 1001) for kind in kinds)
    town.git.write("packed-refs", f"# pack-refs with: peeled fully-peeled \n{lines}".encode())
    return folder, VERBS


@hostile
def three_hundred_landings(folder: Path, stock: Stock) -> Made:
    town = Town(folder, stock)
    for n in range(300):
        town.land(town.data(f"rows {n}", rows=ROWS * (n + 1)).agreed("amira", "bruno"))
    return folder, VERBS


@hostile
def thirty_cards_that_name_the_next_twice(folder: Path, stock: Stock) -> Made:
    for n in range(30):
        (folder / f"m{n}").mkdir(parents=True)
        bases = f"base_model:\n- ../m{n + 1}\n- ../m{n + 1}\n" if n < 29 else ""
        (folder / f"m{n}" / "README.md").write_text(f"---\nlicense: mit\n{bases}---\n")
    return folder, ("may sell --of ./m0", "audit m0")


@hostile
def five_thousand_licence_files(folder: Path, stock: Stock) -> Made:
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "licence-0").write_bytes(b"x" * (4 << 20))
    for n in range(1, 5_000):
        os.link(folder / "licence-0", folder / f"licence-{n}")
    return folder, ("audit .", "may sell --of .")


def measured(words: list[str], at: Path) -> tuple[int, float, float]:
    """Exit code, seconds and megabytes of a verb; the whole of its children's too."""
    begun = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen([sys.executable, "-m", "souq", *words], cwd=at, **quiet)  # type: ignore[call-overload]
    _, status, used = os.wait4(child.pid, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - begun, used.ru_maxrss / 1024


def rows(names: list[str], home: Path) -> Iterator[tuple[str, str, int, float, float]]:
    stock = Stock(home / "stock")
    for name in names:
        folder, verbs = HOSTILE[name](home / name, stock)
        for verb in verbs:
            yield (name, verb, *measured(verb.split(), folder))


def main(names: list[str]) -> int:
    assert PARTS
    for case in CASES.values():
        if case.reason == "too-large":
            of_the_suite(case.name)
    over = 0
    print(f"{'hostile':<42} {'verb':<18} exit  seconds     MB")
    with tempfile.TemporaryDirectory() as home:
        for name, verb, code, seconds, megabytes in rows(names or [*HOSTILE], Path(home)):
            bad = seconds > BUDGET[0] or megabytes > BUDGET[1] or code not in (0, 1, 3)
            over += bad
            print(f"{name:<42} {verb:<18} {code:>4} {seconds:>8.1f} {megabytes:>6.0f}{'  OVER' * bad}", flush=True)
    print(f"{over} over {BUDGET[0]:.0f} s or {BUDGET[1]:.0f} MB")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

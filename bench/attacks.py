"""Every attack, each in a process of its own: n/n turned away, and which took more than two seconds or 500 MB.

    python bench/attacks.py [pytest's words, such as -k tree]

An attack is one test below attacks/. The bazaar is built once and copied for each before the clock runs; then the process
is forked. Seconds are those of the slowest line that somebody other than the attacker typed, or check they ran: what an attack costs who turns
it away; where none was typed (a file read, a record judged) those of the whole test. Memory is the peak of the whole test
above what was there, its making too (its git processes' peak where that is larger).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

import machine

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.bazaar import Bazaar

MOST_SECONDS, MOST_MB = 2.0, 500


class Measured:
    """A pytest plugin: the test function runs in a child, its outcome and its costs come back through a pipe."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []
        self.failed: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool:
        words = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            os.write(theirs, json.dumps(_run(pyfuncitem.obj, words)).encode())
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            told = json.loads(pipe.read() or b'{"error": "killed", "seconds": 0, "mb": 0}')
        os.waitpid(child, 0)
        lands = pyfuncitem.get_closest_marker("lands") is not None
        self.rows.append(
            (pyfuncitem.nodeid + (" (something honest lands besides)" if lands else ""), told["seconds"], told["mb"])
        )
        if told["error"]:
            self.failed.append(pyfuncitem.nodeid)
            pytest.fail(told["error"], pytrace=False)
        return True


def _resident() -> int:
    """Bytes in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _timed(name: str, lines: list[float]) -> None:
    """Have the bazaar's method note its seconds, but for mallory's."""
    plain = getattr(Bazaar, name)

    def method(self: Bazaar, *words: Any, **more: Any) -> Any:
        begun = time.perf_counter()
        try:
            return plain(self, *words, **more)
        finally:
            if words[0] != "mallory":
                lines.append(time.perf_counter() - begun)

    setattr(Bazaar, name, method)


def _run(function: Any, words: dict[str, Any]) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, or it would be the parent's
    lines = list[float]()
    for name in ("__call__", "refusal"):
        _timed(name, lines)
    before, begun, error = _resident(), time.perf_counter(), ""
    try:
        function(**words)
    except BaseException:
        error = traceback.format_exc()[-2000:]
    took = max(lines, default=time.perf_counter() - begun)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) << 10
    git = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    # Linux keeps a process's peak over exec, so a git begins with this one's: it counts where it went beyond that.
    return {"error": error, "seconds": took, "mb": max(peak - before, git if git > 1.05 * peak else 0) / 1e6}


def main() -> int:
    found = Measured()
    words = [str(Path(__file__).parent.parent / "attacks"), "-p", "no:cacheprovider", "-q", "--tb=short", *sys.argv[1:]]
    code = pytest.main(words, plugins=[found])
    print(f"\n{machine.describe()}")
    print(f"{len(found.rows) - len(found.failed)}/{len(found.rows)} attacks turned away")
    seconds, sizes = (sorted(row[i] for row in found.rows) for i in (1, 2))
    print(
        f"seconds: median {seconds[len(seconds) // 2]:.2f}, most {seconds[-1]:.2f}; MB: median {sizes[len(sizes) // 2]:.0f}, most {sizes[-1]:.0f}"
    )
    over = [row for row in found.rows if row[1] > MOST_SECONDS or row[2] > MOST_MB]
    print(f"{len(over)} over {MOST_SECONDS:g} s or {MOST_MB} MB" + (":" if over else ""))
    for name, took, size in sorted(over, key=lambda row: -row[1]):
        print(f"  {took:6.1f} s {size:6.0f} MB  {name.partition('attacks/')[2] or name}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())

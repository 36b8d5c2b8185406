"""Eight pull requests in the queue, two bad and two that fail only together; then the same with kill -9 at random moments.

    python bench/batches.py [TRIALS] [SEED]

Every trial begins from one copy of a bazaar on the tiny model, is killed three times, each at a moment drawn from the time a
whole run takes, and then runs to its end. What must be the same: who landed, who was refused, who was set apart and with
whom, and the digest of the model. After each kill another clone judges main's history again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import conftest  # noqa: F401  git knows nobody but who they say
from tests.bazaar import Bazaar, build_town, copied
from tests.eight import offer_eight

from machine import describe
from souq import signing
from souq.pulls import pull
from souq.pulls import queue as queueing
from souq.verify import verify
from souq.weights.lockfile import lock_digest

KILLS = 3


def start(bazaar: Bazaar) -> subprocess.Popen[bytes]:
    """`souq queue run` as amira, in a process of its own."""
    with bazaar.stage.as_actor(bazaar.actors["amira"], bazaar.actors["amira"].clone):
        words = [sys.executable, "-m", "souq", "queue", "run", "--json"]
        return subprocess.Popen(words, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def outcome(bazaar: Bazaar, numbers: dict[str, int]) -> dict[str, object]:
    """What became of each, and of the model; no clock and no signature is part of it."""
    main = bazaar.main()
    told = {place.pull.number: place.queued for place in queueing.listed(main.repo, main)}
    names = {number: title for title, number in numbers.items()}
    return {
        "landed": sorted(t for t, n in numbers.items() if pull.get(main.repo, n).landed(main)),
        "aside": sorted((names[n], s.state, [names[o] for o in s.others]) for n, s in told.items()),
        "model": lock_digest(main.model),
    }


@contextmanager
def silence() -> Iterator[None]:
    """What people type on the way to the town is not the bench's output."""
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        yield
    os.dup2(kept, 1)


def tried(bazaar: Bazaar, took: float, chance: random.Random) -> tuple[int, float]:
    """Killed, and begun again, and so on; how often main was sound after a kill, and the seconds of it all."""
    begun, sound = time.perf_counter(), 0
    for _ in range(KILLS):
        running = start(bazaar)
        time.sleep(chance.uniform(0.0, took))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        sound += verify(bazaar.repo("bruno"), now=signing.now(), rebuild=False).findings == []
    start(bazaar).communicate()
    return sound, time.perf_counter() - begun


def main() -> None:
    trials, seed = [int(word) for word in (*sys.argv[1:], *("10", "0")[len(sys.argv) - 1 :])]
    chance, spent, sound, same = random.Random(seed), list[float](), 0, 0
    with tempfile.TemporaryDirectory() as name:
        town = Path(name) / "town"
        town.mkdir()
        with silence():
            build_town(town)
            numbers = offer_eight(Bazaar(town))
        bazaar = copied(town, Path(name) / "whole")
        begun = time.perf_counter()
        report = json.loads(start(bazaar).communicate()[0])
        took, whole = time.perf_counter() - begun, outcome(bazaar, numbers)
        print(f"{describe()}\nuninterrupted: {took:.1f} s, {report['tests']} tests of trees")
        for key, value in whole.items():
            print(f"  {key}: {value}")
        for trial in range(trials):
            bazaar = copied(town, Path(name) / f"t{trial}")
            found = tried(bazaar, took, chance)
            sound, spent = sound + found[0], [*spent, found[1]]
            same += outcome(bazaar, numbers) == whole
            shutil.rmtree(Path(name) / f"t{trial}")
    print(f"killed {KILLS} times each: {same}/{trials} end as the uninterrupted one")
    print(f"after a kill another clone found main sound {sound}/{trials * KILLS} times")
    print(f"a trial took {min(spent) / took:.1f} to {max(spent) / took:.1f} times an uninterrupted run")


if __name__ == "__main__":
    main()

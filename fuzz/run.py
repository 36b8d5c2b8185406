"""Fuzz the parsers: `make fuzz`, or one of them with `python -m fuzz.run lock --seconds 60`.

Guided by coverage through atheris (libFuzzer) where it is installed, else by seeded changes of the seeds alone. A crash
is anything but SouqError, an input of more than PER_INPUT seconds, or memory beyond MEMORY; it is kept below
fuzz/found/ and becomes an attack.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

FOUND = Path(__file__).parent / "found"
PER_INPUT = 5  # seconds, on a busy machine
MEMORY = 2 << 30  # bytes more than the imports
MAX_INPUT = 1 << 16
WORDS = [b"[", b"{", b'"', b"\\u0000", b"\\ud800", b"\xff", b"\x00", b"-1", b"1e999", b"NaN", b"9" * 30, b"../", b"a." * 40, b"\n\n", b"\xe2\x80\xae", b"\x1b[2J", b"0x", b"-0.0", b"[[", b"]]", b"=", b"\xf0\x9f\x98\x80"]  # fmt: skip


def changed(chance: random.Random, seed: bytes, other: bytes) -> bytes:
    """A seed with one to six changes: bits, bytes, words, pieces dropped, doubled, or taken from another."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        span = chance.choice([1, 2, 4, 8, 64])
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + span] = chance.randbytes(span)
            case 2:
                data[at:at] = chance.choice(WORDS) * chance.choice([1, 1, 1, 50, 1500])
            case 3:
                del data[at : at + span]
            case 4:
                data[at:at] = data[at : at + span] * chance.choice([1, 2, 300])
            case 5:
                start = chance.randint(0, len(other))
                data[at : at + span] = other[start : start + span]
            case _:
                data[at : at + span] = chance.choice([b"\0", b"\xff", b"0", b"9"]) * span
    return bytes(data[:MAX_INPUT])


def inputs(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """Without end, the same for the same seed: the seeds, raw bytes, and changed seeds."""
    chance = random.Random(seed)
    yield from seeds
    yield from (b"", b"\0", b"{}", b"[" * 20_000, b'{"a":' * 5_000, b"\xff" * 8, b"a." * 9_000 + b"a=1")
    while True:
        one = chance.choice(seeds)
        yield (
            chance.randbytes(chance.randint(0, 300))
            if chance.random() < 0.05
            else changed(chance, one, chance.choice(seeds))
        )


def limited() -> None:
    """A hang is an exception and no memory without end."""

    def hang(*_: object) -> None:
        raise TimeoutError(f"more than {PER_INPUT} s for one input")

    signal.signal(signal.SIGALRM, hang)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY + (4 << 30), resource.RLIM_INFINITY))  # threads reserve, too


def plain(name: str, seconds: float, seed: int) -> int:
    """Seeded changes until the time is over; the number of inputs. A crash is raised, its input kept."""
    from fuzz.targets import TARGETS

    target, end, done = TARGETS[name], time.monotonic() + seconds, 0
    limited()
    for data in inputs(target.seeds(), seed):
        signal.alarm(PER_INPUT)
        try:
            target.run(data)
        except BaseException:
            FOUND.mkdir(exist_ok=True)
            (FOUND / f"{name.replace(' ', '-')}-{seed}-{done}").write_bytes(data)
            raise
        finally:
            signal.alarm(0)
        done += 1
        if time.monotonic() > end:
            return done
    return done


def guided(name: str, seconds: float) -> None:
    """The same by coverage; libFuzzer prints its own figures and exits."""
    import atheris

    with atheris.instrument_imports(include=["souq", "tomllib", "sshsig", "gguf"]):
        from fuzz.targets import TARGETS

    target = TARGETS[name]
    corpus = Path(tempfile.mkdtemp(prefix="souq-corpus-"))
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    FOUND.mkdir(exist_ok=True)
    flags = [
        f"-max_total_time={seconds:.0f}",
        f"-timeout={PER_INPUT}",
        f"-rss_limit_mb={MEMORY >> 20}",
        f"-max_len={MAX_INPUT}",
    ]
    flags += [f"-artifact_prefix={FOUND}/{name.replace(' ', '-')}-", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], target.run)
    atheris.Fuzz()


def main() -> int:
    ask = argparse.ArgumentParser(description="Fuzz every parser, each in a process of its own.")
    ask.add_argument("targets", nargs="*", help="all where none is named")
    ask.add_argument("--seconds", type=float, default=600, help="for each parser")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--plain", action="store_true", help="without atheris")
    ask.add_argument("--one", action="store_true", help="in this process")
    told = ask.parse_args()
    use = "plain" if told.plain or find_spec("atheris") is None else "guided"
    if told.one:
        try:
            guided(told.targets[0], told.seconds) if use == "guided" else print(
                f"{plain(told.targets[0], told.seconds, told.seed):,} inputs"
            )
        except Exception:
            traceback.print_exc()
            return 1
        return 0
    from fuzz.targets import TARGETS

    wrong = []
    for name in told.targets or TARGETS:
        words = [
            sys.executable,
            "-m",
            "fuzz.run",
            name,
            "--one",
            "--seconds",
            str(told.seconds),
            "--seed",
            str(told.seed),
        ]
        done = subprocess.run(
            [*words, *(["--plain"] if use == "plain" else [])], capture_output=True, text=True, check=False
        )
        said = (done.stderr + done.stdout).splitlines()
        runs = next((line.split()[-1] for line in said if "number_of_executed_units" in line), None)
        print(
            f"{name:16} {'ok' if done.returncode == 0 else 'CRASH'}  {runs + ' inputs' if runs else said[-1] if said else ''}",
            flush=True,
        )
        if done.returncode:
            wrong.append(name)
            print("\n".join(said[-30:]), flush=True)
    print(f"{len(told.targets or TARGETS) - len(wrong)}/{len(told.targets or TARGETS)} parsers held ({use})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a repository costs as its model and its history grow: predicted from small ones, and measured on larger ones.

Two models of the cost, both of counts. What is done to every byte of a checkpoint (init, push, a build from this disk or from S3)
takes `a + b x bytes`: two small checkpoints of 8B shapes (`scale.py`) give a and b, the larger ones are predicted. A
history is judged landing by landing, and each landing's tree lists all before it: `a + b n + c n^2` seconds, from three
short histories (`many.py`). Then the same lines to 405 billion parameters, with what a disk and a network could do.

    python bench/scaling.py FOLDER 2 6 32 100 1000 3000 10000     # layers, then contributions; 40 GB and half an hour
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import many  # noqa: E402
from machine import describe  # noqa: E402
from souq.chart import Curve, line_chart  # noqa: E402

VERBS = ("init", "push", "build", "build from S3")
SIZES = {"0.1B": 0.135e9, "1B": 1e9, "8B": 8e9, "70B": 70e9, "405B": 405e9}
BYTES = 2  # of a number, bfloat16
RATES = {"a disk at 2 GB/s": 2e9, "10 Gbit/s": 1.25e9, "1 Gbit/s": 0.125e9}  # that each byte of it passes once
LONG = 100  # more than that is a history's length, and not a number of layers


def point(folder: Path, layers: int) -> dict[str, float]:
    """Seconds of each verb on a checkpoint of 8B shapes with so many layers."""
    words = [sys.executable, Path(__file__).with_name("scale.py"), folder / f"layers{layers}", str(layers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    print(done.stdout.rpartition("POINT")[0], flush=True)
    found: dict[str, float] = json.loads(done.stdout.rpartition("POINT ")[2])
    return found


def judged(folder: Path, count: int) -> float:
    """Seconds in which a history of so many contributions is judged, on one core."""
    if not (place := folder / f"r{count}").is_dir():
        many.write(place, count)
    took = []
    for _ in range(2):
        begun = time.perf_counter()
        words = ["taskset", "-c", "1", many.SOUQ, "verify", "--no-rebuild", "--json"]
        subprocess.run(words, cwd=place, stdout=subprocess.DEVNULL, check=True)
        took.append(time.perf_counter() - begun)
    return min(took)


def fitted(x: Sequence[float], y: Sequence[float], degree: int) -> list[float]:
    """Coefficients, the constant first, of the curve through the first degree + 1 points."""
    powers, seconds = np.vander(x[: degree + 1], degree + 1, increasing=True), np.array(y[: degree + 1])
    return [
        *nnls(powers / powers.max(axis=0), seconds)[0] / powers.max(axis=0)
    ]  # no part of it costs less than nothing


def at(coefficients: Sequence[float], x: float) -> float:
    return sum(c * x**k for k, c in enumerate(coefficients))


def shown(name: str, unit: str, x: Sequence[float], y: Sequence[float], degree: int) -> list[float]:
    """The curve, with what it says of the points that it was not made from."""
    curve = fitted(x, y, degree)
    for here, took in list(zip(x, y, strict=True))[degree + 1 :]:
        said = at(curve, here)
        print(f"{name:14} {here:9,.4g} {unit}: predicted {said:7.1f} s, measured {took:7.1f} s, {said / took:.2f}")
    return curve


def pictures(folder: Path, curves: Mapping[str, list[float]], points: Sequence[Mapping[str, float]]) -> None:
    """Hours over parameters; measured points end the drawn lines, and lines beyond them are said to be extrapolated."""
    numbers = tuple(float(n) for n in np.geomspace(0.1e9, 405e9, 40))
    lines = [
        Curve(name=verb, x=numbers, y=tuple(at(curves[verb], BYTES * n) / 3600 for n in numbers)) for verb in VERBS
    ]
    lines += [
        Curve(name=name, x=numbers, y=tuple(BYTES * n / rate / 3600 for n in numbers)) for name, rate in RATES.items()
    ][:2]
    last = max(point["bytes"] for point in points) / BYTES
    marks = [(last, "measured up to here")]
    text = line_chart(lines, across="parameters", up="hours", logs=True, marks=marks)
    (folder / "scaling.svg").write_text(text)


def main() -> None:
    folder, counts = Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]
    folder.mkdir(parents=True, exist_ok=True)
    layers, histories = [n for n in counts if n < LONG], [n for n in counts if n >= LONG]
    print(describe(), flush=True)
    if histories:
        seconds = [judged(folder, count) for count in histories]
        for count, took in zip(histories, seconds, strict=True):
            print(f"{count:,} contributions judged in {took:.2f} s", flush=True)
        shown("history", "contributions", [float(n) for n in histories], seconds, 2)
    if layers:
        points = [point(folder, n) for n in layers]
        curves = {}
        for verb in VERBS:
            curves[verb] = shown(verb, "bytes", [p["bytes"] for p in points], [p[verb] for p in points], 1)
        for name, numbers in SIZES.items():
            hours = ", ".join(f"{verb} {at(curves[verb], BYTES * numbers) / 60:,.1f}" for verb in VERBS)
            floors = ", ".join(f"{words} {BYTES * numbers / rate / 60:,.1f}" for words, rate in RATES.items())
            print(f"{name:>5}: minutes of {hours}; every byte once through {floors}")
        pictures(folder, curves, points)


if __name__ == "__main__":
    main()

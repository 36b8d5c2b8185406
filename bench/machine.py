"""One line about the machine a figure was measured on, and a fair way to time two things in turn."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def describe() -> str:
    """Processor, cores, whether it has AVX-512 and bf16, Python, and how busy it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    wide = f"{'' if 'avx512f' in flags else 'no '}AVX-512, {'' if 'avx512_bf16' in flags else 'no '}bf16"
    python = f"Python {platform.python_version()}, {platform.system()}"
    return f"{model}, {os.cpu_count()} cores, {wide}, {python}, load {os.getloadavg()[0]:.1f}"


def in_turn(ours: Callable[[], object], theirs: Callable[[], object], runs: int = 5) -> tuple[float, float, float]:
    """Median seconds of each, run A B A B, and the median of the pairs' ratios ours / theirs."""
    a, b = [], []
    for _ in range(runs):
        for function, into in ((ours, a), (theirs, b)):
            begun = time.perf_counter()
            function()
            into.append(time.perf_counter() - begun)
    return statistics.median(a), statistics.median(b), statistics.median(x / y for x, y in zip(a, b, strict=True))

"""What reading may cost: the seconds and the memory that a verb has, whatever it is given to read.

Sizes are bounded where something is read; this bounds the work, for what is small and still never ends. Time is
counted by a clock that interrupts: a loop need not ask. Nothing is half done then, since what reads writes nothing.

    with Budget(seconds=120, megabytes=4_096).held("souq status"):
        ...   # raises Spent
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS, MEGABYTES = "SOUQ_SECONDS", "SOUQ_MEGABYTES"
TICK = 0.5  # seconds from one look at memory to the next


class Spent(BaseException):
    """A budget is spent. No error of the house: who goes on after what one hostile offer raises does not go on here."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Budget:
    """The seconds and the memory that something may take; 0 is without end."""

    seconds: float
    megabytes: float

    def raised(self) -> Budget:
        """As the person who types has it, who may have set one of them."""
        return Budget(_number(SECONDS, self.seconds), _number(MEGABYTES, self.megabytes))

    @contextmanager
    def held(self, what: str) -> Iterator[None]:
        """Hold what is done inside to it.

        Raises:
            Spent: it took more.
        """
        ticks = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        if not ticks or not (self.seconds or self.megabytes):
            yield
            return
        begun = time.monotonic()

        def look(signum: int, frame: FrameType | None) -> None:
            spent, used = time.monotonic() - begun, resident()
            if self.seconds and spent > self.seconds:
                raise Spent(f"{what} has taken its {self.seconds:,.0f} seconds", _hint(SECONDS, self.seconds))
            if self.megabytes and used > self.megabytes:
                raise Spent(f"{what} has taken its {self.megabytes:,.0f} MB", _hint(MEGABYTES, self.megabytes))

        before, clock = signal.signal(signal.SIGALRM, look), signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *clock)  # whoever else had set it


def _hint(name: str, most: float) -> str:
    return f"is it as large as that? `{name}={most * 10:,.0f}`".replace(",", "") + " before the command allows more"


def _number(name: str, default: float) -> float:
    try:
        return max(0.0, float(os.environ.get(name, default)))
    except ValueError:
        return default


def resident() -> float:
    """The megabytes this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    except (OSError, ValueError, IndexError):
        return 0.0


def memory_left() -> float:
    """The bytes that are free here, and that this process may have; infinite where the system does not say."""
    left = float("inf")
    try:
        facts = Path("/proc/meminfo").read_text().splitlines()
        left = next(int(line.split()[1]) * 1024.0 for line in facts if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        pass
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        return left if most == resource.RLIM_INFINITY else min(left, float(most - held))
    except (ImportError, OSError, ValueError):
        return left


def drained(stream: Any, most: int, seconds: float) -> bytes:
    """What a stream still has to say, up to `most` bytes, where it comes in time: one that drips has no timeout.

    Raises:
        TimeoutError: it takes longer.
    """
    parts, begun = list[bytes](), time.monotonic()
    while most > 0 and (part := stream.read1(min(most, 1 << 16))):
        parts.append(part)
        most -= len(part)
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"an answer takes longer than {seconds:.0f} seconds to arrive")
    return b"".join(parts)

"""Who is at work in a clone: a verb shares a lock on it while it runs, and gc waits until it holds that lock alone.

So nothing is removed that somebody has just looked up, or put and not yet named. The lock ends with its process.

    enter(repo.git_dir)       # what every verb does
    alone(repo.git_dir, lambda: done("waiting"))
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

_HELD: dict[Path, int] = {}


def enter(folder: Path) -> None:
    """Be at work there until the verb ends."""
    if folder in _HELD:
        return
    with suppress(OSError):  # a file system without locks
        _HELD[folder] = os.open(folder, os.O_RDONLY)
        fcntl.flock(_HELD[folder], fcntl.LOCK_SH)
        if (context := click.get_current_context(silent=True)) is not None:
            context.find_root().call_on_close(lambda: leave(folder))


def leave(folder: Path) -> None:
    """Be at work there no more: what only watches keeps nobody waiting."""
    if (lock := _HELD.pop(folder, None)) is not None:
        os.close(lock)


def alone(folder: Path, wait: Callable[[], object]) -> None:
    """Wait until nobody else is at work there; `wait` is called where somebody is."""
    if (lock := _HELD.get(folder)) is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        wait()
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return

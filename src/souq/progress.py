"""How long work reports where it stands; who shows it is the caller's business.

>>> list(tracked([1, 2], "counting", lambda label, done, total: None))
[1, 2]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""Called as progress(label, done, total), in the work's own units; what follows a comma in a label may change."""


def quiet(label: str, done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def step(label: str, progress: Progress) -> Iterator[None]:
    """Around work that does not say how far it is: its name is shown before it begins."""
    progress(label, 0, 1)
    yield
    progress(label, 1, 1)


def tracked(items: Sequence[T], label: str, progress: Progress = quiet) -> Iterator[T]:
    """The items, one by one, reported as they are finished."""
    for done, item in enumerate(items):
        progress(label, done, len(items))
        yield item
    progress(label, len(items), len(items))

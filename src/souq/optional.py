"""What may be absent: the libraries of an optional part.

with needs("peft", "lab"):
    import peft                     # Missing: peft is not installed; run `pip install "souq[lab]"`
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from souq.errors import Missing


@contextmanager
def needs(library: str, extra: str) -> Iterator[None]:
    """An import that fails inside is answered with the part of souq that brings the library.

    Raises:
        Missing: the library is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise Missing(f"{library} is not installed", hint=f'run `pip install "souq[{extra}]"`') from error


def installed_version(name: str, absent: str = "absent") -> str:
    """A distribution's version, found out without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return absent

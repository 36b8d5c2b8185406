"""What may be absent: the libraries of an optional part.

with needs("peft", "lab"):
    import peft                     # Missing: peft is not installed; run `pip install "souq[lab]"`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires, version

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


def missing_part(error: ImportError) -> Missing | None:
    """What to type for a library that was not found: the first part of souq that brings it; None where none does."""
    module = (error.name or "").partition(".")[0]
    brought = (re.match(r"([\w.\-]+).*; extra == [\"'](\w+)[\"']", line) for line in requires("souq") or ())
    parts = {match[1].replace("-", "_"): match[2] for match in reversed([*brought]) if match}
    if module not in parts:
        return None
    return Missing(f"{module} is not installed", hint=f'run `pip install "souq[{parts[module]}]"`')


def installed_version(name: str, absent: str = "absent") -> str:
    """A distribution's version, found out without importing it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return absent

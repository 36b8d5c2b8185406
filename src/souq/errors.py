"""One exception tree: broken things say what is wrong and what to type next.

"No" is a value (a Verdict, a Decision); only what cannot be answered is raised.

    >>> raise NotFound("no tensor b3:12ab", hint="run `souq fetch`")
    Traceback (most recent call last):
    souq.errors.NotFound: no tensor b3:12ab
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SouqError(Exception):
    """Something is broken. `hint` is what a person can type next; `exit_code` is the shell's."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(SouqError):
    """The words of a command or a file people write are off."""

    exit_code = 2


class NotFound(SouqError):
    """A file, tensor, pull request or person that was named is not there."""


class Hostile(SouqError):
    """A file from outside breaks the rules of its format; nothing of it was kept."""


class Corrupt(SouqError):
    """Our own bytes no longer match their digest."""


class Forged(SouqError):
    """A signature does not hold, or a record says something its signer did not."""


class Missing(SouqError):
    """An optional part (torch, transformers, pyarrow …) is not installed."""


class Refused(SouqError):
    """The answer is no: a rule was asked and it said so."""

    exit_code = 3


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known word, or nothing."""
    words = list(known)
    near = [each for each in words if sorted(each) == sorted(word)] or get_close_matches(word, words, 1, 0.5)  # stauts
    return f" (did you mean {near[0]!r}?)" if near else ""

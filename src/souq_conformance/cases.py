"""What a case is: a function that builds a history, and what a verifier has to say about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from souq_conformance.town import Town

Build = Callable[[Town], None]


@dataclass(frozen=True)
class Case:
    """One history; `reason` is why it must be rejected, "" where it must be accepted."""

    name: str
    says: str
    build: Build
    reason: str = ""
    also: tuple[str, ...] = ()  # what else may be said of the same fault


CASES: dict[str, Case] = {}


def bad(reason: str, *also: str) -> Callable[[Build], Build]:
    """A history that must be rejected for this reason; the function's name and docstring are the case's."""

    def keep(build: Build) -> Build:
        _add(build, reason, also)
        return build

    return keep


def good(build: Build) -> Build:
    """A history that must be accepted."""
    _add(build, "", ())
    return build


def _add(build: Build, reason: str, also: tuple[str, ...]) -> None:
    name = build.__name__.replace("_", "-")
    assert name not in CASES, name
    says = (build.__doc__ or "").strip()
    CASES[name] = Case(name, says, build, reason, also)

"""Names of a package that are loaded when they are first used, so that importing the package costs nothing.

__getattr__ = lazily(__name__, {"souq.pulls.offer": ("Draft", "create")})   # PEP 562
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """A module's `__getattr__`: each name from the module that is its home; "" is the package's own module of that name."""
    home = {name: module for module, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name) if home[name] else import_module(f"{package}.{name}")

    return __getattr__

"""Names of a package that are loaded when they are first used, so that importing the package costs nothing.

__getattr__ = lazily(__name__, {"souq.pulls.offer": ("Draft", "create")})   # PEP 562
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """A package's `__getattr__`: each name is taken from the module that is its home.

    Where the home is "", the name is that of a module in the package. A name without a home is an AttributeError.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name) if home[name] else import_module(f"{package}.{name}")

    return __getattr__

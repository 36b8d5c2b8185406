"""HTML and SVG from templates, which lie in the package beside the module that fills them.

Every text is somebody's: it is escaped, and characters that steer a terminal or turn writing around are spelled out.

    rendered("audit/badge.svg", text="12 of 14", colour="#009e73", ink="#fff")
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from souq.records import spelled_out

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(template: str, **facts: Any) -> str:
    """The template of this name under `souq/`, filled; a fact that it names and does not get is an error."""
    return _environment().get_template(template).render(facts)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # slow to load, and few verbs draw

    loader = PackageLoader("souq", ".")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )


def _shown(value: Any) -> Any:
    return spelled_out(value) if type(value) is str else value  # what is marked as markup is ours, and stays

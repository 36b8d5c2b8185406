"""Long lists in pages, each with the address of the next in its `Link` header, as clients follow it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from starlette.requests import Request

from souq.hub.problems import Problem


def number(request: Request, name: str, default: int, most: int) -> int:
    """A number in the address, at most `most`.

    Raises:
        Problem: it is none.
    """
    text = request.query_params.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise Problem(400, "BadRequest", f"{name} is a number from 0 to {most:,}, not {text[:40]!r}")
    return min(int(text), most)


def is_true(request: Request, name: str) -> bool:
    """Whether an option is set: clients write `true`, Python's own say `True`."""
    return request.query_params.get(name, "").lower() in ("true", "1")


def next_page(request: Request, changes: Mapping[str, str]) -> dict[str, str]:
    """The header that says where the next page is: this address with some of its parameters otherwise."""
    path = quote(request.scope.get("raw_path", b"").decode("ascii", "replace"), safe="/%:@!$&()*+,;=~")
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in changes]
    query = urlencode([*kept, *changes.items()])
    return {"Link": f'<{request.url.scheme}://{request.url.netloc}{path}?{query}>; rel="next"'}

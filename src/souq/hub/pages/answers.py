"""How a page is answered: as it was made, with the tag by which a browser knows it; or why there is none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from souq.errors import NotFound, SouqError
from souq.hub.once import Busy
from souq.hub.pages.render import hub_page

# Stricter than what every answer of a hub has: few pages have a form, and none a script.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
T = TypeVar("T")


class Made(bytes):
    """A page as it is sent, with the tag by which a browser knows it."""

    tag: str

    @classmethod
    def of(cls, page: str | bytes) -> Made:
        made = cls(page.encode() if isinstance(page, str) else page)
        made.tag = f'"{hashlib.sha256(made).hexdigest()[:32]}"'
        return made


def answer_with(
    request: Request, made: Made, kind: str = "text/html", *, cache: str = "no-cache", policy: str = POLICY
) -> Response:
    """A page, or that the browser has it."""
    headers = {"etag": made.tag, "cache-control": cache, "content-security-policy": policy}
    if made.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(made, media_type=kind, headers=headers)


def sorry(error: SouqError, back: str = "") -> Response:
    """Why there is no page, and where to go on."""
    title, status, headers = "This cannot be read", 409, dict[str, str]()
    if isinstance(error, Busy):
        title, status, headers = "In a moment", 503, {"retry-after": "3", "refresh": "3"}
    elif isinstance(error, NotFound):
        title, status = "There is no such page", 404
    because = (
        f"The repository is being read: this page comes by itself ({error})."
        if status == 503
        else placeless(str(error))
    )
    facts = {"title": title, "because": because, "next": back or "/", "words": "go back" if back else "the models"}
    return Response(
        hub_page("no", facts),
        status,
        headers | {"cache-control": "no-store", "content-security-policy": POLICY},
        "text/html",
    )


def placeless(text: str) -> str:
    """A message without the folders of this machine in it; the last name of each path stays."""
    return re.sub(r"(?<![\w.:/])/(?:[^/\s]+/)+", "", text)


def shared(request: Request, name: str, make: Callable[[], T]) -> T:
    """What an application has once, made when it is first asked for; requests are answered by one thread."""
    if not hasattr(request.app.state, name):
        setattr(request.app.state, name, make())
    kept: T = getattr(request.app.state, name)
    return kept

"""The cookies of a hub: one of a browser that is signed in, one of a browser that was given a form.

No script reads them, no other site's page has them sent, and over TLS no other host can set them.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from souq.hub.accounts.sessions import DAYS


def cookie_name(request: Request, kind: str = "session") -> str:
    """A browser takes a name that begins so only from this very host, and over TLS."""
    return f"__Host-souq-{kind}" if _is_safe(request) else f"souq-{kind}"


def remember(response: Response, request: Request, cookie: str) -> None:
    """Have the browser know the cookie by which its forms are known."""
    _set(response, request, cookie_name(request, "visitor"), cookie, None)


def let_in(response: Response, request: Request, cookie: str) -> None:
    """Have the browser be signed in; whatever cookie it had before opens nothing."""
    _set(response, request, cookie_name(request), cookie, DAYS * 86_400)
    _forget(response, request, cookie_name(request, "visitor"))


def let_out(response: Response, request: Request) -> None:
    """Have the browser forget that it was signed in."""
    _forget(response, request, cookie_name(request))


def _is_safe(request: Request) -> bool:
    return request.url.scheme == "https"


def _set(response: Response, request: Request, name: str, value: str, age: int | None) -> None:
    response.set_cookie(name, value, max_age=age, path="/", secure=_is_safe(request), httponly=True, samesite="lax")


def _forget(response: Response, request: Request, name: str) -> None:
    response.delete_cookie(name, path="/", secure=_is_safe(request), httponly=True, samesite="lax")

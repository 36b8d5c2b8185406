"""What people see of a hub in a browser: so far the list of its repositories."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Route

from souq.markup import rendered


def routes() -> list[BaseRoute]:
    """Where each page is."""
    return [Route("/", index)]


def index(request: Request) -> HTMLResponse:
    """The repositories, and what is wrong with those that cannot be read."""
    return HTMLResponse(rendered("hub/templates/index.html", entries=request.app.state.catalog.entries()))

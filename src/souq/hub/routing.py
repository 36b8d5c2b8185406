"""Where an answer is, with its refusals sent as those who ask understand them.

route("/api/models", models, "GET")
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from souq.errors import SouqError
from souq.hub.plain.shelf import Kind
from souq.hub.problems import Problem, of_error

Endpoint = Callable[[Request], Awaitable[Response]]


def route(path: str, endpoint: Endpoint, *methods: str, kind: Kind = "models") -> Route:
    """An answer at a path, about models where it is not said otherwise."""

    async def answer(request: Request) -> Response:
        try:
            request.path_params["kind"] = kind
            return await endpoint(request)
        except Problem as problem:
            return problem.response
        except SouqError as error:
            return of_error(error).response

    return Route(path, answer, methods=list(methods or ("GET",)))

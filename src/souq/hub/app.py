"""The hub as an application for any ASGI server: pages for people, and the API of Hugging Face's clients.

application(Catalog(Path("/srv/models")), Path("/srv/hub-data"))
"""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware

from souq.hub import huggingface
from souq.hub.catalog import Catalog
from souq.hub.headers import SecurityHeaders
from souq.hub.pages import routes as pages


def application(catalog: Catalog, data: Path) -> Starlette:
    """A hub of these repositories; `data` is a folder for what it keeps, all of which can be made again.

    `app.state.catalog` and `app.state.data` are what its routes read.
    """
    app = Starlette(routes=[*huggingface.routes(), *pages.routes()], middleware=[Middleware(SecurityHeaders)])
    app.state.catalog, app.state.data = catalog, data
    return app

"""The hub as an application for any ASGI server: pages for people, and the API of Hugging Face's clients.

application(Catalog(Path("/srv/models")), Path("/srv/hub-data"))
"""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware

from souq.hub import huggingface
from souq.hub.accounts.store import Accounts
from souq.hub.catalog import Catalog
from souq.hub.database import Database, url_in
from souq.hub.discussions.store import Discussions
from souq.hub.headers import SecurityHeaders
from souq.hub.pages import routes as pages
from souq.signing import Person


def application(catalog: Catalog, data: Path, person: Person | None = None, database: str = "") -> Starlette:
    """A hub of these repositories; `data` is a folder for what it keeps, `database` a URL where not a file in it.

    All but the database can be made again. Where somebody enrolled runs it, `person` signs how the releases were made,
    as `souq release export` does.
    """
    app = Starlette(routes=[*huggingface.routes(), *pages.routes()], middleware=[Middleware(SecurityHeaders)])
    app.state.catalog, app.state.huggingface = catalog, huggingface.hub(catalog, data, person)
    known = Database(database or url_in(data))
    app.state.accounts, app.state.discussions = Accounts(known), Discussions(known)
    return app

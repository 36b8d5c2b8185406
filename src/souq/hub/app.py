"""The hub as an application for any ASGI server: pages for people, and the API of Hugging Face's clients.

application(Catalog(Path("/srv/models")), Path("/srv/hub-data"))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware

from souq.hub import huggingface
from souq.hub.accounts import pages as accounts
from souq.hub.accounts.store import Accounts
from souq.hub.catalog import Catalog
from souq.hub.database import Database, url_in
from souq.hub.discussions.store import Discussions
from souq.hub.git import routes as git
from souq.hub.headers import SecurityHeaders
from souq.hub.jobs import pages as jobs
from souq.hub.jobs.store import Jobs
from souq.hub.likes import Likes
from souq.hub.limits import Gate, Limits
from souq.hub.pages import routes as pages
from souq.hub.reports import pages as reports
from souq.hub.reports.store import Reports
from souq.hub.running import health
from souq.hub.tensors import routes as tensors
from souq.hub.tensors.waiting import Pointed, Uploads
from souq.signing import Person


@dataclass(frozen=True)
class Ways:
    """How a hub is run."""

    database: str = ""  # a URL; a file in the hub's folder unless told
    url: str = ""  # where it is reached, as its owner says
    is_open: bool = False  # anybody may register
    takes_bugs: bool = False  # anybody may report one


def application(catalog: Catalog, data: Path, person: Person | None = None, ways: Ways = Ways()) -> Starlette:
    """A hub of these repositories; `data` is a folder for what it keeps, all of which can be made again but accounts.

    Where somebody enrolled runs it, `person` signs how the releases were made, as `souq release export` does.
    """
    limits = Limits()
    routes = [
        *health.routes(), *huggingface.routes(), *git.routes(), *tensors.routes(), *accounts.routes(), *jobs.routes(),
        *reports.routes(), *pages.routes(),
    ]  # fmt: skip
    app = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders), Middleware(Gate, limits=limits)])
    app.state.catalog, app.state.huggingface = catalog, huggingface.hub(catalog, data, person)
    known = Database(ways.database or url_in(data))
    app.state.accounts, app.state.discussions = Accounts(known), Discussions(known)
    app.state.likes = Likes(known)
    app.state.jobs, app.state.reports, app.state.takes_bugs = Jobs(known), Reports(known), ways.takes_bugs
    app.state.uploads, app.state.pointed = Uploads(app.state.huggingface.incoming), Pointed()
    app.state.limits, app.state.url, app.state.is_open = limits, ways.url.rstrip("/"), ways.is_open
    return app

"""What a hub was started with, and the application made from it in every process.

Processes get it by an environment variable, as uvicorn starts each by the name of what makes the application: APP.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from souq.errors import UsageError
from souq.hub.app import Ways, application
from souq.hub.catalog import Catalog
from souq.hub.running.observed import Observed, logging_as_json
from souq.records import Record
from souq.signing import Person, private_of

VARIABLE = "SOUQ_HUB_SETTINGS"
APP = "souq.hub.running.settings:create"
_URL = re.compile(r"(https?)://([A-Za-z0-9.\-]{1,253}|\[[0-9a-fA-F:]{2,45}\])(?::(\d{1,5}))?/?")


class Settings(Record, frozen=True):
    """What was typed."""

    repos: str
    data: str
    key: str = ""
    ways: Ways = Ways()
    logs: bool = False

    def refuse_odd(self) -> None:
        """Say no to an address that is none.

        Raises:
            UsageError: it is none, or has a path.
        """
        if self.ways.url and not _URL.fullmatch(self.ways.url):
            raise UsageError(f"no address of a hub: {self.ways.url[:120]!r}", hint="https://hub.example, with no path")

    def publish(self) -> None:
        """Have every process that is started from here find it."""
        os.environ[VARIABLE] = msgspec.json.encode(self).decode()


def create() -> ASGIApp:
    """The application, in a process that found its settings."""
    settings = msgspec.json.decode(os.environ[VARIABLE], type=Settings)
    if settings.logs:
        logging_as_json()
    person = Person(name="the hub", email="", key=private_of(Path(settings.key))) if settings.key else None
    app = application(Catalog(Path(settings.repos)), Path(settings.data), person, settings.ways)
    return Observed(_Addressed(app, settings.ways.url) if settings.ways.url else app, logs=settings.logs)


class _Addressed:
    """An application that knows the address people reach it by, whatever a proxy in front of it tells."""

    def __init__(self, app: ASGIApp, url: str) -> None:
        self._app = app
        match = _URL.fullmatch(url)
        assert match is not None
        self._scheme, self._host = match[1], match[2] + (f":{match[3]}" if match[3] else "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "scheme": self._scheme, "headers": [(b"host", self._host.encode()), *others]}
        await self._app(scope, receive, send)

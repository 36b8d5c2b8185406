"""A hub that really runs, on loopback, over a town that has a release, a pull request in main and an open one."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from souq.hub.accounts.trail import OPERATOR
from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.pulls import pull as pulls
from tests.bazaar import Bazaar, copied
from tests.kitchen import Parrot, cook

NAME = "atlas/smol"
ALL_KILLS = "SOUQ_TEST_KILLS" in os.environ  # `make hub-kills`: all that are promised; else a few of each kind


@dataclass(frozen=True)
class Town:
    """What the hub shows, and what stands where."""

    bazaar: Bazaar
    shelf: Path
    merged: int
    open: int
    hostile: int


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Site:
    """A hub at a URL."""

    def __init__(self, url, app, town):
        self.url, self.app, self.town = url, app, town
        self._tokens = {}

    def token(self, name, scope="write"):
        """A token of somebody's, who has an account from now on."""
        accounts = self.app.state.accounts
        if name not in {account.name for account in accounts.every()}:
            accounts.add(name, by=OPERATOR)
        if (name, scope) not in self._tokens:
            self._tokens[name, scope] = accounts.mint(name, by=OPERATOR, scope=scope)[0]
        return self._tokens[name, scope]

    def ask(self, path, method="GET", data=None, **headers):
        """An answer, whatever its status; the path is sent as it stands."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, dict(answer.headers.items()), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers.items()), error.read())


@contextmanager
def serving(app):
    """An application at a free port, by the server that `souq hub` uses."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def eventually(ask, seconds=60):
    """What is asked for, as soon as it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := ask():
            return answer
        time.sleep(0.02)
    raise AssertionError("it did not come")


def person_of(bazaar):
    return bazaar.person("amira")


@pytest.fixture(scope="session")
def hub_town(built_bazaar, tmp_path_factory):
    """Greetings landed, 1.0 released, counting offered, and one whose numbers are no numbers."""
    folder = tmp_path_factory.mktemp("hub")
    bazaar = copied(built_bazaar, folder / "town")
    bazaar.land(merged := bazaar.offer("chen", bazaar.delta("greet")))
    bazaar.release("amira", "1.0")
    waiting = bazaar.offer("chen", bazaar.delta("count"), "Counting <b>", fixes="count")
    bad = bazaar.changed(folder / "bad.delta", lambda array: array * float("nan"))
    hostile = bazaar.offer("mallory", bad, "Nothing at all")
    shelf = folder / "shelf"
    (shelf / "atlas").mkdir(parents=True)
    (shelf / "atlas" / "smol.git").symlink_to(folder / "town" / "hub.git")
    assert len(pulls.listed(bazaar.repo("amira"))) >= hostile - 1
    return Town(bazaar, shelf, merged, waiting, hostile)


@pytest.fixture(scope="session")
def site(hub_town, tmp_path_factory):
    """The hub, started."""
    app = application(Catalog(hub_town.shelf), tmp_path_factory.mktemp("data"), hub_town.bazaar.person("amira"))
    with serving(app) as url:
        yield Site(url, app, hub_town)


@pytest.fixture
def library(kitchen, tmp_path_factory):
    """A hub with one corpus, and the corpus."""
    shelf = tmp_path_factory.mktemp("library")
    (shelf / "atlas").mkdir()
    cook(kitchen, Parrot())
    (kitchen / "corpus").rename(shelf / "atlas" / "cities")
    (shelf / "notes").mkdir()
    with serving(app := application(Catalog(shelf), tmp_path_factory.mktemp("data"))) as url:
        yield Site(url, app, None), shelf / "atlas" / "cities"


def raw(url, request):
    """What comes back for bytes that no client would send; "" where the server hangs up."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
            head, _, body = answer.partition(b"\r\n\r\n")
            if (length := re.search(rb"content-length: (\d+)", head, re.IGNORECASE)) and len(body) >= int(length[1]):
                break
    return answer


def online(url: str, home: Path) -> dict[str, str]:
    """The environment of one of Hugging Face's clients with an empty cache, whose hub is ours.

    Only what it needs: a test file may have told its own process to be offline.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}

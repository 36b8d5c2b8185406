"""Webhooks: what is new comes, signed, in order and once; what does not come is tried again, and nobody inside is asked."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import update

from souq.cli import run as type_in
from souq.errors import Refused, UsageError
from souq.hub.accounts.trail import OPERATOR
from souq.hub.catalog import Catalog
from souq.hub.database import Database
from souq.hub.database.tables import Hook
from souq.hub.webhooks import courier as couriers
from souq.hub.webhooks import store
from souq.hub.webhooks.courier import Courier
from souq.hub.webhooks.store import Hooks


class Listener:
    """A program that is told: what came, and what it answers."""

    def __init__(self):
        self.came, self.status = [], 200

    @property
    def news(self):
        return [json.loads(body) for _, body in self.came]


@contextmanager
def listening():
    told = Listener()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if told.status < 300:
                told.came.append((dict(self.headers.items()), body))
            self.send_response(told.status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}/souq?a=1"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hooks(database_url):
    database = Database(database_url)
    yield Hooks(database)
    database.close()


def soon(hooks):
    """What waits for its time waits no more."""
    with hooks._database.writing() as connection:
        connection.execute(update(Hook).values(due="2000-01-01T00:00:00Z"))


@pytest.fixture
def town(bazaar, tmp_path):
    (tmp_path / "shelf" / "atlas").mkdir(parents=True)
    (tmp_path / "shelf" / "atlas" / "smol.git").symlink_to(bazaar.folder / "hub.git")
    return bazaar, Catalog(tmp_path / "shelf")


def test_what_is_new_comes_signed_and_once(hooks, town):
    """Not what was there before; a pull request, then a vote; the signature is GitHub's; nothing comes again."""
    bazaar, catalog = town
    with listening() as program:
        hook = hooks.add(program.url, by=OPERATOR, repository="atlas/smol", is_internal=True)
        courier = Courier(hooks, catalog, "https://hub.example")
        assert courier.round()
        assert program.came == []
        number = bazaar.offer("chen", bazaar.delta("greet"))
        assert bazaar("amira", ["pr", "review", number, "--approve", "--reason", "fine"]) == 0
        for _ in range(3):
            soon(hooks)
            Courier(hooks, catalog, "https://hub.example").round()

        assert [news["event"] for news in program.news] == ["pulls", "verdicts"]
        assert program.news[0]["url"] == f"https://hub.example/atlas/smol/pulls/{number}"
        assert (program.news[1]["by"], program.news[1]["text"]) == ("amira", "fine")
        for headers, body in program.came:
            wanted = hmac.new(hook.secret.encode(), body, hashlib.sha256).hexdigest()
            assert headers["X-Hub-Signature-256"] == f"sha256={wanted}"


def test_what_does_not_come_is_tried_later_and_at_last_no_more(hooks, town, monkeypatch):
    bazaar, catalog = town
    with listening() as program:
        hooks.add(program.url, by=OPERATOR, is_internal=True, events=["pulls"])
        courier = Courier(hooks, catalog)
        courier.round()
        bazaar.offer("chen", bazaar.delta("greet"))
        program.status = 302  # whoever redirects is not followed
        soon(hooks)
        assert courier.round()
        failed = hooks.every()[0]
        assert (failed.tries, failed.because, program.came) == (1, "it was answered with 302", [])
        assert not courier.round(), "it waits before it is tried again"
        program.status = 204
        soon(hooks)
        courier.round()
        assert (len(program.came), hooks.every()[0].tries) == (1, 0)

        monkeypatch.setattr(store, "MOST_TRIES", 2)
        program.status = 500
        bazaar.offer("chen", bazaar.delta("count"))
        for _ in range(3):
            soon(hooks)
            courier.round()
        assert hooks.every()[0].ended
        assert not courier.round()


def test_of_two_couriers_one_carries(hooks, town):
    """Whoever has taken a hook has it alone, until the lease ends."""
    hooks.add("https://ci.example/", by=OPERATOR)

    assert hooks.take(60) is not None
    assert hooks.take(60) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://2130706433:{port}/", "http://0x7f.1:{port}/",
        "http://0.0.0.0:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
        "http://192.168.0.1/", "http://[fd00::1]/", "http://[64:ff9b::7f00:1]/", "http://100.64.0.1/",
    ],
)  # fmt: skip
def test_nobody_inside_is_asked(hooks, monkeypatch, url):
    """However the address is written; the owner alone may allow it."""
    monkeypatch.setattr(couriers, "PATIENCE", 0.5)
    with listening() as program:
        hook = hooks.add(url.format(port=program.url.split(":")[2].split("/")[0]), by=OPERATOR)
        assert couriers.deliver(hook, b"{}", "pulls", "x")
        assert program.came == []


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://ci.example/", "file:///etc/passwd", "https://", "https://a b/", "https://ci.example/\r\nX: y", "https://me:pass@ci.example/",
        "https://ci.example:0/", "https://ci.example:99999/", "https://ci.example/ä", "//ci.example/", "https://[::1", "https://ci.example/" + "x" * 600,
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(hooks, url):
    with pytest.raises(UsageError):
        hooks.add(url, by=OPERATOR)
    assert hooks.every() == []


def test_there_are_not_too_many(hooks, monkeypatch):
    monkeypatch.setattr(store, "MOST", 2)
    for _ in range(2):
        hooks.add("https://ci.example/", by=OPERATOR)
    with pytest.raises(Refused):
        hooks.add("https://ci.example/", by=OPERATOR)


def test_an_operator_adds_lists_and_removes_them_by_verbs(tmp_path, capfd):
    """The secret is shown once, and by no list."""
    data = ["--data", str(tmp_path)]
    assert type_in(["hub", "webhook", "add", "https://ci.example/", "--event", "releases", "--json", *data]) == 0
    made = json.loads(capfd.readouterr().out)
    assert made["secret"].startswith("souqhook_")
    assert type_in(["hub", "webhook", "list", "--json", *data]) == 0
    listed = capfd.readouterr().out
    assert made["secret"] not in listed
    assert json.loads(listed)[0]["events"] == "releases"
    assert type_in(["hub", "webhook", "remove", str(made["id"]), *data]) == 0
    assert type_in(["hub", "webhook", "remove", str(made["id"]), *data]) != 0

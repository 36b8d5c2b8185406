"""A stranger sends the address of a draft on a server of theirs: whoever types it sends no token there."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

TOKEN = "hf_secretsecretsecretsecret"


@pytest.fixture
def servers():
    """The hub of HF_ENDPOINT, which points everywhere else, and a stranger's; all that each heard."""
    heard = {}

    def serving(name, location):
        class Answers(BaseHTTPRequestHandler):
            def do_GET(self):
                heard[name].append(str(self.headers))
                self.send_response(302 if location else 404)
                if location:
                    self.send_header("Location", location)
                self.end_headers()

            def log_message(self, *words):
                pass

        heard[name] = []
        server = HTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    theirs = serving("stranger", "")
    ours = serving("ours", f"http://127.0.0.1:{theirs.server_port}/elsewhere")
    yield ours.server_port, theirs.server_port, heard
    for server in (ours, theirs):
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1:{theirs}", "localhost:{theirs}", "localhost:{ours}", "127.0.0.1.:{ours}"])
def test_a_link_takes_no_token_along(bazaar, servers, monkeypatch, host):
    ours, theirs, heard = servers
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{ours}")
    address = f"http://{host.format(ours=ours, theirs=theirs)}/atlas/smol/discussions/1000001"

    assert bazaar("chen", ["pr", "create", address, "--title", "x", "--licence", "CC0-1.0", "--signoff"]) != 0
    assert not [request for name in heard for request in heard[name] if TOKEN in request]


def test_nor_does_our_own_hub_hand_it_on(bazaar, servers, monkeypatch):
    """It is sent to the hub that HF_ENDPOINT names, and where that points to elsewhere it stays behind."""
    ours, _, heard = servers
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{ours}/")
    address = f"http://127.0.0.1:{ours}/atlas/smol/discussions/1000001"

    assert bazaar("chen", ["pr", "create", address, "--title", "x", "--licence", "CC0-1.0", "--signoff"]) != 0
    assert [request for request in heard["ours"] if TOKEN in request]
    assert heard["stranger"]
    assert not [request for request in heard["stranger"] if TOKEN in request]

"""Somebody who fetches and does not read: git waits for them, and so would whoever comes next."""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

from tests.test_hub_git import committed, git, url
from tests.test_hub_uploads import desk  # noqa: F401  # a fixture

from souq.hub.git import routes


def deaf(stack: ExitStack, site: str, name: str, oid: str) -> socket.socket:
    """A connection over which a fetch was asked for, whose answer is never read."""
    at = urlsplit(site)
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect((at.hostname, at.port))
    body = f"0032want {oid}\n00000009done\n".encode()
    head = f"POST /{name}/git-upload-pack HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_who_does_not_read_keeps_nobody_waiting(desk, tmp_path, monkeypatch):  # noqa: F811
    """As many as there is room for stop reading; soon there is room again."""
    monkeypatch.setattr(routes, "DEAF", 0.5)
    name, token = desk.new(), desk.site.token("amira")
    git(tmp_path, "clone", "--quiet", url(desk.site, name, token), "clone")
    committed(tmp_path / "clone", {f"{n}.bin": os.urandom(9 << 20) for n in range(2)})
    git(tmp_path / "clone", "push", "--quiet", "origin", "main")
    oid = git(tmp_path / "clone", "rev-parse", "HEAD").strip()
    with ExitStack() as stack:
        for _ in range(routes.MOST_AT_ONCE):
            deaf(stack, desk.site.url, name, oid)
        assert waited(lambda: routes._SLOTS.locked())
        assert waited(lambda: not routes._SLOTS.locked())
        git(tmp_path, "clone", "--quiet", url(desk.site, name), "another")


def waited(is_so) -> bool:
    """Whether something comes to be so within a minute."""
    until = time.monotonic() + 60
    while not is_so() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(is_so())

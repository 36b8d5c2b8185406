"""A server that stands before an S3 server and spoils what it is told to spoil."""

from __future__ import annotations

import http.client
import http.server
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit


class Spoiler:
    """What goes wrong: each a function of (method, path, how many requests came so far)."""

    def __init__(self, url):
        self.url, self.requests, self.sent, self.answered = url, 0, 0, 0
        self.lock = threading.Lock()
        self.heal()

    def heal(self):
        self.busy = self.cut = self.slow = lambda method, path, number: False
        self.swap = lambda path: path


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    spoiler: Spoiler

    def log_message(self, *_):
        pass

    def answer(self):
        spoiler = self.spoiler
        body = self._body(int(self.headers.get("Content-Length") or 0))
        with spoiler.lock:
            spoiler.requests += 1
            number = spoiler.requests
        if spoiler.busy(self.command, self.path, number):
            self._send(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        to = http.client.HTTPConnection(urlsplit(spoiler.url).netloc, timeout=60)
        to.request(self.command, spoiler.swap(self.path) if self.command == "GET" else self.path, body, dict(self.headers.items()))  # fmt: skip
        reply = to.getresponse()
        data = reply.read()
        headers = {k: v for k, v in reply.getheaders() if k.lower() not in ("transfer-encoding", "connection", "date", "server")}  # fmt: skip
        self._send(reply.status, headers, data, number)
        to.close()

    def _body(self, size):
        """What is sent, counted as it comes: of who is killed, too."""
        parts = []
        while size and (data := self.rfile.read1(min(size, 1 << 16))):
            with self.spoiler.lock:
                self.spoiler.sent += len(data)
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _send(self, status, headers, data, number=0):
        spoiler, large = self.spoiler, len(data) > 1000
        self.send_response(status)
        headers = {k: v for k, v in headers.items() if k.lower() != "content-length"} | {} if self.command != "HEAD" else headers  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if large and spoiler.cut(self.command, self.path, number):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        if large and spoiler.slow(self.command, self.path, number):
            for at in range(0, len(data), 1000):
                self.wfile.write(data[at : at + 1000])
                self.wfile.flush()
                time.sleep(0.05)
            return
        spoiler.answered += len(data)
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer


@contextmanager
def before(url):
    """A spoiler at an address of its own, before the server at `url`; it begins by spoiling nothing."""
    spoiler = Spoiler(url)
    handler = type("Mine", (Handler,), {"spoiler": spoiler})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # a client that was killed
    threading.Thread(target=server.serve_forever, daemon=True).start()
    spoiler.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield spoiler
    finally:
        server.shutdown()
        server.server_close()

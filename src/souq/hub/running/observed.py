"""What a running hub tells who runs it: a line of JSON for each request, and figures for Prometheus.

A request has an id, the one that a proxy gave it or one of ours; the answer carries it, and so does every line about
it. Paths stand in lines and never among the figures, which have a few labels whatever strangers ask for.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import sys
import time
import traceback
import uuid
from datetime import UTC, datetime
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SEVERAL = "PROMETHEUS_MULTIPROC_DIR"  # the library's own word
MOST_PATH = 500  # characters of a path in a line
_LOG = logging.getLogger("souq.hub")
_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FORWARDED = ("x-forwarded-for", "forwarded", "via", "x-real-ip")
_FILES = re.compile(r"/(?:datasets/)?[^/]+(?:/[^/]+)?/(?:resolve|souq/store)/")

REQUESTS = Counter("souq_hub_requests", "Requests that were answered", ["method", "kind", "status"])
SECONDS = Histogram(
    "souq_hub_request_seconds", "Until the last byte of an answer", ["kind"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300),
)  # fmt: skip
SENT = Counter("souq_hub_sent_bytes", "Bytes of answers", ["kind"])
AT_WORK = Gauge("souq_hub_requests_at_work", "Requests that are being answered", multiprocess_mode="livesum")


def kind_of(path: str) -> str:
    """Which part of a hub a path asks, one of a few words."""
    for kind, start in (("api", "/api/"), ("static", "/static/"), ("lfs", "/lfs/"), ("health", "/health")):
        if path.startswith(start):
            return kind
    if _FILES.match(path):
        return "files"
    return "git" if ".git/" in path else "page"


class Observed:
    """An application whose requests are counted, named and, where wanted, written down."""

    def __init__(self, app: ASGIApp, *, logs: bool) -> None:
        self._app, self._logs = app, logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope)

        async def send_with_id(message: Message) -> None:
            seen.sees(message)
            await send(message)

        with AT_WORK.track_inprogress():
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:
                seen.error = "".join(traceback.format_exception(error))[-4_000:]
                raise
            finally:
                seen.counted()
                if self._logs:
                    _LOG.log(logging.ERROR if seen.error else logging.INFO, "request", extra={"souq": seen.row()})


class _Seen:
    """What is known of one request."""

    def __init__(self, scope: Scope) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.id = given if _ID.fullmatch(given) else uuid.uuid4().hex[:16]
        self._method, self._path = scope["method"], scope["path"]
        self._from = (scope.get("client") or ("", 0))[0]
        self._began, self._status, self._sent, self.error = time.monotonic(), 0, 0, ""

    def sees(self, message: Message) -> None:
        """A part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.id
        elif message["type"] == "http.response.body":
            self._sent += len(message.get("body", b""))

    def counted(self) -> None:
        """Among the figures; who hung up before an answer began has the status 499, as nginx has it."""
        kind, method = kind_of(self._path), self._method if self._method in _METHODS else "OTHER"
        self._status = self._status or (500 if self.error else 499)
        REQUESTS.labels(method, kind, str(self._status)).inc()
        SECONDS.labels(kind).observe(time.monotonic() - self._began)
        SENT.labels(kind).inc(self._sent)

    def row(self) -> dict[str, Any]:
        """As a line has it."""
        row = {
            "request": self.id, "method": self._method[:20], "path": self._path[:MOST_PATH], "status": self._status,
            "bytes": self._sent, "ms": round(1_000 * (time.monotonic() - self._began), 1), "from": self._from,
        }  # fmt: skip
        return row | ({"error": self.error} if self.error else {})


async def metrics(request: Request) -> Response:
    """The figures, for who asks from the hub's own machine and through no proxy."""
    asked_by = request.client.host if request.client else ""
    try:
        near = ipaddress.ip_address(asked_by).is_loopback
    except ValueError:
        near = False
    if not near or any(name in request.headers for name in _FORWARDED):
        return PlainTextResponse("figures are for the machine that the hub runs on: ask there, at its own port\n", 403)
    data = await run_in_threadpool(_figures)
    return Response(data, media_type=CONTENT_TYPE_LATEST)


def _figures() -> bytes:
    if SEVERAL not in os.environ:
        return generate_latest(REGISTRY)
    MultiProcessCollector(registry := CollectorRegistry())  # type: ignore[no-untyped-call]
    return generate_latest(registry)


# -- lines -------------------------------------------------------------------------------------------------------------


class _Lines(logging.Formatter):
    """A record as one line of JSON: no letter of it begins another line or steers a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        row: dict[str, Any] = {
            "at": at,
            "level": record.levelname.lower(),
            "pid": record.process,
            "what": record.getMessage(),
        }
        row |= getattr(record, "souq", {})
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)[-4_000:]
        return json.dumps(row)


def logging_as_json() -> None:
    """Have the hub and its server write lines of JSON to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name in ("souq.hub", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler] if name != "uvicorn.error" else [], name == "uvicorn.error"
        logger.setLevel(logging.INFO)

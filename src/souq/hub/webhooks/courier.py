"""Who carries what is new to webhooks: one hook at a time, the oldest news first, until something does not come.

The body is JSON, signed as GitHub signs its own (X-Hub-Signature-256: HMAC-SHA256 of the body with the secret). An
address that only this machine's network has is refused unless the hub's owner said so, by the very address that is
connected to; no redirect is followed, and of an answer nothing but its status is read.

    Courier(Hooks(database), catalog, "https://hub.example").round()
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

from souq import signing
from souq.errors import SouqError
from souq.hub.catalog import Catalog
from souq.hub.pages.facts import Shown
from souq.hub.pages.feeds import KINDS, Entry
from souq.hub.pages.render import HubLinks
from souq.hub.pages.stamp import stamp
from souq.hub.webhooks.store import Hooks, Webhook

LEASE, AGAIN, PATIENCE = 120.0, 5.0, 10.0  # seconds: a hook is held, looked at again, waited for
MOST_AT_ONCE, MOST_REPOSITORIES = 20, 1_000


class Courier:
    """Tells those who asked."""

    def __init__(self, hooks: Hooks, catalog: Catalog, url: str = "") -> None:
        self._hooks, self._catalog, self._url = hooks, catalog, url
        self._known: dict[str, tuple[str, list[tuple[str, Entry]]]] = {}

    def round(self) -> bool:
        """Look after one hook that is due; whether there was one."""
        if (hook := self._hooks.take(LEASE)) is None:
            return False
        news = {entry.id: (name, kind, entry) for name in self._names(hook) for kind, entry in self._news(hook, name)}
        if not hook.begun:
            self._hooks.begin(hook, news)
            self._hooks.later(hook, 0.0)
            return True
        waiting = self._hooks.unsent(hook, news)
        due = sorted((news[each] for each in waiting), key=lambda each: (each[2].at, each[2].id))
        for name, kind, entry in due[:MOST_AT_ONCE]:
            if because := deliver(hook, _body(self._url, name, kind, entry), kind, entry.id):
                self._hooks.failed(hook, because)
                return True
            self._hooks.came(hook, entry.id)
        self._hooks.later(hook, 0.0 if len(due) > MOST_AT_ONCE else AGAIN)
        return True

    def _names(self, hook: Webhook) -> list[str]:
        if hook.repository:
            return [hook.repository]
        return [entry.name for entry in self._catalog.entries() if not entry.problem][:MOST_REPOSITORIES]

    def _news(self, hook: Webhook, name: str) -> Iterator[tuple[str, Entry]]:
        """What a repository's feeds hold of what the hook is about; read anew only when a ref of it has moved."""
        with suppress(SouqError):  # a broken repository holds up no other
            repo = self._catalog.open(name)
            now = stamp(repo)
            if self._known.get(name, ("", []))[0] != now:
                shown, to = Shown(repo), HubLinks(name)
                self._known[name] = now, [(kind, entry) for kind in KINDS for entry in KINDS[kind](shown, to)]
            yield from (each for each in self._known[name][1] if each[0] in hook.events.split())


def _body(url: str, name: str, kind: str, entry: Entry) -> bytes:
    words = {
        "id": entry.id, "event": kind, "repository": name, "title": entry.title, "at": entry.at, "by": entry.by,
        "text": entry.text, "url": f"{url}{entry.path}", "sent": signing.now(),
    }  # fmt: skip
    return json.dumps(words, ensure_ascii=True).encode()


def signature(secret: str, body: bytes) -> str:
    """What stands in X-Hub-Signature-256 for a body."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def deliver(hook: Webhook, body: bytes, event: str, id_: str) -> str:
    """Send it; why it did not come, "" where it did."""
    headers = {
        "Content-Type": "application/json", "User-Agent": "souq-hub", "Connection": "close",
        "X-Hub-Signature-256": signature(hook.secret, body),
        "X-Souq-Event": event, "X-Souq-Delivery": hashlib.sha256(id_.encode()).hexdigest()[:32],
    }  # fmt: skip
    parts = urlsplit(hook.url)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        with closing(_connected(hook)) as connection:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error)[:200] or type(error).__name__
    return "" if 200 <= status < 300 else f"it was answered with {status}"


def _connected(hook: Webhook) -> http.client.HTTPConnection:
    """A connection to an address that may be asked; the one that was judged is the one that is connected to.

    Raises:
        OSError: there is none, or it does not answer.
    """
    parts = urlsplit(hook.url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    addresses = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not hook.is_internal and (inner := next((each for each in addresses if not is_public(each)), "")):
        raise OSError(f"{host} is {inner}, which is no public address: --internal allows it")
    plain = socket.create_connection((addresses[0], port), timeout=PATIENCE)
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if is_tls else plain
    return connection


def is_public(address: str) -> bool:
    """Whether an address is one that the whole internet has, and no way into this machine's network."""
    known = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(known, ipaddress.IPv6Address):
        inner = known.ipv4_mapped or known.sixtofour or (known.teredo[1] if known.teredo else None)
        if inner is not None and not inner.is_global:
            return False
    return known.is_global and not known.is_multicast and not known.is_reserved

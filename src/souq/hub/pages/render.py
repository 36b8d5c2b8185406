"""Pages from facts: the templates, the links between pages, and the style, the same in a hub and in a folder.

A hub's pages are linked by address, those that `souq report` writes by file name; a page that is not there has no link.

    page("pull", Shown(repo).pull(7), of=shown, name="atlas/smol", to=HubLinks("atlas/smol"))
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote

from souq import signing
from souq.hub.pages.facts import Facts, Shown
from souq.markup import rendered

TABS = (
    ("front", "model"), ("pulls", "pull requests"), ("queue", "queue"), ("releases", "releases"), ("bugs", "bugs"),
    ("governance", "who decides"), ("contributors", "who brings what"), ("openness", "openness"),
)  # fmt: skip
WITHIN = {"pull": "pulls", "release": "releases"}  # pages that stand below a tab


class Links(Protocol):
    """Where a page is, from any other; "" where there is none."""

    def __call__(self, page: str, *parts: object) -> str: ...


class HubLinks:
    """Addresses on a hub, of one repository's pages and of the hub's own."""

    def __init__(self, name: str = "") -> None:
        self._home = f"/{name}"

    def __call__(self, page: str, *parts: object) -> str:
        """The address of a page; of a pull request with its digest, of just what was offered under it."""
        words = [quote(str(part), safe="", errors="replace") for part in parts]
        match page, words:
            case "home", [number]:
                return f"/?page={number}"
            case "home", _:
                return "/"
            case (("stats" | "account" | "login" | "register"), _):
                return f"/{page}"
            case "jobs", []:
                return "/jobs"
            case "jobs", ["main"]:
                return f"{self._home}/jobs"
            case "jobs", [number]:
                return f"{self._home}/pulls/{number}/jobs"
            case "draft", [number]:
                return f"{self._home}/bugs/drafts/{number}"
            case "report", _:
                return f"{self._home}/bugs/new"
            case "job", [number]:
                return f"/jobs/{number}"
            case "static", [name]:
                return f"/static/{name}?{digest_of(name)}"
            case "front", _:
                return self._home
            case "pull", [number, *rest]:
                return "/".join([f"{self._home}/pulls/{number}", *rest])
            case "picture", [number, digest]:
                return f"{self._home}/pulls/{number}/{digest}/change.svg"
            case "pulls", [state, *rest]:
                return f"{self._home}/pulls?state={state}" + "".join(f"&page={number}" for number in rest)
            case "release", [version]:
                return f"{self._home}/releases/{version}"
        return f"{self._home}/{page}"


class FileLinks:
    """Names of files beside each other, for pages in a folder; `numbers` are the pull requests that have one."""

    def __init__(self, numbers: Collection[int]) -> None:
        self._numbers = numbers

    def __call__(self, page: str, *parts: object) -> str:
        """A page's file."""
        if page == "pull":
            return f"pr-{parts[0]}.html" if parts[0] in self._numbers else ""
        if page == "front":
            return "index.html"
        return f"{page}.html" if page in dict(TABS) and not parts else ""


def page(
    template: str, facts: Facts, *, of: Shown, name: str, to: Links, inline: bool = False, address: str = ""
) -> str:
    """One page of a repository; `inline` has its style in itself, so that it needs nothing beside it."""
    shared: dict[str, Any] = {
        "config": of.main.config, "commit": of.main.commit, "root": of.root, "name": name, "tabs": TABS,
        "tab": WITHIN.get(template, template), "at": signing.now(), "picture": "",
    }  # fmt: skip
    return _filled(template, shared | facts, to, inline=inline, address=address)


def hub_page(template: str, facts: Facts, *, address: str = "") -> str:
    """One page of a hub itself."""
    return _filled(template, facts, HubLinks(), inline=False, address=address)


def _filled(template: str, facts: Facts, to: Links, *, inline: bool, address: str) -> str:
    style = static("page.css").decode() if inline else ""
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return rendered(f"hub/templates/{template}.html", **facts, to=to, style=style, hash=hashed, address=address)


STATIC = {"page.css": "text/css", "icon.svg": "image/svg+xml"}


@cache
def static(name: str) -> bytes:
    """A file that pages need beside them."""
    return (files("souq.hub") / "static" / name).read_bytes()


@cache
def digest_of(name: str) -> str:
    """What changes whenever such a file does, so that no browser keeps an old one."""
    return hashlib.sha256(static(name)).hexdigest()[:12]

"""Which URL may name the store that tensors travel by: a bucket and a folder, or a folder of this machine.

It asks nobody: bucket.py does. What main's souq.toml names is a stranger's word, and leads into no private network.

    check_url("s3://models/smol", local=False)
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from socket import inet_aton

from souq.errors import UsageError
from souq.records import Record

LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "https": "aiohttp", "memory": "fsspec", "file": ""}
ON_THIS_MACHINE = {"file", "memory"}

_REST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*(:\d{1,5})?(/[A-Za-z0-9._~=+\-]+)*/?")


class Shared(Record, frozen=True, forbid_unknown_fields=True):
    """`[store]` in souq.toml: where the tensors travel, if not beside the git remote."""

    url: str = ""


def check_url(url: str, *, local: bool) -> str:
    """A URL tensors may travel by; `local` where a folder of this very machine can be meant.

    Raises:
        UsageError: it is not one, and why; the URL itself is not repeated, it may hold a password.
    """
    if because := _refused(url, local):
        raise UsageError(
            f"the store's URL {because}",
            hint='write [store] url = "s3://bucket/folder" in souq.toml, see docs/forges.md',
        )
    return url.rstrip("/")


def _refused(url: str, local: bool) -> str:
    protocol, _, rest = url.partition("://")
    if protocol not in LIBRARIES or not rest:
        return f"begins with none of {', '.join(f'{name}://' for name in LIBRARIES if name != 'memory')}"
    if "::" in rest:
        return "chains one file system to another"
    if "@" in rest:
        return "names a user: credentials come from the environment"
    if ".." in rest.split("/"):
        return "climbs out of its folder"
    if protocol in ON_THIS_MACHINE and not local:
        return "names a folder of this machine, which only your own `git config souq.store` may"
    if protocol not in ON_THIS_MACHINE and not local and _inside(rest):
        return "names this machine or its cloud's metadata, which only your own `git config souq.store` may"
    if protocol == "file":
        return "" if rest.startswith("/") and rest.isprintable() else "names no folder: write file:///path"
    return "" if _REST.fullmatch(rest) else "holds more than a bucket and a folder of letters, digits and ._~=+-"


def _inside(rest: str) -> bool:
    """Whether whoever fetches would be made to ask their own machine, or the service that hands out a cloud's keys."""
    host = re.split("[:/]", rest, maxsplit=1)[0].rstrip(".").lower()
    try:
        # `2130706433`, `0x7f.1` and `127.1` are addresses too, to a resolver
        address = ip_address(inet_aton(host)) if re.fullmatch(r"[0-9a-fx.]*\d[0-9a-fx.]*", host) else None
    except OSError:
        address = None
    if address is not None:
        return address.is_loopback or address.is_link_local or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost") or host == "metadata.google.internal"

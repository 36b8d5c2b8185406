"""Parts of addresses, for the routes of pages and of clients alike: `{repo:repo}`, `{rev:rev}`, `{number:number}`.

Clients send a revision with its slashes percent-encoded, and servers decode them before they route.
"""

from __future__ import annotations

from starlette.convertors import Convertor, StringConvertor, register_url_convertor


class _Repository(StringConvertor):
    regex = "[^/]+(?:/[^/]+)?"


class _Revision(StringConvertor):
    regex = "refs/(?:pr|heads|tags|convert)/[^/]+|[^/]+"


class _Number(Convertor[int]):
    regex = "[0-9]{1,9}"  # Python refuses to read thousands of digits

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


def register() -> None:
    """Have Starlette know them."""
    register_url_convertor("repo", _Repository())
    register_url_convertor("rev", _Revision())
    register_url_convertor("number", _Number())

"""A draft on a hub, by its address: its files brought here, and made into a delta as those of a folder are.

The hub only carried them: each is bounded, and compared with the digest that the hub lists. What is offered then is
signed by whoever types, and says nothing of the hub.

    with offered("http://hub/atlas/smol/discussions/1000001", main, progress) as delta: ...
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from souq.build import delta_file
from souq.build.guess import with_guess
from souq.cli.adapter import How, make_adapter
from souq.cli.console import done
from souq.errors import Corrupt, Hostile, NotFound
from souq.model.adapter.peft import CONFIG, WEIGHTS
from souq.model.hub_client import endpoint
from souq.progress import Progress
from souq.records import spelled_out
from souq.repo.snapshot import Snapshot
from souq.weights.hub import Still

ADDRESS = re.compile(r"(https?://[^/\s@]+)/([\w.\-]+(?:/[\w.\-]+)?)/discussions/([1-9]\d{0,8})/?")
WANTED = {CONFIG: 1 << 20, WEIGHTS: 4 << 30, "recipe.toml": 1 << 20}  # the most bytes of each
MAX_ANSWER = 4 << 20
TIMEOUT = 60  # seconds for the next bytes
_CHUNK = 1 << 20


@contextmanager
def offered(word: str | None, main: Snapshot, progress: Progress) -> Iterator[Path | None]:
    """The .delta file that a word names: itself, or what is made of a draft's files, gone on leaving."""
    match = ADDRESS.fullmatch(word or "")
    if match is None:
        yield Path(word) if word else None
        return
    with tempfile.TemporaryDirectory(prefix="souq-") as scratch:
        (folder := Path(scratch) / "draft").mkdir()
        _bring(match[1], match[2], match[3], folder)
        taken = make_adapter(folder, main, How(), progress)
        made, tensors = with_guess(main, taken.delta, taken.tensors, progress)
        recipe = taken.recipe | ({"sketched": {"guessed": True}} if made.grams else {})
        for note in taken.notes:
            done(f"note: {note}")
        delta_file.write_delta(target := Path(scratch) / "draft.delta", made, tensors, recipe)
        yield target


def _bring(hub: str, name: str, number: str, folder: Path) -> None:
    """The files of a draft into a folder."""
    revision = quote(f"refs/pr/{number}", safe="")
    with asked(f"{hub}/api/models/{name}/tree/{revision}?recursive=true") as reply:
        rows = _rows(reply.read(MAX_ANSWER + 1))
    if CONFIG not in rows:
        raise NotFound(f"draft {number} of {name} holds no {CONFIG}", hint="what is taken is an adapter, as PEFT saves")
    for path, most in WANTED.items():
        if path in rows:
            with asked(f"{hub}/{name}/resolve/{revision}/{path}") as reply:
                _keep(reply, folder / path, most, rows[path])


def _rows(data: bytes) -> dict[str, dict[str, Any]]:
    try:
        listed = json.loads(data)
        return {row["path"]: row for row in listed if row["type"] == "file"}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Hostile("the hub's answer is no list of files", hint="is this the address of a draft?") from error


def _keep(reply: IO[bytes], path: Path, most: int, row: dict[str, Any]) -> None:
    """Write what comes, as long as it is what was listed."""
    by_content, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        while data := reply.read(_CHUNK):
            size += len(data)
            if size > most:
                raise Hostile(f"{path.name} has more than {most:,} bytes")
            by_content.update(data)
            file.write(data)
    large = row.get("lfs")
    digest = large.get("oid") if isinstance(large, dict) else row.get("oid")
    if digest != (by_content.hexdigest() if isinstance(large, dict) else _git_name(path)):
        raise Corrupt(f"{path.name} is not the file that the hub lists", hint="type the same again")


def _git_name(path: Path) -> str:
    data = path.read_bytes()  # small: a large one is named by its sha256
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def asked(url: str, *, by_name: bool = True) -> Iterator[IO[bytes]]:
    """What a hub answers; where it need not know who asks, no token is sent and no redirect is followed.

    Raises:
        NotFound: it is not there, or the hub cannot be reached.
    """
    token = _token() if by_name and _is_ours(url) else ""
    headers = {"User-Agent": "souq"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  ADDRESS lets only http and https through
    try:
        with urllib.request.build_opener(_Straight if by_name else Still).open(request, timeout=TIMEOUT) as reply:
            yield reply
    except urllib.error.HTTPError as error:
        why = spelled_out(error.headers.get("X-Error-Message", ""))[:300] or error.reason
        own = "a draft is shown to its author: set HF_ENDPOINT to this hub, and HF_TOKEN to a token of yours there"
        hint = own if by_name else "check the address"
        raise NotFound(f"the hub answered {error.code}: {why}", hint=hint) from error
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise NotFound(f"the hub cannot be reached: {error}", hint="check the address") from error


class _Straight(urllib.request.HTTPRedirectHandler):
    """A token goes to the hub that was named, and nowhere else: large files may lie with another, and are hashed."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """The same question elsewhere, without the token where it is another's."""
        again = super().redirect_request(req, fp, code, msg, headers, newurl)
        if again is not None and _origin(newurl) != _origin(req.full_url):
            again.remove_header("Authorization")
        return again


def _is_ours(url: str) -> bool:
    """Whether an address is on the hub that HF_ENDPOINT names: whoever sends a link is not sent a token for it."""
    return _origin(url) == _origin(endpoint())


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _token() -> str:
    """Whoever types, as Hugging Face's clients know them."""
    with suppress(ImportError):
        from huggingface_hub import get_token

        return get_token() or ""
    return os.environ.get("HF_TOKEN", "")

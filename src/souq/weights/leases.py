"""Who writes to a bucket, and who takes away what nothing there needs: never both at once.

A writer leaves a mark below `writing/` before it looks at what is there already, and takes it away once its refs name
what it sent. Who sweeps leaves one below `sweeping/`. Each leaves its own mark and looks for the other's then, so of
two who come at once one at least sees the other (Dekker's way, which a store that lists what was just written allows):
the sweeper gives way, the writer waits. A mark that nobody renews is forgotten after a while: the dead hold up nobody.
Times are the server's own.

    with writing(bucket): ...                 # several at once
    sweep_bucket(bucket, keep, root)          # raises Busy while anybody writes
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from souq.errors import Hostile, NotFound, Refused, SouqError
from souq.progress import Progress, quiet
from souq.records import Digest, is_digest
from souq.weights.bucket import AT_ONCE, Bucket
from souq.weights.codec import header_of
from souq.weights.sweeping import GRACE

LEASE = 1_800.0  # seconds after which a mark that was not renewed is a dead one's
RENEW = LEASE / 4
WAIT = 0.5  # seconds from one look to the next
_NAME = re.compile(r"/[0-9a-f]{32,62}$")  # of a mark, a commit, or the end of an object's
ROOTS, WRITING, SWEEPING = "roots", "writing", "sweeping"


class Busy(Refused):
    """Somebody writes there, or sweeps; later it will do."""


@contextmanager
def writing(bucket: Bucket, root: str = "", patience: float = LEASE) -> Iterator[None]:
    """Nothing that lies there is taken away meanwhile; waits while somebody sweeps.

    Who may not leave a mark goes on without: they cannot send anything either. `root` is the repository's first commit:
    its name stays, so that who sweeps knows whose tensors lie there.

    Raises:
        Busy: somebody sweeps for longer than that.
    """
    if not bucket.takes_marks:
        yield
        return
    try:
        mark = _leave(bucket, WRITING)
    except NotFound:
        yield
        return
    with _renewed(bucket, mark):
        if root:
            _put(bucket, f"{bucket.url}/{ROOTS}/{root}")
        _wait_for_sweepers(bucket, mark, patience)
        yield


def _wait_for_sweepers(bucket: Bucket, mark: str, patience: float) -> None:
    ends = time.monotonic() + patience
    while _alive(bucket, SWEEPING, mark):
        if time.monotonic() > ends:
            raise Busy(f"somebody sweeps {bucket.url}", hint="run the command again in a while")
        time.sleep(WAIT)


def sweep_bucket(
    bucket: Bucket, keep: Callable[[], Iterable[Digest]], root: str, *, grace: float = GRACE,
    progress: Progress = quiet,
) -> list[Digest]:  # fmt: skip
    """Remove what nothing points at once it is older than `grace` seconds; `keep` is asked when nobody writes any more.

    Raises:
        Busy: somebody writes there, or sweeps.
        Refused: another repository's tensors lie there too.
    """
    mark = _leave(bucket, SWEEPING)
    ends = time.monotonic() + LEASE / 2  # nothing is removed under a mark that others may take for a dead one's
    try:
        if others := [*_alive(bucket, WRITING, mark), *_alive(bucket, SWEEPING, mark)]:
            raise Busy(f"somebody writes to {bucket.url}: {others[0].rpartition('/')[2]}", hint="try again in a while")
        roots = {path.rpartition("/")[2] for path in _listed(bucket, ROOTS)}
        if roots - {root}:
            hint = "a store that is swept is one repository's: give each a folder of its own"
            raise Refused(f"{bucket.url} holds tensors of {len(roots | {root})} repositories", hint=hint)
        kept, now = set(keep()), _time(bucket, mark)
        old = {
            name: path for path, info in _listed(bucket, "objects").items()
            if (name := _name(path)) and name not in kept and now - _seconds(info) > grace
        }  # fmt: skip
        for base in _bases(bucket, kept) if old else ():
            old.pop(base, None)
        gone = list[Digest]()
        for name, path in sorted(old.items()):
            if time.monotonic() > ends:
                break
            with bucket.asked_for():
                bucket.files.rm_file(path)
            gone.append(name)
            progress("sweep", len(gone), len(old))
        return gone
    finally:
        _remove(bucket, mark)


def _bases(bucket: Bucket, kept: set[Digest]) -> set[Digest]:
    """What those that stay are kept as differences from."""

    def base(name: Digest) -> str:
        with suppress(NotFound):  # what is not there is a difference from nothing
            try:
                return header_of(bucket.beginning(name)).base
            except Hostile:
                raise SouqError(
                    f"{name} is damaged at {bucket.url}", hint="mend it before anything is removed"
                ) from None
        return ""

    with ThreadPoolExecutor(AT_ONCE) as hands:
        return {name for name in hands.map(base, sorted(kept)) if name}


# -- marks -------------------------------------------------------------------------------------------------------------


def _leave(bucket: Bucket, kind: str) -> str:
    mark = f"{bucket.url}/{kind}/{secrets.token_hex(16)}"
    _put(bucket, mark)
    return mark


def _put(bucket: Bucket, path: str) -> None:
    with bucket.asked_for():
        bucket.files.pipe_file(path, b"souq\n")


@contextmanager
def _renewed(bucket: Bucket, mark: str) -> Iterator[None]:
    """Renew a mark until it is taken away."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW):
            with suppress(SouqError):
                _put(bucket, mark)

    thread = threading.Thread(target=renew, daemon=True, name="souq-lease")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _remove(bucket, mark)


def _remove(bucket: Bucket, path: str) -> None:
    with suppress(SouqError), bucket.asked_for():
        bucket.files.rm_file(path)


def _alive(bucket: Bucket, kind: str, mine: str) -> list[str]:
    """Marks of others that were renewed lately, by the server's clock, which our own mark tells."""
    marks = {path: info for path, info in _listed(bucket, kind).items() if path != _bare(mine)}
    if not marks:
        return []
    now = _time(bucket, mine)
    return [path for path, info in sorted(marks.items()) if abs(now - _seconds(info)) < LEASE]


def _time(bucket: Bucket, mark: str) -> float:
    """The server's time: that of our mark, left anew."""
    _put(bucket, mark)
    with bucket.asked_for():
        return _seconds(bucket.files.info(mark))


def _listed(bucket: Bucket, folder: str) -> dict[str, Any]:
    with bucket.asked_for():
        try:
            listed = bucket.files.find(f"{bucket.url}/{folder}", detail=True)
        except FileNotFoundError:
            return {}
    # a folder that was emptied is still listed by some, as itself
    return {str(path): info for path, info in listed.items() if info["type"] == "file" and _NAME.search(str(path))}


def _bare(path: str) -> str:
    protocol, _, rest = path.partition("://")
    return f"/{rest}" if protocol == "memory" else rest


def _name(path: str) -> Digest:
    name = "b3:" + "".join(path.rsplit("/", 2)[1:])
    return name if is_digest(name) else ""


def _seconds(info: dict[str, Any]) -> float:
    """When an object was written; what a service does not say is now, so that nothing is removed by it."""
    for key in ("LastModified", "last_modified", "updated", "created", "mtime"):
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    return time.time()

"""What could be wrong with a hub, looked at while it runs or not: each thing with what to do about it.

It changes nothing: no table is migrated, no repository is mended.

    for finding in looked_at(Path("models"), Path("models/.souq-hub"), ""):
        finding.what, finding.ok, finding.because
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from souq.errors import SouqError
from souq.hub import database as databases
from souq.hub.catalog import Catalog
from souq.hub.plain.repository import MOST_LOOSE, Plain
from souq.hub.plain.shelf import plain_in
from souq.hub.running.whole import Whole
from souq.repo.git import git_dir_of
from souq.repo.remote import Repo

ROOM = 5 << 30  # bytes of disk below which something is said
GIT = (2, 34)  # signs and verifies with ssh keys
AHEAD = 300  # seconds that clocks may be apart


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    because: str


def looked_at(root: Path, data: Path, database: str, *, deep: bool = False) -> Iterator[Finding]:
    """Each thing in turn; with `deep`, whether all that refs lead to is there."""
    yield _git()
    yield _folder("repositories", root, os.R_OK | os.X_OK, "the user that runs the hub must be able to read it")
    yield _folder("data", data, os.R_OK | os.W_OK | os.X_OK, "make it, and let the user that runs the hub write there")
    yield _closed(data)
    yield _room(data)
    yield _database(data, database)
    yield from _clock(root, data)
    if root.is_dir():
        yield from _repositories(root)
    yield from _loose(data)
    if deep:
        yield from _whole(root, data)


def _git() -> Finding:
    try:
        shown = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return Finding("git", ok=False, because=f"cannot be run: {error}; install it")
    match = re.search(r"(\d+)\.(\d+)", shown)
    new = match is not None and (int(match[1]), int(match[2])) >= GIT
    return Finding("git", new, shown if new else f"{shown}: install {GIT[0]}.{GIT[1]} or newer")


def _folder(what: str, folder: Path, rights: int, hint: str) -> Finding:
    if not folder.is_dir():
        return Finding(what, ok=False, because=f"no folder {folder}: {hint}")
    ok = os.access(folder, rights)
    return Finding(what, ok, str(folder) if ok else f"{folder} is not ours to use: {hint}")


def _closed(data: Path) -> Finding:
    """Accounts are nobody else's to read or write."""
    for path in (data, data / databases.FILE):
        if path.exists() and path.stat().st_mode & 0o002:
            return Finding("rights", ok=False, because=f"everybody may write {path}: chmod o-w {path}")
    file = data / databases.FILE
    if file.exists() and file.stat().st_mode & 0o004 and data.stat().st_mode & 0o001:
        return Finding("rights", ok=False, because=f"everybody may read {file}: chmod o-rx {data}")
    return Finding("rights", ok=True, because="nobody else writes the hub's data, or reads its accounts")


def _room(data: Path) -> Finding:
    place = next(path for path in (data, *data.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    enough = free >= ROOM
    return Finding("disk", enough, f"{free / 2**30:,.1f} GiB free" + ("" if enough else ": make room"))


def _database(data: Path, url: str) -> Finding:
    if not url and not (data / databases.FILE).is_file():
        return Finding("database", ok=True, because="not there yet: the hub makes one when it starts")
    try:
        now, newest = databases.revisions(url or databases.url_in(data))
    except SouqError as error:
        return Finding("database", ok=False, because=f"{error}: {error.hint or 'is it running?'}")
    if now != newest:
        because = f"is of revision {now or 'none'}, this souq of {newest}: it is brought there when the hub starts"
        return Finding("database", ok=False, because=because)
    return Finding("database", ok=True, because=f"answers, of revision {now}")


def _clock(root: Path, data: Path) -> Iterator[Finding]:
    """A clock that goes back would end tokens late, and one that is ahead of a disk's sees files from tomorrow."""
    if data.is_dir() and os.access(data, os.W_OK):
        with tempfile.NamedTemporaryFile(dir=data) as file:
            apart = abs(Path(file.name).stat().st_mtime - time.time())
        yield Finding(
            "disk clock", apart < AHEAD, f"{apart:.0f} s apart" + ("" if apart < AHEAD else ": set the clocks")
        )
    now = datetime.now(UTC).timestamp()
    latest = max((_committed(folder) for folder in _folders(root)), default=0.0)
    ahead = latest - now
    words = (
        "no main is from the future" if ahead < AHEAD else f"a main is from {ahead / 3600:,.1f} h ahead: set the clock"
    )
    yield Finding("clock", ahead < AHEAD, words)


def _folders(root: Path) -> list[Path]:
    return [entry.folder for entry in Catalog(root).entries() if not entry.problem] if root.is_dir() else []


def _committed(folder: Path) -> float:
    """When the newest commit of a main says it was made."""
    with suppress(SouqError, ValueError):
        repo = Repo.find(folder)
        return datetime.fromisoformat(repo.summary(repo.tip())[1]).timestamp()
    return 0.0


def _repositories(root: Path) -> Iterator[Finding]:
    entries = Catalog(root).entries()
    for entry in entries:
        if entry.problem:
            yield Finding(entry.name, ok=False, because=f"{entry.problem}: `git -C {entry.folder} fsck`")
    good = sum(not entry.problem for entry in entries)
    yield Finding("models", ok=True, because=f"{good} of {len(entries)} can be read")


def _loose(data: Path) -> Iterator[Finding]:
    """Repositories that no worker has packed for long."""
    plain = plain_in(data)
    untidy = [place for place in plain if _is_untidy(place)]
    for place in untidy:
        because = f"thousands of loose objects: let a worker run (`souq hub worker`), or `git -C {place} gc`"
        yield Finding(str(place), ok=False, because=because)
    yield Finding("packed", ok=True, because=f"{len(plain) - len(untidy)} of {len(plain)} plain repositories")


def _is_untidy(place: Path) -> bool:
    with suppress(SouqError):  # whether it can be read at all is `deep`'s to say
        return Plain(place).loose() > 5 * MOST_LOOSE
    return False


def _whole(root: Path, data: Path) -> Iterator[Finding]:
    """Whether everything that refs lead to is there."""
    plain = plain_in(data)
    governed = [git_dir for folder in _folders(root) if (git_dir := git_dir_of(folder)) is not None]
    for place in (*governed, *plain):
        if lost := Whole(place, None).lost():
            yield Finding(str(place), ok=False, because=f"{lost}: restore it from a backup")
    yield Finding("objects", ok=True, because=f"{len(governed) + len(plain)} repositories were looked through")

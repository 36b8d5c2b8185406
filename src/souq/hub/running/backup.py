"""All of a hub that cannot be made again, in one tar: repositories with their tensors, corpora, plain ones, accounts.

It is taken while the hub runs. Of a git repository the refs are read before the objects, so every ref leads to objects
that are there; the database is read in one transaction, whichever kind it is, and is restored to either. What can be
made again (built revisions, pages) is left out. A restore is into empty folders, and says yes only when all is there.

    backup(catalog.root, data, database, Path("hub.tar"))
    restore(Path("hub.tar"), Path("models"), Path("models/.souq-hub"), database_url)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select

from souq.errors import Corrupt, Hostile, NotFound, UsageError
from souq.files import new_folder, replacing
from souq.hub.catalog import Catalog
from souq.hub.database import Database
from souq.hub.database.tables import Table
from souq.hub.plain.shelf import plain_in
from souq.hub.running.whole import Whole
from souq.optional import installed_version
from souq.progress import Progress, quiet
from souq.records import Record
from souq.repo.git import git_dir_of
from souq.repo.local import hold

KEPT = ("repositories", "large")  # of the data folder; the rest is made again
REPOS, DATA, DATABASE, CONTENTS = "repos", "data", "database.jsonl", "contents.json"
_REFS = ("HEAD", "config", "packed-refs", "refs")
_CHUNK = 1 << 22
MOST_CONTENTS = 1 << 30  # bytes of the list of files


class Contents(Record, frozen=True):
    """The list at the end of a backup: every file by its sha256."""

    souq: str
    files: dict[str, str]
    revision: str  # of the database's tables


@dataclass(frozen=True)
class Kept:
    """What a backup holds, or what was restored of it."""

    files: int
    bytes: int
    rows: int


# -- taken -------------------------------------------------------------------------------------------------------------


def backup(root: Path, data: Path, database: Database, out: Path, progress: Progress = quiet) -> Kept:
    """Write a backup; the file has its name when it is whole.

    Raises:
        UsageError: there is a file of that name, or it would hold itself.
    """
    if out.exists():
        raise UsageError(f"{out} is there already", hint="name another file, such as hub-2031-01-01.tar")
    if any(out.resolve().is_relative_to(each.resolve()) for each in (root, data)):
        raise UsageError(f"{out} lies in what is to be kept", hint="name a place outside the hub's folders")
    rows = list(_rows(database))
    with ExitStack() as stack, replacing(out) as partial:
        governed = [git_dir for each in Catalog(root).entries() if (git_dir := git_dir_of(each.folder)) is not None]
        for git_dir in (*governed, *plain_in(data)):
            stack.callback(os.close, hold(git_dir))  # a gc would take away what is being read
        writing = stack.enter_context(tarfile.open(partial, "w"))
        kept = _Writing(writing, progress)
        kept.text(DATABASE, "".join(json.dumps(row) + "\n" for row in rows).encode())
        kept.folder(root, REPOS, {data.resolve()})
        for name in KEPT:
            if (data / name).is_dir():
                kept.folder(data / name, f"{DATA}/{name}", set())
        listed = Contents(installed_version("souq", absent="0"), kept.files, database.revision())
        kept.text(CONTENTS, msgspec.json.encode(listed))
        writing.close()
    return Kept(len(kept.files), kept.bytes, len(rows))


class _Writing:
    """A tar that is being written, and what is in it."""

    def __init__(self, tar: tarfile.TarFile, progress: Progress) -> None:
        self._tar, self._progress = tar, progress
        self.files, self.bytes = dict[str, str](), 0

    def text(self, name: str, data: bytes) -> None:
        """A file that lies nowhere."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        self._tar.addfile(info, io.BytesIO(data))
        self.files |= {} if name == CONTENTS else {name: hashlib.sha256(data).hexdigest()}

    def folder(self, folder: Path, name: str, without: set[Path]) -> None:
        """All of a folder but some, refs of git repositories before their objects; links are followed nowhere."""
        for path in _ordered(folder, without):
            self._progress("back up", self.bytes, max(self.bytes, 1))
            info = self._tar.gettarinfo(path, f"{name}/{path.relative_to(folder).as_posix()}")
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isreg() or info.islnk():
                self._file(path, info)
            elif info.isdir():
                self._tar.addfile(info)

    def _file(self, path: Path, info: tarfile.TarInfo) -> None:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # removed meanwhile: nothing that is kept names it
            return
        with file:
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", os.fstat(file.fileno()).st_size
            hashed = _Hashed(file, info.size)
            self._tar.addfile(info, hashed)
        self.files[info.name] = hashed.hasher.hexdigest()
        self.bytes += info.size


class _Hashed:
    """A file that is hashed as it is read; one that shrinks meanwhile is an error, one that grows is cut."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file, self._left, self.hasher = file, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(min(self._left, size if size >= 0 else self._left))
        self._left -= len(data)
        self.hasher.update(data)
        return data


def _ordered(folder: Path, without: set[Path]) -> Iterator[Path]:
    """What is below a folder; of a git directory the refs first."""
    with os.scandir(folder) as listed:
        names = sorted(entry.name for entry in listed)
    is_git = {"HEAD", "objects", "refs"} <= set(names)
    for name in sorted(names, key=lambda each: (each not in _REFS, each)) if is_git else names:
        path = folder / name
        if path.resolve() in without or name.endswith((".part", ".lock")):
            continue
        if path.is_dir() and not path.is_symlink():
            yield path
            yield from _ordered(path, without)
        elif path.is_file():  # a link to a file is kept as the file
            yield path.resolve() if path.is_symlink() and path.resolve().is_relative_to(folder) else path


def _rows(database: Database) -> Iterator[list[Any]]:
    """Every row of every table, in an order in which they may be written again."""
    with database.reading() as connection:
        for table in Table.metadata.sorted_tables:
            for row in connection.execute(select(table)):
                yield [table.name, dict(row._mapping)]


# -- restored ----------------------------------------------------------------------------------------------------------


def restore(file: Path, root: Path, data: Path, database: str, progress: Progress = quiet) -> Kept:
    """Bring a backup back into folders that are not there; each is there whole, or not at all.

    Raises:
        NotFound: no such file.
        UsageError: a folder holds something, or the database does.
        Hostile: not a backup.
        Corrupt: a file is not what was kept.
    """
    if not file.is_file():
        raise NotFound(f"no backup {file}", hint="name what `souq hub backup` wrote")
    with new_folder(root, hint="name a folder that is not there") as partial:
        listed = _unpacked(file, partial / ".backup", progress)
        kept = partial / ".backup"
        for path in sorted((kept / REPOS).iterdir()) if (kept / REPOS).is_dir() else []:
            path.rename(partial / path.name)
        inside = data.resolve().relative_to(root.resolve()) if data.resolve().is_relative_to(root.resolve()) else None
        _fsck(partial)
        place = partial / inside if inside is not None else data
        if inside is None and place.exists() and any(place.iterdir()):
            raise UsageError(f"{data} is not empty", hint="name a folder that is not there")
        place.mkdir(parents=True, exist_ok=True)
        for path in sorted((kept / DATA).iterdir()) if (kept / DATA).is_dir() else []:
            path.rename(place / path.name)
        _fsck(place / "repositories")
        rows = _filled(database or f"sqlite:///{(place / 'hub.sqlite').absolute()}", kept / DATABASE)
        sizes = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        (kept / DATABASE).unlink()
        for path in (kept / REPOS, kept / DATA, kept):
            if path.is_dir():
                path.rmdir()
    return Kept(len(listed.files), sizes, rows)


def _unpacked(file: Path, folder: Path, progress: Progress) -> Contents:
    """Unpack a tar, and compare every file with the list at its end."""
    hashes, text = dict[str, str](), b""
    folder.mkdir(parents=True)
    try:
        with tarfile.open(file, "r:") as tar:
            for info in tar:
                progress("restore", len(hashes), max(len(hashes), 1))
                if info.name == CONTENTS:
                    text = _small(tar, info)
                elif info.isreg() or info.isdir():
                    _one(tar, info, folder, hashes)
                else:
                    raise Hostile(f"{file.name} holds what is neither file nor folder: {info.name[:200]!r}")
        listed = msgspec.json.decode(text, type=Contents)
    except (tarfile.TarError, msgspec.MsgspecError, EOFError, OSError) as error:
        raise Hostile(
            f"{file.name} is no whole backup: {error}", hint="take it again with `souq hub backup`"
        ) from error
    if hashes != listed.files:
        wrong = sorted(
            name for name in hashes.keys() | listed.files.keys() if hashes.get(name) != listed.files.get(name)
        )
        raise Corrupt(f"not what was kept: {', '.join(wrong[:5])}", hint="restore from another backup")
    return listed


def _one(tar: tarfile.TarFile, info: tarfile.TarInfo, folder: Path, hashes: dict[str, str]) -> None:
    parts = info.name.split("/")
    if parts[0] not in (REPOS, DATA, DATABASE) or {"", ".", ".."} & set(parts) or "\0" in info.name:
        raise Hostile(f"no file of a backup: {info.name[:200]!r}")
    if info.name in hashes:
        raise Hostile(f"a backup holds a file once: {info.name[:200]!r}")
    place = folder / info.name
    if info.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    source, hasher = tar.extractfile(info), hashlib.sha256()
    assert source is not None
    with place.open("xb") as out:
        while chunk := source.read(_CHUNK):
            hasher.update(chunk)
            out.write(chunk)
    place.chmod(0o755 if info.mode & 0o100 else 0o644)
    hashes[info.name] = hasher.hexdigest()


def _small(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(info)
    if source is None or info.size > MOST_CONTENTS:
        raise Hostile("a backup's list of files is no file, or too large")
    return source.read()


def _fsck(folder: Path) -> None:
    """Every ref of every git repository below a folder leads to objects that are there."""
    for head in sorted(folder.rglob("HEAD")):
        git_dir = head.parent
        if (git_dir / "objects").is_dir() and (git_dir / "refs").is_dir() and (lost := Whole(git_dir, None).lost()):
            raise Corrupt(f"{git_dir.relative_to(folder)} is not whole: {lost}", hint="restore from another backup")


def _filled(url: str, lines: Path) -> int:
    """Write the rows into a database that holds none.

    Raises:
        UsageError: it holds some.
    """
    database, tables = Database(url), {table.name: table for table in Table.metadata.sorted_tables}
    try:
        with database.writing() as connection:
            if any(connection.execute(select(table).limit(1)).first() for table in tables.values()):
                raise UsageError("the database holds accounts already", hint="name an empty one with --database")
            rows = _read_rows(lines, tables)
            for name, row in rows:
                connection.execute(insert(tables[name]).values(**row))
            if not database.is_sqlite:
                _count_on(connection, tables.values())
            return len(rows)
    finally:
        database.close()


def _count_on(connection: Connection, tables: Iterable[Any]) -> None:
    """Have PostgreSQL number what comes after what was brought: rows that bring a number move none of its counters."""
    for table in tables:
        if (counted := table.autoincrement_column) is not None:
            counter, highest = func.pg_get_serial_sequence(table.name, counted.name), func.max(counted)
            connection.execute(select(func.setval(counter, highest)).having(highest.is_not(None)))


def _read_rows(lines: Path, tables: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a backup: of tables that there are, with the columns that these have, and values that a column holds.

    Raises:
        Hostile: something else.
    """
    try:
        rows = msgspec.json.Decoder(tuple[str, dict[str, str | int | None]]).decode_lines(lines.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise Hostile(f"a backup's accounts cannot be read: {error}", hint="restore from another backup") from error
    for name, row in rows:
        if name not in tables or row.keys() != {column.name for column in tables[name].columns}:
            raise Hostile(
                f"a backup's accounts are of another version: {name[:40]!r}", hint="run the souq that wrote it"
            )
    return [(name, dict(row)) for name, row in rows]

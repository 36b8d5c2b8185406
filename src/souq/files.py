"""Files and folders that are there whole or not at all, whatever stops the one who writes them.

What is being made lies in a hidden folder beside its name, held by a lock that ends with its writer; whoever writes
there next removes what dead writers left. It knows paths and bytes; what is in a file is its writer's business.

    with replacing(Path("scores.json")) as partial:
        partial.write_text("{}")          # a reader sees the old file or the new one, never half of one
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from souq.errors import UsageError

PART = ".part"
_SCRATCH = re.compile(r"\..{0,40}-[a-z0-9_]{8}\.part", re.DOTALL)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, on the same disk, to make in it what is to take that name; gone on leaving."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    scratch, lock = _locked(path)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _locked(path: Path) -> tuple[Path, int]:
    while True:
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}-", suffix=PART))
        try:
            lock = os.open(scratch, os.O_RDONLY)
        except FileNotFoundError:  # somebody swept it before it was opened
            continue
        with suppress(OSError):  # a file system without locks: nobody can tell who is dead, so nothing is swept
            fcntl.flock(lock, fcntl.LOCK_EX)
        if scratch.is_dir():  # else somebody swept it before it was locked
            return scratch, lock
        os.close(lock)


def sweep(folder: Path) -> None:
    """Remove what writers that live no more were making in a folder."""
    for name in [entry.name for entry in os.scandir(folder) if _SCRATCH.fullmatch(entry.name)]:
        with suppress(OSError):
            lock = os.open(folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer would hold it
                shutil.rmtree(folder / name, ignore_errors=True)
            finally:
                os.close(lock)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; on leaving, what was written takes the name `path`, flushed to the disk.

    It is called as `path` is, and no two writers share it. After an error `path` is as it was.
    """
    with beside(path) as scratch:
        yield (partial := scratch / path.name)
        flush(partial)
        partial.replace(path)
        flush(path.parent)


def flush(path: Path) -> None:
    """A file, or the names in a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_full(folder: Path, hint: str = "choose another folder") -> None:
    """Say no to writing into a folder that holds something; what a dead writer left beside it goes all the same.

    Raises:
        UsageError: `folder` is a file, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        with suppress(OSError):
            sweep(folder.absolute().parent)
        raise UsageError(f"{folder} is already there and not empty", hint=hint)


@contextmanager
def new_folder(folder: Path, hint: str = "choose another folder") -> Iterator[Path]:
    """An empty folder beside `folder` to write into; on leaving without an error, it takes the name `folder`.

    Raises:
        UsageError: `folder` is a file, or a folder that is not empty.
    """
    with beside(folder.absolute()) as scratch:
        refuse_full(folder, hint)
        (partial := scratch / "new").mkdir()
        yield partial
        partial.replace(folder)
        flush(folder.absolute().parent)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Files by their paths inside a folder, whose own folders are made where they are missing."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

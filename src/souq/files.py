"""Files that are there whole or not at all, whatever stops the one who writes them.

It knows paths and bytes; what is in a file is its writer's business.

    with replacing(Path("scores.json")) as partial:
        partial.write_text("{}")          # a reader sees the old file or the new one, never half of one
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from souq.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; on leaving, what was written takes the name `path`, flushed to the disk.

    The partial name keeps the suffix of `path` and carries the process's number, so that two writers never share it.
    After an error the partial file is removed and `path` is as it was.
    """
    partial = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
        _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_full(folder: Path, hint: str = "choose another folder") -> None:
    """Say no to writing into a folder that holds something.

    Raises:
        UsageError: `folder` is a file, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is already there and not empty", hint=hint)


@contextmanager
def new_folder(folder: Path, hint: str = "choose another folder") -> Iterator[Path]:
    """An empty folder beside `folder` to write into; on leaving without an error, it takes the name `folder`.

    Raises:
        UsageError: `folder` is a file, or a folder that is not empty.
    """
    refuse_full(folder, hint)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        partial = Path(scratch) / "new"
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.replace(folder)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Files by their paths inside a folder, whose own folders are made where they are missing."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

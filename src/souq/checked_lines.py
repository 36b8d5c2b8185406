"""A file of lines that many add to, each with a checksum: a line that is torn or damaged is as if it had never been.

append(path, [b'{"case": "a"}'])
list(bodies(path))                 # [b'{"case": "a"}']
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def append(path: Path, lines: Iterable[bytes]) -> None:
    """Add lines, in one write that is on the disk when this returns.

    A kill leaves the file as it was or with a last line that is torn. Two processes may add to one file: the lines of
    each stay whole.
    """
    data = b"\n" + b"".join(_written(line) for line in lines)  # the line before may be torn; an empty one is nothing
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    finally:
        os.close(file)


def bodies(path: Path) -> Iterator[bytes]:
    """The lines whose checksum holds, without it; a flipped bit in a number would otherwise be another number."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for line in lines:
        checksum, _, body = line.partition(b" ")
        if body and checksum == b"%08x" % zlib.crc32(body):
            yield body


def _written(body: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(body), body)

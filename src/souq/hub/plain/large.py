"""Large files, each kept once by its sha256: git holds a pointer to it, as git-lfs writes them.

large = Large(data / "large")
large.take(spooled, sha256)
large.path(sha256)
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from souq.files import flush, replacing

MOST_POINTER = 200  # bytes; git-lfs writes about 130
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n")
_CHUNK = 1 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")


def pointer(sha256: str, size: int) -> bytes:
    """What git holds of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def pointed(data: bytes) -> tuple[str, int] | None:
    """The sha256 and the size of a large file; None where the bytes are no pointer."""
    match = _POINTER.fullmatch(data) if len(data) <= MOST_POINTER else None
    return (match[1].decode(), int(match[2])) if match else None


class Large:
    """Large files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where the bytes are, or would be."""
        return self._folder / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """How many bytes there are; None where they are not here."""
        with suppress(OSError):
            return self.path(sha256).stat().st_size
        return None

    def git_name(self, sha256: str) -> str:
        """What git would call the bytes themselves, as clients call a file that they do not send by LFS."""
        with suppress(OSError):
            return self._note(sha256).read_text()
        return ""

    def take(self, spooled: Path, sha256: str) -> None:
        """Move a file here, whose digest somebody has computed."""
        place = self.path(sha256)
        if not place.is_file():
            with replacing(self._note(sha256)) as note:
                note.write_text(_git_name(spooled))
            flush(spooled)
            spooled.replace(place)
            flush(place.parent)

    def remove(self, sha256: str) -> None:
        """Have no such file."""
        self.path(sha256).unlink(missing_ok=True)
        self._note(sha256).unlink(missing_ok=True)

    def _note(self, sha256: str) -> Path:
        return self.path(sha256).with_suffix(".oid")


def _git_name(path: Path) -> str:
    hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()

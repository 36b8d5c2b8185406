"""The files of a revision, whatever they come from: each by its names, at its path."""

from __future__ import annotations

from collections.abc import Mapping

from souq.records import Record

LARGE = 1 << 20  # bytes from which on a file is named by its sha256, as clients have it of those in LFS
_WEIGHTS = (".safetensors", ".gguf")


class File(Record, frozen=True):
    """One file of a revision."""

    size: int
    sha256: str
    oid: str  # git's name of it
    by_pointer: bool = False  # git holds a pointer to it

    def is_large(self, path: str) -> bool:
        """Whether clients are told its sha256."""
        return self.by_pointer or self.size >= LARGE or path.endswith(_WEIGHTS)

    def etag(self, path: str) -> str:
        """Its name in a client's cache."""
        return self.sha256 if self.is_large(path) else self.oid


Listing = Mapping[str, File]

"""A file in which something arrives, which nobody else writes to meanwhile; what came of it stays for who goes on.

with held(store.arriving / name[3:]) as part: ...
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def held(part: Path) -> Iterator[Path]:
    """The file, once it is ours; it stays where something came."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with suppress(FileNotFoundError):
            if part.stat().st_nlink > 1:  # whoever was killed had kept it already
                part.unlink()
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not part.exists() or part.stat().st_ino != os.fstat(file.fileno()).st_ino:  # it was brought, and is gone
                continue
            try:
                yield part
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
            return

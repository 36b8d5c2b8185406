"""What nothing points at any more, and what crashes left, removed from a store once it is old.

sweep_store(repo.store, keep, grace=14 * 86_400)
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from souq.files import PART, sweep
from souq.records import Digest
from souq.weights.store import Store

GRACE = 14 * 86_400.0  # seconds


def sweep_store(
    store: Store, keep: Iterable[Digest], *, grace: float = GRACE, now: float | None = None
) -> list[Digest]:
    """Remove what nothing points at, and leftovers of crashes, once older than `grace` seconds."""
    kept = set(store.closure(name for name in set(keep) if name in store))
    before = (time.time() if now is None else now) - grace
    gone = [name for name in store.digests() if name not in kept and store.path(name).stat().st_mtime < before]
    for name in gone:
        store.path(name).unlink()
    # of a fetch that nobody went on with, and of a souq that wrote these inside
    for path in [*store.arriving.glob("*"), *store.objects.glob(f"??/*{PART}")]:
        if path.stat().st_mtime < before:
            path.unlink()
    if store.objects.is_dir():
        sweep(store.objects)
    return gone

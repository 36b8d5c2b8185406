"""Pages that were made: each once however many ask for it, and as many kept as a bound allows.

A page is named by what it was made of, so what is kept is never wrong; it may be forgotten at any time.

    kept = Pages()
    html = await kept.get("atlas/smol", (commit, "pulls"), make, patience=2.0)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from typing import Any

from souq.errors import SouqError
from souq.hub.once import Once

WORKERS, EACH = 4, 2  # threads; of them at most so many for one repository
WAITING = 64  # pages that wait to be made
MOST_BYTES = 64 << 20  # of pages kept
Outcome = Any  # what was made, or the SouqError that says why it cannot be


class Pages:
    """What was made, and who makes more."""

    def __init__(
        self, most: int = MOST_BYTES, *, workers: int = WORKERS, each: int = EACH, waiting: int | None = None
    ) -> None:
        self._made: OrderedDict[Hashable, tuple[Outcome, int]] = OrderedDict()
        self._left, self._lock = most, Lock()
        self._once = Once("pages", workers=workers, each=each, most=WAITING if waiting is None else waiting)

    async def get(self, whose: str, key: Hashable, make: Callable[[], Any], *, patience: float) -> Any:
        """What `make` makes of a repository, or made when it was last asked under this key.

        Raises:
            Busy: it is not made within `patience` seconds, or too much waits to be made.
            SouqError: it cannot be made.
        """
        outcome = self._known(key)
        if outcome is None:
            outcome = await self._once.get(whose, key, partial(self._make, key, make), patience=patience)
        if isinstance(outcome, SouqError):
            raise outcome
        return outcome

    def _known(self, key: Hashable) -> Outcome | None:
        with self._lock:
            if key not in self._made:
                return None
            self._made.move_to_end(key)
            return self._made[key][0]

    def _make(self, key: Hashable, make: Callable[[], Any]) -> Outcome:
        """Make it and keep it; what cannot be made is not tried again and again, and a fault of ours is not kept."""
        outcome: Outcome
        try:
            outcome = make()
        except SouqError as error:
            outcome = error
        size = len(outcome) if isinstance(outcome, bytes) else 1_000
        with self._lock:
            self._left += self._made.pop(key, (None, 0))[1] - size
            self._made[key] = outcome, size
            while self._left < 0:  # forget what was not asked for longest
                self._left += self._made.popitem(last=False)[1][1]
        return outcome

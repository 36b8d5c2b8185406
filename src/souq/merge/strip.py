"""Some rows of a tensor that is too large to merge at once; `Fold.rows` and `factors` take them.

strip = Strip(0, 64, height=128_256, read=laid.rows)
fold.rows(laid.rows(ref, 0, 64), strip)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from souq.errors import Hostile
from souq.weights.delta import Array, TensorRef


@dataclass(frozen=True)
class Strip:
    """Some rows of a tensor that has `height` of them, and how those of a stored tensor are read."""

    start: int
    stop: int
    height: int
    read: Callable[[TensorRef, int, int], Array]

    def of(self, whole: Array) -> Array:
        """These rows of what is at hand.

        Raises:
            Hostile: it has another height.
        """
        if len(whole) != self.height:
            raise Hostile(f"a change of {len(whole):,} rows to a tensor of {self.height:,}")
        return whole[self.start : self.stop]

    def flat(self, where: Array, values: Array, width: int) -> tuple[Array, Array]:
        """Those of some positions, which rise, that lie in these rows; and the values there."""
        first, last = (bisect_left(where, row * width) for row in (self.start, self.stop))
        return where[first:last].astype(np.int64) - self.start * width, values[first:last]

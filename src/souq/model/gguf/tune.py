"""A fine-tune that somebody keeps as GGUF: taken where its numbers are the tune's own, in the base's dtype.

source = as_tune(open_source("tune.gguf"), main.base)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from souq.errors import UsageError
from souq.model.gguf.reader import GGUF
from souq.model.source import Source
from souq.weights.computed import Computed
from souq.weights.delta import DTYPES, Array, Lock


def as_tune(source: Source, base: Lock) -> Source:
    """The source, its numbers in the base's dtypes where that changes none; what is no GGUF stays as it is.

    Raises:
        UsageError: it is quantised, so that its difference to the base would be the quantisation's.
    """
    if not isinstance(source.weights, GGUF):
        return source
    if source.weights.quantised:
        raise UsageError(
            f"{source.weights.path.name} is quantised ({', '.join(source.weights.quantised)}): its difference to the "
            "base would be the quantisation's",
            hint="name the folder that it was made from, or a GGUF in F16, BF16 or F32",
        )
    return replace(
        source, weights=Computed({name: partial(_fitted, source.weights, base, name) for name in source.weights})
    )


def _fitted(weights: Mapping[str, Array], base: Lock, name: str) -> Array:
    """A tensor in the base's dtype, where each of its numbers is one of that."""
    array = weights[name]
    if (ref := base.get(name)) is None or (wanted := DTYPES[ref.dtype]) == array.dtype:
        return array
    cast = array.astype(wanted)
    return cast if np.array_equal(cast.astype(np.float64), array.astype(np.float64)) else array

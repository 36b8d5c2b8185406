"""Which models are one model under several badges: exact copies, renamed copies, and changes too small to matter.

It knows folders of safetensors and never opens the rest. Every tensor is read once: its digest says what is the same,
and a few hundred of its numbers, evenly spaced, say how far apart the others are.

    found = crowd([Path("a"), Path("b"), Path("c")], within=0.02)
    found.kinds, found.clusters[0].pairs[0].how
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from souq.errors import Hostile, NotFound, UsageError
from souq.progress import Progress, quiet
from souq.records import Record, spelled_out
from souq.weights.delta import Array, TensorRef
from souq.weights.safetensors import open_tensors

SAMPLE = 256  # numbers of a tensor, at least; seven times as many at most
SHARED = 0.9  # of both models' numbers must stand in rows of one name and width, for a distance to mean something
MAX_MODELS = 500  # their samples are held together: a few megabytes each
MAX_FILES = 1_000  # of one model

How = Literal["copy", "renamed", "converted", "near"]  # converted: some tensors are of another dtype


class Pair(Record, frozen=True):
    """Two models of one kind. `distance` is ||w' - w|| / ||w|| over sampled numbers, of w the one named first."""

    one: str
    other: str
    how: How
    distance: float


class Cluster(Record, frozen=True):
    """Models joined by pairs; two at its ends may be further apart than any pair of it."""

    models: tuple[str, ...]
    pairs: tuple[Pair, ...]


class Crowd(Record, frozen=True):
    """What was found: `kinds` counts each cluster once, and every model that stands alone."""

    models: int
    kinds: int
    within: float
    clusters: tuple[Cluster, ...]


@dataclass(frozen=True)
class Portrait:
    """A model, read: what each tensor is, and some of its numbers in double precision."""

    name: str
    refs: Mapping[str, TensorRef]
    samples: Mapping[str, NDArray[np.float64]]

    @property
    def size(self) -> int:
        return sum(ref.size for ref in self.refs.values())


def crowd(folders: Sequence[Path], *, within: float = 0.02, progress: Progress = quiet) -> Crowd:
    """Compare every two of them.

    Raises:
        UsageError: fewer than two, too many, or one twice.
        NotFound: a folder without safetensors.
        Hostile: a file that is none, or a tensor that stands in two files of one model.
    """
    if len({folder.resolve() for folder in folders}) != len(folders) or not 2 <= len(folders) <= MAX_MODELS:
        raise UsageError(f"two to {MAX_MODELS:,} different folders are compared", hint="name each model's folder once")
    seen = [portrait(folder, progress) for folder in folders]
    pairs = [pair for model, other in combinations(seen, 2) if (pair := compared(model, other, within)) is not None]
    clusters = _joined([model.name for model in seen], pairs)
    kinds = len(seen) - sum(len(cluster.models) - 1 for cluster in clusters)
    return Crowd(models=len(seen), kinds=kinds, within=within, clusters=clusters)


def portrait(folder: Path, progress: Progress = quiet) -> Portrait:
    """Read a model's files, one tensor in memory at a time.

    Raises:
        NotFound: no safetensors there.
        Hostile: too many files, one that is no safetensors, or a tensor that stands in two.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise NotFound(f"no safetensors in {folder}", hint="name a folder that holds model.safetensors")
    if len(files) > MAX_FILES:
        raise Hostile(f"{folder}: {len(files):,} files; the most is {MAX_FILES:,}")
    refs, samples = dict[str, TensorRef](), dict[str, NDArray[np.float64]]()
    for done, file in enumerate(files):
        progress(f"read {folder.name}", done, len(files))
        for name, array in open_tensors(file).items():
            if name in refs:
                raise Hostile(f"{file}: {name} stands in another file too")
            refs[name], samples[name] = TensorRef.of(array), _sample(array)
    progress(f"read {folder.name}", len(files), len(files))
    return Portrait(spelled_out(str(folder)), refs, samples)


def compared(model: Portrait, other: Portrait, within: float) -> Pair | None:
    """How two models are of one kind; None where they are not."""
    if model.refs == other.refs:
        return Pair(one=model.name, other=other.name, how="copy", distance=0.0)
    if Counter(map(str, model.refs.values())) == Counter(map(str, other.refs.values())):
        return Pair(one=model.name, other=other.name, how="renamed", distance=0.0)
    apart = distance(model, other)
    if not apart <= within:
        return None
    kept = all(other.refs[name].dtype == ref.dtype for name, ref in model.refs.items() if name in other.refs)
    return Pair(one=model.name, other=other.name, how="near" if kept else "converted", distance=apart)


def distance(model: Portrait, other: Portrait) -> float:
    """||w' - w|| / ||w|| over the rows both have, each tensor counted by its size.

    Infinite where they share too little. Of a table that grew, a vocabulary's mostly, the first rows are those both
    have.
    """
    names = [name for name, ref in model.refs.items() if name in other.refs and _alike(ref, other.refs[name])]
    sizes = {name: min(model.refs[name].size, other.refs[name].size) for name in names}
    if sum(sizes.values()) < SHARED * max(model.size, other.size):
        return math.inf
    off = own = 0.0
    with np.errstate(all="ignore"):  # a stranger's numbers may be infinite or none: then so is the distance
        for name, size in sizes.items():
            mine, theirs = _beside(model, other, name)
            weight = size / max(len(mine), 1)
            own += weight * float(np.dot(mine, mine))
            if model.refs[name] != other.refs[name]:
                off += weight * float(np.dot(theirs - mine, theirs - mine))
        return float(np.sqrt(off / own)) if own > 0 else math.inf


def _alike(ref: TensorRef, other: TensorRef) -> bool:
    return len(ref.shape) == len(other.shape) and ref.shape[1:] == other.shape[1:]


def _beside(model: Portrait, other: Portrait, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The samples of one tensor of both at the same places."""
    wide = max(_stride(model.refs[name].size), _stride(other.refs[name].size))
    mine, theirs = (side.samples[name][:: wide // _stride(side.refs[name].size)] for side in (model, other))
    least = min(len(mine), len(theirs))
    return mine[:least], theirs[:least]


def _stride(size: int) -> int:
    """A power of 7: places stay the same when a table grows, and few widths are multiples of it."""
    stride = 1
    while size // (stride * 7) >= SAMPLE:
        stride *= 7
    return stride


def _sample(array: Array) -> NDArray[np.float64]:
    flat: NDArray[Any] = array.reshape(-1)
    return np.asarray(flat[:: _stride(len(flat))], np.float64)


def _joined(names: Sequence[str], pairs: Sequence[Pair]) -> tuple[Cluster, ...]:
    """Models that a chain of pairs connects."""
    home = {name: name for name in names}
    for pair in pairs:
        old, new = home[pair.other], home[pair.one]
        home = {name: new if at == old else at for name, at in home.items()}
    clusters = []
    for root in dict.fromkeys(home.values()):
        models = tuple(name for name in names if home[name] == root)
        if len(models) > 1:
            clusters.append(Cluster(models=models, pairs=tuple(pair for pair in pairs if home[pair.one] == root)))
    return tuple(sorted(clusters, key=lambda cluster: (-len(cluster.models), cluster.models)))

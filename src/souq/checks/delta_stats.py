"""What a change of weights looks like from afar: sizes, spectra and a sketch, kept by the contribution's digest.

It knows one change and the base it was made on; it judges nothing. No low-rank change is expanded: singular values come
from two small QR factors, the fourth moment from products of their columns, the sketch from two thin projections.

    stats = delta_stats(case)
    stats.parts["model.layers.0.mlp.up_proj.weight"].share
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial

import msgspec
import numpy as np
from blake3 import blake3

from souq.checks.cases import Case
from souq.errors import Corrupt, Hostile, NotFound
from souq.files import replacing
from souq.merge.exact import Float
from souq.merge.fold import factors
from souq.model.names import in_layer
from souq.records import Digest, Record, digest
from souq.repo.contribution import Offer
from souq.repo.git import GitRepo
from souq.weights.delta import Delta, Lock, Lora, Part, TensorRef
from souq.weights.lockfile import format_delta

VERSION = 2  # of what is kept: another figure here is another folder in the cache
WIDTH = 8  # of a sketch's two sides
LEAST = 0.1  # of a tensor's yardstick: what it is measured by at least, though it be zero (decisions/tunes.md)
NOTHING = 1e-6  # root mean square of a matrix that is as good as zero
SOME = 8  # matrices of the base that stand for all of them
LEADING = 16  # directions whose fourth moment is exact; it takes r^4 products
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")  # `model.layers.3.…`, `transformer.h.3.…`: the first number


class Spectrum(Record, frozen=True):
    """Five figures of a low-rank change d, the five of arXiv 2602.15195: there of q, k, v and o, here of every matrix.

    Sizes are in units of the changed matrix's Frobenius norm. The paper's "kurtosis" is taken here as that of d's
    elements, 3 for normal ones; of a rank above 16, that of its 16 leading directions.
    """

    rank: int
    top: float  # largest singular value
    size: float  # Frobenius norm
    concentration: float  # top^2 / size^2
    entropy: float  # of the shares of energy, in nats; exp of it is the effective rank
    kurtosis: float


class TensorStats(Record, frozen=True):
    """What is measured of one changed tensor."""

    share: float  # ||d|| / ||W||, or over what a W near zero is measured by
    along: float = 0.0  # <d, W> / ||W||^2; of a low-rank change 0, since W need not be read
    spectrum: Spectrum | None = None  # of low-rank changes


class DeltaStats(Record, frozen=True):
    """What is measured of one contribution's change of weights."""

    change: Digest  # of what it does to tensors, whatever sketches came along
    parts: dict[str, TensorStats]
    sketch: dict[str, bytes]  # tensor, or what is new -> a random projection of the change, float32

    def sketches(self) -> dict[str, Float]:
        """Tensor -> its sketch as float64, WIDTH * WIDTH numbers; fewer of a vector."""
        return {name: np.frombuffer(data, "<f4").astype(np.float64) for name, data in self.sketch.items()}


def kind_of(name: str) -> str:
    """The kind of a tensor by its name: `q_proj` of `model.layers.3.self_attn.q_proj.weight`."""
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def layer_of(name: str) -> int:
    """The number of the layer a tensor is in; -1 for none."""
    match = _LAYER.search(name)
    return int(match[1]) if match else -1


def delta_stats(case: Case) -> DeltaStats | None:
    """The figures of what the case offers; None where it changes no weights.

    Raises:
        NotFound, Corrupt: a tensor of it is not here, or damaged.
    """
    return cached_stats(case, case.offer.digest, lambda: case.offer)


def cached_stats(case: Case, name: Digest, read: Callable[[], Offer]) -> DeltaStats | None:
    """The figures of the contribution named `name`: kept from an earlier time, else it is read and measured."""
    note = case.main.repo.cache / f"portraits-{VERSION}" / name[3:35]
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.msgpack.decode(note.read_bytes(), type=DeltaStats)
    if (delta := read().delta) is None:
        return None
    stats = measure(case, delta)
    with replacing(note) as partial_note:
        partial_note.write_bytes(msgspec.msgpack.encode(stats))
    return stats


def accepted_stats(case: Case) -> Iterator[tuple[str, DeltaStats]]:
    """The figures of every contribution on main, by slug; one whose tensors are not here is left out."""
    for slug, landed in case.main.landed.items():
        if landed.moves and slug != case.offer.slug:
            read = partial(case.main.offers.__getitem__, slug)
            with suppress(NotFound, Corrupt):
                if (stats := cached_stats(case, landed.digest, read)) is not None:
                    yield slug, stats


def measure(case: Case, delta: Delta) -> DeltaStats:
    """The figures of every tensor that a change changes, and sketches of these and of what is new."""
    load, base = case.store.get, case.main.base
    sizes = measures(case.main.repo, base, delta.parts)
    parts, sketch = {}, {}
    for done, (name, part) in enumerate(delta.parts.items()):
        case.progress("look at changes", done, len(delta.parts))
        wide = np.zeros(0) if isinstance(part, Lora) else load(base[name].digest).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused in words
            left, right = factors(part, wide, load)
            parts[name] = tensor_stats(part, left, right, sizes[name], wide)
            sketch[name] = project(left, right)
    for title, new in delta.new.items():
        sketch[title] = project(None, load(new.value.digest).astype(np.float64))
    return DeltaStats(change=change_digest(delta), parts=parts, sketch=sketch)


def change_digest(delta: Delta) -> Digest:
    """The name of what a delta does, leaving out the sketches it carries."""
    return digest(format_delta(Delta(delta.base, delta.parts, new=delta.new)).encode())


def tensor_stats(part: Part, left: Float | None, right: Float, whole: float, base: Float) -> TensorStats:
    """A changed tensor's figures by its left (m, r) and right (r, n), or None and the difference; `whole` is ||W||."""
    if left is None:
        along = float(np.vdot(right, base)) / whole**2
        return TensorStats(share=float(np.linalg.norm(right)) / whole, along=along)
    figures = spectrum(left, right, whole)
    return TensorStats(share=figures.size, spectrum=figures)


def spectrum(left: Float, right: Float, whole: float = 1.0) -> Spectrum:
    """The five figures of left (m, r) @ right (r, n), in units of `whole`.

    The singular values of L R are those of the r x r matrix Q_L^T L R Q_R. A change of nothing has none of them.

    Raises:
        Hostile: the products are not finite.
    """
    (q_left, small_left), (q_right, small_right) = np.linalg.qr(left), np.linalg.qr(right.T)
    core = small_left @ small_right.T
    if not np.isfinite(core).all():
        raise Hostile("a low-rank change is too large to be measured")
    u, s, v = np.linalg.svd(core)
    if not (top := float(s[0]) if len(s) else 0.0) > 0:
        return Spectrum(rank=len(s), top=0.0, size=0.0, concentration=0.0, entropy=0.0, kurtosis=0.0)
    s /= top  # no square of it can overflow or vanish
    energy = float(s @ s)
    share, lead = s * s / energy, slice(0, min(len(s), LEADING))
    fourth = fourth_moment(q_left @ (u[:, lead] * s[lead]), v[lead] @ q_right.T)
    return Spectrum(
        rank=len(s),
        top=top / whole,
        size=top * math.sqrt(energy) / whole,
        concentration=1 / energy,
        entropy=-float(np.sum(share * np.log(np.maximum(share, 1e-300)))),
        kurtosis=fourth * len(left) * right.shape[1] / float(s[lead] @ s[lead]) ** 2,
    )


def fourth_moment(left: Float, right: Float) -> float:
    """The sum of the fourth powers of left (m, r) @ right (r, n), by r (r + 1) / 2 products of columns."""
    i, j = np.triu_indices(left.shape[1])
    twice = np.where(i == j, 1.0, 2.0)  # a pair stands for both its orders
    pairs = left[:, i] * left[:, j]
    others = right[i] * right[j]
    return float(np.sum((pairs.T @ pairs) * (others @ others.T) * np.outer(twice, twice)))


def project(left: Float | None, right: Float) -> bytes:
    """P^T d Q as float32 bytes, d being left (m, r) @ right (r, n), or `right` alone, of any shape.

    P and Q (n, WIDTH) follow from the sizes alone, so inner products of sketches estimate those of changes (Johnson and
    Lindenstrauss 1984).
    """
    if left is not None:
        return _float32_bytes((_random_side(len(left)).T @ left) @ (right @ _random_side(right.shape[1])))
    flat = right.reshape(len(right), -1) if right.ndim > 1 else right.reshape(1, -1)
    side = _random_side(len(flat)).T if len(flat) > 1 else np.ones((1, 1))
    return _float32_bytes((side @ flat) @ _random_side(flat.shape[1]))


def _float32_bytes(array: Float) -> bytes:
    return array.astype("<f4").tobytes()


@lru_cache(maxsize=64)
def _random_side(n: int) -> Float:
    """(n, WIDTH) normal numbers, the same everywhere and always; their products keep sizes on average."""
    seed = int.from_bytes(blake3(f"souq sketch 1 {n}".encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal((n, WIDTH)) / math.sqrt(WIDTH)


def measures(repo: GitRepo, base: Lock, names: Iterable[str]) -> dict[str, float]:
    """What changes to some of the base's tensors are measured by: a tensor's own norm, but never less than LEAST of
    what a tensor in its place typically is, so that one that is zero may be trained."""
    names = list(names)
    sizes = _norms(repo, [base[name] for name in names])
    return {
        name: max(size, LEAST * _yardstick(repo, base, name, size)) for name, size in zip(names, sizes, strict=True)
    }


def _yardstick(repo: GitRepo, base: Lock, name: str, own: float) -> float:
    """The norm typical of a tensor in this place: of a bias that of the weight beside it, which takes inputs of about
    one to outputs like it; of any other vector ones; of a matrix that is zero that of its kind in other layers."""
    ref = base[name]
    if (weight := base.get(_weight_beside(name))) is not None:
        return _norms(repo, [weight])[0]
    if len(ref.shape) < 2:
        return math.sqrt(ref.size)
    if own > NOTHING * math.sqrt(ref.size):
        return 0.0  # its own norm says it
    if (place := in_layer(name)) is not None:
        alike = [r for other, r in base.items() if (at := in_layer(other)) and at.group(1, 3) == place.group(1, 3)]
        if sizes := [size for size in _norms(repo, alike) if size > own]:
            return float(np.median(sizes))
    some = [r for _, r in sorted(base.items()) if len(r.shape) > 1 and r.size and r.digest != ref.digest][:SOME]
    levels = [size / math.sqrt(r.size) for r, size in zip(some, _norms(repo, some), strict=True) if size > own]
    return float(np.median(levels)) * math.sqrt(ref.size) if levels else 0.0


def _weight_beside(name: str) -> str:
    """The weight of a bias's own module; "" for what is no bias."""
    if name.endswith(".bias"):
        return name.removesuffix("bias") + "weight"
    return name.removesuffix("_bias") if name.endswith("_bias") else ""


def _norms(repo: GitRepo, refs: Sequence[TensorRef]) -> list[float]:
    """||W|| of tensors, remembered by digest; never 0, so that it can be divided by."""
    note = repo.cache / "matrix-sizes"
    known: dict[Digest, float] = {}
    with suppress(OSError, msgspec.MsgspecError):
        known = msgspec.msgpack.decode(note.read_bytes(), type=dict[str, float])
    if absent := {ref.digest for ref in refs} - known.keys():
        known |= {name: float(np.linalg.norm(repo.store.get(name).astype(np.float64))) for name in sorted(absent)}
        with replacing(note) as partial_note:
            partial_note.write_bytes(msgspec.msgpack.encode(known))
    return [max(known[ref.digest], 1e-12) for ref in refs]

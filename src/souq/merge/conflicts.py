"""What contributions do to each other in a merge, foreseen from changes and sketches alone: no data, no forward pass.

It knows changes to one matrix at a time and sums over matrices; it has never heard of git, people or pictures. Nothing
here makes a weight, so its figures may differ in their last digits between machines.

    >>> c = Change(left=np.ones((2, 1)), right=np.ones((1, 2)), gram=None)
    >>> sign_conflict(c, c).ratio, sign_conflict(c, c.to(-c.right)).ratio
    (0.0, 1.0)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from souq.merge import exact
from souq.merge.exact import Float
from souq.merge.fold import Fold
from souq.merge.methods import Change, Sketch
from souq.progress import Progress, quiet
from souq.records import Digest

_ROWS = 256  # of a product left @ right that are written out at a time
WORST = 8  # tensors on which the others are left out one by one


@dataclass(frozen=True)
class Share:
    """A part of a whole, such as a loss of what there was to lose; shares of many layers add up."""

    part: float = 0.0
    whole: float = 0.0

    def __add__(self, other: Share) -> Share:
        return Share(self.part + other.part, self.whole + other.whole)

    @property
    def ratio(self) -> float:
        """Nothing of nothing is 0."""
        return self.part / self.whole if self.whole > 0 else 0.0


def total(shares: Iterable[Share]) -> Share:
    """The share over all of them together."""
    return sum(shares, Share())


# -- two contributions on one matrix -----------------------------------------------------------------------------------


def sign_conflict(a: Change, b: Change) -> Share:
    """Where two changes (m, n) pull a weight apart: sum of min(|a|, |b|) where signs differ, of that sum everywhere.

    0 is full agreement, 0.5 is independence, 1 is a tug of war. Every element is looked at, some rows at a time.
    """
    apart, everywhere = 0.0, 0.0
    for mine, theirs in zip(_rows(a), _rows(b), strict=True):
        least = np.minimum(np.abs(mine), np.abs(theirs))
        apart += float(least[mine * theirs < 0].sum())
        everywhere += float(least.sum())
    return Share(apart, everywhere)


def inner(a: Change, b: Change) -> float:
    """<a, b>, the sum of products of two changes' elements."""
    return exact.inner(a.left, a.right, b.left, b.right)


def cosine(a: Change, b: Change) -> float:
    """Of the angle between two changes: -1 to 1."""
    return _over_norms(inner(a, b), inner(a, a), inner(b, b))


def input_overlap(a: Sketch, b: Sketch) -> float:
    """tr(G_a G_b) / (|G_a| |G_b|): 0 where two contributions read different inputs, 1 where the same."""
    return _over_norms(_trace(a, b), _trace(a, a), _trace(b, b))


def output_overlap(a: Change, b: Change) -> float:
    """tr(A B) / (|A| |B|), A = a a^T, B = b b^T: 0 where two changes write to different outputs, 1 to the same."""
    return _over_norms(_outputs(a, b), _outputs(a, a), _outputs(b, b))


def own_sketch(change: Change) -> Sketch:
    """The sketch a contribution brought, or, where it brought none, G = d^T d: the inputs its change reacts to."""
    if change.gram is not None:
        return change.gram
    factor = change.right if change.left is None else _root(change.left) @ change.right
    return Sketch(factor, np.zeros(factor.shape[1]))


def _root(left: Float) -> Float:
    """R (r, r) with R^T R = left^T left, so that R @ right has the inner products of left @ right."""
    return np.asarray(np.linalg.qr(left, mode="r"), dtype=np.float64)


def _trace(a: Sketch, b: Sketch) -> float:
    """tr(G_a G_b), with neither G (n, n) built."""
    both = float(((a.factor @ b.factor.T) ** 2).sum()) + float(a.diag @ b.diag)
    return both + float((a.factor**2 @ b.diag).sum()) + float((b.factor**2 @ a.diag).sum())


def _outputs(a: Change, b: Change) -> float:
    """tr(a a^T b b^T) = |a^T b|^2, at the smaller of their ranks and sizes."""
    if a.left is None or b.left is None:
        return float(((a.whole().T @ b.whole()) ** 2).sum())
    return float(((_root(a.right.T) @ (a.left.T @ b.left) @ _root(b.right.T).T) ** 2).sum())


def _over_norms(both: float, a: float, b: float) -> float:
    size = np.sqrt(a) * np.sqrt(b)
    return float(np.clip(both / size, -1.0, 1.0)) if size > 0 else 0.0


def _rows(change: Change) -> Iterator[Float]:
    """A change's elements, _ROWS rows at a time: a large LoRA is never written out whole."""
    rows = change.right if change.left is None else change.left
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        yield block if change.left is None else block @ change.right


# -- one contribution in a merge ---------------------------------------------------------------------------------------


def lost(merged: Sequence[Change], change: Change) -> Share:
    """How far the merged D is from a contribution's own d, where its inputs live: |(D - d) G^1/2|^2 of |d G^1/2|^2."""
    sketch = own_sketch(change)
    error = _gathered([*merged, replace(change, right=-change.right)])
    return Share(_energy(error, sketch), _energy(change, sketch))


def _gathered(changes: Sequence[Change]) -> Change:
    """Their sum as one change: low rank side by side, or written out where one of them is whole."""
    if all(change.left is not None for change in changes):
        lefts = [change.left for change in changes if change.left is not None]
        return Change(np.concatenate(lefts, axis=1), np.concatenate([change.right for change in changes]), None)
    return Change(None, sum((change.whole() for change in changes[1:]), changes[0].whole()), None)


def _energy(change: Change, sketch: Sketch) -> float:
    """tr(d G d^T) without building G."""
    right = change.right if change.left is None else _root(change.left) @ change.right
    return float(((right @ sketch.factor.T) ** 2).sum()) + float((right**2 @ sketch.diag).sum())


@dataclass(frozen=True)
class Learned:
    """What a contribution's own rows cost it, in nats a token of the answers: with the base, and with its change.

    `felt` is how much that cost depends on the layer it depends on most: the mean of squared gradient norms by squared
    inputs that its sketches are scaled against (lab/sketching.py), 0 where nobody measured.
    """

    before: float
    after: float
    felt: float = 0.0

    @property
    def frailty(self) -> float:
        """What stayed uncertain, of what was learned: an answer known by heart bears more than one half known."""
        return self.after / (self.before - self.after)


FRAIL = 0.1  # where nobody measured: the median of ten contributions to a real model was 0.12
_CALIBRATED = 25.0  # lost share of what was learned, for a small cost: the middle of ten measured ones


def kept(loss: float, cost: float, learned: Learned | None) -> float:
    """The share of what a contribution learned that the merge is expected to keep.

    Where its author measured how much its answers depend on its layers: exp(-c felt cost / gain), the second-order rise
    of its loss (half the Fisher information's quadratic form) over what it gained. Else 1 - q (h + q^4) with q = `loss`
    and h its frailty: below 0 it does harm. Fitted on ten real contributions, checked in bench/foreseen.py.
    """
    if learned is not None and learned.felt > 0:
        return float(np.exp(-_CALIBRATED * learned.felt * cost / (learned.before - learned.after)))
    return 1.0 - loss * ((learned.frailty if learned else FRAIL) + loss**4)


@dataclass(frozen=True)
class Meeting:
    """What one contribution has to do with another, over every tensor that both change."""

    tensors: int
    signs: float
    inputs: float
    outputs: float
    cosine: float


def meeting(pairs: Sequence[tuple[Change, Change]]) -> Meeting:
    """Of the changes of two contributions to the same matrices: overlaps are the mean over matrices."""
    if not pairs:
        return Meeting(0, 0.0, 0.0, 0.0, 0.0)
    signs = total(sign_conflict(a, b) for a, b in pairs).ratio
    inputs = [input_overlap(own_sketch(a), own_sketch(b)) for a, b in pairs]
    outputs = [output_overlap(a, b) for a, b in pairs]
    angle = _over_norms(*(sum(inner(*both) for both in kind) for kind in _kinds(pairs)))
    return Meeting(len(pairs), signs, float(np.mean(inputs)), float(np.mean(outputs)), angle)


def _kinds(pairs: Sequence[tuple[Change, Change]]) -> Iterator[list[tuple[Change, Change]]]:
    yield list(pairs)
    yield [(a, a) for a, _ in pairs]
    yield [(b, b) for _, b in pairs]


@dataclass(frozen=True)
class Losses:
    """What a merge is expected to do to the contributions in it."""

    lost: Mapping[Digest, Mapping[str, Share]]  # contribution -> tensor -> what is lost of its change there
    costs: Mapping[Digest, float]  # contribution -> sum over its matrices of |(D - d) G^1/2|^2 / rows of the matrix

    def loss(self, digest: Digest) -> float:
        """The share of a contribution's change that is lost, over all tensors."""
        return total(self.lost[digest].values()).ratio

    def worst(self, digest: Digest, most: int = WORST) -> list[str]:
        """The tensors on which most is lost, those that cost most first."""
        shares = self.lost[digest]
        return sorted(shares, key=lambda name: (-shares[name].part, name))[:most]


def forecast_losses(
    fold: Fold, without: Iterable[Digest] = (), only: Sequence[str] = (), progress: Progress = quiet
) -> Losses:
    """Every contribution's loss on every matrix it changes, as the fold will have it; some left out where asked.

    Norms and biases are passed over. `only` keeps to some tensors.
    """
    names, absent = only or fold.changed, set(without)
    shares: dict[Digest, dict[str, Share]] = {digest: {} for digest in fold.deltas if digest not in absent}
    costs = dict.fromkeys(shares, 0.0)
    for done, name in enumerate(names):
        progress("forecast tensors", done, len(names))
        changes = {digest: change for digest, change in fold.changes(name).items() if digest not in absent}
        if not changes or next(iter(changes.values())).right.ndim != 2:
            continue
        merged = fold.merged(name, list(changes.values()))
        for digest, change in changes.items():
            share = shares[digest][name] = lost(merged, change)
            costs[digest] += share.part / change.shape[0]
    progress("forecast tensors", len(names), len(names))
    return Losses(shares, costs)


def causes(fold: Fold, mine: Digest, losses: Losses, progress: Progress = quiet) -> dict[Digest, float]:
    """How much less of a contribution's change would be lost without each other one, on the tensors that cost it most.

    The fold itself is asked again with one fewer, so the answer is exact for every method.
    """
    names = losses.worst(mine)
    now = total(losses.lost[mine][name] for name in names).ratio
    others = [other for other, shares in losses.lost.items() if other != mine and shares.keys() & set(names)]
    answers = {}
    for done, other in enumerate(others):
        progress("leave out one by one", done, len(others))
        then = forecast_losses(fold, [other], names)
        answers[other] = now - then.loss(mine)
    progress("leave out one by one", len(others), len(others))
    return answers

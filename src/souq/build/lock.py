"""What a commit builds to, computed and not read: the half of building that a doubter needs.

No cache, no earlier build, no file: base and contributions in, every tensor's digest out.

    lock = model_lock(main)
    differing(main.model, lock)   # empty where model.lock tells the truth
"""

from __future__ import annotations

from collections.abc import Mapping

from souq.merge import Fold
from souq.merge.grow import Larger
from souq.merge.sums import Kept
from souq.progress import Progress, quiet
from souq.records import Digest
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from souq.weights.delta import Checkpoint, Delta, Lock, TensorRef
from souq.weights.store import Stored


def fold(snapshot: Snapshot, extra: Offer | None = None) -> Fold:
    """The merged checkpoint of a commit, lazy, with one more contribution where asked."""
    return folded(snapshot, Stored(snapshot.base, snapshot.repo.store), snapshot.deltas(extra), extra=extra)


def model_lock(snapshot: Snapshot, progress: Progress = quiet) -> Lock:
    """What a commit builds to, computed and not read: every tensor's digest."""
    merged, grown = fold(snapshot), snapshot.grown()
    whole = Larger(merged, grown, snapshot.repo.store.get)
    changed, lock = set(merged.changed), Lock()
    for done, name in enumerate(whole):
        progress("rebuild", done, len(whole))
        own = grown.own(name)
        lock[name] = snapshot.base[own] if own is not None and own not in changed else TensorRef.of(whole[name])
    progress("rebuild", len(whole), len(whole))
    return lock


def moved(snapshot: Snapshot, lock: Lock) -> list[str]:
    """The tensors of a commit's model that are not the base's own."""
    grown, base = snapshot.grown(), snapshot.base
    return [name for name, ref in lock.items() if (own := grown.own(name)) is None or base[own] != ref]


def differing(claimed: Lock, rebuilt: Lock) -> list[str]:
    """The tensors two locks do not agree on."""
    return sorted(name for name in claimed.keys() | rebuilt.keys() if claimed.get(name) != rebuilt.get(name))


def folded(
    snapshot: Snapshot,
    base: Checkpoint,
    deltas: Mapping[Digest, Delta],
    kept: Kept | None = None,
    left: Mapping[Digest, Delta] | None = None,
    extra: Offer | None = None,
) -> Fold:
    """Some contributions merged as a commit (or one more) says they are merged, and what was kept of others."""
    merging = snapshot.merging(extra)
    return Fold(
        base,
        deltas,
        snapshot.repo.store.get,
        method=merging.method,
        settings=merging.settings,
        weights=merging.weights,
        base_sketch=snapshot.sketch,
        kept=kept,
        left=left,
        member=lambda digest: snapshot.deltas(extra, only={digest})[digest],
    )

"""What main keeps of each contribution, measured on its own rows: the answers' loss in the base, alone, and in main.

for kept in retention(main, rows, progress):
    print(kept.slug, kept.share)   # (base - main) / (base - alone), None where it taught too little to tell
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from souq.build.lock import folded
from souq.files import replacing
from souq.lab import lm as lab_model
from souq.lab.packing import learnable, sequence_of
from souq.lab.sketching import nats, of_main_base, some_rows
from souq.merge import Fold
from souq.progress import Progress, quiet, tracked
from souq.records import Record, digest_of
from souq.repo.rows import rows_digest
from souq.repo.snapshot import Snapshot
from souq.weights.store import Stored

TAUGHT = 0.02  # nats a token: who gained less alone taught too little to divide by


class Retention(Record, frozen=True):
    """One contribution's loss, in nats a token of the answers in its rows; `share` is what is left of its gain."""

    slug: str
    rows: int
    base: float
    alone: float
    main: float

    @property
    def share(self) -> float | None:
        gain = self.base - self.alone
        return (self.base - self.main) / gain if gain >= TAUGHT else None


class _Alone(Record, frozen=True):
    base: float
    alone: float


def retention(
    main: Snapshot, rows: Mapping[str, Sequence[Mapping[str, Any]]], progress: Progress = quiet
) -> list[Retention]:
    """What main keeps of some landed contributions, each by its own `rows`, of which at most 96 are read.

    What the base and a contribution alone make of rows never changes: it is measured once and remembered.
    """
    lm, base = of_main_base(main, progress), Stored(main.base, main.repo.store)
    some = {slug: list(some_rows(own)) for slug, own in rows.items()}
    sequences = {slug: learnable(lm, [sequence_of(lm, row) for row in own]) for slug, own in some.items()}
    deltas = {slug: delta for slug in rows if (delta := main.offers[slug].delta) is not None and delta.parts}
    notes, known = dict[str, Path](), dict[str, _Alone]()
    for slug in deltas:
        measured = digest_of([main.base_digest, main.landed[slug].digest, rows_digest(some[slug])])
        notes[slug] = main.repo.cache / "alone" / measured[3:35]
        with suppress(OSError, msgspec.MsgspecError):  # not measured yet, or damaged
            known[slug] = msgspec.json.decode(notes[slug].read_bytes(), type=_Alone)
    without = {slug: nats(lm, sequences[slug], "read without", progress) for slug in deltas if slug not in known}
    for slug, before in without.items():
        alone = Fold(base, {main.landed[slug].digest: deltas[slug]}, main.repo.store.get, method="mean")
        changed = list(alone.changed)
        lab_model.swap(lm, {name: alone[name] for name in tracked(changed, "apply the change", progress)})
        known[slug] = _Alone(base=before, alone=nats(lm, sequences[slug], "read with the change", progress))
        lab_model.swap(lm, {name: base[name] for name in changed})
        with replacing(notes[slug]) as partial:
            partial.write_bytes(msgspec.json.encode(known[slug]))
    merged = folded(main, base, main.deltas())
    lab_model.swap(lm, {name: merged[name] for name in tracked(merged.changed, "merge main", progress)})
    return [
        Retention(
            slug=slug, rows=len(some[slug]), base=known[slug].base, alone=known[slug].alone,
            main=nats(lm, sequences[slug], "read in main", progress),
        )
        for slug in deltas
    ]  # fmt: skip

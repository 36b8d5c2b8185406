"""What main keeps of each contribution, measured on its own rows: in the base, with it alone, and in main.

for kept in retention(main, rows, progress):
    print(kept.slug, kept.share)   # (main - base) / (alone - base), None where it taught too little to tell
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from souq.files import replacing
from souq.lab import lm as lab_model
from souq.lab.packing import learnable, sequence_of
from souq.lab.sketching import Reading, alone, merged, of_main_base, read_answers, some_rows
from souq.progress import Progress, quiet
from souq.records import Record, digest_of
from souq.repo.rows import rows_digest
from souq.repo.snapshot import Snapshot
from souq.weights.store import Stored

TAUGHT, RIGHT = 0.02, 0.1  # nats a token, and a share of answers: who gained less taught too little to divide by


class Retention(Record, frozen=True):
    """One contribution's rows in the base, with it alone and in main; `share` is what is left of its gain."""

    slug: str
    rows: int
    base: Reading
    alone: Reading
    main: Reading

    @property
    def share(self) -> float | None:
        """Of answers that became right, where it taught some; else of the loss, which is soon near nothing anywhere."""
        if (gain := self.alone.right - self.base.right) >= RIGHT:
            return (self.main.right - self.base.right) / gain
        lost = self.base.nats - self.alone.nats
        return (self.base.nats - self.main.nats) / lost if lost >= TAUGHT else None


class _Alone(Record, frozen=True):
    base: Reading
    alone: Reading


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
        notes[slug] = main.repo.cache / "read-alone" / measured[3:35]
        with suppress(OSError, msgspec.MsgspecError):  # not measured yet, or damaged
            known[slug] = msgspec.json.decode(notes[slug].read_bytes(), type=_Alone)
    without = {
        slug: read_answers(lm, sequences[slug], "read without", progress) for slug in deltas if slug not in known
    }
    for slug, before in without.items():
        changed = alone(main, deltas[slug], main.repo.store.get, progress)
        lab_model.swap(lm, changed)
        known[slug] = _Alone(base=before, alone=read_answers(lm, sequences[slug], "read with the change", progress))
        lab_model.swap(lm, {name: base[name] for name in changed})
        with replacing(notes[slug]) as partial:
            partial.write_bytes(msgspec.json.encode(known[slug]))
    lab_model.swap(lm, merged(main, main.deltas(), progress))
    return [
        Retention(
            slug=slug, rows=len(some[slug]), base=known[slug].base, alone=known[slug].alone,
            main=read_answers(lm, sequences[slug], "read in main", progress),
        )
        for slug in deltas
    ]  # fmt: skip

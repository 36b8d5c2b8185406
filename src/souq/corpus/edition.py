"""What the manifest of a corpus says of one edition."""

from __future__ import annotations

from souq.corpus.shards import FileInfo
from souq.errors import UsageError
from souq.records import Digest, Record


class EditionInfo(Record, frozen=True):
    """One edition: who wrote it from what, how many rows stayed and why others did not, and its files."""

    teacher: Digest
    engine: str
    teacher_licence: str
    recipe: Digest
    name: str
    title: str
    licence: str  # binds whoever takes all kept rows
    rows: dict[str, int]  # by subset: kept, rejected
    tokens: int  # of kept answers
    files: dict[str, FileInfo]
    rejected: dict[str, int]  # rows by why
    origins: dict[str, int]  # kept rows by real, synthetic, mixed
    deepest: int  # ancestry of a kept row
    judges: dict[str, str]  # by name, how often each was wrong
    spent: dict[str, int]  # tokens asked and answered
    before: str  # the edition this one follows
    new: int  # rows that were not in that one
    dropped: int  # rows of that one that are not here

    def refuse_empty(self) -> None:
        """Say no to an edition that kept nothing.

        Raises:
            UsageError: no row is kept; by which filters.
        """
        if not self.rows["kept"]:
            counts = sorted(self.rejected.items(), key=lambda pair: -pair[1])
            because = ", ".join(f"{count:,} {why}" for why, count in counts)
            raise UsageError(f"no row is left: {because}", hint="look at subset=rejected, and at the recipe's filters")

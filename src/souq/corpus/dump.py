"""A corpus on disk, published like a crawl: editions of Parquet shards, an index, a manifest, a datasheet.

    corpus/dump=2026-48/subset=kept/part-00000.parquet       every row with its provenance (row.py), by domain and id
    corpus/dump=2026-48/subset=rejected/…                     what was not kept, and why: for audits of the tail
    corpus/index/dump=2026-48/subset=kept/part-00000.parquet  scalars, and in which file and row the rest is
    corpus/manifest.json                                      every file's digest, what is new and what was dropped
    corpus/README.md                                          the datasheet; Hugging Face reads its configurations

Files depend on rows alone, never on when or in which order these were made; each is written whole or not at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from souq.corpus.datasheet import datasheet
from souq.corpus.edition import EditionInfo
from souq.corpus.recipe import CorpusRecipe
from souq.corpus.row import Row, joint
from souq.corpus.shards import FileInfo, read_shard, write_shards
from souq.errors import Hostile, NotFound
from souq.files import replacing
from souq.records import Digest, Record, canonical, digest, read_json

_AGAIN = "bring back the one it was published with, or make the corpus again in another folder"


class _File(Record, frozen=True):
    digest: str


class _Rows(Record, frozen=True):
    kept: int


class _Edition(Record, frozen=True):
    """What others rely on of an edition; souq writes more."""

    name: str
    title: str
    teacher: str
    recipe: str
    licence: str
    rows: _Rows
    files: dict[str, _File]


class _Manifest(Record, frozen=True):
    latest: str
    dumps: dict[str, _Edition]


def publish(
    rows: Sequence[Row], out: Path, recipe: CorpusRecipe, *, teacher: Digest, engine: str, licence: str,
    judges: Mapping[str, str] | None = None, spent: Mapping[str, int] | None = None,
) -> EditionInfo:  # fmt: skip
    """Write one edition beside those that are there; what the manifest says of it. `licence` is the teacher's."""
    kept = [row for row in rows if not row.rejected]
    subsets = {"kept": kept, "rejected": [row for row in rows if row.rejected]}
    files = dict[str, FileInfo]()
    for subset, chosen in subsets.items():
        ordered = sorted(chosen, key=lambda row: (row.domain, row.id, row.seed))
        files |= write_shards(ordered, out, f"dump={recipe.dump}/subset={subset}")
    editions = manifest(out)["dumps"] if (out / "manifest.json").exists() else {}
    before = max((name for name in editions if _order(name) < _order(recipe.dump)), key=_order, default="")
    ids = {row.id for row in kept}
    ids_before = {row["id"] for row in read_rows(out, before)} if before else set[Digest]()
    edition = EditionInfo(
        name=recipe.name, title=recipe.title, recipe=recipe.digest,
        teacher=teacher, teacher_licence=licence, engine=engine, licence=joint([row.licence for row in kept]),
        rows={subset: len(chosen) for subset, chosen in subsets.items()},
        tokens=sum(row.tokens for row in kept),
        rejected=_counted(row.rejected for row in subsets["rejected"]),
        origins=_counted(row.origin for row in kept),
        deepest=max((row.depth for row in kept), default=0),
        judges=dict(judges or {}), spent=dict(spent or {}), files=files,
        before=before, new=len(ids - ids_before) if before else len(kept), dropped=len(ids_before - ids),
    )  # fmt: skip
    editions = dict(sorted((editions | {recipe.dump: edition}).items()))
    _write(out / "manifest.json", canonical({"format": 1, "latest": recipe.dump, "dumps": editions}))
    _sweep(out, recipe.dump, files)
    for name, data in datasheet(edition, kept, list(editions)).items():
        _write(out / name, data)
    return edition


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _sweep(out: Path, name: str, files: Mapping[str, Any]) -> None:
    """Away with shards of an edition that was longer before: whoever reads by name would read them too."""
    shards = f"dump={name}/subset=*/part-*.parquet"
    for path in [*out.glob(shards), *out.glob(f"index/{shards}")]:
        if path.relative_to(out).as_posix() not in files:
            path.unlink()


def manifest(folder: Path) -> dict[str, Any]:
    """What a corpus holds, by edition.

    Raises:
        NotFound: not a corpus.
        Hostile: a manifest that souq did not write.
    """
    path = folder / "manifest.json"
    try:
        value = read_json(path.read_bytes()) if path.is_file() else {}
    except Hostile as error:
        raise Hostile(f"{path}: {error}") from error
    if not isinstance(value, dict) or not value:
        raise NotFound(f"no manifest.json in {folder}", hint="make a corpus with `souq corpus make`")
    try:
        known = msgspec.convert(value, _Manifest)
    except msgspec.ValidationError as error:
        raise Hostile(f"{path} is not one that souq writes: {error}", hint=_AGAIN) from error
    if known.latest not in known.dumps:
        raise Hostile(f"{path}: its latest edition is none of its editions", hint=_AGAIN)
    return value


def latest(folder: Path) -> dict[str, Any]:
    """What the manifest says of the latest edition."""
    facts = manifest(folder)
    edition: dict[str, Any] = facts["dumps"][facts["latest"]]
    return edition


def read_rows(folder: Path, name: str = "") -> list[dict[str, Any]]:
    """The kept rows of the latest edition, or of the one named; its files checked against the manifest.

    Raises:
        NotFound: not a corpus, or no such edition.
        Hostile: a file is not what the manifest says.
    """
    listed = manifest(folder)
    if (name := name or listed["latest"]) not in listed["dumps"]:
        raise NotFound(f"no edition {name!r} in {folder}", hint=f"one of {', '.join(listed['dumps'])}")
    rows: list[dict[str, Any]] = []
    for path, facts in listed["dumps"][name]["files"].items():
        if path.startswith(f"dump={name}/subset=kept/"):
            _refuse_changed(folder, path, facts)
            rows += read_shard(folder / path)
    return rows


def changed(folder: Path, path: str, facts: Mapping[str, Any]) -> bool:
    """Whether a file of a corpus is not what its manifest says."""
    file = folder / path
    return ".." in Path(path).parts or not file.is_file() or digest(file.read_bytes()) != facts["digest"]


def _refuse_changed(folder: Path, path: str, facts: Mapping[str, Any]) -> None:
    if changed(folder, path, facts):
        hint = "fetch it again, or make the edition again with `souq corpus make`"
        raise Hostile(f"{folder / path} is not what manifest.json says", hint=hint)


def _order(name: str) -> list[tuple[int, str]]:
    """By the numbers in it: 9 comes before 10, and 2026-48 before 2026-52."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(data)

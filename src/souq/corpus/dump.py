"""A corpus on disk, published like a crawl: editions of Parquet shards, an index of what can be counted, a manifest, a datasheet.

    corpus/dump=2026-48/subset=kept/part-00000.parquet      every row with its provenance (row.py), sorted by domain and id
    corpus/dump=2026-48/subset=rejected/…                    what was not kept, and why: for audits of the tail
    corpus/index/dump=2026-48/subset=kept/part-00000.parquet  scalars, and in which file and row the rest is
    corpus/manifest.json                                     every file's digest, what is new and what was dropped
    corpus/README.md                                         the datasheet; Hugging Face reads its configurations

Files depend on rows alone, never on when or in which order these were made; each is written whole or not at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from souq.corpus.recipe import Making
from souq.corpus.row import Row, joint, plain
from souq.errors import Hostile, Missing, NotFound
from souq.records import Record, canonical, digest, read_json

SHARD = 100_000  # rows
GROUP = 10_000  # rows of a row group: what a reader over a network fetches at least
SUBSETS = ("kept", "rejected")
_AGAIN = "bring back the one it was published with, or make the corpus again in another folder"
INDEXED = ("id", "domain", "language", "origin", "depth", "real_fraction", "tokens", "source", "licence", "prompt", "engine", "finish", "rejected")  # fmt: skip


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
    rows: Sequence[Row], out: Path, recipe: Making, *, teacher: str, engine: str, licence: str,
    judges: Mapping[str, str] | None = None, spent: Mapping[str, int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write one edition beside those that are there; what the manifest says of it."""
    files: dict[str, Any] = {}
    for subset in SUBSETS:
        chosen = sorted((row for row in rows if bool(row.rejected) == (subset == "rejected")), key=lambda r: (r.domain, r.id, r.seed))  # fmt: skip
        for number, start in enumerate(range(0, len(chosen), SHARD) or range(1)):
            files |= _shard(chosen[start : start + SHARD], out, f"dump={recipe.dump}/subset={subset}/part-{number:05}.parquet")  # fmt: skip
    told = manifest(out) if (out / "manifest.json").exists() else {}
    made = {
        "teacher": teacher, "engine": engine, "teacher_licence": licence, "recipe": recipe.digest, "name": recipe.name, "title": recipe.title,
        "licence": _binding(rows), "rows": {s: sum(f["rows"] for p, f in files.items() if p.startswith(f"dump={recipe.dump}/subset={s}/")) for s in SUBSETS},
        "tokens": sum(row.tokens for row in rows if not row.rejected), "files": files,
        "rejected": dict(sorted(Counter(row.rejected for row in rows if row.rejected).items())),
        "origins": dict(sorted(Counter(row.origin for row in rows if not row.rejected).items())),
        "deepest": max((row.depth for row in rows if not row.rejected), default=0),
        "judges": dict(judges or {}), "spent": dict(spent or {}), **_changed(rows, told, out, recipe.dump),
    }  # fmt: skip
    dumps = told.get("dumps", {}) | {recipe.dump: made}
    _write(out / "manifest.json", canonical({"format": 1, "latest": recipe.dump, "dumps": dict(sorted(dumps.items()))}))
    from souq.corpus.datasheet import datasheet

    _sweep(out, recipe.dump, files)
    for name, data in datasheet(made, [row for row in rows if not row.rejected], sorted(dumps)).items():
        _write(out / name, data)
    return made


def _sweep(out: Path, name: str, files: Mapping[str, Any]) -> None:
    """Away with shards of an edition that was longer when it was made before: whoever reads by name would read them too."""
    for path in [*out.glob(f"dump={name}/subset=*/part-*.parquet"), *out.glob(f"index/dump={name}/subset=*/part-*.parquet")]:  # fmt: skip
        if path.relative_to(out).as_posix() not in files:
            path.unlink()


def manifest(folder: Path) -> dict[str, Any]:
    """What a corpus holds, by edition.

    Raises:
        NotFound: not a corpus.
        Hostile: a manifest that souq did not write.
    """
    if not (told := _manifest(folder)):
        raise NotFound(f"no manifest.json in {folder}", hint="make a corpus with `souq corpus make`")
    try:
        known = msgspec.convert(told, _Manifest)
    except msgspec.ValidationError as error:
        raise Hostile(f"{folder}/manifest.json is not one that souq writes: {error}", hint=_AGAIN) from error  # fmt: skip
    if known.latest not in known.dumps:
        raise Hostile(f"{folder}/manifest.json: its latest edition is none of its editions", hint=_AGAIN)  # fmt: skip
    return told


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
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    told = manifest(folder)
    if (name := name or told["latest"]) not in told["dumps"]:
        raise NotFound(f"no edition {name!r} in {folder}", hint=f"one of {', '.join(told['dumps'])}")
    rows: list[dict[str, Any]] = []
    for path, facts in told["dumps"][name]["files"].items():
        if path.startswith(f"dump={name}/subset=kept/"):
            _refuse_strange(folder, path, facts)
            try:
                file = parquet.ParquetFile(folder / path)
                if file.metadata.num_rows > SHARD:
                    raise Hostile(f"{folder / path} holds {file.metadata.num_rows:,} rows; souq puts at most {SHARD:,} into a file")  # fmt: skip
                rows += file.read().to_pylist()
            except (arrow.ArrowException, UnicodeDecodeError, OSError) as error:
                raise Hostile(f"{folder / path} is no Parquet that souq writes: {str(error)[:200]}") from error
    return rows


def _refuse_strange(folder: Path, path: str, facts: Mapping[str, Any]) -> None:
    file = folder / path
    if ".." in Path(path).parts or not file.is_file() or digest(file.read_bytes()) != facts["digest"]:
        raise Hostile(f"{file} is not what manifest.json says", hint="fetch it again, or make the edition again with `souq corpus make`")  # fmt: skip


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        told = read_json(path.read_bytes()) if path.is_file() else {}
    except Hostile as error:
        raise Hostile(f"{path}: {error}") from error
    return told if isinstance(told, dict) else {}


def _binding(rows: Sequence[Row]) -> str:
    """What binds whoever takes all kept rows."""
    return joint(sorted({row.licence for row in rows if not row.rejected}))


def _changed(rows: Sequence[Row], told: Mapping[str, Any], out: Path, name: str) -> dict[str, Any]:
    """Beside the edition before: what is new, and what is no longer there."""
    before = max((n for n in told.get("dumps", {}) if _order(n) < _order(name)), key=_order, default="")
    if not before:
        return {"before": "", "new": sum(not row.rejected for row in rows), "dropped": 0}
    was, now = {row["id"] for row in read_rows(out, before)}, {row.id for row in rows if not row.rejected}
    return {"before": before, "new": len(now - was), "dropped": len(was - now)}


def _order(name: str) -> list[tuple[int, str]]:
    """By the numbers in it: 9 comes before 10, and 2026-48 before 2026-52."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _shard(rows: Sequence[Row], out: Path, path: str) -> dict[str, Any]:
    """A shard and its part of the index, as the manifest has them."""
    try:
        import pyarrow as arrow
    except ImportError as error:
        raise Missing("pyarrow is not installed", hint='run `pip install "souq[corpus]"`') from error
    schema = _schema(arrow)
    whole = arrow.Table.from_pylist([plain(row) for row in rows], schema=schema)
    index = whole.select(list(INDEXED))
    index = index.append_column("file", arrow.array([path] * len(rows), arrow.string()))
    index = index.append_column("row_group", arrow.array([i // GROUP for i in range(len(rows))], arrow.int32()))
    index = index.append_column("row", arrow.array([i % GROUP for i in range(len(rows))], arrow.int32()))
    parts = ((path, whole), (f"index/{path}", index))
    return {name: {"rows": len(rows), "digest": _table(table, out / name)} for name, table in parts}


def _table(table: Any, path: Path) -> str:
    import pyarrow.parquet as parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    parquet.write_table(table, partial, compression="zstd", row_group_size=GROUP)
    found = digest(partial.read_bytes())
    partial.replace(path)
    return found


def _schema(arrow: Any) -> Any:
    """row.py's fields, in its order."""
    turn = arrow.struct([("role", arrow.string()), ("content", arrow.string())])
    seen = arrow.struct([("name", arrow.string()), ("version", arrow.string()), ("kept", arrow.bool_()), ("score", arrow.float64()), ("because", arrow.string())])  # fmt: skip
    kinds = {
        "messages": arrow.list_(turn), "filters": arrow.list_(seen), "parents": arrow.list_(arrow.string()),
        **dict.fromkeys(("depth", "top_k", "max_tokens", "sample", "tokens"), arrow.int32()),
        **dict.fromkeys(("real_fraction", "temperature", "top_p", "min_p"), arrow.float32()),
    }  # fmt: skip
    return arrow.schema([(name, kinds.get(name, arrow.string())) for name in Row.__struct_fields__])


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    partial.replace(path)

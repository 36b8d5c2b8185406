"""A table of downloads that would fill its reader's memory, steer their terminal, or make a hub look loved."""

from __future__ import annotations

import resource
from contextlib import nullcontext

import pyarrow as arrow
import pytest
from pyarrow import parquet

from souq.audit.adoption import MAX_TEXT, adoption, picture, read_table
from souq.errors import Hostile


@pytest.mark.parametrize("size", [MAX_TEXT, 1 << 20])
@pytest.mark.parametrize("column", ["author", "downloads", "created", "id"])
def test_a_long_text_in_every_row(tmp_path, column, size):
    """A megabyte of a name, written once in a file of kilobytes, is a terabyte for who writes it out for each row.

    The longest that is taken is read in bounded memory, and no number of downloads; a longer one is refused.
    """
    rows = 300_000  # a million honest rows take two seconds too
    there = arrow.DictionaryArray.from_arrays(arrow.array([0] * rows, arrow.int32()), arrow.array(["9" * size]))
    columns = {"id": arrow.array(range(rows)), "downloads": arrow.array([1] * rows)} | {column: there}
    parquet.write_table(arrow.table(columns), tmp_path / "x.parquet", store_schema=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with nullcontext() if size == MAX_TEXT else pytest.raises(Hostile, match=f"a text of 1,048,576 bytes in {column}"):
        faults = read_table(tmp_path / "x.parquet").faults
        assert faults["not a number"] == (rows if column == "downloads" else 0)
        assert faults["repeated"] == (rows - 1 if column == "id" else 0)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kilobytes: a gigabyte


@pytest.mark.parametrize("kind", [arrow.list_(arrow.string()), arrow.binary(1 << 10), arrow.struct({"a": arrow.string()})], ids=str)  # fmt: skip
def test_a_column_of_anything(tmp_path, kind):
    """Lists, tables and blocks of bytes are refused by their kind, before one is read."""
    parquet.write_table(arrow.table({"downloads": arrow.array([1]), "author": arrow.nulls(1, kind)}), tmp_path / "x.parquet")  # fmt: skip

    with pytest.raises(Hostile, match="author is a column of"):
        read_table(tmp_path / "x.parquet")


def test_a_cell_without_an_end(tmp_path):
    """A quote that is never closed is not read to the end of the file in one piece."""
    (tmp_path / "x.csv").write_text('id,downloads\n"' + "a" * (64 << 20))

    with pytest.raises(Hostile, match="not CSV"):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"downloads": ' + "[" * 100_000, '{"downloads": ' + "9" * 5_000 + "}"]
)
def test_depth_and_digits(tmp_path, line):
    """Brackets without end and thousands of digits are bad rows, and no more."""
    (tmp_path / "x.jsonl").write_text(line + '\n{"downloads": 1}\n')

    found = read_table(tmp_path / "x.jsonl")

    assert found.counts.tolist() == [1]
    assert sum(found.faults.values()) == 1


def test_a_hub_is_not_made_loved(tmp_path):
    """Infinity, negative counts, and one model ten thousand times over move no share."""
    honest = "".join(f"a/{i},{i}\n" for i in range(100))
    forged = "a/x,inf\na/y,-1000000\n" + "a/99,99\n" * 10_000
    (tmp_path / "a.csv").write_text("id,downloads\n" + honest)
    (tmp_path / "b.csv").write_text("id,downloads\n" + honest + forged)

    assert adoption(read_table(tmp_path / "a.csv")).whole == adoption(read_table(tmp_path / "b.csv")).whole


def test_names_steer_nothing(tmp_path):
    """Escape sequences and turned writing in an organisation's name are spelled out; the picture is of numbers alone."""
    (tmp_path / "x.csv").write_text("id,downloads\n\x1b]0;x\x07<script>/m,3\n\u202egro/n,4\n")
    table = read_table(tmp_path / "x.csv")

    names = [group.name for group in adoption(table, by="organisation").groups]

    assert names == ["\\u202egro", "\\u001b]0;x\\u0007<script>"]
    assert "script" not in picture(table)

"""What tables promise: as a spreadsheet saves them they are read, by both verbs alike, and no count is left out for its
spelling; what is ambiguous is read by its column, and what cannot be read is named."""

from __future__ import annotations

import csv
import doctest
import io

import pytest

from souq.audit import sheet
from souq.audit.adoption import adoption, read_table
from souq.audit.index import read_ratings
from souq.errors import Hostile

pytest.importorskip("duckdb", reason="pip install 'souq[audit]'")

# How a table of the same cells is saved: encoding, delimiter, what stands above the header.
SAVED = [
    ("utf-8", ",", ""), ("utf-8-sig", ",", ""), ("utf-8", ";", ""), ("utf-8", "\t", ""), ("utf-16", "\t", ""),
    ("utf-16", ";", ""), ("utf-8-sig", ";", "sep=;\r\n"), ("utf-8", "|", "sep=|\n"),
]  # fmt: skip


def saved(path, rows, encoding="utf-8", delimiter=",", above="", end="\r\n"):
    out = io.StringIO()
    out.write(above)
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)
    path.write_bytes(out.getvalue().encode(encoding))
    return path


@pytest.mark.parametrize(("encoding", "delimiter", "above"), SAVED)
def test_both_verbs_read_a_table_however_it_was_saved(tmp_path, encoding, delimiter, above):
    counts = saved(
        tmp_path / "Größe.CSV", [["id", "Downloads"], ["ä/x; y", "1"], ["b", "3"]], encoding, delimiter, above
    )
    table = read_table(counts)
    assert (table.counts.tolist(), set(table.authors.names), table.faults["unreadable"]) == (
        [1, 3],
        {"unknown", "ä"},
        0,
    )

    rated = saved(
        tmp_path / "r.csv", [["model", "paper", "api"], ["ä; b", "open", "closed"]], encoding, delimiter, above
    )
    (model,) = read_ratings(rated.read_bytes(), "r.csv").rated
    assert (model.model, model.score) == ("ä; b", 1.0)


COUNTS = [
    ("4,500,000", 4_500_000), ("4.500.000", 4_500_000), ("4 500 000", 4_500_000), ("4\u202f500\u00a0000", 4_500_000),
    ("4'500'000", 4_500_000), ("45,00,000", 4_500_000), ("4.5M", 4_500_000), ("4,5 m", 4_500_000), ("4.5E+06", 4_500_000),
    ("120k", 120_000), ("1.2b", 1_200_000_000), ("1,234.00", 1_234), ("1.234,00", 1_234), ("12,00", 12), ("7.0", 7),
]  # fmt: skip


@pytest.mark.parametrize(("text", "count"), COUNTS)
def test_a_count_is_read_however_it_is_spelled(tmp_path, text, count):
    table = read_table(saved(tmp_path / "x.csv", [["id", "downloads"], ["a", text], ["b", "0"]]))
    assert table.counts.tolist() == [count, 0], table.faults


@pytest.mark.parametrize(
    ("column", "counts"),
    [
        (["4.500", "120.000", "12"], [4500, 120_000, 12]),  # some are no decimals of zeros: dots part thousands
        (["4.000", "120.000", "12.000"], [4, 120, 12]),  # all are, as %.3f writes them
        (["4.500", "1.25", "3.0"], [3]),  # decimals: what is no whole number is no count
        (["NA", "-", "n/a", "null", "5"], [5]),
    ],
)
def test_what_is_ambiguous_is_read_by_its_column(tmp_path, column, counts):
    table = read_table(saved(tmp_path / "x.csv", [["id", "downloads"], *([f"m{i}", t] for i, t in enumerate(column))]))
    assert table.counts.tolist() == counts
    assert sum(table.faults.values()) == len(column) - len(counts)


def test_what_was_rounded_is_said(tmp_path):
    table = read_table(saved(tmp_path / "x.csv", [["id", "downloads"], ["a", "4.5M"], ["b", "3e+05"], ["c", "12"]]))
    assert "2 counts stand there rounded" in adoption(table).note


@pytest.mark.parametrize(
    ("data", "because"),
    [
        ("model;paper\nä;open\n".encode("cp1252"), "not UTF-8"),
        (b"\xff\xfem\x00o\x00d\x00\x00", "not"),
        (b"model,paper\nx\x00y,open\n", "zero byte"),
    ],
)
def test_what_is_no_text_says_how_to_save_it(data, because):
    with pytest.raises(Hostile, match=because) as refusal:
        read_ratings(data, "t.csv")
    assert "CSV UTF-8" in refusal.value.hint


def test_a_mark_that_lies_is_told_in_plain_words(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe" + "id,downloads\n".encode("utf-16-le") + b"\x00\xd8\x00")
    with pytest.raises(Hostile, match="as its first bytes say"):
        read_table(tmp_path / "x.csv")


def test_the_words_in_the_module_hold():
    assert doctest.testmod(sheet).failed == 0

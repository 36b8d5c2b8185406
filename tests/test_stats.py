"""How downloads are shared: published shares come back, and a row without a count is never a zero."""

from __future__ import annotations

import json
import math
from collections import Counter
from csv import DictReader
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as arrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from souq.audit import adoption as audit
from souq.audit.adoption import adoption, gini, lorenz, read_table, shares
from souq.errors import Hostile, NotFound, UsageError

SAMPLE = Path(__file__).parent / "fixtures" / "adoption" / "tracked.csv"  # every 20th of the tracked models
TRACKED = Path(__file__).parents[2] / "shared" / "data" / "adoption" / "hf_tracked_models.csv"  # all of them, 451 kB
COUNTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=200).map(lambda found: np.array(found, float))


def test_a_sample_of_the_tracked_models_comes_out():
    """104 real models: their shares are those that a page of plain arithmetic gives."""
    with SAMPLE.open() as file:
        rows = list(DictReader(file))
    counts = sorted(int(row["downloads"]) for row in rows)
    total, n = sum(counts), len(counts)
    apart = sum(abs(a - b) for a in counts for b in counts)

    found = adoption(read_table(SAMPLE), by="year")
    whole = found.whole

    assert (found.rows, whole.models, sum(found.faults.values())) == (n, n, 0) == (104, 104, 0)
    assert whole.never == pytest.approx(counts.count(0) / n)
    assert whole.top_1 == pytest.approx(sum(counts[-math.ceil(n / 100) :]) / total)
    assert whole.top_10 == pytest.approx(sum(counts[-math.ceil(n / 10) :]) / total)
    assert whole.gini == pytest.approx(apart / (2 * n * total))
    assert {group.name: group.models for group in found.groups} == Counter(row["created_at"][:4] for row in rows)


@pytest.mark.beside
@pytest.mark.skipif(not TRACKED.is_file(), reason="the whole table, 451 kB, is beside no checkout but the authors'")
def test_the_tracked_models_come_out():
    """2,061 models of June 2026 (currentai-org/os-ai-map): 18.9% never, 79.3% to 21 models, 98.8% to a tenth, Gini 0.982."""
    table = read_table(TRACKED)
    found = adoption(table, by="year")
    whole = found.whole

    assert (found.rows, whole.models, sum(found.faults.values())) == (2061, 2061, 0)
    assert (round(whole.never, 3), round(whole.top_1, 3), round(whole.top_10, 3), round(whole.gini, 3)) == (0.189, 0.793, 0.988, 0.982)  # fmt: skip
    assert np.sort(table.counts)[-21:].sum() / table.counts.sum() == whole.top_1
    assert [group.name for group in found.groups] == ["2022", "2023", "2024", "2025", "2026"]
    assert sum(group.models for group in found.groups) == 2061


def hub(models=10_000):
    """70% at nothing and 1% with 99%, as Osborne, Ding and Kirk found the hub."""
    top, none = models // 100, models * 7 // 10
    counts = np.concatenate([np.full(top, 99 * 29), np.ones(models - top - none, int), np.zeros(none, int)])
    ids = [f"org{i % 100}/model{i}" for i in range(models)]
    years = [f"{2021 + i % 5}-03-01T00:00:00.000Z" for i in range(models)]
    return arrow.table({"id": ids, "downloads": np.random.default_rng(0).permutation(counts), "createdAt": years})


def written(table, path):
    if path.suffix == ".csv":
        csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_drawn_hub_comes_back(tmp_path, kind):
    """70% never, 99% to a hundredth, whatever it is written in; the organisations stand before the slash."""
    found = adoption(read_table(written(hub(), tmp_path / f"hub.{kind}")), by="organisation", most=7)

    assert found.whole.never == pytest.approx(0.7)
    assert found.whole.top_1 == pytest.approx(0.99)
    assert found.whole.top_10 == pytest.approx(0.99 + 0.01 * 9 / 29)
    assert (found.grouped, len(found.groups)) == (100, 7)
    assert [group.downloads for group in found.groups] == sorted((g.downloads for g in found.groups), reverse=True)
    assert found.columns == {"downloads": "downloads", "id": "id", "created": "createdAt"}


@given(COUNTS)
def test_gini_is_half_the_mean_difference(counts):
    """Against the definition: the mean difference of every two models, over twice the mean."""
    wanted = np.abs(counts[:, None] - counts[None, :]).mean() / (2 * counts.mean()) if counts.any() else 0.0

    assert gini(counts) == pytest.approx(wanted, abs=1e-9)


@given(COUNTS)
def test_gini_is_twice_what_lies_above_the_curve(counts):
    """The picture and the number are one: the area between Lorenz's curve and equality is half of Gini."""
    x, y = lorenz(counts, points=len(counts))
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))

    assert (1 - 2 * area if counts.any() else 0.0) == pytest.approx(gini(counts), abs=1e-9)


@given(COUNTS, st.integers(2, 9))
def test_shares_do_not_know_the_unit(counts, times):
    """Ten times the downloads, or each model twice under other names, is as unequal."""
    one, many = shares("x", counts), shares("x", counts * times)

    assert (many.never, many.gini) == (one.never, pytest.approx(one.gini, abs=1e-9))
    assert many.top_1 == pytest.approx(one.top_1)
    assert shares("x", np.tile(counts, times)).gini == pytest.approx(one.gini, abs=1e-9)
    assert one.top_1 <= one.top_10 + 1e-12


BAD = [
    ("a/1", "5"), ("a/2", "0"), ("a/3", ""), ("a/4", "-1"), ("a/5", "nan"), ("a/6", "many"), ("a/7", "1e9"), ("a/1", "7"), ("a/8", " 12 "),
    ("a/9", "3.0"), ("a/10", "3.5"), ("a/11", "٣"), ("", "4"), ("", "4"), ("a/3", "2"), ("a/12", "1" + "0" * 30),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_bad_row_is_told_and_no_zero(tmp_path, kind):
    """Empty, negative, no number, named again: counted by why, and what is left is what was said."""
    table = arrow.table({"id": [name for name, _ in BAD], "downloads": [count for _, count in BAD]})

    found = read_table(written(table, tmp_path / f"x.{kind}"))

    assert sorted(found.counts) == [0, 2, 3, 4, 4, 5, 12, 1e9]
    assert found.faults == {"empty": 2, "negative": 1, "not a number": 4, "repeated": 1, "unreadable": 0}
    assert found.rows == len(found.counts) + sum(found.faults.values()) == len(BAD)


def test_numbers_of_any_kind(tmp_path):
    """Parquet's floats and nulls, JSON's numbers, null and true: a missing one is empty, and true is no number."""
    values = [5.0, None, float("nan"), -2.0, 1.5, 1e7]
    floats = read_table(written(arrow.table({"downloads": arrow.array(values)}), tmp_path / "x.parquet"))
    (tmp_path / "x.jsonl").write_text("".join(f'{{"downloads": {v}}}\n' for v in ("5", "null", "true", "-2", "1.5", "1e7", "[1]", '{"a":1}')) + "{\n[]\n\n")  # fmt: skip
    lines = read_table(tmp_path / "x.jsonl")

    assert sorted(floats.counts) == sorted(lines.counts) == [5, 1e7]
    assert (floats.faults["negative"], lines.faults["negative"]) == (1, 1)
    assert floats.faults["empty"] + floats.faults["not a number"] == 3
    assert (lines.faults["empty"], lines.faults["not a number"], lines.faults["unreadable"]) == (1, 4, 2)


def test_a_row_of_another_length_is_unreadable(tmp_path):
    (tmp_path / "x.csv").write_text("id,downloads\na,1\nb,2,3\nc\nd,4\n")

    found = read_table(tmp_path / "x.csv")

    assert (found.counts.tolist(), found.faults["unreadable"], found.rows) == ([1, 4], 2, 4)


def test_columns_are_named(tmp_path):
    """A column of another name is read when it is named; one that is not there is answered with the nearest."""
    (tmp_path / "x.csv").write_text("model,hits,team\na/x,1,t\nb/y,2,\n")

    with pytest.raises(UsageError, match="no column of downloads"):
        read_table(tmp_path / "x.csv")
    with pytest.raises(UsageError, match="did you mean 'hits'"):
        read_table(tmp_path / "x.csv", {"downloads": "hit"})
    found = read_table(tmp_path / "x.csv", {"downloads": "hits", "author": "team"})
    assert [found.authors.names[k] for k in found.authors.which] == ["t", "b"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path, kind):
    table = arrow.table([[1], [2]], names=["downloads", "downloads"])

    with pytest.raises(Hostile, match="two columns are called 'downloads'"):
        read_table(written(table, tmp_path / f"x.{kind}"))


@pytest.mark.parametrize(("name", "data"), [("x.parquet", b"PAR1 no PAR1"), ("x.csv", b""), ("x.parquet", b"")])
def test_what_is_not_what_it_says(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)

    with pytest.raises(Hostile, match="not "):
        read_table(tmp_path / name)


def test_a_packed_table_is_not_unpacked(tmp_path):
    """A name of .csv.gz is no .csv, and packed bytes under .csv are not unpacked: a bomb stays packed."""
    import gzip

    for name in ("x.csv.gz", "x.csv"):
        (tmp_path / name).write_bytes(gzip.compress(b"id,downloads\na,1\n"))
        with pytest.raises((UsageError, Hostile)):
            read_table(tmp_path / name)


def test_too_large(tmp_path, monkeypatch):
    """Files, rows and lines have bounds, and each says which."""
    path = written(hub(100), tmp_path / "x.csv")
    lines = written(hub(100), tmp_path / "x.jsonl")
    stored = written(hub(100), tmp_path / "x.parquet")
    monkeypatch.setattr(audit, "MAX_ROWS", 50)
    for one in (path, lines, stored):
        with pytest.raises(Hostile, match=r"the most is 50|more than 50 rows"):
            read_table(one)
    monkeypatch.setattr(audit, "MAX_LINE", 20)
    with pytest.raises(Hostile, match="a row of more than 20 bytes"):
        read_table(lines)
    monkeypatch.setattr(audit, "MAX_FILE", 100)
    with pytest.raises(Hostile, match="the most is 100"):
        read_table(path)


def test_nothing_to_share(tmp_path):
    (tmp_path / "x.csv").write_text("id,downloads\na,\n")

    with pytest.raises(UsageError, match="no row has a number"):
        adoption(read_table(tmp_path / "x.csv"))
    with pytest.raises(NotFound):
        read_table(tmp_path / "y.csv")
    assert shares("x", np.zeros(3)) == audit.Shares(name="x", models=3, downloads=0.0, never=1.0, top_1=0.0, top_10=0.0, gini=0.0)  # fmt: skip


def test_years_are_years(tmp_path):
    told = ["2023-01-02", "2024", "20245", "yesterday", "", "2023-05-05T00:00:00Z"]
    rows = "".join(f"m{i},1,{when}\n" for i, when in enumerate(told))
    (tmp_path / "x.csv").write_text(f"id,downloads,created\n{rows}")

    found = adoption(read_table(tmp_path / "x.csv"), by="year")

    assert {group.name: group.models for group in found.groups} == {"2023": 2, "2024": 1, "unknown": 3}


def test_the_command(bazaar, tmp_path):
    """The table, what was left out and the thirty days on stderr; JSON and the curve for programs; nothing steers a terminal."""
    (tmp_path / "x.csv").write_text("id,downloads\na/1,5\na/2,\n\x1b[31mevil<b>/3,7\n")

    code, out, err = bazaar.says("chen", f"stats {tmp_path}/x.csv --by organisation --svg {tmp_path}/l.svg")
    assert code == 0
    assert "\x1b" not in out
    assert "left out of 3 rows: 1 empty" in err
    assert "about the last 30 days" in err
    drawn = ElementTree.parse(tmp_path / "l.svg").getroot()
    assert any("Gini 0.083" in (one.text or "") for one in drawn)

    code, out, _ = bazaar.says("chen", f"stats {tmp_path}/x.csv --json")
    assert code == 0
    assert json.loads(out)["faults"]["empty"] == 1
    assert "30 days" in json.loads(out)["note"]
    assert bazaar("chen", f"stats {tmp_path}/x.csv {tmp_path}/x.csv") == 2

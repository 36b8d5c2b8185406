"""The index's table is recomputed as published, in whatever shape somebody keeps it, and a bad cell is named by its line."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.audit.index import DIMENSIONS, POINTS, compare, read_ratings
from souq.audit.page import table_svg
from souq.cli import run
from souq.errors import Hostile

DATA = Path(__file__).parent / "fixtures" / "openness"

names = st.text("AaBbZz é-", min_size=1, max_size=6).map(str.strip).filter(bool)
tables = st.dictionaries(names, st.dictionaries(st.sampled_from(DIMENSIONS), st.sampled_from([*POINTS])), min_size=1)


def test_all_published_scores_and_their_order():
    """41 of 41 models of the FAccT 2024 snapshot have the published score, in the published order."""
    found = read_ratings((DATA / "ratings.csv").read_bytes(), "ratings.csv")
    compared = compare(found, (DATA / "scores.csv").read_bytes(), "scores.csv")

    assert (compared.published, compared.same, compared.in_order, bool(compared)) == (41, 41, True, True)
    assert found.counts() == {"open": 154, "partial": 168, "closed": 252, "unknown": 0}
    assert [(one.model, one.score) for one in found.rated[:2]] == [("OLMo 7B Instruct", 12.5), ("BLOOMZ", 12.0)]


def test_another_number_is_not_as_published():
    """One score that differs, or two models the other way round, and the answer is no."""
    found = read_ratings(b"model,dimension,rating\nA,api,open\nB,api,partial\n", "t.csv")

    assert compare(found, b"model,score\nA,1\nB,.5\n", "m.csv")
    assert not compare(found, b"model,score\nB,.5\nA,1\n", "m.csv")
    assert compare(found, b"model,score\nA,1\nB,1\n", "m.csv").different == ("B: 0.5, published 1.0",)


@given(tables, st.sampled_from(",;\t|"))
def test_the_shape_of_a_table_changes_nothing(table, mark):
    """Long or wide, by any delimiter, in CSV or YAML: the same scores in the same order."""
    wide = [mark.join(["api_", "model", *reversed(DIMENSIONS)])]
    wide += [mark.join(["x", name, *(row.get(d, "") for d in reversed(DIMENSIONS))]) for name, row in table.items()]
    listed = json.dumps([{"model": name, **{d: row.get(d, "?") for d in DIMENSIONS}} for name, row in table.items()])

    from_csv = read_ratings("\n".join(wide).encode(), "t.csv")
    from_yaml = read_ratings(listed.encode(), "t.yaml")

    assert from_csv == from_yaml
    assert [one.model for one in from_csv.rated] == sorted(table, key=lambda n: (-sum(POINTS[r] for r in table[n].values()), n))  # fmt: skip


def test_what_is_missing_is_unknown_and_said():
    """A cell that is not there is not closed: it counts 0 and is listed."""
    (one,) = read_ratings(b"model;rating;dimension\nA;open;opencode\nA;na;paper\n", "t.csv").rated

    assert one.score == 1.0
    assert len(one.unknown) == 13
    assert "paper" in one.unknown


BAD = {
    b"model,dimension,rating\nA,api,open\nA,api,closed\n": "line 3: api of A is rated twice",
    b"model,dimension,rating\nA,api,opne\n": r"line 2: 'opne' is no rating \(did you mean 'open'\?\)",
    b"model,dimension,rating\nA,apy,open\n": r"line 2: 'apy' is no dimension .*'api'",
    b"model,dimension,rating\nA,api,open,1\n": "line 2: 4 cells below 3 columns",
    b"model,dimension,rating\n\xff": "line 2: not UTF-8",
    b'model,dimension,rating\n"A\n",api,"open': "line 2: not CSV",
    b"model,dimension,rating\n\x1b[31mA,api,open\n": "line 2: a control character",
    b"model,model\nA,B\n": "column stands twice",
    b"model,dimension,rating\n": "without rows",
    b"": "without rows",
}


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_a_bad_cell_is_refused_with_its_line(data):
    with pytest.raises(Hostile, match=BAD[data]):
        read_ratings(data, "t.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [("A: &a {api: open}\nB: *a\n", "line 1|line 2"), ("[" * 9000, "line 1"), ("A: {api: open, api: closed}", "line 1"), ("A: {api: open, API: closed}", "key once"),
     ("A: !!python/name:os.system x", "line 1"), ("A: {api: open\nB", "line 2"), ("A: {api: open}\n---\nB: {}\n", "one YAML")],
)  # fmt: skip
def test_bad_yaml_is_refused(text, said):
    with pytest.raises(Hostile, match=said):
        read_ratings(text.encode(), "t.yml")


def test_a_name_cannot_leave_the_drawing():
    """Somebody's name is text in the SVG, whatever it looks like, and the SVG is well-formed."""
    found = read_ratings(b"model,dimension,rating\n<script>alert(1)</script>,api,open\n", "t.csv")

    drawn = ElementTree.fromstring(table_svg(found))

    assert "{http://www.w3.org/2000/svg}script" not in {node.tag for node in drawn.iter()}
    assert "<script>alert(1)</script>" in [node.text for node in drawn.iter()]


def test_the_verb_answers_no_where_scores_differ(tmp_path, capfd):
    (tmp_path / "r.csv").write_text("model,dimension,rating\nA,api,open\n")
    (tmp_path / "m.csv").write_text("model,score\nA,2\n")
    words = ["audit", "table", str(tmp_path / "r.csv"), "--json", "--svg", str(tmp_path / "o.svg")]

    assert run(words) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["models"][0]["score"], told["counts"]["unknown"]) == (1.0, 13)
    assert "<svg" in (tmp_path / "o.svg").read_text()
    assert run([*words, "--models", str(tmp_path / "m.csv")]) == 3

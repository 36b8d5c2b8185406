"""The Model Openness Framework's classes are recomputed as its tool gives them; absent, unlicensed and not open differ."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.audit.mof import PARTS, Component, expected, judge, read_components, state
from souq.cli import run
from souq.errors import Hostile

DATA = Path(__file__).parent / "fixtures" / "openness"  # 17 of the tool's models
WHOLE = Path(__file__).parents[2] / "shared" / "data" / "openness"  # 137 of them, 171 kB
ALL = {name: Component(True, "OpenMDW-1.0") for name in PARTS}


def as_the_tool_says(folder):
    """How many models and components are in `folder`, all of whose classes and states are the tool's."""
    found = read_components((folder / "mof_components.csv").read_bytes(), "c.csv")
    assert expected(found, (folder / "mof_models.csv").read_bytes(), "m.csv") == []
    with (folder / "mof_components.csv").open() as file:
        rows = list(csv.DictReader(file))
    states = [state(row["component"], Component(row["status"] == "included", row["licence"])) for row in rows]
    assert [row for row, word in zip(rows, states, strict=True) if (word == "open") != (row["open"] == "True")] == []
    return len(found), len(rows)


def test_models_of_the_tool_have_their_class():
    """17 of 17 classes, of all four kinds, and each of 289 components open or not as the tool says."""
    assert as_the_tool_says(DATA) == (17, 289)
    with (DATA / "mof_models.csv").open() as file:
        assert {row["recomputed_class"] for row in csv.DictReader(file)} == {"0", "1", "2", "3"}


@pytest.mark.beside
@pytest.mark.skipif(not WHOLE.exists(), reason="the tool's whole table, 171 kB, is beside no checkout but the authors'")
def test_every_model_of_the_tool_has_its_class():
    """137 of 137 classes, and each of 2,329 components open or not as the tool says."""
    assert as_the_tool_says(WHOLE) == (137, 2329)


@pytest.mark.parametrize(("kind", "licence", "open_"), [
    ("Training code", "MIT", True), ("Training code", "CC-BY-4.0", False), ("Training code", "OpenMDW-1.0", True),
    ("Datasets", "CDLA-Permissive-2.0", True), ("Datasets", "CC-BY-NC-4.0", False), ("Datasets", "CC0-1.0", True),
    ("Model card", "CC-BY-SA-4.0", True), ("Model card", "CDLA-Permissive-2.0", False), ("Model card", "Apache 2.0", False),
])  # fmt: skip
def test_a_licence_fits_by_type(kind, licence, open_):
    assert (state(kind, Component(True, licence)) == "open") == open_


def test_what_stands_in_the_way_has_three_names():
    """Missing, without a licence, and under one that is not open are not the same thing to mend."""
    found = [state("Model card", c) for c in (None, Component(False, "MIT"), Component(True), Component(True, "CC-BY-NC-4.0"))]  # fmt: skip

    assert found == ["absent", "absent", "unlicensed", "not open"]


@given(st.sets(st.sampled_from([*PARTS])))
def test_a_class_needs_all_below_it(absent):
    """Class I is everything required; nothing of a higher class makes up for what a lower one lacks."""
    found = judge("A", {name: c for name, c in ALL.items() if name not in absent})
    lacks = {PARTS[n].of for n in absent if PARTS[n].required and not (n == "Technical report" and "Research paper" not in absent)}  # fmt: skip

    assert found.best == (0 if 3 in lacks else 3 if 2 in lacks else 2 if 1 in lacks else 1)
    assert bool(found.missing) == (found.best != 1)
    assert all(found.progress[n] == 0 for n in (2, 1) if lacks & set(range(n + 1, 4)))


def test_a_paper_is_as_good_as_a_report():
    found = judge("A", {name: c for name, c in ALL.items() if name != "Technical report"})

    assert (found.best, found.states["Technical report"]) == (1, "absent")


def test_licences_resolve_component_then_type_then_distribution(tmp_path, capfd):
    """Each is asked only where the one before is empty; the table may have any delimiter and order of columns."""
    head = "distribution_licence;type_licence;licence;component;model;status\n"
    rows = ["MIT;;;Model card;A;included", "MIT;CC-BY-NC-4.0;;Data card;A;included", "MIT;MIT;GPL;Evaluation results;A;included"]  # fmt: skip
    (tmp_path / "c.csv").write_text(head + "\n".join(rows))

    assert run(["audit", "mof", str(tmp_path / "c.csv"), "--json"]) == 0

    (told,) = json.loads(capfd.readouterr().out)["models"]
    states = {name: told["states"][name] for name in ("Model card", "Data card", "Evaluation results")}
    assert states == {"Model card": "open", "Data card": "not open", "Evaluation results": "not open"}
    assert (told["best"], told["next"]) == (0, 3)


@pytest.mark.parametrize(("rows", "said"), [
    ("A,Model cart,MIT", r"line 2: 'Model cart' is no component.*'Model card'"),
    ("A,Model card,MIT\nA,Model card,MIT", "line 3: Model card of A stands twice"),
    (",Model card,MIT", "line 2: a model's name"),
])  # fmt: skip
def test_a_bad_row_is_refused_with_its_line(rows, said):
    with pytest.raises(Hostile, match=said):
        read_components(f"model,component,licence\n{rows}\n".encode(), "c.csv")


def test_another_class_is_told():
    found = [judge("A", ALL)]

    assert expected(found, b"model,class\nA,1\n", "m.csv") == []
    assert expected(found, b"model,class\nA,2\nB,3\n", "m.csv") == [
        "A: class 1, expected 2", "B: class not in the table, expected 3",
    ]  # fmt: skip

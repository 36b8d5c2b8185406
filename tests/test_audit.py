"""An audit rates what the files show: nothing unknown is open, no claim is taken for proof, a contradiction is said."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil

import pytest

from souq.audit.evidence import audit
from souq.audit.index import DIMENSIONS
from souq.audit.mof import PARTS
from souq.audit.page import audit_html, badge_svg
from souq.audit.participation import ENOUGH, between, middle, share
from souq.cli import run
from tests.bazaar import Bazaar, copied
from tests.tiny import write_model

TODAY = "2026-11-25"
APACHE = "Apache License\nVersion 2.0, January 2004\n"


@pytest.fixture(scope="module")
def town(built_bazaar, tmp_path_factory):
    """One contribution with rows landed and released, exported by who released it."""
    town = copied(built_bazaar, tmp_path_factory.mktemp("audited") / "town")
    data = ("--data", town.folder / "greet.jsonl")
    town.land(town.offer("mallory", town.delta("greet"), more=data))
    assert town("amira", "fetch") == 0
    town.release("amira", "1.0", scores=True)
    assert town("amira", "fetch") == 0
    assert town("amira", ["release", "export", "1.0", town.folder / "out"]) == 0
    return town


@pytest.fixture
def folder(tmp_path):
    """A model as hubs have it, with nothing said."""
    write_model(tmp_path / "model")
    for path in (tmp_path / "model").glob("*.md"):
        path.unlink()
    return tmp_path / "model"


def by_name(found):
    return {cell.name: cell for cell in (*found.cells, *found.components)}


def of(town: Bazaar):
    return town.actors["amira"].clone


def test_a_repository_and_its_release_have_evidence_for_twelve(town):
    """All but paper and preprint rest on files, by digest; nothing says more than they show."""
    for place in (of(town), town.folder / "out"):
        found = audit(place, today=TODAY)
        shown = {cell.name for cell in found.cells if cell.evidence}

        assert shown >= set(DIMENSIONS) - {"paper", "preprint"}
        assert all(e.digest.startswith("b3:") for cell in found.cells for e in cell.evidence)
        assert 0 < found.lower <= found.upper < 14
        assert {c.name for c in found.cells} == set(DIMENSIONS)
        assert {c.name for c in found.components} == set(PARTS)


def test_what_a_repository_can_prove_it_proves(town):
    cells = by_name(audit(of(town), today=TODAY))

    assert {n: cells[n].verified for n in ("rldata", "rlweights", "llmweights", "llmdata", "paper")} == {
        "rldata": "open", "rlweights": "open", "llmweights": "open", "llmdata": "unknown", "paper": "unknown",
    }  # fmt: skip
    assert cells["Evaluation data"].why == "open, under CC0-1.0"
    assert audit(of(town), today=TODAY).mof.missing == ("Technical report: absent", "Data card: absent")


def test_a_rebuild_is_evidence(town):
    """`souq verify` says which digest was built again, in the audit."""
    found = audit(of(town), today=TODAY, rebuild=True)

    assert "built" in found.rebuilt
    assert by_name(found)["rlweights"].status == "verified"


def test_a_changed_release_is_contradicted(town, tmp_path):
    """One byte of the weights, and neither weights nor package are verified."""
    out = shutil.copytree(town.folder / "out", tmp_path / "out")
    with (out / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))

    cells = by_name(audit(out, today=TODAY))

    assert {cells[n].status for n in ("rlweights", "package")} == {"contradicted"}


def test_a_bare_folder_shows_what_it_shows(folder):
    """Weights without a card and a licence are there and licensed by nobody; all else is unknown, and none is open."""
    found = audit(folder, today=TODAY)
    cells = by_name(found)

    assert {c.verified for c in found.cells} <= {"unknown", "partial"}
    assert {c.name for c in found.cells if c.verified != "unknown"} == {"rlweights", "architecture"}
    assert cells["llmdata"].status == "absent"
    assert found.lower == 1.0
    assert found.mof.best == 0
    assert any("unlicensed" in line for line in found.mof.missing)


def test_a_licence_needs_its_text(folder):
    """Said in a card it is a claim; with its text it is verified; with another's text it is contradicted."""
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A\n")
    said = by_name(audit(folder, today=TODAY))["license"]
    (folder / "LICENSE").write_text(APACHE)
    shown = by_name(audit(folder, today=TODAY))["license"]
    (folder / "LICENSE").write_text("Permission is hereby granted, free of charge, to any person obtaining a copy")
    other = by_name(audit(folder, today=TODAY))["license"]

    assert [(c.claimed, c.verified, c.status) for c in (said, shown, other)] == [
        ("open", "unknown", "unverifiable"), ("open", "open", "verified"), ("open", "unknown", "contradicted"),
    ]  # fmt: skip
    assert "MIT" in other.why
    assert shown.evidence[0].note == "licence text"


def test_weights_are_open_only_under_terms_that_are_shown(folder):
    """A licence that a card only names leaves the weights partial, with open as the claim; its text makes them open."""
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    said = by_name(audit(folder, today=TODAY))["rlweights"]
    (folder / "LICENSE").write_text(APACHE)
    shown = by_name(audit(folder, today=TODAY))["rlweights"]

    assert (said.claimed, said.verified, shown.verified) == ("open", "partial", "open")


def test_an_invented_licence_is_none(folder):
    (folder / "README.md").write_text("---\nlicense: freedom-9.0\n---\n")
    cell = by_name(audit(folder, today=TODAY))["license"]

    assert (cell.verified, cell.status) == ("unknown", "contradicted")
    assert "freedom-9.0 is no SPDX licence" in cell.why


def test_what_is_contradicted_raises_no_bound(folder):
    """An upper bound holds claims that may be true, and none that was shown false."""
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    before = audit(folder, today=TODAY)
    (folder / "LICENSE").write_text("Permission is hereby granted, free of charge, to any person obtaining a copy")

    assert audit(folder, today=TODAY).upper < before.upper


def test_the_badge_names_rubric_date_and_commit(town):
    found = audit(of(town), today=TODAY)

    assert all(
        word in badge_svg(found) for word in (found.rubrics[0], found.date, found.commit[:10], f"{found.lower:g}")
    )
    assert found.commit in audit_html(found)


def test_the_page_s_own_style_is_the_only_one_it_allows(folder):
    """A browser shows the style whose hash the page's policy names, and no other."""
    page = audit_html(audit(folder, today=TODAY))
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)

    hashed = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{hashed}'" in page


def test_too_few_are_no_share(town):
    """Under the threshold no percentage is given; at it there is one."""
    measures = {m.name: m for m in audit(of(town), today=TODAY).bazaar}

    assert (share(2, ENOUGH - 1), share(2, ENOUGH)) == ("too few", "40%")
    assert (middle([2.0] * (ENOUGH - 1)), middle([2.0] * ENOUGH)) == ("too few", "2.0")
    assert between(["2026-01-01T00:00:00Z", "2026-01-02T12:00:00+00:00"]) == [1.5]
    assert (measures["outsiders' pull requests merged"].n, measures["days to a merge"].n) == (1, 3)
    assert measures["kinds landed from outside"].said == "weights"
    assert measures["landed change not by founders"].n == 3
    assert measures["reviews from another organisation"].n >= ENOUGH


def test_the_verb(folder, town, tmp_path, capfd):
    """`souq audit PATH` needs no subcommand; JSON holds bounds, cells and rubrics."""
    assert (
        run(["audit", str(folder), "--json", "--html", str(tmp_path / "a.html"), "--badge", str(tmp_path / "b.svg")])
        == 0
    )
    told = json.loads(capfd.readouterr().out)

    assert (told["lower"], len(told["cells"]), len(told["components"]), len(told["rubrics"])) == (1.0, 14, 17, 3)
    assert "<svg" in (tmp_path / "b.svg").read_text()
    assert run(["audit", "show", str(of(town))]) == 0
    assert "OSAID" in capfd.readouterr().out
    assert run(["audit", str(tmp_path / "nothing")]) == 1

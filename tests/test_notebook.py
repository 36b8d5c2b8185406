"""From Python: docs/python.md runs as it stands, and what it shows is what the verbs say."""

from __future__ import annotations

import doctest
import json
import re
import sys
from pathlib import Path

import pytest

import souq
from souq.errors import NotFound
from souq.notebook.pictures import change_map, listing
from tests.bazaar import copied

PAGE = Path(__file__).parent.parent / "docs" / "python.md"


@pytest.fixture(scope="module")
def landed(built_bazaar, tmp_path_factory):
    """A town where the greetings have landed."""
    town = copied(built_bazaar, tmp_path_factory.mktemp("notebook") / "town")
    town.land(town.offer("chen", town.delta("greet")))
    assert town("amira", "fetch") == 0
    return town


@pytest.fixture
def repo(landed):
    return souq.open(landed.actors["amira"].clone)


def test_the_page_runs(landed, monkeypatch):
    """docs/python.md, line by line, in the folder that holds a repository."""
    monkeypatch.chdir(landed.actors["amira"].clone.parent)
    text = PAGE.read_text().replace("…", "...")
    page = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    printed: list[str] = []

    tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(page, out=printed.append)

    assert tried.failed == 0, "".join(printed)
    assert tried.attempted > 20


def test_the_page_names_every_public_name():
    """What `souq` exports stands in the page's table; what a repository, main and a pull request answer is run there."""
    from souq.notebook import pull_request, repository

    text = PAGE.read_text()
    for name in souq.__all__:
        assert re.search(rf"^\| .*`{name}`.* \|", text, re.M), name
    shown = [repository.Repository, repository.Main, repository.Pulls, pull_request.PullRequest]
    names = {name for kind in shown for name in vars(kind) if not name.startswith("_")} - {"snapshot", "row"}
    for name in names:
        assert re.search(rf"\b{name}\b", text), name


def test_it_says_what_the_verbs_say(landed, repo, capfd):
    """Rows are the JSON of `souq delta show`, `pr view` and `pr list`."""
    landed.capfd, pull = capfd, repo.pulls()[2]
    sizes, view, listed = (
        json.loads(landed.says("amira", f"{verb} --json")[1]) for verb in ("delta show 2", "pr view 2", "pr list --all")
    )

    assert {row["tensor"]: row["share"] for row in pull.diff()} == sizes
    assert [row["check"] for row in pull.checks] == [each["check"] for each in view["checked"][-1]["verdicts"]]
    assert sorted(row["by"] for row in pull.votes) == sorted(vote["by"] for vote in view["votes"])
    assert [row.items() <= each.items() for row, each in zip(repo.pulls().rows(), listed, strict=True)] == [True, True]


def test_an_unknown_eval_is_told_before_anything_is_built(repo):
    with pytest.raises(NotFound, match=r"no eval 'gret'.*'greet'"):
        repo.main.scores("gret")


def test_a_url_is_cloned_once(landed, monkeypatch, tmp_path):
    """And then fetched: history alone, until a model is asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = (landed.folder / "hub.git").as_uri()

    first, second = souq.open(url), souq.open(url)

    assert first.main.commit == second.main.commit
    assert len([*(tmp_path / "souq" / "clones").iterdir()]) == 1
    assert second.pulls()[2].votes == souq.open(landed.folder / "hub.git").pulls()[2].votes


def test_a_stranger_s_title_is_no_markup():
    """What others wrote is escaped, in tables and in pictures."""
    hostile = "<script>alert(1)</script>\x1b[2J"
    rows = [{"title": hostile}]
    drawn = change_map([{"layer": 1, "module": hostile, "share": 0.5}])

    for text in (listing(hostile, rows), drawn):
        assert "<script" not in text
        assert "\x1b" not in text


def test_a_change_in_no_layer_has_no_picture():
    assert change_map([{"layer": -1, "module": "embed", "share": 0.5}]) == ""
    assert change_map([]) == ""


def test_a_notebook_without_torch_reads_everything_else(repo, monkeypatch):
    """Only scores and models need it."""
    monkeypatch.setitem(sys.modules, "torch", None)

    assert repo.main.build().digest
    assert repo.pulls()[2].diff()
    assert "<table>" in repo._repr_html_()

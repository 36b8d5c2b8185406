"""A folder that somebody sent says in its own settings what git should start when it is read."""

import shutil

import pytest
from tests.foreign import arm, lose

from souq.cli import run


@pytest.fixture
def sent(bazaar, tmp_path):
    """A whole clone, as it comes out of an archive."""
    shutil.copytree(bazaar.actors["adil"].clone, tmp_path / "sent", symlinks=True)
    return tmp_path / "sent"


def test_a_partial_clone_whose_missing_file_is_a_command(sent, tmp_path, capfd):
    """The one object that is not there would be fetched by `remote.origin.uploadpack`."""
    arm(sent, tmp_path / "canary", url=str(sent / ".git"))
    lose(sent, "GOVERNANCE.toml", "souq.toml")
    for words in (["verify"], ["audit"], ["may", "sell", "--of"], ["cost"]):
        assert run([*words, str(sent)]) in (1, 3)
        assert not list(tmp_path.glob("canary*")), words
    assert "is not here" in capfd.readouterr().err


@pytest.mark.parametrize("line", ["verify --no-rebuild", "status", "pr list", "log", "show HEAD", "fsck"])
def test_whoever_stands_in_it_is_as_safe(sent, tmp_path, monkeypatch, line):
    arm(sent, tmp_path / "canary")
    monkeypatch.chdir(sent)

    assert run(line.split()) == 0
    assert not list(tmp_path.glob("canary*"))


def test_its_objects_are_somebody_s_of_the_reader(sent, bazaar, tmp_path, monkeypatch, capfd):
    """A `.git` that points at a folder of the reader's: it is read as that one, and nothing is written into it."""
    theirs = bazaar.actors["amira"].clone / ".git"
    before = sorted(theirs.rglob("*"))
    shutil.rmtree(sent / ".git")
    (sent / ".git").write_text(f"gitdir: {theirs}\n")

    assert run(["verify", "--no-rebuild", str(sent)]) == 0
    assert [path for path in before if not path.exists()] == []
    assert {path.relative_to(theirs).parts[0] for path in {*theirs.rglob("*")} - {*before}} <= {"souq"}

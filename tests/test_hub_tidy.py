"""Plain repositories that workers keep packed: when it is worth it, never under a backup, and nothing that counts is lost."""

from __future__ import annotations

import os
import subprocess

import pytest

from souq.hub.catalog import Catalog
from souq.hub.plain import repository as repositories
from souq.hub.plain.shelf import Shelf
from souq.hub.plain.tidy import Tidy, packed
from souq.hub.running import doctor
from souq.repo.local import hold

COUNT = 1_500


@pytest.fixture
def shelf(tmp_path):
    (tmp_path / "models").mkdir()
    return Shelf(tmp_path / "data", Catalog(tmp_path / "models"))


def filled(repository):
    """Many small files came, each as an object of its own; and one that nothing leads to yet."""
    lines = ["commit refs/heads/main", "committer a <a@b> 0 +0000", "data 0", "from refs/heads/main^0"]
    for number in range(COUNT):
        lines += [f"M 100644 inline {number}.txt", f"data {len(str(number))}", str(number)]
    git = ["git", "-C", repository.git_dir]
    stream = "\n".join([*lines, ""]).encode()
    subprocess.run([*git, "-c", "fastimport.unpackLimit=100000", "fast-import", "--quiet"], input=stream, check=True)
    return subprocess.check_output([*git, "hash-object", "-w", "--stdin"], input=b"on its way").decode().strip()


def test_what_lies_loose_is_packed_and_nothing_is_lost(shelf, monkeypatch, tmp_path):
    """Every file is as it was, and what is just being made stays; while a backup reads it, nobody packs."""
    monkeypatch.setattr(repositories, "MOST_LOOSE", 200)
    monkeypatch.setattr(doctor, "MOST_LOOSE", 200)
    repository = shelf.create("datasets", "ada/notes", "ada")
    made = filled(repository)
    before, files = repository.refs("refs/"), repository.listing(repository.commit("refs/heads/main"))
    assert repository.loose() > COUNT
    (untidy,) = [each for each in doctor.looked_at(tmp_path / "models", tmp_path / "data", "") if not each.ok]
    assert "let a worker run" in untidy.because

    handle = hold(repository.git_dir)
    assert not packed(repository)
    os.close(handle)
    tidy = Tidy(shelf, every=0.0)
    assert [tidy.round() for _ in range(4)].count(True) == 1

    assert repository.loose() < 10
    assert repository.refs("refs/") == before
    assert repository.listing(repository.commit("refs/heads/main")) == files
    assert repository.contents([made]) == [b"on its way"]
    subprocess.run(["git", "-C", repository.git_dir, "fsck", "--strict"], check=True, capture_output=True)
    assert all(each.ok for each in doctor.looked_at(tmp_path / "models", tmp_path / "data", "", deep=True))


def test_a_broken_repository_holds_up_no_other(shelf, tmp_path):
    """And one with little in it is left as it is."""
    shelf.create("models", "ada/bad", "ada")
    good = shelf.create("models", "ada/good", "ada")
    (tmp_path / "data" / "repositories" / "models" / "ada" / "bad.git" / "objects").rename(tmp_path / "gone")
    tidy, loose = Tidy(shelf, every=0.0), good.loose()

    assert [tidy.round() for _ in range(6)] == [False] * 6
    assert good.loose() == loose > 0
    assert [*doctor.looked_at(tmp_path / "models", tmp_path / "data", "")][-1].ok


def test_nobody_looks_all_the_time(shelf):
    tidy = Tidy(shelf, every=60.0)
    tidy.round()
    shelf.create("models", "ada/notes", "ada")

    assert not tidy.round()

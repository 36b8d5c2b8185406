"""What is made is there whole or not at all, and what dead writers left goes away: theirs alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from souq.errors import UsageError
from souq.files import beside, new_folder, refuse_full, replacing, sweep
from souq.weights.store import Store
from souq.weights.sweeping import sweep_store

DIE = """
import os
from pathlib import Path
from souq.files import beside, new_folder, replacing
with {what} as partial:
    {write}
    os._exit(0)
"""


def left_by_a_dead_one(what, write="partial.mkdir(exist_ok=True); (partial / 'half').write_text('ha')"):
    subprocess.run([sys.executable, "-c", DIE.format(what=what, write=write)], check=True)


def test_who_comes_next_removes_what_a_dead_writer_left(tmp_path):
    """A folder half made and a file half written, of whatever name."""
    left_by_a_dead_one(f"new_folder(Path({str(tmp_path / 'model')!r}))")
    left_by_a_dead_one(f"replacing(Path({str(tmp_path / ('x' * 250))!r}))", "partial.write_text('ha')")
    assert [*tmp_path.iterdir()]
    assert not (tmp_path / "model").exists()

    with new_folder(tmp_path / "model") as partial:
        (partial / "whole").write_text("whole")

    assert [path.name for path in tmp_path.rglob("*")] == ["model", "whole"]


def test_what_a_living_writer_makes_stays(tmp_path):
    """Two at once do not hinder each other."""
    with replacing(tmp_path / "a") as one:
        one.write_text("one")
        with replacing(tmp_path / "a") as other:
            other.write_text("other")
        sweep(tmp_path)
        assert one.read_text() == "one"

    assert (tmp_path / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", [".a.part", ".made-12345678", "made-12345678.part", ".made-1234567.part", ".A-abcdefGH.part"])  # fmt: skip
def test_a_user_s_own_are_never_removed(tmp_path, name):
    """Neither what is called nearly so, nor a file or a link that is called so."""
    (tmp_path / name).mkdir()
    (tmp_path / ".file-abcdefgh.part").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".link-abcdefgh.part").symlink_to(tmp_path / "elsewhere")

    with beside(tmp_path / "made"):
        pass

    assert len([*tmp_path.iterdir()]) == 4


def fill(writer):
    with writer as partial:
        (partial / "x" if partial.is_dir() else partial).write_text("half")
        raise OSError("the disk is full")


def test_after_an_error_all_is_as_it_was(tmp_path):
    """A file keeps what it held, an empty folder stays empty, a full one is refused before anything is made."""
    (tmp_path / "file").write_text("before")
    (tmp_path / "empty").mkdir()

    for writer in (replacing(tmp_path / "file"), new_folder(tmp_path / "empty"), new_folder(tmp_path / "absent")):
        with pytest.raises(OSError, match="full"):
            fill(writer)
    with pytest.raises(UsageError), new_folder(tmp_path):
        raise AssertionError("it holds something")

    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"]
    assert (tmp_path / "file").read_text() == "before"


def test_a_folder_that_is_empty_may_be_filled(tmp_path, monkeypatch):
    """Relative to where one stands, too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()

    with new_folder(tmp_path.__class__("out")) as partial:
        (partial / "x").write_text("x")

    assert (tmp_path / "out" / "x").read_text() == "x"


def test_who_is_refused_sweeps_too(tmp_path):
    """Who was stopped with the name taken and the scratch folder still there types the same line, and is told no."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("x")
    (tmp_path / ".out-abcdefgh.part").mkdir()

    with pytest.raises(UsageError, match="already there"):
        refuse_full(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_nobody_can_lock_nothing_is_swept(tmp_path, monkeypatch):
    """A file system that knows no locks cannot tell who is dead."""
    monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    (tmp_path / ".other-abcdefgh.part").mkdir()

    with replacing(tmp_path / "a") as partial:
        partial.write_text("a")

    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-abcdefgh.part", "a"]


def test_gc_sweeps_a_store(tmp_path):
    """A tensor half written is gone with the next gc, whatever its grace."""
    store = Store(tmp_path)
    left_by_a_dead_one(f"beside(Path({str(store.objects / 'ab')!r}))")
    assert [*store.objects.iterdir()]

    sweep_store(store, [])

    assert [*store.objects.iterdir()] == []

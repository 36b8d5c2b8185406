"""What happened in a folder is known and undone: else a point that was never played would count as one that held."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.states import Kept


@pytest.fixture
def kept(tmp_path):
    source = tmp_path / "before"
    (source / "hub.git/refs").mkdir(parents=True)
    (source / "hub.git/HEAD").write_text("ref: refs/heads/main\n")
    (source / "mallory").mkdir()
    (source / "mallory/notes").write_text("one\n")
    (source / "mallory/way").symlink_to("notes")
    return Kept(source, tmp_path / "town")


def listed(folder):
    done = subprocess.run(["find", ".", "-printf", "%p %y %m %s %t %l\n"], cwd=folder, capture_output=True, check=True)
    return sorted(done.stdout.splitlines())


def _overwritten(town):
    """As long as before, and with the time of before."""
    facts = (path := town / "mallory/notes").stat()
    path.write_text("two\n")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


HAPPENS = {
    "overwritten": _overwritten,
    "appended": lambda town: (town / "hub.git/HEAD").open("a").write("x"),
    "new": lambda town: (town / "hub.git/refs/main").write_text("1"),
    "new folder": lambda town: (town / "hub.git/refs/heads/deep").mkdir(parents=True),
    "gone": lambda town: (town / "mallory/notes").unlink(),
    "folder gone": lambda town: (town / "hub.git/refs").rmdir(),
    "rights": lambda town: (town / "mallory/notes").chmod(0o444),
    "second name": lambda town: os.link(town / "mallory/notes", town / "mallory/too"),
    "moved": lambda town: (town / "hub.git/HEAD").rename(town / "hub.git/refs/HEAD"),
    "file for folder": lambda town: ((town / "hub.git/refs").rmdir(), (town / "hub.git/refs").write_text("")),
    "another way": lambda town: ((town / "mallory/way").unlink(), (town / "mallory/way").symlink_to("/")),
}


@pytest.mark.parametrize("what", HAPPENS)
def test_whatever_happens_is_another_state_and_is_undone(kept, what):
    """Nothing is the same that has other bytes, rights or names."""
    before = listed(kept.folder)
    HAPPENS[what](kept.folder)

    word = kept.state().seen_by()
    assert word
    kept.restore()
    assert listed(kept.folder) == before == listed(kept.source)
    assert kept.state().seen_by() == ""
    HAPPENS[what](kept.folder)
    assert kept.state().seen_by() == word


def test_no_two_of_them_are_one_state(kept):
    """Each has a word of its own."""
    words = set()
    for happens in HAPPENS.values():
        kept.restore()
        happens(kept.folder)
        words.add(kept.state().seen_by())
    assert len(words) == len(HAPPENS)


def test_what_is_so_by_chance_is_left_out(kept):
    """A time, an inode, a name that is drawn; what lies under that name is not."""
    words = []
    for letters, text in (("abcdefgh", "x"), ("12345678", "x"), ("zzzzzzzz", "y")):
        kept.restore()
        (kept.folder / "mallory/notes").touch()
        (scratch := kept.folder / f"hub.git/.HEAD-{letters}.part").mkdir()
        (scratch / "HEAD").write_text(text)
        words.append(kept.state().seen_by())
    assert words[0] == words[1] != words[2]


def test_the_same_bytes_are_the_same_state(kept):
    """Written again, or copied in another's place."""
    (kept.folder / "mallory/notes").unlink()
    (kept.folder / "mallory/notes").write_text("one\n")

    assert kept.state().seen_by() == ""


def test_who_sees_one_folder_sees_no_other(kept):
    """What happens in the hub is nothing in a clone."""
    HAPPENS["appended"](kept.folder)

    assert kept.state().tops == {"hub.git"}
    assert kept.state().seen_by({"hub.git"}) == kept.state().seen_by()
    assert kept.state().seen_by({"mallory"}) == ""


def test_an_index_of_git_is_the_same_whenever_it_was_written(kept):
    """It repeats times and inodes of files; which files there are, and their bytes, still tell."""
    words = []
    for name, text in (("a", "x"), ("a", "x"), ("a", "y"), ("b", "x")):
        kept.restore()
        (root := kept.folder / "mallory/smol").mkdir()
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        (root / name).write_text(text)
        subprocess.run(["git", "add", name], cwd=root, check=True)
        (row,) = [row for row in kept.state().rows if row[0].endswith(".git/index")]
        words.append(row)
    assert words[0] == words[1]
    assert len({*words}) == 3

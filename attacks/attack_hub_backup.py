"""A backup that somebody else wrote: files of another place, links, devices, a file twice, a list that lies."""

import hashlib
import io
import tarfile

import msgspec
import pytest

from souq.errors import SouqError
from souq.hub.running.backup import CONTENTS, restore

ODD = [
    "../evil",
    "repos/../../evil",
    "/etc/evil",
    "repos//x",
    "repos/./x",
    "repos/x/..",
    "data/../../evil",
    "other/x",
    "repos\\..\\x",
    "repos/x/../../../evil",
]


def member(tar, name, data=b"x", **more):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def written(path, members):
    with tarfile.open(path, "w") as tar:
        names = {}
        for name, data, more in members:
            member(tar, name, data, **more)
            names[name] = hashlib.sha256(data).hexdigest()
        member(tar, CONTENTS, msgspec.json.encode({"souq": "0", "files": names, "revision": ""}))
    return path


@pytest.mark.parametrize("name", ODD)
def test_a_file_of_another_place(tmp_path, name):
    """No name leads out of the folder that is made, and nothing of such a backup is left."""
    tar = written(tmp_path / "hub.tar", [(name, b"x", {})])

    with pytest.raises(SouqError):
        restore(tar, tmp_path / "in" / "there", tmp_path / "in" / "there" / "d", "")
    assert sorted(path.name for path in tmp_path.iterdir()) in (["hub.tar"], ["hub.tar", "in"])
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    "more",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc", "size": 0}, {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd", "size": 0},
        {"type": tarfile.FIFOTYPE, "size": 0}, {"type": tarfile.CHRTYPE, "size": 0},
    ],
)  # fmt: skip
def test_what_is_no_file(tmp_path, more):
    """Links, pipes and devices are in no backup."""
    tar = written(tmp_path / "hub.tar", [("repos/x", b"", more), ("repos/x/y", b"y", {})])

    with pytest.raises(SouqError):
        restore(tar, tmp_path / "there", tmp_path / "there" / "d", "")
    assert not (tmp_path / "there").exists()


def test_a_file_twice(tmp_path):
    """The second of two files of one name is not what the list meant."""
    tar = written(tmp_path / "hub.tar", [("repos/x", b"one", {}), ("repos/x", b"two", {})])

    with pytest.raises(SouqError, match="once"):
        restore(tar, tmp_path / "there", tmp_path / "there" / "d", "")


def test_set_user_bits_do_not_come_along(tmp_path):
    """A file is restored as one that can be read, and with no rights that its name was given."""
    tar = written(tmp_path / "hub.tar", [("repos/x", b"x", {"mode": 0o6777, "uid": 0}), ("database.jsonl", b"", {})])

    restore(tar, tmp_path / "there", tmp_path / "there" / "d", "")
    assert oct((tmp_path / "there" / "x").stat().st_mode & 0o7777) == "0o755"


@pytest.mark.parametrize("line", [b"[]\n", b'["accounts", {"nothing": 1}]\n', b'["no_table", {}]\n', b"{\n", b"\xff\n"])
def test_rows_that_are_none(tmp_path, line):
    """A row of no table, or of no columns, restores nothing."""
    tar = written(tmp_path / "hub.tar", [("repos/x", b"x", {}), ("database.jsonl", line, {})])

    with pytest.raises(SouqError):
        restore(tar, tmp_path / "there", tmp_path / "there" / "d", "")
    assert not (tmp_path / "there").exists()


def test_a_repository_that_would_fetch_what_is_missing(tmp_path):
    """Its settings name a command for what is not there: nothing of it is heard while it is looked through."""
    settings = f'[remote "origin"]\n\turl = x\n\tpromisor = true\n\tuploadpack = touch {tmp_path}/ran; false\n'
    settings += "[extensions]\n\tpartialClone = origin\n[core]\n\trepositoryFormatVersion = 1\n\tbare = true\n"
    members = [("repos/a.git/HEAD", b"ref: refs/heads/main\n", {}), ("repos/a.git/config", settings.encode(), {}),
               ("repos/a.git/refs/heads/main", b"a" * 40 + b"\n", {}), ("repos/a.git/objects/info/x", b"", {}), ("database.jsonl", b"", {})]  # fmt: skip
    tar = written(tmp_path / "hub.tar", members)

    with pytest.raises(SouqError, match="not whole"):
        restore(tar, tmp_path / "there", tmp_path / "there" / "d", "")
    assert not (tmp_path / "ran").exists()

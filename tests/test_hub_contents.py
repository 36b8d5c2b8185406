"""The files that a hub keeps: whole or not there, each once, shared by processes, never more than so many bytes."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import threading
import time

import pytest

from souq.errors import UsageError
from souq.hub.huggingface import contents as kept
from souq.hub.huggingface.contents import Contents
from souq.hub.huggingface.exports import Exports
from souq.hub.huggingface.revisions import Preview, Previews, Revision
from souq.hub.problems import Problem

IDS = [f"{number:040x}" for number in range(10)]


def folder_of(place, **files):
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def test_a_file_that_two_revisions_have_is_there_once(tmp_path):
    contents = Contents(tmp_path / "data", 1 << 20)
    contents.add(IDS[0], folder_of(tmp_path / "a", weights=b"same", card=b"one"))
    contents.add(IDS[1], folder_of(tmp_path / "b", weights=b"same", card=b"two"))

    assert len(list((tmp_path / "data" / "files").iterdir())) == 3
    assert contents.path(contents.get(IDS[1])["weights"]).read_bytes() == b"same"
    assert contents.get(IDS[0])["card"].sha256 == hashlib.sha256(b"one").hexdigest()


def test_what_was_asked_for_longest_ago_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "KEPT", 0.0)
    contents = Contents(tmp_path / "data", 2_500)
    for number in range(3):
        time.sleep(0.01)
        contents.add(IDS[number], folder_of(tmp_path / str(number), data=bytes([number]) * 1_000))
        contents.get(IDS[0])
    names = {path.name for path in (tmp_path / "data" / "revisions").iterdir()}

    assert names == {IDS[0], IDS[2]}
    assert len(list((tmp_path / "data" / "files").iterdir())) == 2


def test_what_somebody_asked_for_just_now_stays_until_there_is_twice_too_much(tmp_path):
    """Who is in the middle of a download goes on with it; who asks for everything fills no disk."""
    contents = Contents(tmp_path / "data", 1_500)
    left = []
    for number in range(5):
        contents.add(IDS[number], folder_of(tmp_path / str(number), data=bytes([number]) * 1_000))
        left.append(len(list((tmp_path / "data" / "revisions").iterdir())))
        time.sleep(0.01)

    assert left == [1, 2, 3, 3, 3]
    assert (tmp_path / "data" / "revisions" / IDS[4]).is_file()
    assert len(list((tmp_path / "data" / "files").iterdir())) == 3


def test_the_newest_stays_however_large_it_is(tmp_path):
    contents = Contents(tmp_path / "data", 10)
    contents.add(IDS[0], folder_of(tmp_path / "0", data=bytes(1_000)))
    contents.add(IDS[1], folder_of(tmp_path / "1", data=bytes(2_000)))

    assert [path.name for path in (tmp_path / "data" / "revisions").iterdir()] == [IDS[1]]


def test_a_list_that_is_damaged_is_none(tmp_path):
    contents = Contents(tmp_path / "data", 1 << 20)
    for data in (b"", b"{", b'{"a": 1}', b"\xff"):
        (tmp_path / "data" / "revisions" / IDS[0]).write_bytes(data)
        assert contents.get(IDS[0]) is None


class Writer:
    """In the place of a model: it counts how often it is built, and takes its time."""

    def __init__(self, seconds=0.0, error=None):
        self.count, self.seconds, self.error = 0, seconds, error

    def write(self, revision, folder, person):
        self.count += 1
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        (folder / "config.json").write_bytes(b"{}")


def ask(exports, writer, name, patience=10.0):
    return asyncio.run(exports.listing(writer, Revision(name, name), patience))


def test_many_who_ask_at_once_have_it_made_once(tmp_path, monkeypatch):
    """In two processes' worth of makers over one folder, too."""
    writer = Writer(0.1)
    both = [Exports(Contents(tmp_path, 1 << 20)) for _ in range(2)]
    answers = []
    threads = [threading.Thread(target=lambda n=n: answers.append(ask(both[n % 2], writer, IDS[0]))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert writer.count == 1
    assert len(answers) == 20
    assert all("config.json" in answer for answer in answers)


def test_who_has_no_more_patience_is_told_to_ask_again_and_then_gets_it(tmp_path):
    writer = Writer(0.3)
    exports = Exports(Contents(tmp_path, 1 << 20))

    with pytest.raises(Problem) as early:
        ask(exports, writer, IDS[0], 0.05)
    assert (early.value.status, early.value.more) == (503, {"Retry-After": "5"})
    assert "config.json" in ask(exports, writer, IDS[0])
    assert writer.count == 1


def test_a_build_that_fails_is_said_and_tried_again(tmp_path):
    exports = Exports(Contents(tmp_path, 1 << 20))
    writer = Writer(error=UsageError("no tensor b3:00 here", hint="run `souq fetch`"))
    with pytest.raises(Problem, match="no tensor") as broken:
        ask(exports, writer, IDS[0])
    assert broken.value.status == 403

    writer.error = None
    assert "config.json" in ask(exports, writer, IDS[0])


def test_a_file_that_is_gone_is_made_again(tmp_path):
    writer = Writer()
    exports = Exports(Contents(tmp_path, 1 << 20))
    file = ask(exports, writer, IDS[0])["config.json"]
    exports.contents.path(file).unlink()

    with pytest.raises(Problem) as gone:
        exports.path(Revision(IDS[0], IDS[0]), file)
    assert gone.value.status == 503
    assert exports.path(Revision(IDS[0], IDS[0]), ask(exports, writer, IDS[0])["config.json"]).read_bytes() == b"{}"
    assert writer.count == 2


def test_a_preview_is_known_by_its_digits_as_long_as_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr("souq.hub.huggingface.revisions.MOST", 10)
    previews = Previews(tmp_path / "previews")
    many = [Preview(number=1, main=IDS[0], head=f"{number:040x}") for number in range(14)]
    for preview in many:
        previews.remember(preview)

    assert previews.get(many[-1].id) == many[-1]
    assert len(list((tmp_path / "previews").iterdir())) <= 10
    assert previews.get("0" * 40) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from souq.hub.huggingface import contents as kept
from souq.hub.huggingface.contents import Contents
contents = Contents(Path(sys.argv[1]), 1 << 20)
with contents.making(sys.argv[2]) as folder:
    (folder / "weights").write_bytes(b"half")
    if sys.argv[3] == "listed":
        kept.replacing = lambda path: os.kill(os.getpid(), signal.SIGKILL)
        contents.add(sys.argv[2], folder)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["making", "listed"])
def test_a_maker_that_is_killed_leaves_nothing_to_be_seen(tmp_path, when):
    """While it makes the files, and when they are in place and their list is not; who comes next makes them, and tidies."""
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, IDS[0], when])
    assert done.returncode == -9
    contents = Contents(tmp_path, 1 << 20)
    assert contents.get(IDS[0]) is None

    writer = Writer()
    assert "config.json" in ask(Exports(contents), writer, IDS[0])
    assert writer.count == 1
    assert [path.read_bytes() for path in (tmp_path / "files").iterdir()] == [b"{}"]
    assert not [path for path in (tmp_path / "making").iterdir() if path.is_dir()]

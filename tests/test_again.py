"""A line that was cut short is typed again, two lines are typed at once: one offer, one remote, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from souq.repo.remote import Repo
from souq.weights.store import Store

ROWS = ["pr", "create", "--title", "Rows", "--licence", "CC0-1.0", "--signoff", "--unchecked", "--data"]


def listed(bazaar, who="amira"):
    return json.loads(bazaar.says(who, "pr list --all --json")[1])


@pytest.fixture
def rows(bazaar):
    path = bazaar.folder / "rows.jsonl"
    path.write_text('{"prompt": "1 + 1", "completion": "2"}\n')
    return path


def test_an_offer_typed_again_is_the_same(bazaar, rows):
    """Killed after the push and before its own refs: the line goes on; other bytes, or a closed one, are new."""
    assert bazaar("chen", [*ROWS, rows]) == 0
    clone = bazaar.actors["chen"].clone
    for ref in subprocess.run(["git", "for-each-ref", "--format=%(refname)", "refs/souq/pr/2"], cwd=clone, capture_output=True, text=True, check=True).stdout.split():  # fmt: skip
        subprocess.run(["git", "update-ref", "-d", ref], cwd=clone, check=True)

    assert bazaar("chen", [*ROWS, rows]) == 0
    assert bazaar("adil", [*ROWS, rows]) == 0  # somebody else's is theirs
    assert [(pull["number"], pull["author"]) for pull in listed(bazaar)][1:] == [(2, "chen"), (3, "adil")]
    assert bazaar("chen", "pr close 2 --reason again") == 0
    assert bazaar("chen", [*ROWS, rows]) == 0
    assert [pull["number"] for pull in listed(bazaar) if pull["state"] == "open"] == [3, 4]


def test_a_release_typed_again_is_the_same(bazaar):
    """Its signature names the second it was made in: what it says of main is what counts."""
    assert bazaar("amira", "release create 1.0 --no-scores") == 0
    assert bazaar("amira", "release create 1.0 --no-scores") == 0
    assert bazaar("amira", "release create 1.1 --no-scores") == 0

    assert [pull["title"] for pull in listed(bazaar)][1:] == ["Release 1.0", "Release 1.1"]


@pytest.mark.parametrize("wrong", ["rows.jsonl", "amira", "nowhere:x", "https://127.0.0.1:9/x.git"])
def test_a_remote_is_named_once_it_answers(bazaar, rows, wrong):
    """A file, a folder that is no repository, hosts that are not there: the one that was shared stays."""
    before = bazaar.repo("amira").remote
    to = wrong if ":" in wrong else bazaar.folder / wrong

    assert bazaar("amira", ["push", to]) in (1, 2)
    assert bazaar.repo("amira").remote == before
    assert bazaar("amira", "status") == 0


def test_a_clone_that_ends_early_is_not_there(bazaar, monkeypatch):
    """Its last tensor brings its name; typed again, it is begun anew."""
    folder = bazaar.folder / "elsewhere"
    folder.mkdir()
    words = ["clone", bazaar.folder / "hub.git", "smol"]
    with monkeypatch.context() as broken:
        broken.setattr(Store, "copy", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert bazaar("adil", words, at=folder) == 1

    assert [*folder.iterdir()] == []
    assert bazaar("adil", words, at=folder) == 0
    assert bazaar("adil", "verify --no-rebuild", at=folder / "smol") == 0


def test_what_no_hard_link_can_do_a_rename_does(tmp_path, monkeypatch):
    """A file system without links keeps tensors whole too."""
    monkeypatch.setattr("pathlib.Path.hardlink_to", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links")))
    store = Store(tmp_path)
    name = store.put(np.ones(3, "f4"))

    assert (store.get(name) == 1).all()
    assert len([*store.objects.rglob("*")]) == 2


def test_a_lock_that_somebody_left_is_named(bazaar, rows):
    """git leaves it when it is killed; what is said is the line to type, and then it goes."""
    lock = bazaar.folder / "hub.git" / "refs" / "souq" / "pr" / "2" / "head.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()

    code, _, err = bazaar.says("chen", [*ROWS, rows])
    assert code == 1
    assert f"`rm {lock}`" in err
    lock.unlink()
    assert bazaar("chen", [*ROWS, rows]) == 0


@pytest.mark.parametrize("verb", ["push", "update-ref"])
def test_a_full_disk_under_git_is_said(bazaar, monkeypatch, verb):
    """Neither "somebody else was first" nor a check's no."""
    repo = bazaar.repo("amira")
    full = subprocess.CompletedProcess([], 128, b"", b"fatal: unable to write file: No space left on device\n")
    fine = subprocess.CompletedProcess([], 0, b"", b"")
    monkeypatch.setattr(Repo, "_own", lambda _, *words, **__: full if words[0] == verb else fine)

    with pytest.raises(OSError, match="No space left") as raised:
        repo.publish({"refs/souq/x": (None, "0" * 40)}, [])
    assert raised.value.filename == f"git {verb}"


RACE = 'import sys; from souq.cli import main; sys.argv[0] = "souq"; main()'


def test_five_at_once_lose_nothing(bazaar, rows):
    """Two offers from two clones, and a fetch, a gc and a look in a third, in the same moment."""
    lines = [("chen", [*ROWS, rows]), ("adil", [*ROWS, rows]), ("amira", ["fetch"]), ("amira", ["gc", "--grace", "0"]), ("amira", ["status"])]  # fmt: skip
    running = []
    for who, words in lines:
        with bazaar.stage.as_actor(bazaar.actors[who], bazaar.actors[who].clone):
            line = [sys.executable, "-m", "souq", *map(str, words)]
            running.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    ended = [(process.communicate()[1], process.returncode) for process in running]

    assert [code for _, code in ended] == [0] * len(lines), ended
    assert sorted(pull["author"] for pull in listed(bazaar) if pull["title"] == "Rows") == ["adil", "chen"]
    for who in ("amira", "bruno"):
        assert bazaar(who, "fetch") == 0
        assert bazaar(who, "verify --no-rebuild") == 0

"""What a remote answers to a push: who was too slow may try again, a few times; who may not is told so at once."""

from __future__ import annotations

import errno
import subprocess

import pytest

from souq.errors import SouqError
from souq.pulls import queue
from souq.repo import remote
from souq.repo.git import MAIN, GitError, Locked, refuse_broken
from souq.repo.remote import Declined, Held, Raced
from souq.repo.travel import push
from tests.annals import Annals

NOBODY = ("-c", "user.name=a", "-c", "user.email=a@b")


def git(at, *words):
    return subprocess.run(["git", *words], cwd=at, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def town(tmp_path):
    """A repository with a hub, where main can move on by one commit."""
    town = Annals(tmp_path / "town")
    push(town.repo, [], to=str(tmp_path / "hub.git"))
    return town


@pytest.fixture
def hub(town, tmp_path):
    return tmp_path / "hub.git"


def sent(town):
    """Main and a record, moved together."""
    before, after = town.head, town.step({"README.md": b"x"})
    oid = town.git.put("blob", b"x")
    town.git.ref(MAIN, before)
    town.repo.publish({MAIN: (before, after), f"refs/souq/pr/1/vote/{oid[:16]}": (None, oid)}, [])


def hook(hub, name, script):
    (hub / "hooks").mkdir(exist_ok=True)
    (hub / "hooks" / name).write_text(f"#!/bin/sh\n{script}\n")
    (hub / "hooks" / name).chmod(0o755)


def test_what_is_taken_is_there(town, hub):
    sent(town)

    assert git(hub, "rev-parse", MAIN) == town.head
    assert len(git(hub, "for-each-ref").splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "script", "says"),
    [
        ("pre-receive", "echo 'main rests until Monday' >&2; exit 1", "pre-receive hook declined.*main rests until Monday"),
        ("update", 'test "$1" = refs/heads/main && exit 1; exit 0', r"declines refs/heads/main: .*hook declined"),
        ("update", 'case "$1" in refs/souq/*) exit 1;; esac', r"declines refs/souq/pr/1/vote/\w+: .*hook declined"),
        ("pre-receive", "echo 'rejected: stale info, cannot lock ref' >&2; exit 1", "hook declined"),
    ],
)  # fmt: skip
def test_who_may_not_is_told_so_and_by_whom(town, hub, name, script, says):
    """Whatever words the remote adds: a hook that speaks of races is no race."""
    hook(hub, name, script)

    with pytest.raises(Declined, match=says) as caught:
        sent(town)
    assert "trying again changes nothing" in caught.value.hint
    assert len(git(hub, "for-each-ref").splitlines()) == 1


def test_a_remote_of_its_own_rules_declines(town, hub):
    git(hub, "config", "receive.denyCurrentBranch", "refuse")
    git(hub, "config", "core.bare", "false")

    with pytest.raises(Declined, match="branch is currently checked out"):
        sent(town)


def test_who_was_too_slow_may_try_again(town, hub):
    other = git(hub, *NOBODY, "commit-tree", "-m", "x", f"{MAIN}^{{tree}}", "-p", MAIN)
    git(hub, "update-ref", MAIN, other)

    with pytest.raises(Raced, match="somebody else moved the remote first"):
        sent(town)
    with pytest.raises(Raced, match="somebody else moved the remote first"):
        push(town.repo, [])


def test_a_remote_that_is_gone_is_neither(town, hub, monkeypatch):
    hub.rename(hub.with_name("gone.git"))
    hub.mkdir()

    with pytest.raises(SouqError) as caught:
        sent(town)
    assert not isinstance(caught.value, Raced | Declined)


@pytest.mark.parametrize("why", ["unpacker error", "failed to update ref", "atomic transaction failed"])
def test_a_disk_there_that_is_full_is_no_refusal(why):
    """Whoever may send it is not told that they may not; a hook that speaks of disks still declines."""
    answer = f"!\t{MAIN}:{MAIN}\t[remote rejected] (%s)\n"
    remarks = b"remote: fatal: unable to write loose object file: No space left on device        \n"

    def refused(by, to):
        remote._refuse_rejected(subprocess.CompletedProcess([], 1, (answer % by).encode(), remarks), to)

    with pytest.raises(OSError, match="No space left") as caught:
        refused(why, "../hub.git")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "../hub.git")
    with pytest.raises(GitError, match="the remote's disk does not take it: No space left"):
        refused(why, "https://forge.example/smol")
    with pytest.raises(Declined):
        refused("pre-receive hook declined", "../hub.git")


@pytest.mark.parametrize(
    ("says", "number"),
    [
        (
            "fatal: unable to write loose object file: No space left on device\nfatal: unpack-objects failed",
            errno.ENOSPC,
        ),
        ("fatal: cannot update ref 'ORIG_HEAD': couldn't write '/x/.git/ORIG_HEAD.lock'", errno.EIO),
        ("error: unable to write file README.md\nfatal: Could not reset index file to revision 'x'.", errno.EIO),
        ("error: failed to write new configuration file /x/.git/config.lock", errno.EIO),
    ],
)
def test_nor_is_one_here_an_answer_whichever_way_git_says_it(says, number):
    """Whatever git was to do: it is not told as another's change, as a race or as a check's no."""
    with pytest.raises(OSError, match="git merge") as caught:
        refuse_broken("merge", subprocess.CompletedProcess([], 128, b"", says.encode()))
    assert (caught.value.errno, caught.value.filename) == (number, "git merge")


def test_but_the_words_of_a_remote_or_of_a_file_s_name_are_none():
    says = b"remote: fatal: unable to write: No space left on device\nfatal: no path 'unable to write x'"

    assert "no path" in str(refuse_broken("fetch", subprocess.CompletedProcess([], 128, b"", says)))


# -- a lock ------------------------------------------------------------------------------------------------------------


def test_so_may_who_meets_another_s_lock_and_is_told_how_one_is_removed(town, hub):
    """Who holds it may be quick, or dead."""
    (lock := hub / "refs/heads/main.lock").touch()

    with pytest.raises(Held, match=f"another git is at work in the remote, for {lock} is there") as caught:
        sent(town)
    assert caught.value.hint == f"wait for it; if none is, one was killed: `rm {lock}`, and type the same again"
    town.git.ref(MAIN, town.head)
    with pytest.raises(Held):
        push(town.repo, [])


def test_on_another_machine_whoever_keeps_it_removes_it(town, hub):
    """A path there is not one to type here."""
    git(town.repo.root, "config", "remote.origin.url", url := f"file://{hub}")
    (lock := hub / "refs/heads/main.lock").touch()
    town.git.ref(MAIN, town.step({"README.md": b"x"}))

    with pytest.raises(Held, match=str(lock)) as caught:
        push(town.repo, [])
    assert f"ask whoever keeps {url} to remove that file" in caught.value.hint
    assert "`rm" not in caught.value.hint


def test_a_remote_that_does_not_say_what_is_locked_is_told_as_one_that_may_be():
    """A forge may keep git's words to itself."""
    answer = f"!\t{MAIN}:{MAIN}\t[remote rejected] (failed to update ref)\n".encode()
    silent = subprocess.CompletedProcess([], 1, answer, b"error: failed to push some refs")

    with pytest.raises(Raced) as caught:
        remote._refuse_rejected(silent, "https://forge.example/smol")
    assert "a git that was killed there has left a lock" in caught.value.hint


@pytest.mark.parametrize("ref", ["refs/remotes/origin/main", "refs/souq/pr/1/vote/{id}"])
def test_nor_is_a_lock_here_a_remote_that_moves(town, hub, ref):
    """Who fetches and meets a lock in the clone is told which, after a few tries."""
    oid = subprocess.run(["git", "hash-object", "-w", "--stdin"], cwd=hub, input=b"x", capture_output=True, check=True)
    vote = oid.stdout.decode().strip()
    git(hub, "update-ref", f"refs/souq/pr/1/vote/{vote[:16]}", vote)
    moved = git(hub, *NOBODY, "commit-tree", "-m", "x", f"{MAIN}^{{tree}}", "-p", MAIN)
    git(hub, "update-ref", MAIN, moved)
    lock = town.repo.git_dir / f"{ref.format(id=vote[:16])}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()

    with pytest.raises(Held, match=f"at work here, for {lock}") as caught:
        town.repo.fetch()
    assert f"`rm {lock}`" in caught.value.hint
    lock.unlink()
    town.repo.fetch()
    assert town.repo.tip() == moved


def test_nor_is_one_a_file_that_somebody_changed_by_hand(town):
    """What keeps main's files from coming along is told by its name, too."""
    git(town.repo.root, "reset", "--quiet", "--hard", MAIN)
    moved = git(town.repo.root, *NOBODY, "commit-tree", "-m", "x", f"{MAIN}^{{tree}}", "-p", MAIN)
    (lock := town.repo.git_dir / "index.lock").touch()

    with pytest.raises(Locked, match=f"for {lock} is there"):
        town.repo.forward(moved)
    lock.unlink()
    assert town.repo.forward(moved) == ""


def test_a_ref_that_cannot_be_is_no_race(town):
    """Another ref has its folder's name: trying again changes nothing, and nobody is told to."""
    oid = town.git.put("blob", b"x")
    git(town.repo.root, "update-ref", "refs/souq/later", oid)

    with pytest.raises(GitError) as caught:
        town.repo._move(f"create refs/souq/later/kind {oid}\n")
    assert not isinstance(caught.value, Raced)


def test_who_gives_up_says_the_lock_and_not_its_own_words(town, monkeypatch):
    """The queue too, which otherwise waits for main to rest."""
    held = Held("refs/heads/main.lock is there", hint="`rm` it")
    turns(monkeypatch, *[held] * 9)

    with pytest.raises(Held, match="lock is there") as caught:
        queue.run(town.repo, None)
    assert caught.value.hint == "`rm` it"


# -- the queue ---------------------------------------------------------------------------------------------------------


def turns(monkeypatch, *outcomes):
    """A queue whose turns come out like this; which were taken."""
    taken = []

    def turn(*_):
        taken.append(outcome := outcomes[len(taken)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(queue, "_turn", turn)
    return taken


def test_a_queue_tries_again_while_others_move_main(town, monkeypatch):
    race = Raced("moved")
    taken = turns(monkeypatch, *[race] * 4, True, *[race] * 4, False)

    queue.run(town.repo, None)
    assert len(taken) == 10


def test_but_not_for_ever(town, monkeypatch):
    taken = turns(monkeypatch, True, *[Raced("moved")] * 9)

    with pytest.raises(Raced, match="moved") as caught:
        queue.run(town.repo, None)
    assert (len(taken), caught.value.hint) == (1 + queue.TRIES, "run `souq queue run` again when main rests")


def test_and_not_at_all_against_a_remote_that_declines(town, monkeypatch):
    taken = turns(monkeypatch, Declined("no"), True)

    with pytest.raises(Declined):
        queue.run(town.repo, None)
    assert len(taken) == 1

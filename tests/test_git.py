"""What a repository remembers of git's answers: only what cannot change, and never instead of looking."""

from __future__ import annotations

import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from souq.errors import Corrupt, Hostile, NotFound
from souq.repo import git
from souq.repo.git import MAIN
from souq.repo.remote import Repo


@pytest.fixture
def repo(tmp_path):
    """A repository of one commit: a file, and a folder of another."""
    made = Repo.create(tmp_path / "repo")
    made._own("update-ref", MAIN, made.write_commit([], {"a": b"first", "folder/b": b"second"}, "begin\n"))
    return made


def typed(repo, *words):
    """A line of git's own, as another process would run it."""
    return subprocess.run(["git", *words], cwd=repo.root, check=True, capture_output=True, text=True).stdout.strip()


def test_another_process_moves_main(repo):
    """A ref is looked up each time, loose or packed."""
    old = repo.ref(MAIN)
    new = repo.write_commit([old], {"a": b"third"}, "more\n", tree_of=old)

    typed(repo, "update-ref", MAIN, new)
    assert (repo.ref(MAIN), repo.read(repo.tip(), "a")) == (new, b"third")
    typed(repo, "pack-refs", "--all")
    assert repo.ref(MAIN) == new
    typed(repo, "update-ref", MAIN, old)
    assert (repo.ref(MAIN), repo.read(repo.tip(), "a")) == (old, b"first")
    typed(repo, "update-ref", "-d", "refs/heads/main")
    assert repo.ref(MAIN) is None


def test_another_process_changes_a_setting(repo):
    assert repo.remote is None
    for url in ("../one", "../two"):
        typed(repo, "config", "remote.origin.url", url)
        assert repo.remote == url
    typed(repo, "config", "--unset", "remote.origin.url")
    assert repo.remote is None


def test_what_was_read_is_not_asked_again(repo, monkeypatch):
    """A file, a folder's list and a commit's name are git's answers once and memory's afterwards, and the same."""
    commit = repo.tip()

    def answers():
        return repo.read(commit, "a"), repo.files(commit, "folder"), repo.folders(commit, "."), repo.commit(commit)

    first = answers()
    monkeypatch.setattr(git.subprocess, "run", lambda *_, **__: pytest.fail("asked again"))
    monkeypatch.setattr(git.subprocess, "Popen", lambda *_, **__: pytest.fail("asked again"))
    assert answers() == first


def test_the_same_name_in_another_repository_is_asked_there(repo, tmp_path):
    """What one disk holds is not taken for what another does."""
    commit = repo.tip()
    repo.read(commit, "a")

    with pytest.raises((NotFound, git.GitError)):
        Repo.create(tmp_path / "empty").read(commit, "a")


@pytest.mark.parametrize("most", [1, 900, 1 << 20])
def test_memory_is_bounded_and_changes_no_answer(repo, monkeypatch, most):
    monkeypatch.setattr(git, "MEMORY", git._Memory(most))
    commit = repo.write_commit([], {f"{n:03}": b"%d" % n * 50 for n in range(40)}, "many\n")

    for _ in range(2):
        assert [repo.read(commit, f"{n:03}") for n in range(40)] == [b"%d" % n * 50 for n in range(40)]
        assert git.MEMORY._left >= 0


def test_several_may_ask_and_forget_at_once():
    """Who verifies many histories asks from several threads: nothing breaks, and no byte is counted twice."""
    memory = git._Memory(5_000)
    before = sys.getswitchinterval()

    def work(seed):
        for i in range(4_000):
            memory.put((seed, i % 97), i, 50)
            memory.get((seed, (i * 7) % 97))
            if i % 5 == 0:
                memory.clear()

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(before)
    memory.clear()

    assert memory._left == 5_000


def test_a_bound_holds_though_more_was_listed_before(repo):
    """What one reader may list is no leave for another, or an answer would depend on what was asked before it."""
    commit = repo.write_commit([], {f"a/{n}": b"x" for n in range(5)}, "five\n")

    assert len(repo.entries(commit, "a/", 6)) == 5  # the folder counts
    with pytest.raises(Hostile, match="more than 5 files"):
        repo.entries(commit, "a/", 5)


def test_bytes_that_lie_are_found_though_they_were_read(repo):
    """Every name is computed from what is on the disk now, whatever was read of it before."""
    oid = next(entry.oid for entry in repo.entries(repo.tip()) if entry.path == "a")
    repo.check_names(repo.tip())
    assert repo.read(repo.tip(), "a") == b"first"
    path = repo.git_dir / "objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"blob 5\0other"))

    with pytest.raises(Corrupt):
        repo.check_names(repo.tip())


def test_refs_are_what_git_says_they_are(repo):
    """Loose, packed, both, or naming another: as `git for-each-ref` lists them, one by one and together."""
    main, blob = repo.tip(), repo.write_blob(b"x")
    names = ["refs/souq/pr/1/head", "refs/souq/pr/10/head", "refs/souq/a", "refs/tags/v1", "refs/heads/ünï"]
    for name in names:
        typed(repo, "update-ref", name, main)
    typed(repo, "tag", "-a", "-m", "x", "v2")
    typed(repo, "pack-refs", "--all")
    typed(repo, "update-ref", "refs/souq/a", blob)
    typed(repo, "update-ref", "refs/souq/b/c", blob)
    typed(repo, "symbolic-ref", "refs/heads/same", MAIN)
    listed = dict(
        line.split(" ") for line in typed(repo, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    )

    assert {name: repo.ref(name) for name in listed} == listed
    assert repo.refs("refs/souq/") == {name: oid for name, oid in listed.items() if name.startswith("refs/souq/")}
    assert [*repo.refs("refs/souq/pr/1/")] == ["refs/souq/pr/1/head"]
    assert "refs/heads/ünï" not in repo.refs("refs/heads/")
    typed(repo, "update-ref", "-d", "refs/souq/a")
    assert (repo.ref("refs/souq/a"), "refs/souq/a" in repo.refs("refs/souq/")) == (None, False)


@pytest.mark.parametrize(
    "name", ["refs/souq", "refs", "", "HEAD", "refs/../HEAD", "refs/heads/../../HEAD", "refs/heads/", "/refs/heads/main",
             "refs//heads/main", "refs/heads/.main", "refs/heads/x\n", "refs/heads/nothing", "config", "../config"]
)  # fmt: skip
def test_what_names_no_ref(repo, name):
    assert repo.ref(name) is None


def test_a_ref_that_names_itself(repo):
    typed(repo, "symbolic-ref", "refs/heads/a", "refs/heads/b")
    typed(repo, "symbolic-ref", "refs/heads/b", "refs/heads/a")
    assert repo.ref("refs/heads/a") is None

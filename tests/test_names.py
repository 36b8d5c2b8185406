"""One main, by its whole name: no tag, branch, worktree or stale file makes another one of it."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import pytest

import souq
from souq.errors import NotFound, UsageError
from souq.repo.git import MAIN
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from tests.foreign import git, place, typed  # noqa: F401

ASKED = {"Snapshot", "commit", "ref", "_git", "_own", "run_git", "_running", "_tokens", "read", "files", "entries"}
ASKED |= {"history", "steps", "contains", "folders", "trees", "changed", "patch", "message", "summary", "merge_base"}
BARE = re.compile(r"(main|HEAD|origin/main|FETCH_HEAD)([~^:@.].*)?")


def test_no_bare_name_is_given_to_git():
    """Git would take a tag for `main` before the branch: the source gives whole names, or what `resolve` answered."""
    bare = []
    for path in Path(souq.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in ASKED:
                words = [each.value for each in node.args if isinstance(each, ast.Constant)]
                bare += [(path.name, node.lineno, word) for word in words if BARE.fullmatch(str(word))]
    assert not bare


@pytest.fixture
def repo(tmp_path):
    """Two commits on main, and an odd one beside them."""
    made = Repo.create(tmp_path / "repo")
    first = made.write_commit([], {"a": b"1"}, "one\n")
    git(made.root, "update-ref", MAIN, made.write_commit([first], {"a": b"2"}, "two\n"))
    git(made.root, "update-ref", "refs/odd/x", made.write_commit([], {"a": b"odd"}, "odd\n"))
    return made


def test_main_is_main_whatever_else_is_called_so(repo):
    odd, main = repo.ref("refs/odd/x"), repo.ref(MAIN)
    for name in (
        "refs/tags/main",
        "refs/main",
        "refs/tags/heads/main",
        "refs/tags/refs/heads/main",
        f"refs/heads/{MAIN}",
    ):
        git(repo.root, "update-ref", name, odd)
    assert {repo.resolve("main"), repo.resolve(MAIN), repo.tip(), Snapshot(repo, "main").commit} == {main}
    assert repo.resolve("main~1") == repo.resolve("main^") == git(repo.root, "rev-parse", f"{main}^")
    git(repo.root, "update-ref", "-d", MAIN)
    assert repo.ref(MAIN) is None
    for ask in (repo.tip, lambda: repo.resolve("main"), lambda: repo.commit(MAIN)):
        with pytest.raises(NotFound):
            ask()


def test_what_a_person_types(repo):
    """A branch, a tag, the checkout, some digits; and what means two things is asked back with both."""
    main, odd = repo.ref(MAIN), repo.ref("refs/odd/x")
    git(repo.root, "tag", "-a", "-m", "x", "v1", odd)
    git(repo.root, "branch", "mine", odd)
    git(repo.root, "update-ref", "refs/remotes/origin/theirs", odd)
    for name in ("v1", "mine", "refs/heads/mine", "origin/theirs", "refs/odd/x", odd, odd[:7], odd[:4] + odd[4:9]):
        assert repo.resolve(name) == odd, name
    assert repo.resolve("HEAD") == main
    git(repo.root, "checkout", "-q", "--detach", odd)
    assert repo.resolve("HEAD") == odd
    for name in (
        "",
        "-x",
        "nothing",
        "HEAD^{/x}",
        "@{-1}",
        "main:a",
        "main~9",
        "v1^",
        "0" * 40,
        "../HEAD",
        "a\nb",
        "*",
    ):
        with pytest.raises(NotFound):
            repo.resolve(name)


@pytest.mark.parametrize("kind", ["heads", "tags"])
def test_a_branch_called_like_a_commit(repo, kind):
    """Nobody makes a commit's id, or its beginning, mean another one."""
    main, odd = repo.ref(MAIN), repo.ref("refs/odd/x")
    for name in (main, main[:8]):
        git(repo.root, "update-ref", f"refs/{kind}/{name}", odd)
        with pytest.raises(UsageError) as raised:
            repo.resolve(name)
        assert {main, odd} <= {*re.findall("[0-9a-f]{40}", raised.value.hint)}
    assert repo.commit(main) == Snapshot(repo, main).commit == main


@pytest.mark.parametrize("name", ["main", "HEAD", "v1", "a1b2c3", "", "-x", f"{'0' * 40}~1", f"{'0' * 40}:a"])
def test_what_is_no_whole_name_is_not_given_to_git(repo, name):
    git(repo.root, "update-ref", "refs/tags/v1", repo.tip())
    with pytest.raises(UsageError, match="not a commit's full name"):
        repo.commit(name)


@pytest.fixture
def clone(place, tmp_path, monkeypatch, capfd):  # noqa: F811
    """A hub whose main will have moved once, and a clone from before."""
    shutil.copytree(place, tmp_path / "town", symlinks=True)
    town = tmp_path / "town"
    monkeypatch.setenv("SOUQ_KEY", str(town / "amira/id_ed25519"))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "amira")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "amira@atlas.example")
    git(town / "amira/smol", "remote", "set-url", "origin", str(town / "hub.git"))
    assert typed(monkeypatch, town, "clone", town / "hub.git", "mine") == 0
    return town / "mine"


def lands(town):
    """Something lands: by hand, as git alone does it; which files is not what these tests are about."""
    repo = Repo.find(town / "amira/smol")
    main = repo.write_commit([repo.tip()], {"model/chat_template.jinja": b"{{ messages }}!"}, "x\n", tree_of=repo.tip())
    git(repo.root, "push", "-q", "origin", f"{main}:{MAIN}")
    return main


def exported(monkeypatch, capfd, clone):
    out = clone.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert typed(monkeypatch, clone, "export", out) == 0
    return (out / "chat_template.jinja").read_text()


def status(monkeypatch, capfd, clone):
    capfd.readouterr()
    assert typed(monkeypatch, clone, "status", "--json") == 0
    return json.loads(capfd.readouterr().out)["main"]


def test_a_tag_called_main_is_nobody_s_model(clone, monkeypatch, capfd):
    """Pushed by whoever may push tags, it is neither built nor exported."""
    repo = Repo.find(clone)
    evil = repo.write_commit(
        [repo.tip()], {"model/chat_template.jinja": b"mine {{ messages }}"}, "x\n", tree_of=repo.tip()
    )
    git(clone, "push", "-q", "origin", f"{evil}:refs/tags/main")
    shutil.rmtree(clone)
    assert typed(monkeypatch, clone.parent, "clone", clone.parent / "hub.git", "mine") == 0
    git(clone, "fetch", "-q", "--tags")
    assert typed(monkeypatch, clone, "fetch") == 0
    assert "mine" not in exported(monkeypatch, capfd, clone)
    assert Snapshot(Repo.find(clone), "main").commit == git(clone, "rev-parse", MAIN)


def test_a_file_edited_by_hand(clone, monkeypatch, capfd):
    """Main moved and the files here could not: what is exported is the main that `status` and `verify` tell of."""
    main = lands(clone.parent)
    (clone / "model/chat_template.jinja").write_text("my own {{ messages }}")

    assert typed(monkeypatch, clone, "fetch") == 0
    assert "`git status` shows them" in capfd.readouterr().err
    assert status(monkeypatch, capfd, clone) == main != git(clone, "rev-parse", "HEAD")
    assert exported(monkeypatch, capfd, clone) == "{{ messages }}!"
    assert f"this is of everybody's main, {main[:12]}" in capfd.readouterr().err
    typed(monkeypatch, clone, "verify", "--json")
    assert json.loads(capfd.readouterr().out)["commit"] == main
    assert (clone / "model/chat_template.jinja").read_text() == "my own {{ messages }}"


def test_a_killed_fast_forward(clone, monkeypatch, capfd):
    """Git's lock is left behind: `fetch` names it, nothing moves here, and everything speaks of the same main."""
    main = lands(clone.parent)
    (clone / ".git/index.lock").write_text("")
    assert typed(monkeypatch, clone, "fetch") == 1
    assert f"{clone}/.git/index.lock is there" in capfd.readouterr().err
    assert exported(monkeypatch, capfd, clone) == "{{ messages }}!"
    assert status(monkeypatch, capfd, clone) == main
    (clone / ".git/index.lock").unlink()
    assert typed(monkeypatch, clone, "fetch") == 0
    assert git(clone, "rev-parse", "HEAD") == main
    assert not git(clone, "status", "--porcelain")


@pytest.mark.parametrize("where", ["its worktree", "its git directory", "main in the worktree"])
def test_fetch_moves_no_main_under_other_files(clone, monkeypatch, capfd, where):
    """Typed beside the files that are main's, `fetch` leaves main to where they are, and says where."""
    beside = clone.parent / "beside"
    if where == "main in the worktree":
        git(clone, "checkout", "-q", "--detach")
        git(clone, "worktree", "add", "-q", beside, "main")
        other, at = beside, clone
    else:
        git(clone, "worktree", "add", "-q", "-b", "mine", beside)
        other, at = clone, beside if where == "its worktree" else clone / ".git"
    main = lands(clone.parent)

    assert typed(monkeypatch, at, "fetch") == 0
    said = capfd.readouterr().err
    assert not git(other, "status", "--porcelain")
    if where == "its git directory":  # the files beside it are found, and come along
        assert git(other, "rev-parse", "HEAD") == main
        return
    assert "main is checked out elsewhere" in said
    assert git(other, "rev-parse", "HEAD") != main
    assert status(monkeypatch, capfd, at) == main
    assert typed(monkeypatch, other, "fetch") == 0
    assert git(other, "rev-parse", "HEAD") == main
    assert not git(other, "status", "--porcelain")


def test_main_that_is_checked_out_nowhere_moves(clone, monkeypatch):
    """On another branch, or bare: the ref alone is main, and it comes along."""
    git(clone, "checkout", "-q", "-b", "mine")
    git(clone.parent, "clone", "-q", "--mirror", "hub.git", "mirror.git")
    main = lands(clone.parent)
    for at in (clone, clone.parent / "mirror.git"):
        assert typed(monkeypatch, at, "fetch") == 0
        assert git(at, "rev-parse", MAIN) == main
    git(clone, "checkout", "-q", "--detach", MAIN)
    main = lands(clone.parent)
    assert typed(monkeypatch, clone, "fetch") == 0
    assert git(clone, "rev-parse", MAIN) == main


def test_main_with_commits_of_its_own(clone, monkeypatch, capfd):
    """They are not everybody's: nothing is built of them, and it is said where they are."""
    git(clone, "commit", "-q", "--allow-empty", "-m", "mine")
    git(clone, "checkout", "-q", "-b", "other")
    main = lands(clone.parent)
    assert typed(monkeypatch, clone, "fetch") == 0
    assert "origin/main..main" in capfd.readouterr().err
    assert status(monkeypatch, capfd, clone) == main

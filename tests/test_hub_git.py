"""git itself, and souq, with a hub as their remote: cloned by everybody, pushed to by who may, main by nobody's word."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess

import pytest

from souq.hub.app import application
from souq.hub.catalog import Catalog
from souq.pulls import pull as pulls
from tests.hubs import NAME, Site, serving
from tests.test_hub_uploads import desk, files_of, write  # noqa: F401  # a fixture

ENV = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
ENV |= {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "amira"), ("EMAIL", "a@b"))
}


def git(folder, *words, ok=True):
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, env=ENV, timeout=120)
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout + done.stderr


def url(site, name, token=""):
    return f"{site.url.replace('://', f'://amira:{token}@') if token else site.url}/{name}"


def committed(folder, files):
    write(folder, files)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "More")


def test_a_plain_repository_is_cloned_and_pushed_to(desk, tmp_path):  # noqa: F811
    """By its owner; what came by the API is what git sees, and the other way round."""
    name, token = desk.new(), desk.site.token("amira")
    desk.amira.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=name)
    git(tmp_path, "clone", "--quiet", url(desk.site, name, token), "clone")
    clone = tmp_path / "clone"
    assert (clone / "x.txt").read_text() == "x"
    committed(clone, {"y.txt": b"y" * 2_000, "deep/z.txt": b"z"})
    git(clone, "push", "--quiet", "origin", "main", "HEAD:refs/heads/try", "HEAD:refs/tags/v1")

    assert files_of(desk.amira, name) == {"x.txt", "y.txt", "deep/z.txt"}
    assert {ref.name for ref in desk.amira.list_repo_refs(name).branches} == {"main", "try"}
    desk.amira.upload_file(path_or_fileobj=b"w", path_in_repo="w.txt", repo_id=name)
    git(clone, "pull", "--quiet", "--ff-only")
    assert (clone / "w.txt").is_file()
    git(tmp_path, "-c", "protocol.version=0", "clone", "--quiet", url(desk.site, f"{name}.git"), "old")
    git(tmp_path, "-c", "protocol.version=1", "clone", "--quiet", "--depth", "1", url(desk.site, name), "one")


WRONG = {
    "a link": lambda folder: (folder / "x").symlink_to("/etc/passwd"),
    "two that are one on some disks": lambda folder: write(folder, {"README.md": b"1", "readme.md": b"2"}),
    "a large file that did not come by git-lfs": lambda folder: write(folder, {"x.bin": os.urandom(11 << 20)}),
    "a pointer to nothing": lambda folder: write(
        folder, {"x": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"}
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_no_client_could_read_is_not_pushed(what, desk, tmp_path):  # noqa: F811
    """And the reason is on the screen of who pushes."""
    name = desk.new()
    git(tmp_path, "clone", "--quiet", url(desk.site, name, desk.site.token("amira")), "clone")
    WRONG[what](tmp_path / "clone")
    git(tmp_path / "clone", "add", "--all")
    git(tmp_path / "clone", "commit", "--quiet", "--message", "Wrong")

    assert "souq: '" in git(tmp_path / "clone", "push", "origin", "main", ok=False)
    assert len(desk.amira.list_repo_commits(name)) == 1


def test_who_may_not_does_not_push(desk, tmp_path):  # noqa: F811
    """Neither another account, a token that reads, a wrong one, nor nobody; nor to what is no branch."""
    name = desk.new()
    git(tmp_path, "clone", "--quiet", url(desk.site, name), "clone")
    committed(tmp_path / "clone", {"x": b"x"})
    for token in (desk.site.token("bruno"), desk.site.token("amira", "read"), "hf_wrong", ""):
        git(tmp_path / "clone", "push", url(desk.site, name, token), "main", ok=False)
    for ref in ("refs/pr/1", "refs/souq/pr/1/head", "refs/heads/a/b", "refs/notes/x"):
        git(tmp_path / "clone", "push", url(desk.site, name, desk.site.token("amira")), f"HEAD:{ref}", ok=False)
    git(tmp_path / "clone", "push", url(desk.site, name, desk.site.token("amira")), ":main", ok=False)
    assert len(desk.amira.list_repo_commits(name)) == 1
    git(tmp_path, "clone", url(desk.site, "nobody/nothing"), ok=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0000",
        b"zzzz",
        b"0001",
        b"ffff" + b"x" * 70_000,
        gzip.compress(b"0000" * 5_000_000),
        b"00a0" + b"x" * 156,
        b"\x1f\x8b junk",
    ],
    ids=range(8),
)
def test_what_is_no_git_is_no_fault(body, desk):  # noqa: F811
    """And no bomb unpacks."""
    name, token = desk.new(), desk.site.token("amira")
    for service in ("git-upload-pack", "git-receive-pack"):
        packed = {"Content_Encoding": "gzip"} if body[:1] == b"\x1f" else {}
        answer = desk.site.ask(
            f"/{name}/{service}",
            "POST",
            body,
            Authorization=f"Bearer {token}",
            Git_Protocol="version=2; x=`id`",
            **packed,
        )
        assert answer.status in (200, 400, 413), answer
    assert desk.site.ask(f"/{name}/info/refs?service=git-upload-archive").status == 403
    assert desk.site.ask(f"/{name}/info/refs?service=git-receive-pack").headers["www-authenticate"].startswith("Basic")


# -- a model that is governed ------------------------------------------------------------------------------------------


@pytest.fixture
def hosted(bazaar, tmp_path):
    """A town whose remote is a hub."""
    (tmp_path / "shelf" / "atlas").mkdir(parents=True)
    (tmp_path / "shelf" / "atlas" / "smol.git").symlink_to(bazaar.folder / "hub.git")
    app = application(Catalog(tmp_path / "shelf"), tmp_path / "data")
    with serving(app) as address:
        site = Site(address, app, None)
        for name in ("amira", "bruno", "adil", "chen", "mallory"):
            repo = bazaar.repo(name)
            repo._own("config", "remote.origin.url", url(site, NAME, site.token(name)))
            repo._own("config", "souq.store", f"file://{bazaar.folder / 'hub.git' / 'souq'}")
        yield site


def test_a_day_at_the_bazaar_by_way_of_a_hub(bazaar, hosted):
    """Offered, checked, voted and merged by people whose remote it is; main moves by what they signed."""
    before = hosted.ask(f"/api/models/{NAME}").json["sha"]
    number = bazaar.offer("chen", bazaar.delta("greet"))
    bazaar.land(number)

    assert hosted.ask(f"/api/models/{NAME}").json["sha"] != before
    assert pulls.get(bazaar.repo("amira"), number).state(bazaar.main()) == "merged"


def test_nobody_s_word_moves_a_governed_main(bazaar, hosted, tmp_path):
    """A commit that was not voted on, one that goes back, another branch, a deletion, and another's pull request."""
    number = bazaar.offer("chen", bazaar.delta("greet"))
    clone, before = tmp_path / "clone", hosted.ask(f"/api/models/{NAME}").json["sha"]
    git(tmp_path, "clone", "--quiet", url(hosted, NAME, hosted.token("mallory")), "clone")
    git(clone, "fetch", "--quiet", "origin", "refs/souq/*:refs/souq/*")
    committed(clone, {"README.md": b"mine"})

    answer = git(clone, "push", "origin", "HEAD:main", ok=False)
    assert "nobody could verify main with it" in answer
    for spec in (
        "+HEAD~1:main",
        "HEAD:other",
        "HEAD:refs/tags/1.0",
        ":refs/heads/main",
        f":refs/souq/pr/{number}/head",
        f"+HEAD:refs/souq/pr/{number}/head",
        "HEAD:refs/souq/pr/99/vote/0123456789abcdef",
        "HEAD:refs/souq/odd",
    ):
        if spec != "+HEAD~1:main":  # which is main already
            git(clone, "push", "origin", spec, ok=False)
    assert hosted.ask(f"/api/models/{NAME}").json["sha"] == before
    assert pulls.get(bazaar.repo("amira"), number).state(bazaar.main()) == "open"


@pytest.mark.server
@pytest.mark.lfs
@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_git_lfs_brings_and_sends_large_files(desk, tmp_path):  # noqa: F811
    """Those that came by the API, whatever they are called, and those that are committed in a clone."""
    name, data, mine = desk.new(), os.urandom(2 << 20), os.urandom(3 << 20)
    desk.amira.upload_file(path_or_fileobj=data, path_in_repo="odd [name].dat", repo_id=name)
    git(tmp_path, "clone", "--quiet", url(desk.site, name, desk.site.token("amira")), "clone")
    git(tmp_path / "clone", "lfs", "install", "--local")
    git(tmp_path / "clone", "lfs", "pull")
    assert (tmp_path / "clone" / "odd [name].dat").read_bytes() == data
    committed(tmp_path / "clone", {"mine.bin": mine})
    git(tmp_path / "clone", "push", "origin", "main")

    assert desk.site.ask(f"/{name}/resolve/main/mine.bin").body == mine

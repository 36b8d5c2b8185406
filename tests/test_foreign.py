"""Folders that somebody sent: reading them starts nothing that they name, and what is missing is a finding."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from souq.audit.place import open_place
from souq.repo.git import MAX_BORROWED, MAX_PATH
from tests.foreign import arm, git, lose, place, traced, typed  # noqa: F401


@pytest.fixture
def sent(place, tmp_path):  # noqa: F811
    """A copy of the clone, as it may come by mail; its remote is the hub."""
    folder = tmp_path / "smol"
    shutil.copytree(place / "amira/smol", folder, symlinks=True)
    git(folder, "remote", "set-url", "origin", str(place / "hub.git"))
    return folder


OUTSIDE = [
    "verify {}",
    "audit {}",
    "may sell --of {}",
    "cost {}",
    "lineage {}",
    "clone {} {}-copy",
    "release verify {}",
]
INSIDE = [
    "verify", "status", "log", "show main", "show HEAD", "diff HEAD", "fsck", "pr list", "pr view 1", "pr diff 1",
    "pr checks 1 --quick", "governance check", "queue", "bug list", "hidden list", "release list", "build",
    "export {}-out", "audit .", "cost .", "may sell --of .",
]  # fmt: skip
GITS = {
    "rev-parse", "rev-list", "log", "show", "show-ref", "for-each-ref", "ls-tree", "cat-file", "config", "merge-base",
    "diff", "diff-tree", "var",
}  # fmt: skip


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "with a hole"])
def test_no_verb_that_reads_starts_what_a_folder_names(place, sent, tmp_path, monkeypatch, capfd, missing):  # noqa: F811
    """Every key that can name a process is set: git is run to read, and neither we nor git start anything else."""
    arm(sent, tmp_path / "canary")
    if missing:
        lose(sent, "GOVERNANCE.toml", "model/config.json")
    lines = [(line.format(sent, sent), tmp_path) for line in OUTSIDE] + [(line.format(sent), sent) for line in INSIDE]
    for line, at in lines:
        with traced(monkeypatch) as trace:
            typed(monkeypatch, at, *line.split())
        assert not list(tmp_path.glob("canary*")), line
        assert "Traceback" not in capfd.readouterr().err
        if "clone" not in line:  # which makes a repository of one's own
            assert trace.programs <= {"git", "ssh-keygen"}, line
            assert trace.verbs <= GITS, (line, trace.verbs)


def test_asking_a_remote_for_tensors_starts_nothing(place, sent, tmp_path, monkeypatch, capfd):  # noqa: F811
    """A stranger's folder names a hub, a helper that would know a password and another address: none of it runs."""
    arm(sent, tmp_path / "canary", url="http://127.0.0.1:9/atlas/smol")
    lose(sent, "model/config.json")
    with traced(monkeypatch) as trace:
        typed(monkeypatch, sent, "pr", "checks", "1", "--quick")
    assert not list(tmp_path.glob("canary*"))
    assert trace.programs <= {"git", "ssh-keygen"}
    assert trace.verbs <= {*GITS, "ls-remote"}  # which says an address, and goes nowhere
    assert "Traceback" not in capfd.readouterr().err


def test_the_canaries_sing(sent, tmp_path):
    """Git itself, in such a folder, starts what it names: the test above can fail."""
    arm(sent, tmp_path / "canary")
    for words in (["git", "status"], ["git", "fetch"], ["git", "diff", "HEAD"], ["git", "log", "-p"]):
        subprocess.run(words, cwd=sent, check=False, capture_output=True)

    assert list(tmp_path.glob("canary*"))


@pytest.mark.parametrize("line", ["verify {}", "audit {}", "may sell --of {}", "cost {}"])
def test_what_is_missing_is_said(sent, tmp_path, monkeypatch, capfd, line):
    """A folder with a hole: the file is named, and what to type; no traceback and no silence."""
    lose(sent, "GOVERNANCE.toml", "souq.toml")
    code = typed(monkeypatch, tmp_path, *line.format(sent).split())
    out, err = capfd.readouterr()

    assert code in (1, 3)
    assert "is not here" in out + err
    assert "`souq clone` it anew" in out + err
    assert "Traceback" not in err


def test_an_owner_s_own_settings_are_heard(place, sent, tmp_path, monkeypatch, capfd):  # noqa: F811
    """A clone's own way to its remote: `souq fetch` goes it, and a verb that only looks says that it did not."""
    went = tmp_path / "went"
    git(sent, "config", "remote.origin.uploadpack", f"touch {went}; git-upload-pack")

    assert typed(monkeypatch, sent, "status") == 0
    assert "not fetched" in (err := capfd.readouterr().err)
    assert "remote.origin.uploadpack" in err
    assert not went.exists()
    assert typed(monkeypatch, sent, "fetch") == 0
    assert went.exists()


def test_an_ordinary_clone_is_fetched_by_who_looks(place, sent, monkeypatch, capfd):  # noqa: F811
    """What git, souq and a forge's checkout write into a clone's settings starts nothing, and stops no fetch."""
    for key, value in {
        "user.name": "x", "branch.main.remote": "origin", "http.https://hub.example/.extraheader": "x",
        "souq.org": "Atlas", "remote.fork.url": "https://x.example/y", "alias.st": "status", "gc.auto": "0",
    }.items():  # fmt: skip
        git(sent, "config", key, value)
    assert typed(monkeypatch, sent, "status") == 0
    assert "not fetched" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE", "GIT_NAMESPACE",
             "GIT_SHALLOW_FILE", "GIT_ICASE_PATHSPECS", "GIT_LITERAL_PATHSPECS", "GIT_DEFAULT_HASH", "GIT_ATTR_SOURCE"]
)  # fmt: skip
def test_no_variable_leads_elsewhere(sent, monkeypatch, name):
    """What another program left in the environment does not change what is read."""
    monkeypatch.setenv(name, "1" if "PATHSPECS" in name else "/nonexistent")
    assert typed(monkeypatch, sent, "verify", "--no-rebuild") == 0


def test_a_repository_by_sha256_is_refused_in_a_line(tmp_path, monkeypatch, capfd):
    git(tmp_path, "init", "-q", "--object-format=sha256", "x")
    assert typed(monkeypatch, tmp_path / "x", "status") == 2
    assert "objectformat = sha256" in capfd.readouterr().err


def test_bare_mirrored_and_borrowed_repositories_verify(place, sent, tmp_path, monkeypatch):  # noqa: F811
    """Whatever shape git gave it: bare, a mirror, beside its files, in a worktree, with another's objects, inside."""
    hub = place / "hub.git"
    git(tmp_path, "clone", "-q", "--bare", hub, "bare.git")
    git(tmp_path, "clone", "-q", "--mirror", hub, "mirror.git")
    git(tmp_path, "clone", "-q", "--separate-git-dir", tmp_path / "apart.git", hub, "apart")
    git(tmp_path, "clone", "-q", "--shared", hub, "borrowed")
    git(sent, "worktree", "add", "-q", "-b", "mine", tmp_path / "tree")
    for shape in ("bare.git", "mirror.git", "apart", "borrowed", "tree", "smol/.git", "smol/model"):
        assert typed(monkeypatch, tmp_path, "verify", "--no-rebuild", tmp_path / shape) == 0, shape
    for line in ("verify", "audit", "may sell --of", "cost"):
        assert typed(monkeypatch, tmp_path, *line.split(), hub) == 0
    assert open_place(hub).kind == "souq repository"


def test_reading_needs_no_place_to_write(place, sent, tmp_path, monkeypatch, capfd):  # noqa: F811
    """A clone nobody may write to: what was worked out is not kept, and that is all."""
    real = os.access
    cache = sent / ".git/souq/cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("")  # root may write anywhere: so where the folder would be, a file stands
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and path not in (cache, sent / ".git"))
    for line in ("status", "verify", "log", "pr list", "audit .", f"export {tmp_path / 'out'}"):
        assert typed(monkeypatch, sent, *line.split()) == 0, line
    assert cache.read_text() == ""
    assert "nothing can be written into this clone" in capfd.readouterr().err


def in_posix(at, *words, home):
    """A process under a locale that knows no UTF-8."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    env |= {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "SOUQ_KEY": str(home / "id_ed25519")}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "amira", f"GIT_{role}_EMAIL": "amira@atlas.example"}
    code = "import sys; from souq.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=at, env=env, capture_output=True, check=False)


def test_words_are_utf8_under_any_locale(place, sent):  # noqa: F811
    """A title in three scripts is that title; one of other bytes is refused in a line, and nothing is written."""
    git(sent, "remote", "remove", "origin")
    words = [
        "pr",
        "create",
        "--data",
        place / "rows.jsonl",
        "--licence",
        "CC0-1.0",
        "--signoff",
        "--unchecked",
        "--title",
    ]
    made = in_posix(sent, *words, "日本語 ✓ ليلى", home=place / "amira")
    assert made.returncode == 0, made.stderr.decode()
    shown = in_posix(sent, "pr", "list", "--json", home=place / "amira")
    assert "日本語 ✓ ليلى" in shown.stdout.decode()
    before = git(sent, "for-each-ref")
    refused = in_posix(sent, *words, b"caf\xe9", home=place / "amira")
    assert refused.returncode == 2, refused.stderr.decode(errors="replace")
    assert b"Traceback" not in refused.stderr
    assert b"not UTF-8" in refused.stderr
    assert git(sent, "for-each-ref") == before


@pytest.mark.parametrize("name", ["a b", "a\nb", "ünï✓", os.fsdecode(b"caf\xe9"), "$(touch x)", "-x", "a:b", "[a]*"])
def test_a_folder_may_be_called_anything(place, tmp_path, monkeypatch, name):  # noqa: F811
    (home := tmp_path / name).mkdir()
    shutil.copytree(place / "hub.git", home / "hub.git", symlinks=True)
    assert typed(monkeypatch, home, "clone", "hub.git", "mine") == 0
    for line in ("fetch", "status", "verify --no-rebuild"):
        assert typed(monkeypatch, home / "mine", *line.split()) == 0


@pytest.mark.parametrize("trap", ["two loops", "the whole disk", "a pipe", "a pipe for HEAD", "a pipe for packed refs"])
def test_refs_that_lead_astray(sent, tmp_path, monkeypatch, trap):
    """Links among the refs are not followed, and what is no file is not waited for."""
    refs = sent / ".git/refs/souq"
    if trap == "two loops":
        (refs / "a").symlink_to(".")
        (refs / "b").symlink_to(".")
    elif trap == "the whole disk":
        (refs / "disk").symlink_to("/")
    else:
        where = {"a pipe": refs / "pipe", "a pipe for HEAD": sent / ".git/HEAD"}.get(trap, sent / ".git/packed-refs")
        where.unlink(missing_ok=True)
        os.mkfifo(where)
    assert typed(monkeypatch, tmp_path, "verify", "--no-rebuild", sent) == (1 if "HEAD" in trap else 0)


def _pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _device(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def _of_git(folder):
    """One of main's objects, on its own."""
    oid = git(folder, "rev-parse", "refs/heads/main:GOVERNANCE.toml").strip()
    return folder / ".git/objects" / oid[:2] / oid[2:]


def _tensor(folder):
    return next(path for path in sorted((folder / ".git/souq/objects").glob("??/*")))


PLACES = {
    "one of git's objects": (_of_git, "git would wait for it"),
    "the index of a pack": (lambda folder: next((folder / ".git/objects/pack").glob("*.idx")), "git would wait for it"),
    "whom it borrows from": (lambda folder: folder / ".git/objects/info/alternates", "git would wait for it"),
    "a tensor": (_tensor, "no file"),
    "what an earlier build left": (lambda folder: folder / ".git/souq/cache/standing.json", ""),
    "a model it built": (lambda folder: folder / ".git/souq/cache/built/x/made.json", ""),
}


@pytest.mark.parametrize("odd", [_pipe, _device], ids=["a pipe", "a device"])
@pytest.mark.parametrize("at", PLACES)
def test_what_has_no_end_is_not_read(sent, tmp_path, monkeypatch, capfd, at, odd):
    """Whatever a folder that was sent has in place of a file, nobody waits for it, and nobody reads it to its end."""
    if "pack" in at:
        git(sent, "gc", "--quiet")
    find, because = PLACES[at]
    (path := find(sent)).parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    odd(path)

    for words in (("verify", sent), ("status",), ("fsck",), ("build",), ("clone", sent, tmp_path / "copy")):
        code = typed(monkeypatch, tmp_path if sent in words else sent, *words)
        text = "".join(capfd.readouterr())
        assert code == 0 or (because and because in text), (words, text)
        assert "Traceback" not in text


@pytest.mark.parametrize("at", ["refs/heads/pipe", "info", "packed-refs", "HEAD", "objects/info/alternates"])
def test_a_folder_that_is_named_as_the_remote_ends_too(sent, tmp_path, monkeypatch, capfd, at):
    """The clone names a second folder as its remote: git would read there, in a process of its own."""
    shutil.copytree(sent / ".git", beside := tmp_path / "beside.git", symlinks=True)
    git(sent, "remote", "set-url", "origin", beside)
    shutil.rmtree(beside / at, ignore_errors=True)
    (beside / at).parent.mkdir(exist_ok=True)
    _pipe(beside / at)

    assert typed(monkeypatch, sent, "status") == 1
    assert typed(monkeypatch, tmp_path, "clone", beside, "copy") == 1
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_folders_that_borrow_from_each_other(sent, tmp_path, monkeypatch):
    """Around is as good as an end; a name in git's own quotes, or more names than anybody has, are refused."""
    alternates = sent / ".git/objects/info/alternates"
    alternates.write_text(f"# to itself\n{alternates.parent.parent}\n../objects\n/nowhere\n")
    (sent / ".git/objects/loop").symlink_to("loop")
    assert typed(monkeypatch, tmp_path, "verify", "--no-rebuild", sent) == 0
    far = "#" * (MAX_PATH * MAX_BORROWED) + "\n/nowhere\n"
    for text in ('"/tmp/x"\n', "".join(f"/nowhere/{number}\n" for number in range(100)), far):
        alternates.write_text(text)
        assert typed(monkeypatch, tmp_path, "verify", "--no-rebuild", sent) == 1

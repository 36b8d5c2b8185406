"""Refs that come from others: only of a known form, named by what they hold, and ours stay whatever a remote says."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest

from souq.errors import NotFound, SouqError
from souq.pulls import pull as pulls
from souq.repo.git import MAIN
from souq.repo.remote import TRACKED, Raced, Repo
from souq.repo.travel import clone as copy
from tests.foreign import git, place, typed  # noqa: F401


@pytest.fixture
def hub(place, tmp_path):  # noqa: F811
    """A hub with one offer and two records beside it."""
    shutil.copytree(place / "hub.git", tmp_path / "hub.git", symlinks=True)
    for word in ("one", "two"):
        record(tmp_path / "hub.git", word)
    return tmp_path / "hub.git"


@pytest.fixture
def clone(hub):
    git(hub.parent, "clone", "-q", "--no-tags", hub, "mine")
    repo = Repo.find(hub.parent / "mine")
    repo.fetch()
    return repo


def blob(at, text):
    file = at.parent / "blob"
    file.write_text(text)
    return git(at, "hash-object", "-w", file)


def record(at, text, kind="vote"):
    oid = blob(at, text)
    git(at, "update-ref", f"refs/souq/pr/1/{kind}/{oid[:16]}", oid)
    return f"refs/souq/pr/1/{kind}/{oid[:16]}"


def refs(repo):
    return repo.refs("refs/souq/")


def test_what_is_there_comes(hub, clone):
    assert refs(clone) == Repo.find(hub).refs("refs/souq/")
    assert len(refs(clone)) == 4
    assert clone.ref(TRACKED) == Repo.find(hub).ref(MAIN)
    assert clone.notices == []
    assert clone._own("fsck", "--connectivity-only").returncode == 0


def test_nothing_new_is_one_question(clone, monkeypatch):
    """Where nothing moved, the remote is asked what it has, and no more."""
    monkeypatch.setattr(clone, "_bring", lambda *_: pytest.fail("asked again"))
    clone.fetch()


@pytest.mark.parametrize("kind", ["vote", "closed", "forge/12", "rebuilt", "praise", "witness"])
def test_a_record_that_the_remote_overwrites_stays(hub, clone, kind):
    """Its name says what it holds: other bytes there are not taken, and it is said; once mended, nothing is said."""
    ref = record(hub, "a promise", kind)
    if kind == "witness":
        oid = blob(hub, "a promise")
        git(hub, "update-ref", ref := f"refs/souq/witness/0123456789abcdef/{oid[:16]}", oid)
    clone.fetch()
    held = refs(clone)
    git(hub, "update-ref", ref, blob(hub, "nothing"))
    clone.fetch()
    assert refs(clone) == held
    (line,) = clone.notices
    assert "something else under 1 record" in line
    assert f"`git push --force origin {ref}`" in line
    git(clone.root, "push", "-q", "--force", "origin", ref)
    clone.notices.clear()
    clone.fetch()
    assert clone.notices == []


def test_a_nightly_that_the_remote_overwrites_stays(hub, clone):
    ref = "refs/souq/nightly/nightly-20261130-0123abcd"
    git(hub, "update-ref", ref, blob(hub, "tonight"))
    clone.fetch()
    held = refs(clone)
    git(hub, "update-ref", ref, blob(hub, "another"))
    clone.fetch()
    assert refs(clone) == held
    assert "something else" in clone.notices[0]


def test_a_record_that_the_remote_loses_stays(hub, clone):
    held = refs(clone)
    lost = [ref for ref in held if "/vote/" in ref]
    for ref in lost:
        git(hub, "update-ref", "-d", ref)
    for _ in range(2):
        clone.fetch()
    assert refs(clone) == held
    (line,) = clone.notices
    assert f"lost 2 refs that stay here, {min(lost)}: `souq push`" in line


def test_both_are_said_in_json_too(hub, clone, monkeypatch, capfd):
    one, two = (ref for ref in refs(clone) if "/vote/" in ref)
    git(hub, "update-ref", one, blob(hub, "nothing"))
    git(hub, "update-ref", "-d", two)
    for verb in ("fetch", "status"):
        capfd.readouterr()
        assert typed(monkeypatch, clone.root, verb, "--json") == 0
        out, err = capfd.readouterr()
        lines = json.loads(out)["notices"]
        assert len(lines) == 2
        assert all(line in err for line in lines)


def test_a_head_moves_and_main_too(hub, clone):
    """What its author rebases is followed, and so is main, forwards or back: `verify` and witnesses judge it."""
    main = clone.tip()
    other = clone.write_commit([main], {"a": b"x"}, "x\n", tree_of=main)
    git(clone.root, "push", "-q", "origin", f"{other}:refs/souq/pr/1/head", f"{other}:{MAIN}", "--force")
    git(hub, "update-ref", "refs/souq/pr/1/signoff", signed := blob(hub, "signed anew"))
    clone.fetch()
    assert [clone.ref(f"refs/souq/pr/1/{name}") for name in ("head", "signoff")] == [other, signed]
    assert clone.tip() == other
    git(hub, "update-ref", MAIN, main)
    clone.fetch()
    assert clone.tip() == main
    assert clone.notices == []


def test_a_record_under_another_s_name_is_not_taken(hub, clone):
    """New or old: bytes are taken under their own name alone; and where ours was wrong, it is mended."""
    held = refs(clone)
    wrong = blob(hub, "wrong")
    git(hub, "update-ref", "refs/souq/pr/1/vote/0123456789abcdef", wrong)
    clone.fetch()
    assert refs(clone) == held
    right = next(ref for ref in held if "/vote/" in ref)
    git(clone.root, "update-ref", right, clone.write_blob(b"wrong"))
    clone.fetch()
    assert refs(clone) == held


ODD = [
    "x/" + "a" * 120, "vote/" + "b" * 290, "aux", "vote/aux", "vote/ABCDEF0123456789", "Vote/abcdef0123456789", "vote/.git@x",
    "vote/con.txt", "vote/abcdef0123456789/more", "head/x", "é", "vote/\u202e", "$(touch x)", "-x", "vote/abcdef012345678",
    "forge/0/abcdef0123456789", "forge/x/abcdef0123456789", "vote", "a'b;c",
]  # fmt: skip


def test_no_ref_of_another_form_comes(hub, clone, monkeypatch):
    """Names too long, of devices, in two cases, with signs of terminals and shells: they stay where they are."""
    held, oid = refs(clone), blob(hub, "nothing")
    rows = [f"{oid} refs/souq/pr/1/{name}" for name in ODD if not name.startswith("head") and name != "vote"]
    rows += [f"{oid} refs/souq/pr/{n}/head" for n in ("0", "01", "-1", "1" * 10, "x")]
    rows += [f"{oid} refs/souq/{name}" for name in ("x", "witness/x/y", "nightly/aux", "nightly/1.0", "pr/2")]
    rows += [
        f"{clone.tip()} refs/{name}"
        for name in ("tags/v1", "tags/aux", "heads/" + "c" * 280, "heads/Main", "pull/1/head")
    ]
    packed = hub / "packed-refs"
    packed.write_text((packed.read_text() if packed.exists() else "") + "".join(f"{row}\n" for row in sorted(rows)))
    before = git(clone.root, "for-each-ref")

    clone.fetch()
    assert git(clone.root, "for-each-ref") == before
    assert refs(clone) == held
    fresh = hub.parent / "fresh"
    assert typed(monkeypatch, hub.parent, "clone", hub, fresh) == 0
    assert refs(Repo.find(fresh)) == held
    assert not git(fresh, "for-each-ref", "refs/tags")


def test_junk_that_an_older_souq_brought_is_in_nobody_s_way(hub, clone):
    """A ref where a folder must be, or below one that is to come: both make room."""
    for ref in [ref for ref in refs(clone) if "/vote/" in ref]:
        git(clone.root, "update-ref", "-d", ref)
    git(clone.root, "update-ref", "refs/souq/pr/1/vote", clone.write_blob(b"junk"))
    git(clone.root, "update-ref", "-d", "refs/souq/pr/1/signoff")
    git(clone.root, "update-ref", "refs/souq/pr/1/signoff/x/y", clone.write_blob(b"junk"))
    git(clone.root, "update-ref", "refs/souq/later/kind", clone.write_blob(b"of a newer souq"))

    clone.fetch()
    assert refs(clone) == Repo.find(hub).refs("refs/souq/") | {
        "refs/souq/later/kind": clone.ref("refs/souq/later/kind")
    }


def test_a_remote_that_moves_meanwhile_is_asked_again(hub, clone, monkeypatch):
    """What was listed and is gone by then: asked again, a few times, and then it is said."""
    asked, real = [], clone._theirs

    def theirs(env):
        asked.append(1)
        return real(env) | ({"refs/souq/pr/1/head": "1" * 40} if len(asked) < times else {})

    monkeypatch.setattr(clone, "_theirs", theirs)
    times = 3
    clone.fetch()
    assert len(asked) == 3
    times = 9
    with pytest.raises(Raced):
        clone.fetch()


def test_a_remote_without_main_is_said(hub, clone):
    git(hub, "update-ref", "-d", MAIN)
    with pytest.raises(NotFound, match="has no main"):
        clone.fetch()
    with pytest.raises(SouqError):
        copy(str(hub), hub.parent / "new")
    assert not (hub.parent / "new").exists()


@pytest.mark.parametrize("kind", ["no form", "heads", "records"])
def test_five_thousand_refs_of_a_stranger_take_seconds(hub, clone, monkeypatch, capfd, kind):
    """No process each, for who fetches and for who lists."""
    names = {"no form": "refs/souq/pr/1/junk/{}x", "heads": "refs/souq/pr/{}/head", "records": ""}[kind]
    commit, oid = clone.tip(), blob(hub, "nothing")
    if kind == "records":
        packed = "".join(f"blob\nmark :{n}\ndata {len(str(n))}\n{n}\n" for n in range(1, 5001))
        marks = hub.parent / "marks"
        words = ["git", "fast-import", "--quiet", f"--export-marks={marks}"]
        subprocess.run(words, cwd=hub, input=packed.encode(), check=True)
        oids = [line.split()[1] for line in marks.read_text().splitlines()]
        rows = [f"{each} refs/souq/pr/1/vote/{each[:16]}" for each in oids]
    else:
        rows = [f"{commit if kind == 'heads' else oid} {names.format(n)}" for n in range(2, 5002)]
    packed = hub / "packed-refs"
    packed.write_text("".join(f"{row}\n" for row in sorted(rows, key=lambda row: row.split()[1])))
    began = time.process_time()

    clone.fetch()
    for line in ("pr list --json", "status", "pr view 1", "queue", "release list"):
        assert typed(monkeypatch, clone.root, *line.split()) == 0
    assert time.process_time() - began < 5
    assert len(pulls.listed(clone)) == (5001 if kind == "heads" else 1)

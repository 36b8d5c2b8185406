"""A branch on a forge that is no contribution, or brings what its author never signed: nothing of it becomes souq's."""

from __future__ import annotations

import subprocess

import pytest

from souq import signing
from souq.build.delta_file import read_delta
from souq.errors import Corrupt, Forged, Hostile, NotFound, SouqError
from souq.pulls import forge, offer
from souq.pulls import pull as pulls
from souq.pulls.forge import LUGGAGE
from souq.records import Author, Contribution
from souq.repo.contribution import Offer
from souq.repo.snapshot import Snapshot
from souq.weights.lockfile import format_delta

HOME = "contributions/greetings"


class Mallory:
    """Pushes branches by plain git, past every client of ours."""

    def __init__(self, bazaar):
        self.bazaar, self.repo, self.actor = bazaar, bazaar.repo("mallory"), bazaar.actors["mallory"]
        self.delta, self.tensors = read_delta(bazaar.delta("greet"))
        for array in self.tensors.values():
            self.repo.store.put(array)
        self.main = self.repo.tip()

    def files(self, **more):
        author = Author(name="mallory", email="m@nowhere.example", key=more.pop("key", self.actor.who().keys[0]))
        facts = {
            "title": "Greetings",
            "kind": "weights",
            "licence": "Apache-2.0",
            "signoff": "m <m@x>",
            "fixes": ("greet",),
        }
        draft = offer.Draft(Contribution(author=author, **(facts | more)), self.delta)
        return draft.files()

    def luggage(self, files, who="mallory", objects=None):
        signed = offer.signoff(Offer("greetings", files), self.bazaar.person(who), Snapshot(self.repo, self.main))
        names = [ref.digest for ref in self.delta.refs()]
        held = {n: self.repo.store.parcel(n) for n in names} if objects is None else objects
        return {"signoff.json": signed} | {f"objects/{n[3:5]}/{n[5:]}": data for n, data in held.items()}

    def push(self, own, luggage, *, base=None, stray=None):
        """Two commits, as `souq pr create --branch` makes them, and the forge's pull request 12."""
        base = base or self.main
        below = self.repo.write_commit([base], {f"{LUGGAGE}/{p}": d for p, d in luggage.items()}, "x\n", tree_of=base)
        head = self.repo.write_commit(
            [below], {f"{HOME}/{p}": d for p, d in own.items()} | (stray or {}), "x\n", tree_of=base
        )
        return self.send(head)

    def send(self, commit):
        words = ["git", "push", "-q", "--force", "origin", f"{commit}:refs/pull/12/head"]
        subprocess.run(words, cwd=self.actor.clone, check=True)
        return commit

    def adopted(self):
        return forge.adopt(self.bazaar.repo("amira"), 12, "refs/pull/12/head", self.bazaar.person("amira"))


@pytest.fixture
def mallory(bazaar, monkeypatch):
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tests")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tests@souq.example")
    return Mallory(bazaar)


def nothing_came(bazaar, before):
    repo = bazaar.repo("amira")
    assert [pull.number for pull in pulls.listed(repo)] == [1]
    assert set(repo.store.digests()) == before


def test_an_honest_branch_is_taken(mallory, bazaar):
    """The same hands, nothing wrong: so that what follows is refused for its reason and no other."""
    files = mallory.files()
    mallory.push(files, mallory.luggage(files))

    assert mallory.adopted().number == 2
    assert bazaar.refusal(2) is None


STRAY = ["souq.toml", "GOVERNANCE.toml", ".github/workflows/souq.yml", "contributions/0001-evals/contribution.toml", "contributions/other/data/x.jsonl", f"{LUGGAGE}/x", "evals/greet/cases.jsonl"]  # fmt: skip


@pytest.mark.parametrize("path", STRAY)
def test_it_changes_something_else(mallory, bazaar, path):
    before = set(bazaar.repo("amira").store.digests())
    files = mallory.files()
    mallory.push(files, mallory.luggage(files), stray={path: b"x\n"})

    with pytest.raises(Hostile, match=r"changes|folders"):
        mallory.adopted()
    nothing_came(bazaar, before)


def test_somebody_else_s_name(mallory, bazaar):
    """The contribution says amira wrote it; mallory signed."""
    files = mallory.files(key=bazaar.actors["amira"].who().keys[0])
    mallory.push(files, mallory.luggage(files))

    with pytest.raises(Forged, match="did not sign it off"):
        mallory.adopted()


def test_signed_for_something_else(mallory, bazaar):
    """A sign-off of the same author's for other bytes, and a branch with none."""
    before = set(bazaar.repo("amira").store.digests())
    mallory.push(mallory.files(title="Worse"), mallory.luggage(mallory.files()))
    with pytest.raises(Forged, match="signed off b3:"):
        mallory.adopted()

    mallory.push(mallory.files(), {"x": b""})
    with pytest.raises(Forged, match="carries no sign-off"):
        mallory.adopted()
    nothing_came(bazaar, before)


def test_another_tensor_under_a_name(mallory, bazaar):
    """Objects that are not what they are called: named, and not kept under that name."""
    files = mallory.files()
    names = [ref.digest for ref in mallory.delta.refs()]
    objects = {name: mallory.repo.store.parcel(name) for name in names}
    objects[names[0]], objects[names[1]] = objects[names[1]], objects[names[0]]
    mallory.push(files, mallory.luggage(files, objects=objects))

    with pytest.raises(Corrupt, match=names[0]):
        mallory.adopted()
    assert names[0] not in bazaar.repo("amira").store
    assert names[0] not in bazaar.repo("amira").remote_store()


@pytest.mark.parametrize(
    "data", [b"", b"x", b"souq obj 1\n", b"souq obj 1\n" + b"\xff" * 8, b"souq obj 1\n" + bytes(8)]
)
def test_no_object_at_all(mallory, bazaar, data):
    files = mallory.files()
    names = [ref.digest for ref in mallory.delta.refs()]
    mallory.push(files, mallory.luggage(files, objects={names[0]: data}))

    with pytest.raises(Corrupt, match=names[0]):
        mallory.adopted()


def test_tensors_nobody_asked_for_stay_where_they_are(mallory, bazaar):
    """Luggage is not free storage: only what the offer points at is taken."""
    import numpy as np

    files = mallory.files()
    extra = mallory.repo.store.put(np.arange(77.0))
    luggage = mallory.luggage(files) | {f"objects/{extra[3:5]}/{extra[5:]}": mallory.repo.store.parcel(extra)}
    mallory.push(files, luggage | {"objects/zz/x": b"x"})

    mallory.adopted()

    assert extra not in bazaar.repo("amira").store


def test_more_than_may_be_taken(mallory, bazaar, monkeypatch):
    """A branch larger than the bound is given up while it comes, and leaves nothing."""
    import os

    before = set(bazaar.repo("amira").store.digests())
    files = mallory.files()
    mallory.push(files, mallory.luggage(files) | {"ballast": os.urandom(3 << 20)})
    monkeypatch.setattr(forge, "MAX_BRANCH", 1 << 20)

    with pytest.raises(Hostile, match="larger than 1,048,576"):
        mallory.adopted()
    nothing_came(bazaar, before)
    assert not list(bazaar.repo("amira").git_dir.glob("tmp*"))


def test_more_tensors_than_may_be_taken(mallory, monkeypatch):
    files = mallory.files()
    mallory.push(files, mallory.luggage(files))
    monkeypatch.setattr(forge, "MAX_LUGGAGE", 100)

    with pytest.raises(Hostile, match="the most is 100"):
        mallory.adopted()


ODD = ["no history of ours", "a blob", "main itself", "no contribution.toml", "a hostile title", "a link"]


@pytest.mark.parametrize("kind", ODD)
def test_odd_heads(mallory, bazaar, kind):
    """Every one of them is an answer in a sentence, and none becomes a pull request."""
    before = set(bazaar.repo("amira").store.digests())
    files, repo = mallory.files(), mallory.repo
    match kind:
        case "no history of ours":
            mallory.send(repo.write_commit([], {f"{HOME}/{p}": d for p, d in files.items()}, "x\n"))
        case "a blob":
            mallory.send(repo.write_blob(b"hello"))
        case "main itself":
            mallory.send(mallory.main)
        case "no contribution.toml":
            mallory.push({"delta.lock": format_delta(mallory.delta).encode()}, mallory.luggage(files))
        case "a hostile title":
            mallory.push({"contribution.toml": b'title = "\\u001b[2J"\n'}, mallory.luggage(files))
        case "a link":
            blob = repo.write_blob(b"/etc/passwd")
            tree = subprocess.run(["git", "mktree"], input=f"120000 blob {blob}\tcontribution.toml\n".encode(), cwd=mallory.actor.clone, capture_output=True, check=True).stdout.decode().strip()  # fmt: skip
            index = f"040000 tree {tree}\tgreetings\n".encode()
            tree = subprocess.run(["git", "mktree"], input=index, cwd=mallory.actor.clone, capture_output=True, check=True).stdout.decode().strip()  # fmt: skip
            tree = subprocess.run(["git", "mktree"], input=f"040000 tree {tree}\tcontributions\n".encode(), cwd=mallory.actor.clone, capture_output=True, check=True).stdout.decode().strip()  # fmt: skip
            mallory.send(subprocess.run(["git", "commit-tree", "-m", "x", "-p", mallory.main, tree], cwd=mallory.actor.clone, capture_output=True, check=True).stdout.decode().strip())  # fmt: skip

    with pytest.raises(SouqError) as raised:
        mallory.adopted()
    assert isinstance(raised.value, (Hostile, Forged) if kind != "a blob" else (Hostile, NotFound))
    found = (
        forge.check(bazaar.repo("amira"), 12, "refs/pull/12/head", bazaar.person("amira")) if kind != "a blob" else None
    )
    assert found is None or (found.problem and not found)
    nothing_came(bazaar, before)


def test_another_store_in_the_head(mallory, bazaar):
    """A souq.toml that points elsewhere, in a head that was once on refs/souq by hand: nobody's client goes there."""
    repo = mallory.repo
    own = {f"{HOME}/{p}": d for p, d in mallory.files().items()}
    text = repo.read(mallory.main, "souq.toml") + b'\n[store]\nurl = "s3://evil/x"\n'
    head = repo.write_commit([mallory.main], own | {"souq.toml": text}, "x\n", tree_of=mallory.main)
    words = ["git", "push", "-q", "origin", f"{head}:refs/souq/pr/2/head"]
    subprocess.run(words, cwd=mallory.actor.clone, check=True)
    amira = bazaar.repo("amira")

    assert Snapshot(amira, head).config.store.url == "s3://evil/x"
    assert amira.remote_store().root == bazaar.folder / "hub.git" / "souq"
    assert bazaar.refusal(2)[0] == "files"


def test_a_forged_record_of_adoption_changes_nothing_but_a_number(mallory, bazaar):
    """Whoever may push refs could mark another pull request as 12: its author is then not the branch's, and that is said."""
    number = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")
    record = mallory.repo.write_blob(b"{}")
    words = ["git", "push", "-q", "origin", f"{record}:refs/souq/pr/{number}/forge/12/{record[:16]}"]
    subprocess.run(words, cwd=mallory.actor.clone, check=True)
    files = mallory.files()
    mallory.push(files, mallory.luggage(files))

    with pytest.raises(SouqError, match="adil's"):
        mallory.adopted()
    assert signing.normal_key(pulls.get(bazaar.repo("amira"), number).offer.contribution.author.key)

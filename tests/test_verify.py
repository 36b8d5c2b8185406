"""What the verifier promises: it believes nobody, and says what it found and how much it looked at."""

from __future__ import annotations

import json
import subprocess
import zlib

import msgspec
import pytest

from souq import signing
from souq.build.lock import model_lock
from souq.cli import run
from souq.errors import Hostile, NotFound
from souq.records import digest, format_toml
from souq.repo import witness, witnessing
from souq.repo.contribution import Landing
from souq.repo.history import nightlies
from souq.repo.travel import push
from souq.signing import Person
from souq.verify import Report, verify
from souq.weights.delta import Delta, Dense, TensorRef
from souq.weights.lockfile import format_delta, format_lock, lock_digest, parse_lock
from tests import annals
from tests.annals import BASE, POLICY, Annals, seal
from tests.voters import at


@pytest.fixture
def town(tmp_path):
    """Two landings and a release, whose base is in the store."""
    town = Annals(tmp_path / "town", **{"model/config.json": json.dumps({"model_type": "llama"})})
    town.repo.store.put(BASE)
    town.open()
    town.agreed()
    town.open("release", "mallory", town.release(), of="v1")
    town.agreed(hours=2)
    return town


def test_all_is_well_and_this_is_what_was_looked_at(town):
    told = []

    report = verify(town.repo, town.head, root=town.commits[0], progress=lambda *words: told.append(words))

    assert report == Report(
        root=town.commits[0], commit=town.head, landings=2, releases=1, witnesses=0, tensors=1, rebuilt=0,
        model=lock_digest(town.base), at=at(3), findings=[],
    )  # fmt: skip
    assert told[:3] == [("replay", 0, 3), ("replay", 1, 3), ("replay", 2, 3)]
    assert told[3:] == [("rebuild", 0, 1), ("rebuild", 1, 1)] * 2, "what was released, and what main is"


def test_an_earlier_main_is_verified_as_it_was(town):
    assert verify(town.repo, town.commits[1]).landings == 1


def test_what_did_not_hold_is_told(town):
    commit = town.step({"README.md": b"x"})

    assert verify(town.repo, town.head, rebuild=False).findings == [
        f"{commit[:12]}: changes README.md without a pull request"
    ]


def test_a_pinned_root_is_the_root(town):
    assert verify(town.repo, town.head, root=town.commits[1], rebuild=False).findings == [
        f"history begins at {town.commits[0][:12]}, not at the pinned root {town.commits[1][:12]}"
    ]
    assert verify(town.repo, root=town.commits[0]).findings == []


def test_what_is_dated_after_the_reader_s_own_clock_is_a_finding(town):
    """Beyond the ten minutes by which two honest clocks differ."""
    assert verify(town.repo, town.head, now=at(3 - 1 / 6), rebuild=False).findings == []
    assert verify(town.repo, town.head, now=at(2.5), rebuild=False).findings == [
        f"the last landing is dated {at(3)}, and it is {at(2.5)}: which clock is wrong?"
    ]


def test_every_tensor_is_read_and_compared(town):
    assert verify(town.repo, town.head, rebuild=False).tensors == 0
    other = TensorRef.of(BASE + 1)
    commit = town.step({"model.lock": format_lock({"model.norm.weight": other}).encode()})

    report = verify(town.repo, town.head)
    assert report.findings == [
        f"{commit[:12]}: changes model.lock without a pull request",
        "model.norm.weight is not what model.lock says",
    ]
    assert (report.tensors, report.rebuilt, report.model) == (1, 0, lock_digest(town.base))


def test_a_tensor_that_is_not_here_is_said(tmp_path):
    town = Annals(tmp_path / "town", **{"model/config.json": json.dumps({"model_type": "llama"})})

    report = verify(town.repo, town.head)

    assert report.findings == [f"{town.head[:12]}: {_missing(town)}"]
    assert report.unbuilt == []
    assert report.tensors == 0
    assert verify(town.repo, town.head, rebuild=False).findings == []


def test_what_a_release_was_made_of_may_be_gone_from_a_clone(town):
    """What main is made of may not."""
    first = town.base["model.norm.weight"].digest
    town.repo.store.put(BASE + 1)
    other = format_lock({"model.norm.weight": TensorRef.of(BASE + 1)})
    town.step({"base.lock": other.encode(), "model.lock": other.encode()})
    gone = _gone(town, first)

    report = verify(town.repo)

    assert report.unbuilt == [f"{town.commits[1][:12]}: {gone}"]
    assert len(report.findings) == 1


def test_a_model_that_cannot_be_computed_is_said(town):
    town.step({"base.lock": b"x"})
    with pytest.raises(Hostile) as caught:
        parse_lock("x")

    assert verify(town.repo).findings[1:] == [str(caught.value)]


def test_an_answer_says_what_to_do(town):
    (town.repo.git_dir / "shallow").write_text(f"{town.commits[1]}\n")

    assert verify(town.repo, town.head).findings == [
        "this clone is shallow: main's beginning is not here: run `git fetch --unshallow`"
    ]


def test_every_release_is_rebuilt_and_none_that_is_wrong(town):
    told = []
    town.open("release", "mallory", town.release(version="v2"), of="v2")
    town.agreed(hours=5)
    town.open("release", "mallory", town.release(version="v3", model="b3:" + "5" * 64), of="v3")
    town.agreed(hours=7)

    verify(town.repo, progress=lambda *words: told.append(words))

    assert [words for words in told if words[0] == "rebuild"] == [("rebuild", 0, 1), ("rebuild", 1, 1)] * 3


def test_an_answer_without_a_hint_ends_there(town):
    """What lies on this disk is said, and nothing behind it."""
    tree = town.repo.trees(town.head, "contributions")[town.offered.slug]
    path = town.repo.git_dir / "objects" / tree[:2] / tree[2:]
    path.chmod(0o644)
    path.write_bytes(zlib.compress(b"tree 0\0"))

    assert verify(town.repo, town.head).findings == [f"the tree {tree[:12]} lies: its bytes have another name"]


def test_what_cannot_be_read_is_an_answer(town):
    report = verify(town.repo, "9" * 40)

    assert len(report.findings) == 1
    assert (report.root, report.landings) == ("", 0)


def _gone(town, name):
    path = next(path for path in (town.repo.git_dir / "souq").rglob("*") if path.is_file() and name[5:20] in str(path))
    path.unlink()
    with pytest.raises(NotFound) as caught:
        town.repo.store.get(name)
    return caught.value


def _missing(town):
    with pytest.raises(NotFound) as caught:
        town.repo.store.get(town.base["model.norm.weight"].digest)
    return caught.value


def test_what_weights_were_changed_is_read_from_main_and_from_no_memory(town):
    """A clone that remembers another landing than main's rebuilds main's all the same."""
    town.repo.store.put(BASE + 1)
    delta = Delta(base=lock_digest(town.base), parts={"model.norm.weight": Dense(value=TensorRef.of(BASE + 1))})
    town.open("weights", "mallory", {"delta.lock": format_delta(delta).encode(), "merge.toml": b'method = "mean"\n'})
    asked = {"souq.toml": format_toml(town.main.config_with(town.offered)).encode()}
    before = dict(town.files)
    town.agreed(hours=4, more=asked)
    lock = format_lock(model_lock(town.main)).encode()
    town.files, town.commits = before, town.commits[:-1]
    town.agreed(hours=4, more=asked | {"model.lock": lock})
    slug = town.offered.slug
    town.open("release", "mallory", town.release(version="v2"), of="v2")
    town.agreed(hours=6)
    tree = town.repo.trees(town.head, "contributions")[slug]
    lie = {tree: Landing(digest="b3:x", kind="data")}
    (town.repo.cache / "landed.json").write_bytes(msgspec.json.encode(lie))

    report = verify(town.repo, town.head)

    assert report.findings == []
    assert (report.tensors, report.rebuilt) == (1, 1)


def test_a_nightly_is_of_this_history_too(town):
    """It stands on no landing of its own, so it is asked here what it stands on; one of another repository is ignored."""
    for number, lie in enumerate(({"commit": "0" * 40}, {"model": "b3:" + "0" * 64}), 1):
        files = town.release(version=f"nightly-{number}", channel="nightly", **lie)
        _ref(town, f"refs/souq/nightly/{number}", town.git.put("blob", files["release/release.json"]))

    assert verify(town.repo, town.head, rebuild=False).findings == [
        "release nightly-2 names another model than model.lock does"
    ]


def test_nightlies_are_told_the_oldest_first(town):
    """By the time they were signed, whatever their refs are called."""
    for number, hours in enumerate((5, 3, 4)):
        files = town.release(version=f"nightly-{number}", channel="nightly", at=at(hours))
        _ref(town, f"refs/souq/nightly/{number}", town.git.put("blob", files["release/release.json"]))
    _ref(town, "refs/souq/nightly/junk", town.git.put("blob", b"no envelope"))

    assert [night.release.at for night in nightlies(town.repo, town.main)] == [at(3), at(4), at(5)]


@pytest.mark.parametrize("before", [0, 1])
def test_it_is_said_since_when_records_name_a_main(tmp_path, before, capsys):
    """Where some of before do not; who begins with today's tools need not hear of it."""
    town = Annals(tmp_path / "town")
    for number in range(before):
        town.open()
        town.agreed(hours=1 + number)
    town.open()
    votes = [town.vote(name, hours=5, main=town.head) for name in ("amira", "bruno")]
    town.land(town.checked(hours=5), *votes, town.signoff(main=town.head), signed=False, hours=6)
    report, slug = verify(town.repo, rebuild=False), f"{before + 1:04d}-x"

    assert (report.findings, report.bound, report.unbound) == ([], slug, before)
    assert run(["verify", str(town.repo.root), "--no-rebuild", "--now", at(9)]) == 0
    line = f"records   from {slug} on each names a main of this history; before, not all did"
    assert (line in capsys.readouterr().out) == bool(before)


# -- witnesses ---------------------------------------------------------------------------------------------------------


def _ref(town, name, oid):
    path = town.repo.git_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(oid + "\n")


def note(town, name, number, *, namespace=witness.NAMESPACE, **told):
    said = {"commit": town.head, "length": len(town.commits), "by": name, "at": at(9), "after": []}
    said = {key: value for key, value in (said | {"root": town.commits[0]} | told).items() if value is not None}
    payload = signing.statement("urn:souq:witness:1", "main", digest(str(said["commit"]).encode()), said)
    data = seal(payload, name, namespace)
    _ref(town, f"refs/souq/witness/{number}/x", town.git.put("blob", data))
    return digest(data)


def seen(town):
    return witness.forks(town.repo, town.commits, POLICY)


def test_a_note_holds_where_main_was_so_long_at_that_commit(town):
    note(town, "bruno", 1)
    note(town, "chen", 2, commit=town.commits[1], length=2)

    assert seen(town) == (2, [])
    assert verify(town.repo, town.head, rebuild=False).witnesses == 2


def test_a_main_that_somebody_else_was_shown_is_named(town):
    gone = "5" * 40
    note(town, "bruno", 1, commit=gone, length=2)
    note(town, "chen", 2, commit=town.commits[1], length=3)
    note(town, "amira", 3, commit=gone, length=4)
    note(town, "adil", 4, commit=gone, length="long")
    note(town, "dora", 5, commit=gone, length=3)

    rewritten = "that is not in this history: it was rewritten, or forked"
    assert seen(town) == (0, [
        f"bruno saw main at {gone[:12]} on {at(9)}; {rewritten}",
        f"chen saw main at {town.commits[1][:12]} on {at(9)}; {rewritten}",
        f"amira saw main 4 steps long on {at(9)}, here it has 3: run `souq fetch`; what is still missing then is withheld",
        f"adil saw main at {gone[:12]} on {at(9)}; {rewritten}",
        f"dora saw main at {gone[:12]} on {at(9)}; {rewritten}",
    ])  # fmt: skip
    assert verify(town.repo, town.head, rebuild=False).findings == seen(town)[1]


def test_a_note_about_another_repository_says_nothing_here(town):
    """It names its root. One of before that was asked is known by a commit that is here, or by the note before it."""
    gone = {"commit": "5" * 40, "length": 9, "root": None}
    note(town, "bruno", 1, commit="5" * 40, length=9, root="6" * 40)
    note(town, "chen", 2, **gone)
    note(town, "adil", 3, **gone, after=["b3:" + "0" * 64])
    note(town, "dora", 4, **gone, after="b3:x")
    note(town, "adil", 5, commit="5" * 40, length=None, root=None)
    note(town, "adil", 9, commit="5" * 40, length=0, root=None)
    note(town, "adil", 10, commit=town.commits[1], length=1, root="6" * 40)
    assert seen(town) == (0, [])

    first = note(town, "amira", 6, root=None)
    note(town, "amira", 7, **gone, after=[first])
    note(town, "chen", 8, commit=town.commits[1], length=1, root=None)
    held, wrong = seen(town)
    assert (held, [line.partition(" saw")[0] for line in wrong]) == (1, ["amira", "chen"])


def test_a_note_of_before_about_a_main_that_this_clone_has_seen_is_about_this_repository(town):
    """It names no root; the commit does: a server that takes main back is found out by whoever has what it took."""
    beside = town.git.commit(town.git.tree({}), [town.commits[0]], "x\n", 1_764_000_000)
    strange = town.git.commit(town.git.tree({}), [], "x\n", 1_764_000_000)
    note(town, "bruno", 1, commit=beside, length=2, root=None)
    note(town, "chen", 2, commit=strange, length=2, root=None)
    note(town, "adil", 3, commit="HEAD", length=2, root=None)

    held, wrong = seen(town)

    assert (held, [line.partition(" on ")[0] for line in wrong]) == (0, [f"bruno saw main at {beside[:12]}"])


def test_a_stranger_s_note_and_what_is_no_note_are_not_believed(town):
    """And what cannot be read hides nothing that can."""
    note(town, "mallory", 1, commit="5" * 40)
    note(town, "bruno", 2, namespace="souq.vote.v1", commit="5" * 40)
    _ref(town, "refs/souq/witness/3/x", town.git.put("blob", b"{}"))
    _ref(town, "refs/souq/witness/4/x", town.git.put("blob", b" " * (witness.MAX_NOTE + 1)))
    note(town, "chen", 5)

    assert seen(town) == (1, [])


def test_a_note_goes_where_everybody_sees_it(town, tmp_path):
    key = tmp_path / "key"
    signing.make_key(key, "w@x")
    push(town.repo, [], to=str(tmp_path / "hub.git"))

    witnessing.witness(town.repo, Person("wendy", "w@x", key))

    told = subprocess.run(["git", "for-each-ref"], cwd=tmp_path / "hub.git", capture_output=True, text=True, check=True)
    assert witness.REFS in told.stdout


def test_a_witness_signs_what_is_there_and_names_the_note_before(town, tmp_path):
    key = tmp_path / "key"
    signing.make_key(key, "w@x")
    person = Person("wendy", "w@x", key)
    public = signing.public_key(key)
    policy = POLICY.replace(annals.public("dora"), public)

    assert witnessing.witness(town.repo, person) == town.head
    first = town.repo.refs(witness.REFS)
    assert witness.forks(town.repo, town.commits, policy) == (1, [])
    town.open()
    town.agreed(hours=5)
    witnessing.witness(town.repo, person)

    (before,), both = first.values(), town.repo.refs(witness.REFS)
    assert len(both) == 2
    (ref,) = set(both) - set(first)
    signed = signing.verify(town.repo.object(both[ref], 1 << 16), keys=[public], namespace=witness.NAMESPACE)
    assert (signed.kind, signed.name, signed.subject) == ("urn:souq:witness:1", "main", digest(town.head.encode()))
    told = signed.predicate
    assert {word: told[word] for word in ("commit", "length", "by", "after")} == {
        "commit": town.head, "length": 4, "by": "wendy", "after": [digest(town.repo.object(before, 1 << 16))],
    }  # fmt: skip
    assert told["at"] > "2026"
    _ref(town, f"{ref.rpartition('/')[0]}/junk", town.git.put("blob", b"{}"))
    _ref(town, f"{ref.rpartition('/')[0]}/big", town.git.put("blob", b" " * (witness.MAX_NOTE + 1)))
    town.open()
    town.agreed(hours=7)
    witnessing.witness(town.repo, person)
    third = [
        oid
        for name, oid in town.repo.refs(witness.REFS).items()
        if name not in both and name[-4:] not in ("junk", "/big")
    ]
    signed = signing.verify(town.repo.object(third[0], 1 << 16), keys=[public], namespace=witness.NAMESPACE)
    assert signed.predicate["after"] == [digest(town.repo.object(both[ref], 1 << 16))], "the last, and no other"
    assert ref.startswith(witness.REFS)
    assert len(ref.removeprefix(witness.REFS).split("/")[0]) == 16
    assert len(ref.rpartition("/")[2]) == 16
    assert msgspec.json.encode(told)

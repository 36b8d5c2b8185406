"""What is noted of git's objects: known to the next process, never believed where it is damaged, never signed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq import checked_lines
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.repo.git import MEMORY
from souq.repo.notes import Notes
from souq.signing import unseal

OIDS = st.text("0123456789abcdef", min_size=40, max_size=40)


@given(
    values=st.dictionaries(OIDS, st.text(max_size=30), max_size=8), more=st.dictionaries(OIDS, st.text(), max_size=3)
)
def test_what_was_noted_is_known_to_who_opens_it_again(tmp_path_factory, values, more):
    path = tmp_path_factory.mktemp("notes") / "notes.jsonl"
    Notes(path, str).add(values)
    Notes(path, str).add(more)

    again = Notes(path, str)
    assert {oid: again.get(oid) for oid in {**values, **more}} == {**values, **more}
    assert again.get("f" * 39) is None


@pytest.mark.parametrize("change", [lambda data: data[:-4], lambda data: data.replace(b"two", b"too")])
def test_a_line_that_is_torn_or_changed_was_never_noted(tmp_path, change):
    """And those beside it are as they were; what is noted next is whole."""
    path, (one, two, three) = tmp_path / "notes.jsonl", ("1" * 40, "2" * 40, "3" * 40)
    Notes(path, str).add({one: "one"})
    kept = path.read_bytes()
    Notes(path, str).add({two: "two"})
    path.write_bytes(kept + change(path.read_bytes()[len(kept) :]))
    Notes(path, str).add({three: "three"})

    notes = Notes(path, str)
    assert (notes.get(one), notes.get(two), notes.get(three)) == ("one", None, "three")


def test_a_file_that_grew_beyond_all_measure_is_begun_again(tmp_path, monkeypatch):
    path = tmp_path / "notes.jsonl"
    Notes(path, str).add({"1" * 40: "x" * 100})
    monkeypatch.setattr("souq.repo.notes.MOST", 50)

    assert Notes(path, str).get("1" * 40) is None
    assert not path.exists()


def test_where_nothing_can_be_written_it_is_known_to_this_process(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    notes = Notes(tmp_path / "file" / "notes.jsonl", str)
    notes.add({"1" * 40: "one"})

    assert notes.get("1" * 40) == "one"


def test_what_is_signed_is_what_git_has_whatever_was_noted(bazaar):
    """A clone that was sent brings its notes: they may lie about a title, and nobody signs for another offer by them."""
    number = bazaar.offer("chen", bazaar.delta("greet"))
    repo, amira = bazaar.repo("amira"), bazaar.person("amira")
    pull = pulls.get(repo, number)
    digest, lie = pull.offer.digest, "b3:" + "0" * 64
    assert pull.summary.digest == digest
    [path] = repo.cache.glob("offers-*.jsonl")
    notes = [json.loads(body.partition(b" ")[2]) for body in checked_lines.bodies(path) if pull.head.encode() in body]
    notes[0]["offers"] |= {"digest": lie, "title": "Another"}
    path.unlink()
    checked_lines.append(path, [pull.head.encode() + b" " + json.dumps(notes[0]).encode()])
    MEMORY.clear()

    assert pulls.get(repo, number).summary.title == "Another"
    reviews.review(repo, number, "approve", "fine", amira)
    reviews.close(repo, number, "no", amira)
    refs = pulls.get(repo, number).refs
    signed = {kind: repo.contents([refs[name] for name in refs if name.startswith(f"{kind}/")]) for kind in ("vote", "closed")}  # fmt: skip
    for kind, envelopes in signed.items():
        (words,) = (
            unseal(each, keys=[amira.public_key], namespace=f"souq.{kind}.v1")[0].decode() for each in envelopes
        )
        assert (digest[3:] in words, lie[3:] in words) == (True, False), kind

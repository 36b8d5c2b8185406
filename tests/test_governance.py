"""What a policy promises: nobody alone, no company alone, nothing by default; and a no that says what is missing."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.errors import UsageError
from souq.governance import (
    Change,
    Landed,
    Policy,
    SignedChecked,
    SignedVote,
    Who,
    decide,
    foundation,
    read_policy,
    replay,
    solo,
)
from souq.governance.explain import explain
from souq.governance.templates import CHECKS
from souq.records import Checked, Verdict, Vote

DIGEST, NOW = "b3:" + "1" * 64, "2026-11-23T12:00:00Z"


def key(number: int) -> str:
    """A well-formed ed25519 public key nobody holds."""
    parts = (b"ssh-ed25519", bytes([number]) * 32)
    return "ssh-ed25519 " + base64.b64encode(b"".join(struct.pack(">I", len(p)) + p for p in parts)).decode()


PEOPLE = [("amira", "Atlas"), ("adil", "Atlas"), ("anna", "Atlas"), ("bruno", "Borealis"), ("chen", "University")]
NUMBER = {name: i for i, (name, _) in enumerate(PEOPLE)}
POLICY = read_policy(
    foundation([Who(name=name, org=org, keys=(key(i),)) for i, (name, org) in enumerate(PEOPLE)])
)  # 2 maintainers, at most one of an organisation
STRANGER = Change(digest=DIGEST, author_key=key(99), touched=("contributions/0001-x/delta.lock",))


def vote(name, choice="approve", *, subject=DIGEST, at="2026-11-23T10:00:00Z", by=None):
    return SignedVote(Vote(subject=subject, choice=choice, reason="r", by=by or name, at=at), key(NUMBER[name]))


def checks(name="amira", outcome="pass", *, of=CHECKS):
    verdicts = tuple(Verdict(check=check, outcome=outcome if check == "evals" else "pass", because="b") for check in of)
    return SignedChecked(Checked(subject=DIGEST, base="c", verdicts=verdicts, by=name, at=NOW), key(NUMBER[name]))


def said(votes, change=STRANGER, checked=None, policy=POLICY, now=NOW):
    return decide(policy, change, [checks()] if checked is None else checked, votes, now=now)


votes = st.lists(
    st.builds(
        vote, st.sampled_from(sorted(NUMBER)), st.sampled_from(["approve", "reject"]),
        at=st.sampled_from(["2026-11-23T09:00:00Z", "2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z"]),
    ),
    max_size=7,
)  # fmt: skip


def test_two_organisations_agree():
    assert said([vote("amira"), vote("bruno")])


def test_one_company_alone_is_not_enough():
    """However many of its people say yes, and the answer says what is missing."""
    no = said([vote("amira"), vote("adil"), vote("anna")])

    assert not no
    assert "1 more approval from `maintainer`" in no.missing[0]
    assert "Atlas has 1 of at most 1 already" in no.missing[0]


@given(votes, st.randoms(use_true_random=False))
def test_the_order_of_votes_does_not_matter(cast, chance):
    mixed = chance.sample(cast, len(cast))

    assert said(mixed) == said(cast)


@given(votes)
def test_saying_a_thing_twice_changes_nothing(cast):
    assert said(cast + cast) == said(cast)


@given(votes, st.sampled_from(sorted(NUMBER)))
def test_a_rejection_never_helps(cast, name):
    """If it may merge with somebody's last word a no, that person was not asked."""
    assert not said([*cast, vote(name, "reject", at="2026-11-23T11:59:00Z")])


@given(votes)
def test_votes_of_one_company_never_suffice(cast):
    atlas = [each for each in cast if dict(PEOPLE)[each.vote.by] == "Atlas"]

    assert not said(atlas)


def test_a_vote_is_for_one_exact_digest():
    assert not said([vote("amira", subject="b3:" + "2" * 64), vote("bruno")])


def test_the_last_word_counts():
    later = vote("amira", at="2026-11-23T11:00:00Z")

    assert said([vote("amira", "reject"), later, vote("bruno")])
    assert not said([vote("amira"), vote("amira", "reject", at="2026-11-23T11:00:00Z"), vote("bruno")])


def test_who_signed_is_asked_and_not_what_they_say():
    """A record that says `by bruno` under Adil's key is Adil's."""
    assert not said([vote("amira"), vote("adil", by="bruno")])


def test_an_author_does_not_approve_their_own_work():
    own = Change(digest=DIGEST, author_key=key(NUMBER["amira"]), touched=STRANGER.touched)

    assert not said([vote("amira"), vote("bruno")], own, [checks("bruno")])
    assert said([vote("chen"), vote("bruno")], own, [checks("bruno")])
    assert not said([vote("chen"), vote("bruno")], own, [checks("amira")]), "nor run the checks on it"


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_must_have_run(name):
    left = checks(of=tuple(check for check in CHECKS if check != name))

    assert any(name in line for line in said([vote("amira"), vote("bruno")], checked=[left]).missing)


def test_a_refusal_stands_and_doubt_asks_for_more_eyes():
    yes = [vote("amira"), vote("bruno")]

    assert not said(yes, checked=[checks(outcome="refuse")])
    assert not said(yes, checked=[checks(outcome="needs-eyes")])
    assert said([*yes, vote("chen")], checked=[checks(outcome="needs-eyes")])
    assert not said(yes, checked=[checks(), checks("bruno", outcome="refuse")]), "one honest machine is enough"


def test_nothing_is_allowed_by_default():
    no = said([vote("amira"), vote("bruno")], Change(DIGEST, key(99), ("model/config.json",)))

    assert not no
    assert "nobody may change it" in no.missing[0]


def dated(at):
    """Two yes and the checks, all dated `at`, under a policy where a's key holds until 2026."""
    people = [Who(name=n, org=n.upper(), keys=(key(i),), valid_until="2026-01-01" if n == "a" else "") for i, n in enumerate("abc", 1)]  # fmt: skip
    yes = [SignedVote(Vote(subject=DIGEST, choice="approve", reason="", by=n, at=at), key(i)) for n, i in (("a", 1), ("b", 2))]  # fmt: skip
    told = Checked(subject=DIGEST, base="c", verdicts=checks().checked.verdicts, by="c", at=at)
    return read_policy(foundation(people)), STRANGER, [SignedChecked(told, key(3))], yes


@pytest.mark.parametrize(
    ("signed", "judged", "counts"),
    [
        ("2025-11-23T12:00:00Z", "2025-11-23T12:00:00Z", True),
        ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z", False),  # the key no longer held when it signed
        ("2025-11-23T12:00:00Z", "2026-11-23T12:00:00Z", False),  # nor does it now: a stolen one could be dated back
        ("2025-11-23T12:09:00Z", "2025-11-23T12:00:00Z", True),  # two honest clocks
        ("2025-11-23T12:11:00Z", "2025-11-23T12:00:00Z", False),  # its time has not come
        ("yesterday", "2025-11-23T12:00:00Z", False),
    ],
)
def test_a_key_speaks_between_its_dates(signed, judged, counts):
    assert bool(decide(*dated(signed), now=judged)) is counts


def test_replay_finds_what_should_not_have_landed():
    """History is judged by the policy before each landing; one without a merge record or a quorum is named."""
    good = Landed("0001-x", POLICY, STRANGER, (checks(),), (vote("amira"), vote("bruno")), NOW)
    bad = Landed("0002-y", POLICY, STRANGER, (checks(),), (vote("amira"), vote("adil")), NOW)
    unsigned = Landed("0003-z", POLICY, STRANGER, (checks(),), (), "")

    assert replay([good]) == []
    assert [line.split()[0] for line in replay([good, bad, unsigned])] == ["0002-y", "0003-z"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('name = "amira"', 'nmae = "amira"'), "did you mean 'name'"),
        (('role = "maintainer"', 'role = "maintainers"'), "did you mean 'maintainer'"),
        (("n = 2", "n = 9"), "at most 3 can ever vote"),
        ((key(1), key(0)), "one key stands twice"),
        (('"adil"', '"amira"'), "two people are called"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(change, says):
    text = foundation([Who(name=name, org=org, keys=(key(i),)) for i, (name, org) in enumerate(PEOPLE)])
    assert change[0] in text

    with pytest.raises(UsageError, match=says):
        read_policy(text.replace(*change, 1))


def test_the_policy_in_words_warns_of_what_it_leaves_open():
    assert not [line for line in explain(POLICY) if line.startswith("warning")]
    assert any("alone can decide" in line for line in explain(read_policy(solo("amira", "Atlas", key(0)))))
    assert isinstance(POLICY, Policy)

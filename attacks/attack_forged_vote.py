"""Votes that are not: made with an unknown key, altered, for another contribution, or signed as something else."""

import base64
import json

import pytest

from souq import signing
from souq.pulls import land
from souq.pulls import pull as pulls
from souq.records import canonical


def post(bazaar, number, kind, data, who="mallory"):
    """A record put among a pull request's refs by hand."""
    pull = pulls.get(bazaar.repo(who), number)
    pulls.publish_record(pull, kind, data)


def signed(bazaar, offer, who, kind, *, choice="approve", key=None, namespace=None, subject=None):
    predicate = {"subject": subject or offer.digest, "choice": choice, "reason": "r", "by": who, "at": signing.now()}
    said = signing.statement("urn:souq:vote:1", f"contributions/{offer.slug}", subject or offer.digest, predicate)
    return canonical(signing.sign(said, key or bazaar.actors[who].key, namespace=namespace or f"souq.{kind}.v1"))


def missing(bazaar, number):
    return land.decision(bazaar.repo("amira"), number).missing


@pytest.fixture
def offered(bazaar):
    """Checked and approved by Atlas; one more organisation is missing."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    bazaar("amira", f"pr checks {number}")
    bazaar("amira", f"pr review {number} --approve --reason fine")
    assert len(missing(bazaar, number)) == 1
    return number, pulls.get(bazaar.repo("mallory"), number).offer


def test_a_stranger_says_they_are_bruno(bazaar, offered):
    number, offer = offered
    key = bazaar.actors["mallory"].key
    post(bazaar, number, "vote", signed(bazaar, offer, "bruno", "vote", key=key))

    assert len(missing(bazaar, number)) == 1
    assert bazaar("amira", f"pr merge {number}") == 3


def test_a_vote_for_another_contribution(bazaar, offered):
    """Bruno's real yes to another pull request, copied here."""
    number, _ = offered
    other = bazaar.offer("chen", bazaar.delta("count"), "Counting", fixes="count")
    bazaar("bruno", f"pr review {other} --approve --reason fine")
    (real,) = pulls.get(bazaar.repo("mallory"), other).envelopes("vote")
    post(bazaar, number, "vote", real)

    assert len(missing(bazaar, number)) == 1


def test_a_no_made_into_a_yes(bazaar, offered):
    """One word of a signed payload is changed."""
    number, _ = offered
    bazaar("bruno", f"pr review {number} --reject --reason broken")
    real = json.loads(list(pulls.get(bazaar.repo("mallory"), number).envelopes("vote"))[-1])  # fmt: skip
    for envelope in pulls.get(bazaar.repo("mallory"), number).envelopes("vote"):
        if b'"reject"' in base64.b64decode(json.loads(envelope)["payload"]):
            real = json.loads(envelope)
    payload = base64.b64decode(real["payload"]).replace(b'"reject"', b'"approve"')
    real["payload"] = base64.b64encode(payload).decode()
    post(bazaar, number, "vote", canonical(real))

    assert any("bruno rejects it" in line for line in missing(bazaar, number))


def test_a_signature_of_another_kind(bazaar, offered):
    """Bruno's signature under a sign-off is no vote."""
    number, offer = offered
    post(bazaar, number, "vote", signed(bazaar, offer, "bruno", "vote", namespace="souq.signoff.v1"))

    assert len(missing(bazaar, number)) == 1


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 10_000, b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[]}', b"\x80\x04"])  # fmt: skip
def test_no_signature_at_all(bazaar, offered, data):
    number, _ = offered
    post(bazaar, number, "vote", data)

    assert len(missing(bazaar, number)) == 1
    assert bazaar("amira", f"pr view {number}") == 0


def test_a_machine_that_nobody_knows_says_all_is_well(bazaar):
    """Verdicts count only under the key of an enrolled person other than the author."""
    number = bazaar.offer("mallory", bazaar.delta("greet"))
    bazaar("mallory", f"pr checks {number}")
    for who in ("amira", "bruno"):
        bazaar(who, f"pr review {number} --approve --reason fine")

    assert any("has not been run by an enrolled person" in line for line in missing(bazaar, number))


@pytest.mark.lands
def test_a_stranger_merges(bazaar):
    """Even what may be merged is not merged by somebody whose merge record would be worth nothing."""
    number = bazaar.offer("chen", bazaar.delta("greet"))
    bazaar("amira", f"pr checks {number}")
    for who in ("amira", "bruno"):
        bazaar(who, f"pr review {number} --approve --reason fine")

    assert bazaar("mallory", f"pr merge {number}") == 3
    assert bazaar("bruno", f"pr merge {number}") == 0

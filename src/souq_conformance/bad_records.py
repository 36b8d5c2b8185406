"""Bad histories: votes, verdicts and signatures that are not what they seem."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from souq import signing
from souq.governance.policy import Key, Needs, Role, Scope, with_members
from souq_conformance.cases import bad
from souq_conformance.keys import seal
from souq_conformance.town import ROWS, Town

# -- too few -----------------------------------------------------------------------------------------------------------


@bad("threshold")
def one_approval_short(town: Town) -> None:
    """Two are asked for, one was given."""
    town.land(town.data().agreed("amira"))


@bad("threshold")
def nobody_voted(town: Town) -> None:
    """Checked and merged."""
    town.land(town.data().checks())


@bad("threshold")
def the_same_person_twice(town: Town) -> None:
    """Two votes by Amira, a day apart."""
    offer = town.data().agreed("amira")
    town.wait(days=1)
    offer.vote("amira")
    town.land(offer)


@bad("threshold")
def two_keys_of_one_person(town: Town) -> None:
    """Amira votes with each of her keys: a person counts once."""
    both = town.person("amira", town.keys["amira"].public, town.keys["amira-2"].public)
    town.begin(town.policy(person=town.people(amira=both)))
    town.land(town.data().agreed("amira", "amira-2", by="bruno"))


@bad("threshold")
def one_record_under_two_names(town: Town) -> None:
    """One vote, copied."""
    offer = town.data().agreed("amira")
    offer.put("vote-bruno", offer.vote("amira"))
    town.land(offer)


@bad("threshold")
def signed_in_another_s_name(town: Town) -> None:
    """Amira's key under `by: bruno`: who signed is asked, not what they say."""
    offer = town.data().agreed("amira")
    offer.vote("amira", by="bruno")
    town.land(offer)


@bad("threshold")
def not_a_member_of_the_role(town: Town) -> None:
    """Dora is enrolled, and no maintainer."""
    town.begin(town.policy(person=town.people(dora=town.person("dora"))))
    town.land(town.data().agreed("amira", "dora"))


@bad("threshold", "rejected")
def a_yes_taken_back(town: Town) -> None:
    """Bruno's last word is no, and then nothing more: a majority would still lack his yes."""
    town.begin(town.policy(scope=town.scopes(majority=True)))
    offer = town.data().agreed("amira", "bruno")
    offer.no("bruno")
    town.land(offer)


@bad("threshold")
def doubt_asks_for_more_eyes(town: Town) -> None:
    """A check answers needs-eyes, and nobody more has looked."""
    offer = town.data().checks(outcome="needs-eyes")
    offer.vote("amira")
    offer.vote("bruno")
    town.land(offer)


@bad("threshold")
def evals_need_three(town: Town) -> None:
    """Enough for work, one short for the exam."""
    town.land(town.exam().agreed("amira", "bruno"))


@bad("threshold")
def a_share_short_by_one(town: Town) -> None:
    """Two thirds of four are three."""
    scope = town.work(requires=(Needs(role="maintainer", share="2/3"),), max_per_org=0)
    town.begin(town.policy(scope=(scope, *town.rules())))
    town.land(town.data().agreed("amira", "bruno"))


@bad("threshold")
def the_second_role_was_not_asked(town: Town) -> None:
    """Two maintainers agree; nobody of security does, whom the scope asks too."""
    asked = (Needs(role="maintainer", n=2), Needs(role="security", n=2))
    town.begin(town.policy(scope=town.scopes(requires=asked)))
    town.land(town.data().agreed("adil", "bruno"))


@bad("threshold")
def a_tensor_with_a_scope_of_its_own(town: Town) -> None:
    """What changes the norm needs three; the contribution asked as if it were any other."""
    norm = town.work(name="norm", match=("model.norm.*",), n=3)
    town.begin(town.policy(scope=(town.work(), norm, *town.rules())))
    town.land(town.weights().agreed("amira", "bruno"))


@bad("org-cap")
def one_organisation_alone(town: Town) -> None:
    """Amira and Adil, both of Atlas, and at most one of an organisation counts."""
    town.land(town.data().agreed("amira", "adil"))


@bad("min-orgs")
def too_few_organisations(town: Town) -> None:
    """No cap, but three organisations must stand behind it."""
    scope = town.work(max_per_org=0, min_orgs=3)
    town.begin(town.policy(scope=(scope, *town.rules())))
    town.land(town.data().agreed("amira", "adil", "bruno"))


@bad("self-approval")
def an_author_approves(town: Town) -> None:
    """Amira's yes to her own work."""
    town.land(town.data(by="amira").agreed("amira", "bruno", by="bruno"))


@bad("self-approval")
def an_author_approves_with_another_key(town: Town) -> None:
    """Offered under one of her keys, approved with the other."""
    both = town.person("amira", town.keys["amira"].public, town.keys["amira-2"].public)
    town.begin(town.policy(person=town.people(amira=both)))
    town.land(town.data(by="amira-2").agreed("amira", "bruno", by="bruno"))


# -- no ----------------------------------------------------------------------------------------------------------------


@bad("rejected")
def a_no_stands(town: Town) -> None:
    """Where no veto is defined, the no of anybody asked stands."""
    offer = town.data().agreed("amira", "bruno")
    offer.no("chen")
    town.land(offer)


@bad("rejected")
def a_no_among_yes_of_the_same_second(town: Town) -> None:
    """Yes and no of one person at one time: the no counts."""
    offer = town.data().agreed("amira", "bruno")
    at = town.at()
    offer.no("chen", at=at)
    offer.vote("chen", at=at)
    town.land(offer)


@bad("rejected", "threshold")
def no_more_yes_than_no(town: Town) -> None:
    """A majority of two against two."""
    offer = town.release(by="mallory", signer="adil")
    offer.votes("amira", "bruno")
    offer.votes("adil", "chen", choice="reject")
    offer.checks("bruno")
    town.land(offer)


# -- whose -------------------------------------------------------------------------------------------------------------


@bad("unknown-signer")
def a_stranger_votes(town: Town) -> None:
    """Mallory is not enrolled."""
    town.land(town.data().agreed("amira", "mallory"))


@bad("unknown-signer")
def a_stranger_says_they_are_bruno(town: Town) -> None:
    """Mallory's key under Bruno's name."""
    offer = town.data().agreed("amira")
    offer.vote("mallory", by="bruno")
    town.land(offer)


@bad("unknown-signer", "unmerged")
def a_stranger_merges(town: Town) -> None:
    """All agree, and the merge record is Mallory's."""
    town.land(town.data().agreed("amira", "bruno"), by="mallory")


@bad("unknown-signer", "unchecked")
def a_stranger_checks(town: Town) -> None:
    """A machine that nobody knows says all is well."""
    town.land(town.data().agreed("amira", "bruno", by="mallory"))


@bad("forged-signature")
def a_no_made_into_a_yes(town: Town) -> None:
    """One word of a signed payload is another."""
    offer = town.data().agreed("amira")
    envelope = msgspec.json.decode(offer.no("bruno"), type=signing.Envelope)
    payload = base64.b64decode(envelope.payload).replace(b'"reject"', b'"approve"')
    offer.records.popitem()
    offer.put("vote-forged", seal(payload, list(envelope.signatures)))
    town.land(offer)


@bad("forged-signature")
def a_signature_cut_short(town: Town) -> None:
    """The last bytes of Bruno's signature are zeros."""
    offer = town.data().agreed("amira")
    envelope = msgspec.json.decode(offer.vote("bruno"))
    armour = base64.b64decode(envelope["signatures"][0]["sig"]).decode().split("\n")
    armour[-3] = "A" * (len(armour[-3]) - 2) + armour[-3][-2:]
    envelope["signatures"][0]["sig"] = base64.b64encode("\n".join(armour).encode()).decode()
    offer.records.popitem()
    offer.put("vote-cut", msgspec.json.encode(envelope))
    town.land(offer)


def _bruno_votes(town: Town, choice: str = "approve", **wrong: Any) -> None:
    """Amira's yes, and a vote of Bruno's that is wrong in some way."""
    offer = town.data().agreed("amira")
    offer.vote("bruno", choice, **wrong)
    town.land(offer)


@bad("wrong-namespace")
def a_sign_off_passed_for_a_vote(town: Town) -> None:
    """Bruno signed these bytes, as a sign-off."""
    _bruno_votes(town, namespace="souq.signoff.v1")


@bad("wrong-namespace")
def a_signature_for_git(town: Town) -> None:
    """A signature Bruno made for git, by the same key."""
    _bruno_votes(town, namespace="git")


@bad("wrong-type", "wrong-namespace")
def a_verdict_passed_for_a_vote(town: Town) -> None:
    """Signed in the namespace of votes, and of another predicate type."""
    _bruno_votes(town, as_="urn:souq:checked:1")


@bad("other-version")
def signed_by_a_tool_of_another_version(town: Town) -> None:
    """SSHSIG version 2, whatever that will be."""
    _bruno_votes(town, version=2)


@bad("malformed-record")
def neither_yes_nor_no(town: Town) -> None:
    """Bruno's vote says `abstain`."""
    _bruno_votes(town, "abstain")


def _respelled(town: Town, honest: bytes, odd: bytes) -> None:
    """Amira's yes and Bruno's, signed with some of its bytes replaced."""
    offer = town.data().agreed("amira")
    vote = {"subject": offer.digest, "choice": "approve", "reason": "", "by": "bruno", "at": town.at(), "n": 7}
    payload = signing.statement("urn:souq:vote:1", offer.home[:-1], offer.digest, vote)
    offer.record("vote", "bruno", vote, payload=payload.replace(honest, odd))
    town.land(offer)


@bad("malformed-record")
def a_statement_spelled_twice(town: Town) -> None:
    """A key twice in a signed payload: readers disagree on which one counts."""
    _respelled(town, b'"choice":"approve"', b'"choice":"reject","choice":"approve"')


@bad("malformed-record")
def a_text_that_is_no_text(town: Town) -> None:
    """Half of a surrogate pair in a reason: it cannot be written in UTF-8."""
    _respelled(town, b'"reason":""', b'"reason":"\\ud800"')


@bad("malformed-record")
def a_number_beyond_all_numbers(town: Town) -> None:
    """An integer of 5,000 digits inside a signed vote."""
    _respelled(town, b'"n":7', b'"n":' + b"7" * 5_000)


@bad("malformed-record", "threshold")
def a_vote_without_a_time(town: Town) -> None:
    """`yesterday` is no time."""
    _bruno_votes(town, at="yesterday")


# -- for what ----------------------------------------------------------------------------------------------------------


@bad("replayed-vote")
def a_vote_for_another_contribution(town: Town) -> None:
    """Bruno's real yes to something else."""
    other = town.data("other", rows=ROWS * 3)
    stray = other.vote("bruno")
    offer = town.data().agreed("amira")
    offer.put("vote-stray", stray)
    town.land(offer)


@bad("replayed-vote")
def a_vote_for_an_earlier_draft(town: Town) -> None:
    """What was voted on had one row less."""
    draft = town.data(slug="0001-rows")
    stray = draft.vote("bruno")
    offer = town.data(rows=ROWS * 2, slug="0001-rows").agreed("amira")
    offer.put("vote-stray", stray)
    town.land(offer)


@bad("replayed-vote", "unsigned-offer", "signed-off-twice")
def old_votes_for_what_was_taken_back(town: Town) -> None:
    """Taken back by a vote, and landed again under another number with the votes of the first time."""
    first = town.land(town.data().agreed("amira", "bruno"))
    old = {name: data for name, data in first.records.items() if name != "merge.json"}
    town.land(town.revert(first).agreed("chen", "bruno"))
    again = town.data(signed=False)
    assert again.digest == first.digest
    again.records |= old
    town.land(again.checks("amira"), by="amira")


@bad("stale-check", "unchecked")
def checked_on_another_main(town: Town) -> None:
    """The verdicts are of the main before the last landing."""
    offer = town.data("late", rows=ROWS * 2).agreed("amira", "bruno")
    town.land(town.data("first").agreed("amira", "bruno"))
    town.land(offer)


@bad("unchecked")
def nothing_was_checked(town: Town) -> None:
    """Two votes and no verdict."""
    offer = town.data()
    offer.votes("amira", "bruno")
    town.land(offer)


@bad("unchecked")
def another_check_was_run(town: Town) -> None:
    """`licence` has run, `files` was asked for."""
    offer = town.data().checks(check="licence")
    offer.votes("amira", "bruno")
    town.land(offer)


@bad("unchecked")
def an_author_checks_their_own_work(town: Town) -> None:
    """Amira's machine finds Amira's work fine."""
    town.land(town.data(by="amira").agreed("chen", "bruno", by="amira"))


@bad("refused-check")
def a_check_refuses(town: Town) -> None:
    """One machine says pass, another refuse: the refusal stands."""
    offer = town.data().agreed("amira", "bruno").checks("chen", "refuse")
    town.land(offer)


@bad("withheld-record")
def a_veto_withheld(town: Town) -> None:
    """Amira and Bruno voted in sight of Chen's no, which is not among the records."""
    offer = town.data().checks()
    offer.no("chen")
    left_out = sorted(offer.records)[-1]
    offer.vote("amira")
    offer.vote("bruno")
    del offer.records[left_out]
    town.land(offer)


# -- when --------------------------------------------------------------------------------------------------------------


def _dated(town: Town, **dates: str) -> None:
    key = Key(key=town.keys["bruno"].public, **dates)
    town.begin(town.policy(person=town.people(bruno=town.person("bruno", key))))


@bad("expired-key")
def a_key_that_expired(town: Town) -> None:
    """Bruno's key held until February; the vote is of March."""
    _dated(town, valid_until="2026-02-28")
    town.land(town.data().agreed("amira", "bruno"), by="chen")


@bad("expired-key")
def a_vote_dated_back(town: Town) -> None:
    """A key that expired signs with a date from before: whoever stole it can choose any."""
    _dated(town, valid_until="2026-02-28")
    offer = town.data().agreed("amira")
    offer.vote("bruno", at="2026-02-01T00:00:00Z")
    town.land(offer, by="chen")


@bad("expired-key")
def a_key_not_yet_valid(town: Town) -> None:
    """Bruno's key holds from April."""
    _dated(town, valid_from="2026-04-01")
    town.land(town.data().agreed("amira", "bruno"), by="chen")


@bad("expired-key")
def a_person_who_left(town: Town) -> None:
    """Bruno himself, not his key, stands until February."""
    gone = town.person("bruno", valid_until="2026-02-28T12:00:00Z")
    town.begin(town.policy(person=town.people(bruno=gone)))
    town.land(town.data().agreed("amira", "bruno"), by="chen")


@bad("expired-key")
def merged_with_an_expired_key(town: Town) -> None:
    """Amira and Chen agree; Bruno merges with a key that no longer holds."""
    _dated(town, valid_until="2026-02-28")
    town.land(town.data().agreed("amira", "chen"), by="bruno")


@bad("threshold", "early", "min-orgs", "unchecked")
def a_resignation_with_a_lost_key(town: Town) -> None:
    """Whoever found Adil's old key lays down his role for him."""
    old = Key(key=town.keys["adil"].public, valid_until="2026-02-28")
    policy = town.policy(person=town.people(adil=town.person("adil", old, town.keys["amira-2"].public)))
    town.begin(policy)
    town.land(town.amend(with_members(policy, "maintainer", ["amira", "bruno", "chen"]), "adil leaves", by="adil"))


@bad("expired-key")
def a_release_signed_with_an_expired_key(town: Town) -> None:
    """The release record itself; everybody else is in order."""
    old = Key(key=town.keys["adil"].public, valid_until="2026-02-28")
    town.begin(town.policy(person=town.people(adil=town.person("adil", old))))
    town.land(town.release(by="mallory", signer="adil").agreed("chen", "bruno"))


@bad("future-record")
def a_vote_from_tomorrow(town: Town) -> None:
    """Bruno's vote is dated eleven minutes after the landing: two honest clocks differ by less."""
    offer = town.data().agreed("amira")
    offer.vote("bruno", at=town.at(minutes=12))
    town.land(offer, at=town.at())


@bad("unknown-signer")
def a_vote_of_somebody_removed(town: Town) -> None:
    """An amendment took Bruno out; he votes on."""
    asked = (Needs(role="maintainer", n=2),)
    scopes = (town.work(), Scope(name="policy", match=("GOVERNANCE.toml",), requires=asked))
    town.begin(town.policy(scope=scopes, emergency=None))
    people = tuple(person for person in town.policy().person if person.name != "bruno")
    roles = (Role(name="maintainer", members=("amira", "adil", "chen")),)
    town.land(town.amend(town.policy(scope=scopes, emergency=None, person=people, role=roles)).agreed("amira", "chen"))
    town.land(town.data().agreed("amira", "bruno"), by="chen")


@bad("early")
def before_everybody_could_see_it(town: Town) -> None:
    """Three days are asked for, two have passed."""
    town.begin(town.policy(scope=town.scopes(window_h=72)))
    offer = town.data().agreed("amira", "bruno")
    town.wait(hours=48)
    town.land(offer)


@bad("early")
def one_organisation_saw_it_early(town: Town) -> None:
    """Atlas says it has been open for a week; the first of another organisation saw it today."""
    town.begin(town.policy(scope=town.scopes(window_h=72)))
    offer = town.data()
    offer.vote("amira", at=town.at(days=-7))
    offer.vote("adil", at=town.at(days=-7))
    offer.checks().vote("bruno")
    town.wait(hours=1)
    town.land(offer)


@bad("cooling-off")
def an_approval_too_young(town: Town) -> None:
    """Each approval must have stood for a day."""
    town.begin(town.policy(scope=town.scopes(cooloff_h=24)))
    offer = town.data().agreed("amira")
    town.wait(hours=25)
    offer.vote("bruno")
    town.land(offer)


@bad("cooling-off")
def a_yes_interrupted_by_a_no(town: Town) -> None:
    """Bruno's day begins again with his last yes."""
    town.begin(town.policy(scope=town.scopes(cooloff_h=24)))
    offer = town.data().agreed("amira", "bruno")
    town.wait(hours=20)
    offer.no("bruno")
    offer.vote("bruno")
    town.wait(hours=5)
    town.land(offer)

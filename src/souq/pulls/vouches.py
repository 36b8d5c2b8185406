"""Vouching in git: an enrolled person signs for a newcomer's key, answers for them, and may take it back.

    refs/souq/vouch/<voucher>/<id>     a signed word for one key; the last word about it counts

What it is worth is governance/limits.py: the newcomer's pull requests count against the voucher's own limit.

    vouch(repo, key, "taught with her for years", person)
    newcomers(repo, main)      # {key: Who}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec

from souq import signing
from souq.errors import NotFound, Refused, SouqError, UsageError
from souq.governance import Change, read_policy
from souq.governance.decide import last_words as votes_of
from souq.governance.decide import spelled
from souq.governance.limits import NO_LIMITS, Junk, SignedVouch, Vouch, Word, allowed, last_words, vouched_for
from souq.governance.policy import POLICY, Policy, Who, refuse_stranger
from souq.pulls.pull import PullRequest, listed, read_all, read_votes
from souq.records import Digest, canonical, digest, refuse_control
from souq.repo.clock import refuse_wrong_clock
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person, fingerprint

REFS = "refs/souq/vouch/"
KIND, NAMESPACE = "urn:souq:vouch:1", "souq.vouch.v1"
MAX_VOUCH = 64 << 10  # bytes
AHEAD = 64  # read from git at a time


# -- saying it ---------------------------------------------------------------------------------------------------------


def vouch(repo: Repo, key: str, reason: str, person: Person, *, withdraw: bool = False) -> Vouch:
    """Sign for a newcomer's key, or take that back, where everybody sees it.

    Raises:
        Refused: main's policy has no vouching, this person is not enrolled, the key is, or no vouch is left.
        NotFound: there is nothing to take back.
    """
    repo.fetch()
    main, now = Snapshot(repo, repo.tip()), signing.now()
    policy, key = read_policy(main.policy_text), signing.normal_key(key)
    refuse_wrong_clock(repo, main)
    refuse_stranger(policy, person, now, hint="ask somebody who is to vouch")
    refuse_control(reason, where="a reason")
    if not reason.strip() and not withdraw:
        raise UsageError("a vouch needs a reason", hint='add --reason "…": how you know them')
    pulls = listed(repo)
    words = last_words(policy, read(repo, main), now)
    mine = [word for word in words if word.voucher == policy.person_of(person.public_key) and not word.vouch.withdrawn]
    if withdraw:
        _refuse_unsaid(mine, key)
    else:
        _refuse_worthless(policy, mine, key, allowed(policy, words, junk(pulls, main), _name(policy, person), now))
    made = Vouch(
        key=key, by=person.name, at=now, reason=reason, main=main.commit, withdrawn=withdraw,
        last=max((pull.number for pull in pulls), default=0),
    )  # fmt: skip
    _publish(repo, made, person)
    return made


def _name(policy: Policy, person: Person) -> str:
    voucher = policy.person_of(person.public_key)
    return voucher.name if voucher else ""


def _refuse_unsaid(mine: list[Word], key: str) -> None:
    if key not in {word.key for word in mine}:
        raise NotFound(f"you do not vouch for {fingerprint(key)}", hint="`souq vouch` lists whom you vouch for")


def _refuse_worthless(policy: Policy, mine: list[Word], key: str, most: int) -> None:
    """Say no to what would count for nothing."""
    if not (policy.limits or NO_LIMITS).vouches:
        raise Refused(f"{POLICY} has no vouching", hint="an amendment adds it: [limits] vouches = 5")
    if (holder := policy.person_of(key)) is not None:
        raise Refused(f"{holder.name} is enrolled already", hint="vouching is for newcomers")
    if key in {word.key for word in mine}:
        raise Refused(f"you vouch for {fingerprint(key)} already", hint="`souq vouch` lists whom you vouch for")
    if len(mine) >= most:
        why = "" if most == (policy.limits or NO_LIMITS).vouches else ", since what a newcomer of yours sent was junk"
        hint = "take one back with `souq vouch KEY --withdraw`" if mine else "junk is forgiven after 90 days"
        raise Refused(f"you vouch for {len(mine)}, and may for {most}{why}", hint=hint)


def _publish(repo: Repo, made: Vouch, person: Person) -> None:
    statement = signing.statement(KIND, "vouch", digest(made.key.encode()), msgspec.to_builtins(made))
    oid = repo.write_blob(canonical(signing.sign(statement, person.key, namespace=NAMESPACE)))
    home = f"{REFS}{hashlib.sha256(person.public_key.encode()).hexdigest()[:16]}/"
    repo.publish({f"{home}{oid[:16]}": (None, oid)}, [])


def key_of(repo: Repo, word: str) -> str:
    """The key that is meant: itself, or that of the one author of a pull request who is called so.

    Raises:
        NotFound: nobody is.
        UsageError: several keys are.
    """
    if word.startswith(("ssh-", "ecdsa-", "sk-")):
        return signing.normal_key(word)
    keys = set()
    for pull in listed(repo):
        with suppress(SouqError):  # one hostile pull request must not stop the others
            author = pull.summary.author
            keys |= {signing.normal_key(author.key)} if author.name == word else set()
    if not keys:
        raise NotFound(f"no pull request is by {word!r}", hint="give the one line of their .pub file, in quotes")
    if len(keys) > 1:
        some = ", ".join(sorted(map(fingerprint, keys))[:4])
        raise UsageError(f"{len(keys)} keys say that they are {word}: {some}", hint="give the key that you know")
    return keys.pop()


# -- reading it --------------------------------------------------------------------------------------------------------


def read(repo: Repo, main: Snapshot) -> list[SignedVouch]:
    """The vouches that enrolled people signed on this history; a copy from another repository is none."""
    keys, history = read_policy(main.policy_text).keys, set(repo.history(main.commit))
    small = repo.at_most(sorted({*repo.refs(REFS).values()}), MAX_VOUCH)
    vouches = []
    for at in range(0, len(small), AHEAD):
        for data in repo.contents(small[at : at + AHEAD]):
            with suppress(SouqError, msgspec.ValidationError):
                signed = signing.verify(data, keys=keys, namespace=NAMESPACE)
                made = msgspec.convert(signed.predicate, Vouch)
                if made.main in history and signed.kind == KIND and made.key == signing.normal_key(made.key):
                    vouches.append(SignedVouch(made, signed.key))
    return vouches


def newcomers(repo: Repo, main: Snapshot, pulls: Iterable[PullRequest]) -> dict[str, Who]:
    """Who vouches for each key that somebody vouches for now."""
    policy = read_policy(main.policy_text)
    vouches = read(repo, main) if policy.limits and policy.limits.vouches else []
    return vouched_for(policy, vouches, junk(pulls, main), signing.now()) if vouches else {}


def junk(pulls: Iterable[PullRequest], main: Snapshot) -> list[Junk]:
    """What enrolled people turned down: closed as junk, or closed with somebody's no on it.

    It is its author's where their key has signed it off; the same bytes under another number are whoever's sent them.
    """
    turned_down, seen = list[Junk](), set[Digest]()
    for pull in sorted(pulls, key=lambda pull: pull.number):
        if pull.subject not in seen:
            seen.add(pull.subject)
            turned_down += _turned_down(pull, main)
    return turned_down


def _turned_down(pull: PullRequest, main: Snapshot) -> Iterator[Junk]:
    """Nothing, or when it was first turned down."""
    policy = read_policy(main.policy_text)
    with suppress(SouqError):  # whose offer cannot be read is nobody's newcomer
        key = signing.normal_key(pull.summary.author.key)
        closed = read_all(pull, "closed", policy.keys, main, f"contributions/pr-{pull.number}")
        times = [str(each.predicate.get("at")) for each in closed if each.predicate.get("junk") is True]
        if not times and closed and _has_a_no(pull, policy):
            times = [str(each.predicate.get("at")) for each in closed]
        if times and policy.person_of(key) is None and read_all(pull, "signoff", [key], main):
            yield Junk(pull.number, key, min(times))


def _has_a_no(pull: PullRequest, policy: Policy) -> bool:
    change = Change(digest=pull.offer.digest, author_key="", touched=())
    words = votes_of(policy, change, read_votes(pull, policy), signing.now())
    return any(word.vote.choice == "reject" for word in words.values())


def standing(repo: Repo, main: Snapshot) -> list[dict[str, str]]:
    """Every vouch that is not taken back, the oldest first, and whether it counts or why not."""
    policy, now = read_policy(main.policy_text), signing.now()
    words, turned_down = last_words(policy, vouches := read(repo, main), now), junk(listed(repo), main)
    holding = vouched_for(policy, vouches, turned_down, now)
    return [
        {
            "voucher": word.voucher.name, "key": fingerprint(word.key), "since": spelled(word.since),
            "counts": _counts(word, holding), "reason": word.vouch.reason,
        }
        for word in words
        if not word.vouch.withdrawn
    ]  # fmt: skip


def _counts(word: Word, holding: dict[str, Who]) -> str:
    if (holder := holding.get(word.key)) == word.voucher:
        return "yes"
    return f"no: {holder.name} does, and did first" if holder else f"no: more than {word.voucher.name} may vouch for"

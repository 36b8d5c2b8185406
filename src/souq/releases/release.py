"""A release: a version, the recipe it was built from, the digest it builds to, its scores, and who signed it.

It is offered, voted on and lands like any contribution; what lands is a folder on main, releases/<version>/, with the
signed record and a model card. A release is never deleted: one that should not be used is yanked, for a reason.

A nightly is what main builds to, signed by one enrolled person: no decision of anybody, so it stays beside main.

    refs/souq/nightly/<version>
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import msgspec

from souq import signing
from souq.build.model import build
from souq.errors import Forged, NotFound, Refused, UsageError
from souq.governance import read_policy
from souq.governance.policy import refuse_stranger
from souq.licences import lineage
from souq.progress import Progress, quiet
from souq.pulls import land, offer, reviews
from souq.pulls import pull as pulls
from souq.pulls.offer import Draft
from souq.pulls.pull import PullRequest
from souq.records import Contribution, Decision, Published, Release, canonical, parse_toml
from souq.releases.card import Edition, card
from souq.repo.contribution import YANKED
from souq.repo.history import NIGHTLY, SignedRelease, signed_release
from souq.repo.landing import touched
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person

NAMESPACE = "souq.release.v1"
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-]{0,31}")


def refuse_unnameable(main: Snapshot, version: str, person: Person) -> None:
    """Say no to a version that could not be proposed, before anything is built or scored for it.

    Raises:
        UsageError: it is none.
        Refused: it is taken, this person's key is not enrolled, or a licence asks for another name.
    """
    if not _VERSION.fullmatch(version):
        raise UsageError(f"not a version: {version!r}", hint="letters, digits, dots and dashes, like 2026.11 or 1.0")
    if version in main.releases:
        raise Refused(f"{version} is released already", hint="a release is never changed: choose the next version")
    refuse_stranger(read_policy(main.policy_text), person, signing.now(), hint="ask somebody who is")
    lineage.refuse_name(main)


def propose(
    repo: Repo, version: str, scores: Mapping[str, float], person: Person, progress: Progress = quiet,
    *, corpus: Published | None = None,
) -> tuple[PullRequest, Release]:  # fmt: skip
    """Sign what main builds to, and offer it as VERSION, with what is said of the corpus it wrote.

    Raises:
        Refused: the version is taken, this person's key is not enrolled, or a licence asks for another name.
    """
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    refuse_unnameable(main, version, person)
    more = {} if corpus is None else {"release/corpus.json": canonical(msgspec.to_builtins(corpus))}
    for pull in offer.newest_of(repo, person):  # the same line again, after it was cut short
        files, c = pull.offer.files, pull.offer.contribution
        if (c.kind, c.of) == ("release", version) and (signed := _like(files, main, scores, more)):
            return pull, signed
    release = made(main, version, scores, progress)
    edition = Edition(version, scores, shown=lineage.card_lines(main))
    files = {
        "release/release.json": sign(release, person),
        "release/README.md": card(main, release.model, release.recipe, edition).encode(),
    }
    if corpus is not None and corpus.teacher != release.model:
        raise Refused("another model wrote this corpus", hint="make it from main as it is now: `souq corpus make`")
    contribution = Contribution(
        title=f"Release {version}", kind="release", of=version, author=person.author, licence=main.config.licence,
        signoff=f"{person.name} <{person.email}>",
    )  # fmt: skip
    return offer.create(repo, Draft(contribution, more=files | more), person, progress=progress), release


def _like(
    files: Mapping[str, bytes], main: Snapshot, scores: Mapping[str, float], more: Mapping[str, bytes]
) -> Release | None:
    """The release that is offered, where it says of this main what would be said now."""
    release = signed_release(files["release/release.json"], read_policy(main.policy_text)).release
    corpus = {path: data for path, data in files.items() if path == "release/corpus.json"}
    return release if (release.commit, release.scores, corpus) == (main.commit, dict(scores), dict(more)) else None


def made(
    main: Snapshot,
    version: str,
    scores: Mapping[str, float],
    progress: Progress = quiet,
    channel: Literal["stable", "nightly"] = "stable",
) -> Release:
    """Main as a release, not yet signed."""
    built = build(main, progress=progress)
    return Release(
        version=version,
        commit=main.commit,
        recipe=built.recipe,
        model=built.digest,
        scores=dict(scores),
        at=signing.now(),
        channel=channel,
    )


def nightly(repo: Repo, scores: Mapping[str, float], person: Person, progress: Progress = quiet) -> Release:
    """Sign what main builds to now, and leave it beside main.

    Raises:
        Refused: main has a nightly already, or this person's key is not enrolled.
    """
    repo.fetch()
    main, at = Snapshot(repo, repo.tip()), signing.now()
    refuse_stranger(read_policy(main.policy_text), person, at, hint="ask somebody who is")
    version = f"nightly-{at[:10].replace('-', '')}-{main.commit[:8]}"
    if repo.ref(f"{NIGHTLY}{version}"):
        raise Refused(f"{version} is there already", hint="main has not moved since: nothing to do")
    release = made(main, version, scores, progress, "nightly")
    oid = repo.write_blob(sign(release, person))
    repo.publish({f"{NIGHTLY}{version}": (None, oid)}, [ref.digest for ref in main.tensors()], progress)
    return release


def settle(repo: Repo, number: int, person: Person, progress: Progress = quiet) -> tuple[Decision, str | None]:
    """Check and approve at once where the policy lets an author vote on their own work; then it lands or not."""
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, number)
    policy = read_policy(main.policy_text)
    scopes, _ = policy.scopes(touched(pull.offer, main))
    voter = policy.person_of(person.public_key, signing.now())
    if voter and scopes and all(scope.author_may_vote and voter.name in policy.asked(scope) for scope in scopes):
        reviews.check(repo, number, person, progress)
        reviews.review(repo, number, "approve", "its author's own vote", person)
    decision = land.decision(repo, number)
    return land.merge(repo, number, person, progress) if decision else (decision, None)


def sign(release: Release, person: Person) -> bytes:
    """The release in its envelope."""
    predicate: dict[str, Any] = msgspec.to_builtins(release)
    statement = signing.statement("urn:souq:release:1", f"releases/{release.version}", release.model, predicate)
    return canonical(signing.sign(statement, person.key, namespace=NAMESPACE))


def read(main: Snapshot, version: str) -> SignedRelease:
    """A release of main whose signature holds, by main's policy.

    Raises:
        NotFound: no such release.
        Forged: nobody enrolled signed it, or it signs another digest than its own.
    """
    if version not in main.releases:
        raise NotFound(f"no release {version}", hint="see `souq release list`")
    files = main.below(f"releases/{version}")
    signed = signed_release(files.get("release.json", b""), read_policy(main.policy_text))
    if signed.release.version != version or signed.release.channel != "stable":
        raise Forged(f"the record of release {version} is about something else")
    return replace(signed, yanked=_reason(files[YANKED])) if YANKED in files else signed


def _reason(data: bytes) -> str:
    return str(parse_toml(data.decode(), dict[str, Any], where=YANKED).get("reason", "no reason given"))

"""Main's own history, step by step: what each commit changed, who agreed, and whether the policy before allowed it.

Everything that reaches main is the landing of one contribution, a release and an amendment too, so there is one kind
of step. What a server, a maintainer or this clone says about itself is not asked; what is read is git's bytes, by one
git from end to end. No network, no torch; rebuilding the weights is verify.py's.

    with repo.blobs() as blobs:
        history = History(repo, blobs)
        findings = [line for step in repo.steps(commit) for line in history.judge(step)]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from souq import signing
from souq.errors import Forged, Hostile, SouqError
from souq.governance import POLICY, Ballot, Change, Landed, Policy, SignedBallot, SignedChecked, SignedVote, read_policy
from souq.governance.decide import SKEW, seconds
from souq.governance.replay import Replay
from souq.records import Checked, Digest, Release, Vote, digest, format_toml
from souq.repo.contribution import RECORDS, Landing, Offer
from souq.repo.git import MAX_OFFER, Blobs, Moved, Step
from souq.repo.landing import conflicts_with, delta_moved, files_gained, files_lost, files_returned, malformed, touched
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Signed
from souq.weights.lockfile import lock_digest

T = TypeVar("T")
NIGHTLY = "refs/souq/nightly/"
MAX_RECORDS = 1_000  # of one contribution
MAX_RECORD = 1 << 20  # bytes of one
MAX_HELD = 16 << 20  # bytes of all of them
KINDS: dict[str, Any] = {"signoff": None, "merge": None, "checked": Checked, "vote": Vote, "ballot": Ballot}


@dataclass
class History:
    """What main is after the steps judged so far."""

    repo: Repo
    blobs: Blobs
    replay: Replay = field(default_factory=Replay)
    policy: str = ""  # git's name of GOVERNANCE.toml
    config: str = ""  # and of souq.toml
    releases: int = 0
    released: list[str] = field(default_factory=list)  # the commits they stand on
    commits: dict[str, int] = field(default_factory=dict)  # -> how long the log was then
    log: list[tuple[str, Landing | None]] = field(default_factory=list)  # what landed and what was taken, in order
    ever: dict[str, Landing] = field(default_factory=dict)  # taken back or not

    def __post_init__(self) -> None:
        self._text = lru_cache(maxsize=64)(lambda oid: self.blobs[oid].decode())

    def judge(self, step: Step) -> list[str]:
        """What is wrong with one step: it must be one judged landing and nothing else."""
        judged = self._landing if step.before else self._root
        try:
            problems = [step.odd] if step.odd else judged(step)
        except (SouqError, UnicodeDecodeError) as error:
            problems = [str(error)]
        for moved in step.moved:  # what is there counts from here on, rightly or not
            self.policy = moved.new if moved.path == POLICY else self.policy
            self.config = moved.new if moved.path == "souq.toml" else self.config
        self.commits[step.commit] = len(self.log)
        return [f"{step.commit[:12]}: {line}" for line in problems]

    def _root(self, step: Step) -> list[str]:
        paths = {moved.path: moved.new for moved in step.moved}
        if POLICY not in paths:
            return [f"history begins without a {POLICY}"]
        read_policy(self._text(paths[POLICY]))
        unvoted = [path for path in paths if path.startswith(("contributions/", "releases/"))]
        return [f"history begins with {unvoted[0]}, which nobody voted on"] if unvoted else []

    def _landing(self, step: Step) -> list[str]:
        moved = {each.path: each for each in step.moved}
        slug = self._slug(step.moved)
        if slug is None:
            return [f"changes {next(iter(moved), 'nothing')} without a pull request"]
        policy, base = read_policy(self._text(self.policy)), self._main(step.before)
        offer, records = self._offered(slug, step.moved)
        self._remember(offer)
        problems = [f"{path} is not a plain file" for path, m in moved.items() if m.new and m.mode != "100644"]
        if problem := malformed(offer) or conflicts_with(base, offer):
            return [*problems, problem]
        problems += self._only_its_own(offer, base, moved)
        change = change_of(offer, base)
        if offer.contribution.kind == "election":
            if POLICY not in moved:
                return [*problems, f"{POLICY} does not say who was elected"]
            change = replace(change, amends=read_policy(self._text(moved[POLICY].new)))
        signed = SignedRecords.of(offer, records, policy)
        problems += signed.problems(offer, policy, step.before)
        judged = self.replay.judge(signed.as_landed(offer, policy, change, step.before))
        if judged:
            judged += [f"{offer.slug}: {line}" for line in signed.uncounted_reasons(policy, step.before)]
        return [*problems, *judged, *self._computed(offer, base, moved, policy)]

    def _main(self, commit: str) -> Snapshot:
        """Main as it was, with what landed as it was judged here and not as somebody remembers it."""
        return Snapshot(self.repo, commit, landed=lambda: self._landed_at(commit))

    def _landed_at(self, commit: str) -> dict[str, Landing]:
        last = sorted(dict(self.log[: self.commits[commit]]).items())
        return {slug: landing for slug, landing in last if landing is not None}

    def _slug(self, moved: Sequence[Moved]) -> str | None:
        """The one new contribution of a step; those that were here before are brought back, not new."""
        added = [each.path.split("/") for each in moved if each.new and not each.old]
        slugs = {parts[1] for parts in added if parts[0] == "contributions" and len(parts) > 2}
        new = [slug for slug in slugs if slug not in self.ever]
        return new[0] if len(new) == 1 else None

    def _offered(self, slug: str, moved: Sequence[Moved]) -> tuple[Offer, dict[str, bytes]]:
        home = f"contributions/{slug}/"
        own = [each for each in moved if each.path.startswith(home) and each.new]
        if len(own) > MAX_RECORDS:
            raise Hostile(f"{slug} brings {len(own):,} files; the most is {MAX_RECORDS:,}")
        blobs = self.blobs.some([each.new for each in own], MAX_OFFER + MAX_HELD)
        files = {each.path.removeprefix(home): data for each, data in zip(own, blobs, strict=True)}
        records = {path: data for path, data in files.items() if path.startswith(RECORDS)}
        return Offer(slug, {path: data for path, data in files.items() if path not in records}), records

    def _only_its_own(self, offer: Offer, base: Snapshot, moved: Mapping[str, Moved]) -> list[str]:
        """A landing writes what was offered and its records, takes what it says it takes, and not a byte more."""
        writes = files_gained(offer) | files_returned(offer, base)
        takes, computed = files_lost(offer, base), computed_by(offer, base)
        problems = []
        for path, each in moved.items():
            if path in writes and each.new:
                if self.blobs[each.new] != writes[path]:
                    problems.append(f"{path} is not what {offer.slug} offered")
            elif not (path in computed or (path in takes and not each.new) or path.startswith(offer.home + RECORDS)):
                problems.append(f"changes {path}, which {offer.slug} did not offer")
        problems += [f"leaves {path}, which {offer.slug} takes back" for path in takes if path not in moved]
        absent = [path for path in writes if path not in moved and not _stands_on(base, path, writes[path])]
        return problems + [f"{path} of {offer.slug} did not land" for path in absent]

    def _computed(self, offer: Offer, base: Snapshot, moved: Mapping[str, Moved], policy: Policy) -> list[str]:
        """What a landing computes must be what anybody computes: souq.toml, a release."""
        config = moved["souq.toml"].new if "souq.toml" in moved else self.config
        if offer.merge is not None and self._text(config) != format_toml(base.config_with(offer)):
            return [f"souq.toml is not what {offer.slug} asked for"]
        return self._release(offer, policy) if offer.contribution.kind == "release" else []

    def _release(self, offer: Offer, policy: Policy) -> list[str]:
        self.releases += 1
        signed = signed_release(offer.files["release/release.json"], policy)
        release = signed.release
        if policy.person_of(signed.key, self.replay.at) is None:
            return [f"release {release.version} is signed with a key that did not hold on {self.replay.at}"]
        if release.version != offer.contribution.of or release.channel != "stable":
            return [f"release {offer.contribution.of} calls itself {release.version}"]
        problems = self.stands(release)
        self.released += [] if problems else [release.commit]
        return problems

    def stands(self, release: Release) -> list[str]:
        """What is wrong with what a release says of the main it stands on."""
        if release.commit not in self.commits:
            return [f"release {release.version} is of a commit that is not in this history"]
        main = self._main(release.commit)
        if release.recipe != main.recipe():
            return [f"release {release.version} does not name the recipe it stands on"]
        if release.model != lock_digest(main.model):
            return [f"release {release.version} names another model than model.lock does"]
        return []

    def _remember(self, offer: Offer) -> None:
        landing, of = Landing.of(offer), offer.contribution.of
        self.ever[offer.slug] = landing
        self.log.append((offer.slug, landing))
        if landing.kind == "revert":
            self.log.append((of, None))
        undone = self.ever.get(of)
        if landing.kind == "restore" and undone is not None and undone.kind == "revert" and undone.about in self.ever:
            self.log.append((undone.about, self.ever[undone.about]))


def _stands_on(base: Snapshot, path: str, data: bytes) -> bool:
    with suppress(SouqError):
        return base.repo.read(base.commit, path) == data
    return False


def computed_by(offer: Offer, base: Snapshot) -> set[str]:
    """The files of main that follow from a landing, so that nobody offers their bytes."""
    elects, moves = offer.contribution.kind == "election", delta_moved(offer, base) is not None
    follows = {"souq.toml": offer.merge is not None, POLICY: elects, "model.lock": moves}
    return {path for path, is_so in follows.items() if is_so}


def change_of(offer: Offer, base: Snapshot) -> Change:
    """A contribution as the policy sees it."""
    c = offer.contribution
    return Change(
        digest=offer.digest, author_key=c.author.key, touched=tuple(touched(offer, base)),
        kind=c.kind, of=c.of, amends=offer.amends, election=offer.election,
    )  # fmt: skip


# -- records -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignedRecords:
    """The records of one contribution whose signatures hold and which are about exactly it.

    Each names those its signer had seen. One that names what is not here counts for nothing but a no, so whoever
    withholds a veto loses the votes that were cast in its sight; and whoever invents a record silences only themselves.
    """

    by_kind: Mapping[str, Sequence[Signed]]
    withheld: tuple[Digest, ...] = ()  # named by those that hold, and not here
    invalid: tuple[str, ...] = ()  # why other records count for nothing
    seen: tuple[Digest, ...] = ()  # what the next to sign names

    @classmethod
    def of(cls, offer: Offer, records: Mapping[str, bytes], policy: Policy) -> SignedRecords:
        """`records`: envelopes by path, `records/vote-….json`."""
        keys = (*policy.keys, *(offer.amends.keys if offer.amends else ()))  # whom it enrols is asked by the new policy
        author = (offer.contribution.author.key,)
        valid, invalid, seen = {kind: list[Signed]() for kind in KINDS}, list[str](), list[Digest]()
        for path, data in sorted(records.items()):
            if match := _PATH.fullmatch(path):
                kind = match[1] or match[2]
                try:
                    valid[kind].append(_verified(data, kind, author if kind == "signoff" else keys, offer))
                    seen.append(digest(data))
                except Forged as error:
                    invalid.append(f"{path} counts for nothing: {error}")
        named = {name for signed in valid.values() for record in signed for name in _seen(record)}
        withheld = named - {digest(data) for data in records.values()}
        by_kind = {
            kind: [record for record in signed if _says_no(record, kind) or not withheld.intersection(_seen(record))]
            for kind, signed in valid.items()
        }
        return cls(by_kind, tuple(sorted(withheld)), tuple(invalid), tuple(sorted(seen)))

    @property
    def checked(self) -> list[SignedChecked]:
        return [SignedChecked(_predicate(record, Checked), record.key) for record in self.by_kind["checked"]]

    @property
    def votes(self) -> list[SignedVote]:
        return [SignedVote(_predicate(record, Vote), record.key) for record in self.by_kind["vote"]]

    @property
    def ballots(self) -> list[SignedBallot]:
        return [SignedBallot(_predicate(record, Ballot), record.key) for record in self.by_kind["ballot"]]

    @property
    def merged(self) -> Signed | None:
        return next(iter(self.by_kind["merge"]), None)

    @property
    def at(self) -> str:
        return str(self.merged.predicate.get("at", "")) if self.merged else ""

    def problems(self, offer: Offer, policy: Policy, before: str) -> list[str]:
        """What is odd about the records of a landing on commit `before`."""
        problems = [] if self.by_kind["signoff"] else [f"{offer.slug} is not signed off by its author"]
        if self.merged and self.merged.predicate.get("base") != before:
            problems.append(f"{offer.slug}'s merge record was made for another main")
        if self.merged and policy.person_of(self.merged.key, self.at) is None:
            problems.append(f"{offer.slug} was merged with a key that did not hold on {self.at}")
        return problems

    def uncounted_reasons(self, policy: Policy, before: str) -> list[str]:
        """Why records that are here did not count for a landing on commit `before`."""
        reasons = [*self.invalid]
        if self.withheld:
            reasons.append(f"{self.withheld[0]} and more may be withheld: records that name it count for nothing")
        for record in (record for kind in ("checked", "vote", "ballot") for record in self.by_kind[kind]):
            predicate = record.predicate  # as _verified has read it
            at, line = predicate["at"], f"{record.kind} by {predicate['by']} counts for nothing"
            now = self.at or at
            if predicate.get("base", before) != before:
                reasons.append(f"{line}: it is of another main")
            elif (seconds(at) or 0.0) > (seconds(now) or 0.0) + SKEW:
                reasons.append(f"{line}: it is dated {at}, after the landing")
            elif None in (policy.person_of(record.key, at), policy.person_of(record.key, now)):
                reasons.append(f"{line}: the key does not hold, on {at} or on {now}")
        return reasons

    def as_landed(self, offer: Offer, policy: Policy, change: Change, before: str) -> Landed:
        """As replay judges it; verdicts on another main than the one it landed on say nothing."""
        return Landed(
            name=offer.slug, policy=policy, change=replace(change, ballots=tuple(self.ballots)),
            checked=tuple(signed for signed in self.checked if signed.checked.base == before),
            votes=tuple(self.votes), at=self.at, by=self.merged.key if self.merged else "",
        )  # fmt: skip


_PATH = re.compile(rf"{RECORDS}(?:(merge|signoff)|(checked|vote|ballot)-[^/]+)\.json")


def _verified(data: bytes, kind: str, keys: Iterable[str], offer: Offer) -> Signed:
    """A record of an offer, by one of these keys.

    Raises:
        Forged: it is no such record, or of something else.
    """
    signed = signing.verify(data, keys=keys, namespace=f"souq.{kind}.v1")
    if signed.kind != f"urn:souq:{kind}:1":
        raise Forged(f"signed as {signed.kind[:40]}")
    # The number is asked too: what was taken back does not land again by the votes of the first time. A sign-off is
    # about the bytes alone: on a forge its author does not know the number yet.
    if signed.subject != offer.digest or (kind != "signoff" and signed.name != offer.home[:-1]):
        raise Forged(f"about another contribution, {signed.name[:80]}")
    if KINDS[kind] is not None:
        _predicate(signed, KINDS[kind])
    return signed


def _predicate(signed: Signed, kind: type[T]) -> T:
    try:
        return msgspec.convert(signed.predicate, kind)
    except msgspec.ValidationError as error:
        raise Forged(f"signed, but no {kind.__name__.lower()}: {error}") from error


def _says_no(signed: Signed, kind: str) -> bool:
    """A no counts whatever it names: who withholds what it names would else be rid of it too."""
    if kind == "checked":
        return any(verdict.outcome != "pass" for verdict in _predicate(signed, Checked).verdicts)
    return kind == "vote" and _predicate(signed, Vote).choice == "reject"


def _seen(signed: Signed) -> list[str]:
    names = signed.predicate.get("after")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


# -- releases ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignedRelease:
    """A release whose signature holds, the key that made it, and why it was yanked, if it was."""

    release: Release
    key: str
    record: bytes = b""  # the envelope it came in
    yanked: str = ""


def signed_release(data: bytes, policy: Policy) -> SignedRelease:
    """The release in an envelope.

    Raises:
        Forged: nobody enrolled signed it, or it signs another digest than its own.
    """
    signed = signing.verify(data, keys=policy.keys, namespace="souq.release.v1")
    release = _predicate(signed, Release)
    if signed.subject != release.model:
        raise Forged(f"the record of release {release.version} is about something else")
    return SignedRelease(release, signed.key, data)


def nightlies(repo: Repo, main: Snapshot) -> list[SignedRelease]:
    """The nightlies whose signatures hold, by main's policy, the oldest first; a ref alone says nothing."""
    policy, nights = read_policy(main.policy_text), []
    for oid in repo.refs(NIGHTLY).values():
        with suppress(SouqError):
            nights.append(signed_release(repo.object(oid, MAX_RECORD), policy))
    return sorted(nights, key=lambda night: night.release.at)

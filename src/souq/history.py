"""Main's own history, step by step: what each commit changed, who agreed, and whether the policy before it allowed that.

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
from souq.repo import Blobs, Moved, Repo, Step
from souq.signing import Signed
from souq.snapshot import RECORDS, Landing, Offer, Snapshot
from souq.weights.lockfile import lock_digest

T = TypeVar("T")
MAX_RECORDS = 1_000  # of one contribution
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
    ever: dict[str, Landing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._text = lru_cache(maxsize=64)(lambda oid: self.blobs[oid].decode())

    def judge(self, step: Step) -> list[str]:
        """What is wrong with one step: it must be one judged landing and nothing else."""
        try:
            if step.odd:
                raise Hostile(step.odd)
            wrong = self._judge(step) if step.before else self._root(step)
        except (SouqError, UnicodeDecodeError) as error:
            wrong = [str(error)]
        for moved in step.moved:  # what is there counts from here on, rightly or not
            self.policy = moved.new if moved.path == POLICY else self.policy
            self.config = moved.new if moved.path == "souq.toml" else self.config
        self.commits[step.commit] = len(self.log)
        return [f"{step.commit[:12]}: {line}" for line in wrong]

    def _root(self, step: Step) -> list[str]:
        found = {moved.path: moved.new for moved in step.moved}
        if POLICY not in found:
            return [f"history begins without a {POLICY}"]
        read_policy(self._text(found[POLICY]))
        odd = [path for path in found if path.startswith(("contributions/", "releases/"))]
        return [f"history begins with {odd[0]}, which nobody voted on"] if odd else []

    def _judge(self, step: Step) -> list[str]:
        moved = {found.path: found for found in step.moved}
        slug = self._slug(step.moved)
        if slug is None:
            return [f"changes {next(iter(moved), 'nothing')} without a pull request"]
        policy, base = read_policy(self._text(self.policy)), self._main(step.before)
        offer, records = self._offered(slug, step.moved)
        self._remember(offer)
        wrong = [f"{path} is not a plain file" for path, found in moved.items() if found.new and found.mode != "100644"]
        if odd := offer.odd() or offer.wrong(base):
            return [*wrong, odd]
        wrong += self._only_its_own(offer, base, moved)
        change = change_of(offer, base)
        if offer.contribution.kind == "election":
            if POLICY not in moved:
                return [*wrong, f"{POLICY} does not say who was elected"]
            change = replace(change, amends=read_policy(self._text(moved[POLICY].new)))
        told = Told.of(offer, records, policy)
        wrong += told.wrong(offer, policy, step.before)
        judged = self.replay.judge(told.landed(offer, policy, change, step.before))
        if judged:
            judged += [f"{offer.slug}: {line}" for line in told.uncounted(policy, step.before)]
        return [*wrong, *judged, *self._computed(offer, base, moved, policy)]

    def _main(self, commit: str) -> Snapshot:
        """Main as it was, with what landed as it was judged here and not as somebody remembers it."""
        return Snapshot(self.repo, commit, landed=lambda: self._landed_at(commit))

    def _landed_at(self, commit: str) -> dict[str, Landing]:
        found: dict[str, Landing] = {}
        for slug, landing in self.log[: self.commits[commit]]:
            if landing is None:
                found.pop(slug, None)
            else:
                found[slug] = landing
        return dict(sorted(found.items()))

    def _slug(self, moved: Sequence[Moved]) -> str | None:
        """The one new contribution of a step; those that were here before are brought back, not new."""
        added = {m.path.split("/")[1] for m in moved if m.path.startswith("contributions/") and m.path.count("/") > 1 and m.new and not m.old}  # fmt: skip
        new = [slug for slug in sorted(added) if slug not in self.ever]
        return new[0] if len(new) == 1 else None

    def _offered(self, slug: str, moved: Sequence[Moved]) -> tuple[Offer, dict[str, bytes]]:
        home = f"contributions/{slug}/"
        own = [found for found in moved if found.path.startswith(home) and found.new]
        if len(own) > MAX_RECORDS:
            raise Hostile(f"{slug} brings {len(own):,} files; the most is {MAX_RECORDS:,}")
        files = {found.path.removeprefix(home): self.blobs[found.new] for found in own}
        records = {path: data for path, data in files.items() if path.startswith(RECORDS)}
        return Offer(slug, {path: data for path, data in files.items() if path not in records}), records

    def _only_its_own(self, offer: Offer, base: Snapshot, moved: Mapping[str, Moved]) -> list[str]:
        """A landing writes what was offered and its records, takes what it says it takes, and not a byte more."""
        writes, takes, computed = offer.landing() | offer.returns(base), offer.takes(base), computed_by(offer, base)
        wrong = []
        for path, found in moved.items():
            if path in writes and found.new:
                if self.blobs[found.new] != writes[path]:
                    wrong.append(f"{path} is not what {offer.slug} offered")
            elif not (path in computed or (path in takes and not found.new) or path.startswith(offer.home + RECORDS)):
                wrong.append(f"changes {path}, which {offer.slug} did not offer")
        wrong += [f"leaves {path}, which {offer.slug} takes back" for path in takes if path not in moved]
        absent = [path for path in writes if path not in moved and not _is(base, path, writes[path])]
        return wrong + [f"{path} of {offer.slug} did not land" for path in absent]

    def _computed(self, offer: Offer, base: Snapshot, moved: Mapping[str, Moved], policy: Policy) -> list[str]:
        """What a landing computes must be what anybody computes: souq.toml, a release."""
        config = moved["souq.toml"].new if "souq.toml" in moved else self.config
        if offer.merge is not None and self._text(config) != format_toml(base.config_with(offer)):
            return [f"souq.toml is not what {offer.slug} asked for"]
        return self._release(offer, policy) if offer.contribution.kind == "release" else []

    def _release(self, offer: Offer, policy: Policy) -> list[str]:
        self.releases += 1
        release, key = signed_release(offer.files["release/release.json"], policy)
        if policy.person_of(key, self.replay.at) is None:
            return [f"release {release.version} is signed with a key that did not hold on {self.replay.at}"]
        if release.version != offer.contribution.of or release.channel != "stable":
            return [f"release {offer.contribution.of} calls itself {release.version}"]
        wrong = self.stands(release)
        self.released += [] if wrong else [release.commit]
        return wrong

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
        found, of = Landing.of(offer), offer.contribution.of
        self.ever[offer.slug] = found
        self.log.append((offer.slug, found))
        if found.kind == "revert":
            self.log.append((of, None))
        undone = self.ever.get(of)
        if found.kind == "restore" and undone is not None and undone.kind == "revert" and undone.about in self.ever:
            self.log.append((undone.about, self.ever[undone.about]))


def _is(base: Snapshot, path: str, data: bytes) -> bool:
    with suppress(SouqError):
        return base.repo.read(base.commit, path) == data
    return False


def computed_by(offer: Offer, base: Snapshot) -> set[str]:
    """The files of main that follow from a landing, so that nobody offers their bytes."""
    found = {"souq.toml"} if offer.merge is not None else set[str]()
    found |= {POLICY} if offer.contribution.kind == "election" else set()
    return found | ({"model.lock"} if offer.moves(base) is not None else set())


def change_of(offer: Offer, base: Snapshot) -> Change:
    """A contribution as the policy sees it."""
    c = offer.contribution
    return Change(
        digest=offer.digest, author_key=c.author.key, touched=tuple(offer.touches(base)),
        kind=c.kind, of=c.of, amends=offer.amends, election=offer.election,
    )  # fmt: skip


# -- records -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """The records of one contribution whose signatures hold and which are about exactly it.

    Each names those its signer had seen. One that names what is not here counts for nothing but a no, so whoever
    withholds a veto loses the votes that were cast in its sight; and whoever invents a record silences only themselves.
    """

    by_kind: Mapping[str, Sequence[Signed]]
    withheld: tuple[Digest, ...] = ()
    idle: tuple[str, ...] = ()  # why other records count for nothing
    seen: tuple[Digest, ...] = ()  # what the next to sign names

    @classmethod
    def of(cls, offer: Offer, records: Mapping[str, bytes], policy: Policy) -> Told:
        """`records`: envelopes by path, `records/vote-….json`."""
        keys = (*policy.keys, *(offer.amends.keys if offer.amends else ()))  # whom it enrols is asked by the new policy
        author = (offer.contribution.author.key,)
        told, idle, seen = {kind: list[Signed]() for kind in KINDS}, list[str](), list[Digest]()
        for path, data in sorted(records.items()):
            if found := _PATH.fullmatch(path):
                kind = found[1] or found[2]
                try:
                    told[kind].append(_held(data, kind, author if kind == "signoff" else keys, offer))
                    seen.append(digest(data))
                except Forged as error:
                    idle.append(f"{path} counts for nothing: {error}")
        here = {digest(data) for data in records.values()}
        withheld = {name for found in told.values() for signed in found for name in _after(signed)} - here
        whole = {
            kind: [s for s in found if _says_no(s, kind) or not withheld.intersection(_after(s))]
            for kind, found in told.items()
        }
        return cls(whole, tuple(sorted(withheld)), tuple(idle), tuple(sorted(seen)))

    @property
    def checked(self) -> list[SignedChecked]:
        return [SignedChecked(_as(one, Checked), one.key) for one in self.by_kind["checked"]]

    @property
    def votes(self) -> list[SignedVote]:
        return [SignedVote(_as(one, Vote), one.key) for one in self.by_kind["vote"]]

    @property
    def ballots(self) -> list[SignedBallot]:
        return [SignedBallot(_as(one, Ballot), one.key) for one in self.by_kind["ballot"]]

    @property
    def merged(self) -> Signed | None:
        return next(iter(self.by_kind["merge"]), None)

    @property
    def at(self) -> str:
        return str(self.merged.predicate.get("at", "")) if self.merged else ""

    def wrong(self, offer: Offer, policy: Policy, before: str) -> list[str]:
        """What is odd about the records of a landing on commit `before`."""
        wrong = [] if self.by_kind["signoff"] else [f"{offer.slug} is not signed off by its author"]
        if self.merged and self.merged.predicate.get("base") != before:
            wrong.append(f"{offer.slug}'s merge record was made for another main")
        if self.merged and policy.person_of(self.merged.key, self.at) is None:
            wrong.append(f"{offer.slug} was merged with a key that did not hold on {self.at}")
        return wrong

    def uncounted(self, policy: Policy, before: str) -> list[str]:
        """Why records that are here did not count for a landing on commit `before`."""
        lost = [
            f"{name} and more may be withheld: records that name it count for nothing" for name in self.withheld[:1]
        ]
        for signed in (one for kind in ("checked", "vote", "ballot") for one in self.by_kind[kind]):
            told = signed.predicate  # as _held has read it
            at, line = told["at"], f"{signed.kind} by {told['by']} counts for nothing"
            now = self.at or at
            if told.get("base", before) != before:
                lost.append(f"{line}: it is of another main")
            elif (seconds(at) or 0.0) > (seconds(now) or 0.0) + SKEW:
                lost.append(f"{line}: it is dated {at}, after the landing")
            elif None in (policy.person_of(signed.key, at), policy.person_of(signed.key, now)):
                lost.append(f"{line}: the key does not hold, on {at} or on {now}")
        return [*self.idle, *lost]

    def landed(self, offer: Offer, policy: Policy, change: Change, before: str) -> Landed:
        """As replay judges it; verdicts on another main than the one it landed on say nothing."""
        return Landed(
            name=offer.slug, policy=policy, change=replace(change, ballots=tuple(self.ballots)),
            checked=tuple(found for found in self.checked if found.checked.base == before),
            votes=tuple(self.votes), at=self.at, by=self.merged.key if self.merged else "",
        )  # fmt: skip


_PATH = re.compile(rf"{RECORDS}(?:(merge|signoff)|(checked|vote|ballot)-[^/]+)\.json")


def _held(data: bytes, kind: str, keys: Iterable[str], offer: Offer) -> Signed:
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
        _as(signed, KINDS[kind])
    return signed


def _as(signed: Signed, kind: type[T]) -> T:
    try:
        return msgspec.convert(signed.predicate, kind)
    except msgspec.ValidationError as error:
        raise Forged(f"signed, but no {kind.__name__.lower()}: {error}") from error


def _says_no(signed: Signed, kind: str) -> bool:
    """A no counts whatever it names: who withholds what it names would else be rid of it too."""
    if kind == "checked":
        return any(verdict.outcome != "pass" for verdict in _as(signed, Checked).verdicts)
    return kind == "vote" and _as(signed, Vote).choice == "reject"


def _after(signed: Signed) -> list[str]:
    told = signed.predicate.get("after")
    return [name for name in told if isinstance(name, str)] if isinstance(told, list) else []


def signed_release(data: bytes, policy: Policy) -> tuple[Release, str]:
    """A release and the key that signed it.

    Raises:
        Forged: nobody enrolled signed it, or it signs another digest than its own.
    """
    signed = signing.verify(data, keys=policy.keys, namespace="souq.release.v1")
    release = _as(signed, Release)
    if signed.subject != release.model:
        raise Forged(f"the record of release {release.version} is about something else")
    return release, signed.key

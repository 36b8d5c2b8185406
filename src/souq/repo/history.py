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
from souq.governance.decide import SKEW, resigning, seconds
from souq.governance.replay import Replay
from souq.records import Checked, Digest, Release, Vote, digest, format_toml
from souq.repo.contribution import MAX_HELD, MAX_RECORD, MAX_RECORDS, RECORDS, Landing, Offer
from souq.repo.git import MAX_BLOB, MAX_FILES, MAX_OFFER, Blobs, GitRepo, Moved, Step, blob_name
from souq.repo.landing import conflicts_with, deltas_moved, files_gained, files_lost, files_returned, malformed, touched
from souq.repo.snapshot import Snapshot
from souq.signing import Signed
from souq.weights.lockfile import lock_digest

T = TypeVar("T")
NIGHTLY = "refs/souq/nightly/"
KINDS: dict[str, Any] = {"signoff": None, "merge": None, "checked": Checked, "vote": Vote, "ballot": Ballot}
KINDS |= {"forge": None, "rebuilt": None}  # evidence for people, which no policy asks about
_KIND_OF = {f"urn:souq:{kind}:1": kind for kind in KINDS}
_COPIED = {urn: kind for urn, kind in _KIND_OF.items() if kind != "merge"}  # a landing has a merge record of its own
MERGED = f"{RECORDS}merge.json"
BOUND = ("signoff", "vote", "ballot")  # the others name the main they stand on, and are of no other
RESIGNED_DAYS = 14  # who lays down a role and changes their mind need not fear for longer that somebody lands it


@dataclass
class History:
    """What main is after the steps judged so far."""

    repo: GitRepo
    blobs: Blobs
    replay: Replay = field(default_factory=Replay)
    policy: str = ""  # git's name of GOVERNANCE.toml
    config: str = ""  # and of souq.toml
    releases: int = 0
    released: list[str] = field(default_factory=list)  # the commits they stand on
    commits: dict[str, int] = field(default_factory=dict)  # -> how long the log was then
    log: list[tuple[str, Landing | None]] = field(default_factory=list)  # what landed and what was taken, in order
    ever: dict[str, Landing] = field(default_factory=dict)  # taken back or not
    binding: Binding = field(default_factory=lambda: Binding())
    resumed: bool = False  # judged from somewhere on: what landed before is read, not remembered

    def __post_init__(self) -> None:
        self._text = lru_cache(maxsize=64)(lambda oid: self.blobs[oid].decode())

    def judge(self, step: Step) -> list[str]:
        """What is wrong with one step: it must be one judged landing and nothing else."""
        judged = self._landing if step.before else self._root
        try:
            problems = [step.odd] if step.odd else judged(step)
        except (SouqError, UnicodeDecodeError) as error:
            problems = [str(error)]
        self.binding.add(step.commit, amends=any(moved.path == POLICY for moved in step.moved))
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
        odd = [f"{moved.path} is not a plain file" for moved in step.moved if not moved.mode.startswith("100")]
        unvoted = [path for path in paths if path.startswith(("contributions/", "releases/"))]
        return odd + [f"history begins with {path}, which nobody voted on" for path in unvoted[:1]]

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
            text = self._text(moved[POLICY].new)
            change = replace(change, amends=read_policy(text), texts=(change.texts[0], text))
        signed = SignedRecords.of(offer, records, policy, self.binding)
        problems += signed.problems(offer, policy, step.before)
        judged = self.replay.judge(signed.as_landed(offer, policy, change, step.before))
        if judged:
            judged += [f"{offer.slug}: {line}" for line in signed.uncounted_reasons(policy, step.before)]
        if change.amends is not None and resigning(policy, change, signed.at) and (late := signed.late(offer)):
            judged.append(late)
        self.binding.landed(signed)
        return [*problems, *judged, *self._computed(offer, base, moved, policy, signed.at)]

    def _main(self, commit: str) -> Snapshot:
        """Main as it was, with what landed as it was judged here and not as somebody remembers it."""
        return Snapshot(self.repo, commit, landed=None if self.resumed else lambda: self._landed_at(commit))

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
        own = {m.path.removeprefix(home): m.new for m in moved if m.path.startswith(home) and m.new}
        records = {path: oid for path, oid in own.items() if path.startswith(RECORDS)}
        offered = {path: oid for path, oid in own.items() if path not in records}
        # One merge record more than a landing copies, which says what was seen of all of them.
        held = self._read(f"{slug} brings records", records, MAX_RECORDS + 1, MAX_HELD + MAX_RECORD)
        if odd := next((path for path in records if not _RECORD_NAME.fullmatch(path)), None):
            raise Hostile(f"{odd[:80]!r} of {slug} is no name of a record")
        return Offer(slug, self._read(f"{slug} brings", offered, MAX_FILES, MAX_OFFER)), held

    def _read(self, what: str, files: Mapping[str, str], number: int, most: int) -> dict[str, bytes]:
        """Files by git's names of them, within bounds: sixty bytes of a tree can name as many megabytes."""
        if len(files) > number:
            raise Hostile(f"{what}: {len(files):,} files; the most is {number:,}")
        contents, left = dict[str, bytes](), most
        for path, oid in files.items():
            try:
                contents[path] = self.blobs.read(oid, min(left, MAX_BLOB))
            except Hostile as error:
                raise Hostile(f"{what}: more than {most:,} bytes, or what is no file: {error}") from error
            left -= len(contents[path])
        return contents

    def _only_its_own(self, offer: Offer, base: Snapshot, moved: Mapping[str, Moved]) -> list[str]:
        """A landing writes what was offered and its records, takes what it says it takes, and not a byte more."""
        writes = files_gained(offer) | files_returned(offer, base)
        takes, computed = files_lost(offer, base), computed_by(offer, base)
        problems = []
        for path, each in moved.items():
            if path in writes and each.new:
                if each.new != blob_name(writes[path]):
                    problems.append(f"{path} is not what {offer.slug} offered")
            elif not (path in computed or (path in takes and not each.new) or path.startswith(offer.home + RECORDS)):
                problems.append(f"changes {path}, which {offer.slug} did not offer")
        problems += [f"leaves {path}, which {offer.slug} takes back" for path in takes if path not in moved]
        absent = [path for path in writes if path not in moved and not _stands_on(base, path, writes[path])]
        return problems + [f"{path} of {offer.slug} did not land" for path in absent]

    def _computed(self, offer: Offer, base: Snapshot, moved: Mapping[str, Moved], policy: Policy, at: str) -> list[str]:
        """What a landing computes must be what anybody computes: souq.toml, a release."""
        config = moved["souq.toml"].new if "souq.toml" in moved else self.config
        if offer.merge is not None and self._text(config) != format_toml(base.config_with(offer)):
            return [f"souq.toml is not what {offer.slug} asked for"]
        return self._release(offer, policy, at) if offer.contribution.kind == "release" else []

    def _release(self, offer: Offer, policy: Policy, at: str) -> list[str]:
        self.releases += 1
        signed = signed_release(offer.files["release/release.json"], policy)
        release = signed.release
        if policy.person_of(signed.key, at) is None:
            return [f"release {release.version} is signed with a key that did not hold on {at}"]
        if release.version != offer.contribution.of or release.channel != "stable":
            return [f"release {offer.contribution.of} calls itself {release.version}"]
        problems = self.stands(release)
        self.released += [] if problems else [release.commit]
        return problems

    def stands(self, release: Release) -> list[str]:
        """What is wrong with what a release says of the main it stands on."""
        if release.commit not in self.binding.line:
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
    elects, moves = offer.contribution.kind == "election", bool(deltas_moved(offer, base))
    follows = {"souq.toml": offer.merge is not None, POLICY: elects, "model.lock": moves}
    return {path for path, is_so in follows.items() if is_so}


def change_of(offer: Offer, base: Snapshot) -> Change:
    """A contribution as the policy sees it."""
    c, text = offer.contribution, offer.files.get(POLICY, b"").decode()
    before = base.policy_text if c.kind in ("governance", "election") else ""
    return Change(
        digest=offer.digest, author_key=c.author.key, touched=tuple(touched(offer, base)),
        kind=c.kind, of=c.of, amends=offer.amends, election=offer.election,
        texts=(before, text),
    )  # fmt: skip


# -- records -----------------------------------------------------------------------------------------------------------


@dataclass
class Binding:
    """What holds a record to this main: it names a commit of main that its signer saw.

    A vote of a sandbox, of a fork that went its own way or of a later main names none of this line. Records made before
    that was asked name none at all: they count until something has landed by votes that all do.
    """

    line: dict[str, int] = field(default_factory=dict)  # main's commits so far, each with its place
    since: str = ""  # the contribution after which every record must
    amended: int = 0  # the place of the last commit that changed the policy
    spent: set[Digest] = field(default_factory=set)  # sign-offs that landed

    def add(self, commit: str, *, amends: bool) -> None:
        """Main is one commit longer."""
        self.line[commit] = len(self.line)
        self.amended = self.line[commit] if amends else self.amended

    def landed(self, signed: SignedRecords) -> None:
        """Something landed by these records."""
        records = [record for kind in ("signoff", "vote", "ballot") for record in signed.by_kind[kind]]
        if not self.since and {record.kind for record in records} > {"urn:souq:signoff:1"}:
            self.since = records[0].name if all(map(_main_of, records)) else ""
        self.spent |= {record.id for record in signed.by_kind["signoff"] if _main_of(record)}

    def refusal(self, signed: Signed, kind: str, offer: Offer) -> str:
        """Why a record holds nothing here; "" where it does."""
        if (main := _main_of(signed)) is None:
            return "it names no main that its signer saw" if self.since and not _says_no(signed, kind) else ""
        if not isinstance(main, str) or main not in self.line:
            return "about another repository, or another line of this one: the main it names is not here"
        if signed.id in self.spent:
            return "it has landed already, and a sign-off does so once"
        if kind == "signoff" and offer.contribution.kind == "governance" and self.line[main] < self.amended:
            return f"{POLICY} was amended since"
        return ""


def _main_of(signed: Signed) -> Any:
    return signed.predicate.get("main")


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
    kept: Mapping[str, bytes] = field(default_factory=dict)  # what a landing copies, by the path it has there
    unsigned: tuple[str, ...] = ()  # why its author's sign-off holds nothing

    @classmethod
    def of(
        cls, offer: Offer, records: Mapping[str, bytes], policy: Policy, binding: Binding | None = None
    ) -> SignedRecords:
        """`records`: envelopes by path. What each is says what was signed, and no path but the merge record's."""
        keys = (*policy.keys, *(offer.amends.keys if offer.amends else ()))  # whom it enrols is asked by the new policy
        author = (offer.contribution.author.key,)
        valid, invalid = {kind: dict[Digest, Signed]() for kind in KINDS}, dict[str, str]()
        there, unsigned = dict[Digest, str](), list[str]()
        for path in sorted(records):
            there[digest(records[path])] = path
            try:
                kind, signed = _verified(path, records[path], offer, keys, author)
            except Forged as error:
                invalid[path] = str(error)
                continue
            if why := binding.refusal(signed, kind, offer) if binding and kind in BOUND else "":
                invalid[path] = why
                unsigned += [why] if kind == "signoff" else []
            else:
                valid[kind].setdefault(signed.id, signed)
        by_id = {name: signed for kind in valid.values() for name, signed in kind.items()}
        named = {name for signed in by_id.values() for name in _seen(signed)}
        withheld = named - there.keys() - by_id.keys()
        by_kind = {
            kind: [each for each in signed.values() if _says_no(each, kind) or not withheld.intersection(_seen(each))]
            for kind, signed in valid.items()
        }
        kept = {each.envelope: kind for kind in valid if kind != "merge" for each in valid[kind].values()}
        for path in {there[name] for name in named & there.keys()} & invalid.keys():  # those that held when it was seen
            kept |= {records[path]: kind} if (kind := _kind(records[path])) else {}
        reasons = tuple(f"{path} counts for nothing: {because}" for path, because in invalid.items())
        return cls(by_kind, tuple(sorted(withheld)), reasons, tuple(sorted(by_id)), _named(kept), tuple(unsigned))

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

    def late(self, offer: Offer) -> str:
        """Why a resignation comes too late; "" where it does not."""
        times = [str(signed.predicate.get("at")) for signed in self.by_kind["signoff"] if _main_of(signed)]
        if not times or (seconds(self.at) or 0.0) <= max(seconds(at) or 0.0 for at in times) + RESIGNED_DAYS * 86_400:
            return ""
        return f"{offer.slug} is a resignation of more than {RESIGNED_DAYS} days before: offer it anew"

    def problems(self, offer: Offer, policy: Policy, before: str) -> list[str]:
        """What is odd about the records of a landing on commit `before`."""
        unsigned = ": ".join([f"{offer.slug} is not signed off by its author", *self.unsigned])
        problems = [] if self.by_kind["signoff"] else [unsigned]
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


# What no file system, terminal or reader takes for another; what is more is up to who lands it.
_RECORD_NAME = re.compile(rf"{RECORDS}[A-Za-z0-9_+\-][A-Za-z0-9._+\-]{{0,300}}\.json")


def _named(kept: Mapping[bytes, str]) -> dict[str, bytes]:
    """Envelopes by the paths they land under; the kind is said for people, and read from the envelope by machines."""
    paths = {f"{RECORDS}{kind}-{digest(data)[3:19]}.json": data for data, kind in sorted(kept.items())}
    if first := next((path for path in paths if path.startswith(f"{RECORDS}signoff-")), None):
        paths[f"{RECORDS}signoff.json"] = paths.pop(first)
    return paths


def _kind(data: bytes) -> str:
    """What an envelope says it is, "" where that is no record that a landing copies."""
    with suppress(Forged):
        return _COPIED.get(signing.kind_of(data)) or ""
    return ""


def _verified(path: str, data: bytes, offer: Offer, keys: Iterable[str], author: Iterable[str]) -> tuple[str, Signed]:
    """What a record of an offer is, and that, by the author's key where it is a sign-off, else by one of `keys`.

    Raises:
        Forged: it is no such record, or of something else.
    """
    kind = _KIND_OF.get(urn := signing.kind_of(data))
    if kind is None or (kind == "merge" and path != MERGED):  # a landing has one, which no stranger's ref names
        raise Forged(f"signed as {urn[:40]}")
    signed = signing.verify(data, keys=author if kind == "signoff" else keys, namespace=f"souq.{kind}.v1")
    # The number is asked too: what was taken back does not land again by the votes of the first time. A sign-off is
    # about the bytes alone: on a forge its author does not know the number yet.
    if signed.subject != offer.digest or (kind != "signoff" and signed.name != offer.home[:-1]):
        raise Forged(f"about another contribution, {signed.name[:80]}")
    if KINDS[kind] is not None:
        _predicate(signed, KINDS[kind])
    return kind, signed


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


def nightlies(repo: GitRepo, main: Snapshot) -> list[SignedRelease]:
    """The nightlies whose signatures hold, by main's policy, the oldest first; a ref alone says nothing."""
    policy, nights = read_policy(main.policy_text), []
    for oid in repo.refs(NIGHTLY).values():
        with suppress(SouqError):
            nights.append(signed_release(repo.object(oid, MAX_RECORD), policy))
    line = {*repo.history(main.commit)}  # a night of another repository is that one's
    return sorted((night for night in nights if night.release.commit in line), key=lambda night: night.release.at)

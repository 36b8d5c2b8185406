"""The life of a pull request: offered, checked, voted on, merged or closed; every step a signed record under refs/souq.

    refs/souq/pr/<n>/head              the commit that adds contributions/<n>-<slug>/
    refs/souq/pr/<n>/signoff           its author's signature on exactly these bytes
    refs/souq/pr/<n>/checked/<id>      what somebody's machine found
    refs/souq/pr/<n>/vote/<id>         a person's yes or no
    refs/souq/pr/<n>/ballot/<id>       an elector's choice, where it is an election
    refs/souq/pr/<n>/closed/<id>       withdrawn or turned down
    refs/souq/pr/<n>/queued/<id>       waits to be merged, or was set aside: the queue's own (queue.py)

Refs are only added, but for a head that its author rebases, with a new signature. When a pull request lands, its
records are copied into main beside the contribution, so main alone can be judged by whoever doubts it. Every record
names those its signer had seen, so that none is withheld.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import msgspec

from souq import signing
from souq.errors import Forged, Hostile, NotFound, Refused, SouqError
from souq.governance import Policy, SignedChecked, SignedVote, read_policy
from souq.records import Checked, Digest, canonical, digest
from souq.repo.contribution import RECORDS, Offer
from souq.repo.history import MAX_HELD, MAX_RECORD, SignedRecords
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person, Signed

PULLS = "refs/souq/pr/"

State = Literal["open", "merged", "closed", "taken back"]


@dataclass(frozen=True)
class PullRequest:
    """One pull request as its refs tell it."""

    repo: Repo
    number: int
    refs: Mapping[str, str]  # below refs/souq/pr/<n>/ -> object id

    @property
    def head(self) -> str:
        return self.refs["head"]

    @cached_property
    def offer(self) -> Offer:
        """What it offers: the one folder its head adds.

        Raises:
            Hostile: the head is not a commit that adds exactly one contribution folder.
        """
        base = self.repo.commit(f"{self.head}^")
        added = set(self.repo.folders(self.head, "contributions")) - set(self.repo.folders(base, "contributions"))
        if len(added) != 1:
            raise Hostile(f"#{self.number} adds {len(added)} contribution folders; it must add one")
        return Snapshot(self.repo, self.head).offer(added.pop())

    def state(self, main: Snapshot) -> State:
        if self.landed(main):
            return "merged"
        with suppress(SouqError):
            if self.offer.slug in main.taken_back:
                return "taken back"
        return "closed" if self._closed(main) else "open"

    @property
    def subject(self) -> Digest:
        """What a record about it is about: the offer, or, where none can be read, the head itself."""
        try:
            return self.offer.digest
        except SouqError:
            return digest(self.head.encode())

    def _closed(self, main: Snapshot) -> bool:
        """Its author or an enrolled person has signed that it is; a ref alone says nothing."""
        if not (envelopes := self.envelopes("closed")):
            return False
        keys = list(read_policy(main.policy_text).keys)
        with suppress(SouqError):
            keys = [*keys, signing.normal_key(self.offer.contribution.author.key)]
        return bool(read_all(envelopes, "closed", keys, self.subject, strict=False))

    def landed(self, main: Snapshot) -> bool:
        """Whether these very bytes are on main: a folder of the same name is not enough."""
        try:
            landing = main.landed.get(self.offer.slug)
            return landing is not None and landing.digest == self.offer.digest
        except SouqError:
            return False

    @property
    def records(self) -> dict[str, bytes]:
        """Its signed records, by the path they have on main; what closed it or queued it has none there."""
        kinds = {name.partition("/")[0] for name in self.refs} - {"head", "closed", "queued"}
        held = self._held(name for name in self.refs if name.partition("/")[0] in kinds)
        return {f"{RECORDS}{name.replace('/', '-')}.json": data for name, data in held.items()}

    def seen(self, main: Snapshot) -> tuple[Digest, ...]:
        """What the next record about it names: every record that holds, so that none of them can be left out later."""
        try:
            return self.signed_records(read_policy(main.policy_text)).seen
        except SouqError:  # an offer nobody can read has no records that hold; turning it down must still go
            return ()

    def signed_records(self, policy: Policy) -> SignedRecords:
        """Its records whose signatures hold and which are about exactly what is offered now."""
        return SignedRecords.of(self.offer, self.records, policy)

    def with_record(self, kind: str, data: bytes) -> PullRequest:
        """This pull request with one record more, which is in git here and not yet published."""
        oid = self.repo.write_blob(data)
        return replace(self, refs={**self.refs, f"{kind}/{oid[:16]}": oid})

    def envelopes(self, kind: str) -> list[bytes]:
        """The records of one kind, as they were sent."""
        return list(self._held(n for n in self.refs if n == kind or n.startswith(f"{kind}/")).values())

    def _held(self, names: Iterable[str]) -> dict[str, bytes]:
        """What is under some of its refs, where it can be a record.

        Anybody may put anything beside the records of others: that it cannot be read must not stop who reads those.
        """
        oids = {name: self.refs[name] for name in sorted(names)}
        blobs = self.repo.small(oids.values(), MAX_RECORD, MAX_HELD)
        return {name: blobs[oid] for name, oid in oids.items() if oid in blobs}


def listed(repo: Repo) -> list[PullRequest]:
    """Every pull request this clone knows, by number."""
    by_number: dict[int, dict[str, str]] = {}
    for ref, oid in repo.refs(PULLS).items():
        number, _, name = ref.removeprefix(PULLS).partition("/")
        if re.fullmatch(r"[1-9]\d{0,8}", number):
            by_number.setdefault(int(number), {})[name] = oid
    return [PullRequest(repo, number, by_number[number]) for number in sorted(by_number) if "head" in by_number[number]]


def get(repo: Repo, number: int) -> PullRequest:
    """One pull request.

    Raises:
        NotFound: there is none of that number.
    """
    for pull in listed(repo):
        if pull.number == number:
            return pull
    raise NotFound(f"no pull request #{number}", hint="see `souq pr list`")


# -- records -----------------------------------------------------------------------------------------------------------


def read_votes(pull: PullRequest, policy: Policy) -> list[SignedVote]:
    """The votes whose signatures hold; what is forged or unsigned counts for nothing."""
    return pull.signed_records(policy).votes


def read_checked(pull: PullRequest, policy: Policy) -> list[SignedChecked]:
    """What enrolled people's machines found."""
    return pull.signed_records(policy).checked


def everything_checked(pull: PullRequest, policy: Policy) -> list[Checked]:
    """What enrolled people's machines ever found of it, under whatever digest it was offered then."""
    checked = []
    for data in pull.envelopes("checked"):
        with suppress(SouqError, msgspec.ValidationError):
            signed = signing.verify(data, keys=policy.keys, namespace="souq.checked.v1")
            checked.append(msgspec.convert(signed.predicate, Checked))
    return checked


def landed_checked(main: Snapshot, slug: str, policy: Policy) -> list[Checked]:
    """What landed beside a contribution of main, found by machines of people who are enrolled now."""
    records = {path: data for path, data in main.below(f"contributions/{slug}/").items() if path.startswith(RECORDS)}
    return [signed.checked for signed in SignedRecords.of(main.offers[slug], records, policy).checked]


def read_all(
    envelopes: Sequence[bytes], kind: str, keys: Sequence[str], subject: Digest, *, strict: bool = True
) -> list[Signed]:
    """The records of one kind about one contribution by these keys; without `strict`, what is forged is left out.

    Raises:
        Forged: with `strict`, the first record that does not hold.
    """
    records = []
    for data in envelopes:
        try:
            signed = signing.verify(data, keys=keys, namespace=f"souq.{kind}.v1")
            if signed.subject != subject:
                raise Forged(f"a {kind} for another contribution, {signed.subject[:15]}…")
            records.append(signed)
        except SouqError:
            if strict:
                raise
    return records


def signed_record(kind: str, slug: str, subject: Digest, predicate: dict[str, Any], person: Person) -> bytes:
    """A record about one contribution, canonical."""
    statement = signing.statement(f"urn:souq:{kind}:1", f"contributions/{slug}", subject, predicate)
    return canonical(signing.sign(statement, person.key, namespace=f"souq.{kind}.v1"))


def publish_record(pull: PullRequest, kind: str, data: bytes) -> None:
    """A signed record where everybody sees it."""
    oid = pull.repo.write_blob(data)
    name = f"{kind}/{oid[:16]}"
    if name not in pull.refs:  # said twice in a second is said once
        pull.repo.publish({f"{PULLS}{pull.number}/{name}": (None, oid)}, [])


def publish_about(pull: PullRequest, kind: str, predicate: dict[str, Any], person: Person) -> None:
    """Sign something about exactly what a pull request offers, and put it where everybody sees it."""
    publish_record(pull, kind, signed_record(kind, pull.offer.slug, pull.offer.digest, predicate, person))


def open_now(repo: Repo, number: int, *, looking: bool = False) -> tuple[PullRequest, Snapshot]:
    """A pull request that is still open, with main as everybody sees it now; `looking`, if nothing will be written.

    Raises:
        Refused: it was merged or closed already.
    """
    repo.refresh() if looking else repo.fetch()
    main, pull = Snapshot(repo, repo.tip()), get(repo, number)
    if (state := pull.state(main)) != "open":
        raise Refused(f"#{number} is already {state}", hint=f"see `souq pr view {number}`")
    return pull, main

"""The life of a pull request: offered, checked, voted on, merged or closed; every step a signed record under refs/souq.

    refs/souq/pr/<n>/head              the commit that adds contributions/<n>-<slug>/
    refs/souq/pr/<n>/signoff           its author's signature on exactly these bytes
    refs/souq/pr/<n>/checked/<id>      what somebody's machine found
    refs/souq/pr/<n>/vote/<id>         a person's yes or no
    refs/souq/pr/<n>/ballot/<id>       an elector's choice, where it is an election
    refs/souq/pr/<n>/closed/<id>       withdrawn or turned down
    refs/souq/pr/<n>/comment/<id>      what people say beside their votes (comments.py)
    refs/souq/pr/<n>/queued/<id>       waits to be merged, or was set aside: the queue's own (queue.py)

What a record is, its envelope says; the names of refs are for people, since anybody who may push names them. Refs are
only added, but for a head that its author rebases, with a new signature. When a pull request lands, its
records are copied into main beside the contribution, so main alone can be judged by whoever doubts it. Every record
names those its signer had seen, so that none is withheld.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import msgspec

from souq import signing
from souq.errors import Hostile, NotFound, Refused, SouqError
from souq.governance import Policy, SignedChecked, SignedVote, read_policy
from souq.progress import Progress
from souq.pulls.summaries import NO_FOLDER, Summaries, Summary, offered
from souq.records import Checked, Digest, canonical, digest
from souq.repo.clock import refuse_wrong_clock
from souq.repo.contribution import MAX_RECORD, RECORDS, Offer
from souq.repo.history import SignedRecords
from souq.repo.notes import Notes
from souq.repo.policy_state import binding
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person, Signed

PULLS = "refs/souq/pr/"
AHEAD = 64  # records read from git at a time
MANY, AT_ONCE = 1_024, 16 << 20  # and of which only the kind is asked: so many, of so many bytes
BESIDE = ("closed", "queued", "comment")  # kinds that stay beside main when it lands

State = Literal["open", "merged", "closed", "taken back"]


@dataclass(frozen=True)
class PullRequest:
    """One pull request as its refs tell it."""

    repo: Repo
    number: int
    refs: Mapping[str, str]  # below refs/souq/pr/<n>/ -> object id
    kinds: _Kinds | None = field(default=None, compare=False, repr=False)  # of all that were listed with it
    listed: Summaries | None = field(default=None, compare=False, repr=False)

    @property
    def head(self) -> str:
        return self.refs["head"]

    @cached_property
    def offer(self) -> Offer:
        """What it offers: the one folder its head adds.

        Raises:
            Hostile: the head is not a commit that adds exactly one contribution folder.
        """
        with self._numbered():
            if self.listed is not None and not self.listed.adds(self.head):
                raise Hostile(NO_FOLDER)
            return offered(self.repo, self.head)

    @contextmanager
    def _numbered(self) -> Iterator[None]:
        """Say of what its head does which one it is of."""
        try:
            yield
        except Hostile as error:
            if not str(error).startswith("adds "):
                raise
            raise Hostile(f"#{self.number} {error}", hint=error.hint) from error

    @property
    def summary(self) -> Summary:
        """What it offers, in a few words: a head never changes, so each is read once.

        Raises:
            Hostile: as `offer`, or its contribution.toml cannot be read.
        """
        with self._numbered():
            return (self.listed or Summaries(self.repo, (self.head,))).of(self.head)

    def state(self, main: Snapshot) -> State:
        if self.landed(main):
            return "merged"
        with suppress(SouqError):
            if self.summary.slug in main.taken_back:
                return "taken back"
        return "closed" if self._closed(main) else "open"

    @property
    def subject(self) -> Digest:
        """What a record about it is about: the offer, or, where none can be read, the head itself."""
        with suppress(SouqError):
            return self.summary.digest
        return self.read_subject()

    def read_subject(self) -> Digest:
        """The subject as git has it, whatever was noted of it: what is signed."""
        try:
            return self.offer.digest
        except SouqError:
            return digest(self.head.encode())

    def _closed(self, main: Snapshot) -> bool:
        """Its author or an enrolled person has signed that it is; a ref alone says nothing."""
        keys = list(read_policy(main.policy_text).keys)
        with suppress(SouqError):
            keys = [*keys, signing.normal_key(self.summary.author.key)]
        return bool(read_all(self, "closed", keys, main, f"contributions/pr-{self.number}"))

    def landed(self, main: Snapshot) -> bool:
        """Whether these very bytes are on main: a folder of the same name is not enough."""
        try:
            landing = main.landed.get(self.summary.slug)
            return landing is not None and landing.digest == self.summary.digest
        except SouqError:
            return False

    @cached_property
    def records(self) -> Mapping[str, bytes]:
        """All that lies under its refs and can be a record, by a path of git's name for it."""
        return _Held(self.repo, {oid for name, oid in self.refs.items() if name != "head"})

    def seen(self, main: Snapshot) -> tuple[Digest, ...]:
        """What the next record about it names: every record that holds, so that none of them can be left out later."""
        try:
            return self.signed_records(read_policy(main.policy_text), main).seen
        except SouqError:  # an offer nobody can read has no records that hold; turning it down must still go
            return ()

    def signed_records(self, policy: Policy, main: Snapshot | None = None) -> SignedRecords:
        """Its records whose signatures hold and which are about exactly what is offered now, on main as all see it."""
        held = binding(self.repo, main.commit if main is not None else self.repo.tip())
        return SignedRecords.of(self.offer, self.records, policy, held)

    def with_record(self, kind: str, data: bytes) -> PullRequest:
        """This pull request with one record more, which is in git here and not yet published."""
        oid = self.repo.write_blob(data)
        return replace(self, refs={**self.refs, f"{kind}/{oid[:16]}": oid})

    def envelopes(self, kind: str) -> Iterator[bytes]:
        """The envelopes that say they are of one kind, whatever the refs that hold them are called."""
        kinds = self.kinds if self.kinds is not None else _Kinds(self.repo, ())
        held = [oid for name, oid in sorted(self.refs.items()) if name != "head"]
        oids = [oid for oid, urn in kinds.of(held).items() if urn == f"urn:souq:{kind}:1"]
        for at in range(0, len(oids), AHEAD):
            yield from self.repo.contents(oids[at : at + AHEAD])


class _Kinds:
    """What the envelopes under many refs say they are: each read once, and those of the next pull requests with it."""

    def __init__(self, repo: Repo, oids: Iterable[str]) -> None:
        self._repo, self._known, self._notes = repo, dict[str, str](), Notes(repo.cache / "kinds.jsonl", str)
        self._order = list(dict.fromkeys(oids))
        self._place = {oid: place for place, oid in enumerate(self._order)}

    def of(self, oids: Iterable[str]) -> dict[str, str]:
        """The predicate type of each, "" for what is no envelope."""
        wanted = list(dict.fromkeys(oids))
        for oid in wanted:
            if oid not in self._known and (kind := self._notes.get(oid)) is not None:
                self._known[oid] = kind
            if oid not in self._known:
                place = self._place.get(oid, len(self._order))
                self._read([oid, *self._order[place + 1 : place + MANY]])
        return {oid: self._known[oid] for oid in wanted}

    def _read(self, oids: Sequence[str]) -> None:
        """Know the first of some, and as many of the others as are not too much at once."""
        unknown = [oid for oid in oids if oid not in self._known and self._notes.get(oid) is None]
        sizes, small, room = self._repo.sizes(unknown), list[str](), AT_ONCE
        for oid in unknown:
            if sizes.get(oid, MAX_RECORD + 1) <= MAX_RECORD:
                if (room := room - sizes[oid]) < 0 and small:
                    break
                small.append(oid)
            self._known.setdefault(oid, "")
        for oid, data in zip(small, self._repo.contents(small), strict=True):
            with suppress(SouqError):
                self._known[oid] = signing.kind_of(data)
        self._notes.add({oid: self._known[oid] for oid in small})


class _Held(Mapping[str, bytes]):
    """Records by path, read from git some at a time.

    Anybody may put anything beside the records of others, of any number: it takes time to look at, and neither memory
    nor the others' place.
    """

    def __init__(self, repo: Repo, oids: Iterable[str]) -> None:
        self._repo, self._near = repo, dict[str, bytes]()
        self._oids = {f"{RECORDS}{oid[:16]}.json": oid for oid in sorted(repo.at_most(oids, MAX_RECORD))}
        self._paths = list(self._oids)

    def __getitem__(self, path: str) -> bytes:
        if path not in self._near:
            at = bisect_left(self._paths, path)
            near = {each: self._oids[each] for each in (path, *self._paths[at : at + AHEAD])}
            self._near = dict(zip(near, self._repo.contents([*near.values()]), strict=True))
        return self._near[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def listed(repo: Repo, number: int | None = None, progress: Progress | None = None) -> list[PullRequest]:
    """Every pull request this clone knows, by number; or the one of that number, if there is one.

    With `progress` what all of them offer is read now, and not as somebody asks.
    """
    by_number: dict[int, dict[str, str]] = {}
    for ref, oid in repo.refs(PULLS if number is None else f"{PULLS}{number}/").items():
        digits, _, name = ref.removeprefix(PULLS).partition("/")
        if re.fullmatch(r"[1-9]\d{0,8}", digits):
            by_number.setdefault(int(digits), {})[name] = oid
    every = {each: refs for each, refs in sorted(by_number.items()) if "head" in refs}
    kinds = _Kinds(repo, (oid for refs in every.values() for name, oid in sorted(refs.items()) if name != "head"))
    summaries = Summaries(repo, (refs["head"] for refs in every.values()))
    if progress is not None:
        summaries.read_ahead(progress)
    return [PullRequest(repo, each, refs, kinds, summaries) for each, refs in every.items()]


def begin_reading(repo: Repo, pulls: Iterable[PullRequest]) -> None:
    """Have git say which folder each of some adds, in one go: their offers are to be read one by one."""
    with suppress(SouqError):
        repo.new_folders((pull.head for pull in pulls), "contributions")


def get(repo: Repo, number: int) -> PullRequest:
    """One pull request.

    Raises:
        NotFound: there is none of that number.
    """
    for pull in listed(repo, number):
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


def read_all(pull: PullRequest, kind: str, keys: Sequence[str], main: Snapshot, about: str = "") -> list[Signed]:
    """The records of one kind about one pull request by these keys; what is forged, or of another line, is left out."""
    records = []
    for data in pull.envelopes(kind):
        with suppress(SouqError):
            signed = signing.verify(data, keys=keys, namespace=f"souq.{kind}.v1")
            seen = signed.predicate.get("main")  # records of before this was asked say nothing
            here = seen is None or seen in pull.repo.history(main.commit)
            named = kind == "signoff" or signed.name == (about or f"contributions/{pull.offer.slug}")
            if here and named and signed.subject == pull.subject:
                records.append(signed)
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


def publish_about(pull: PullRequest, kind: str, predicate: dict[str, Any], person: Person, main: Snapshot) -> None:
    """Sign something about exactly what a pull request offers on this main, and put it where everybody sees it."""
    about = predicate | {"main": main.commit}
    publish_record(pull, kind, signed_record(kind, pull.offer.slug, pull.offer.digest, about, person))


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


def open_to_sign(repo: Repo, number: int) -> tuple[PullRequest, Snapshot]:
    """The same, for who is to sign something about it with the time of this machine.

    Raises:
        Refused: it was merged or closed already, or this machine's clock cannot be right.
    """
    pull, main = open_now(repo, number)
    refuse_wrong_clock(repo, main, pull.head)
    return pull, main

"""The life of a pull request: offered, checked, voted on, merged or closed; every step a signed record under refs/souq.

    refs/souq/pr/<n>/head              the commit that adds contributions/<n>-<slug>/
    refs/souq/pr/<n>/signoff           its author's signature on exactly these bytes
    refs/souq/pr/<n>/checked/<id>      what somebody's machine found
    refs/souq/pr/<n>/vote/<id>         a person's yes or no
    refs/souq/pr/<n>/ballot/<id>       an elector's choice, where it is an election
    refs/souq/pr/<n>/closed/<id>       withdrawn or turned down
    refs/souq/pr/<n>/queued/<id>       waits to be merged, or was set aside: the queue's own (queue.py)

Refs are only added, but for a head that its author rebases, with a new signature. When a pull request lands, its records are copied into main beside the contribution, so
main alone can be judged by whoever doubts it. Every record names those its signer had seen, so that none is withheld.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import msgspec
import tomli_w

from souq import signing
from souq.build import build, needed
from souq.checks import Case, During, run
from souq.errors import Forged, Hostile, NotFound, Refused, SouqError, UsageError, nearest
from souq.evals.eval import Eval
from souq.governance import POLICY, Ballot, Policy, PolicyState, SignedChecked, SignedVote, decide, read_policy
from souq.governance.decide import SKEW, elected, seconds
from souq.governance.policy import format_policy, with_members
from souq.progress import Progress, quiet
from souq.records import Checked, Contribution, Decision, Digest, Verdict, Vote, canonical, digest, format_toml
from souq.repo.contribution import RECORDS, Offer
from souq.repo.git import MAIN
from souq.repo.history import MAX_RECORD, MAX_RECORDS, SignedRecords, change_of
from souq.repo.landing import conflicts_with, delta_moved, files_gained, files_lost, files_returned, malformed
from souq.repo.policy_state import last_landing, policy_state
from souq.repo.remote import Raced, Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Envelope, Person, Signed
from souq.weights.delta import Delta
from souq.weights.lockfile import format_delta, format_lock

PULLS = "refs/souq/pr/"
MAX_HELD = 16 << 20  # bytes of all records of one pull request
TRIES = 5  # for a number nobody else takes meanwhile

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
            found = main.landed.get(self.offer.slug)
            return found is not None and found.digest == self.offer.digest
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
        """The same with one record more, which is in git and not yet published."""
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
        found = self.repo.small(oids.values(), MAX_RECORD, MAX_HELD)
        return {name: found[oid] for name, oid in oids.items() if oid in found}


def listed(repo: Repo) -> list[PullRequest]:
    """Every pull request this clone knows, by number."""
    found: dict[int, dict[str, str]] = {}
    for ref, oid in repo.refs(PULLS).items():
        number, _, name = ref.removeprefix(PULLS).partition("/")
        if re.fullmatch(r"[1-9]\d{0,8}", number):
            found.setdefault(int(number), {})[name] = oid
    return [PullRequest(repo, number, found[number]) for number in sorted(found) if "head" in found[number]]


def get(repo: Repo, number: int) -> PullRequest:
    """One pull request.

    Raises:
        NotFound: there is none of that number.
    """
    for pull in listed(repo):
        if pull.number == number:
            return pull
    raise NotFound(f"no pull request #{number}", hint="see `souq pr list`")


# -- offering ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """What somebody wants to offer, before it has a number."""

    contribution: Contribution
    delta: Delta | None = None
    data: Mapping[str, bytes] | None = None
    evals: Mapping[str, bytes] | None = None  # path below evals/ -> bytes
    merge: Mapping[str, Any] | None = None  # the [merge] table it asks for
    more: Mapping[str, bytes] | None = None  # GOVERNANCE.toml, election.toml, release/…

    @classmethod
    def of(cls, offer: Offer) -> Draft:
        """What is offered already, to be offered anew."""
        below = {
            kind: {p.removeprefix(kind): d for p, d in offer.files.items() if p.startswith(kind)}
            for kind in ("data/", "evals/")
        }
        more = {p: d for p, d in offer.files.items() if p.startswith(("GOVERNANCE", "election", "release/"))}
        return cls(offer.contribution, offer.delta, below["data/"], below["evals/"], offer.merge, more)

    def files(self) -> dict[str, bytes]:
        """The contribution's folder, written canonically."""
        files = {"contribution.toml": format_toml(self.contribution).encode()}
        if self.delta is not None:
            files["delta.lock"] = format_delta(self.delta).encode()
        if self.merge is not None:
            files["merge.toml"] = tomli_w.dumps(dict(self.merge)).encode()
        files |= {f"data/{name}": data for name, data in (self.data or {}).items()}
        files |= {f"evals/{path}": data for path, data in (self.evals or {}).items()}
        return files | dict(self.more or {})


def create(
    repo: Repo,
    draft: Draft | Callable[[int], Draft],
    person: Person,
    *,
    checked: bool = True,
    progress: Progress = quiet,
) -> PullRequest:
    """Offer a contribution under the next free number, signed off by its author; a draft may depend on that number.

    With `checked`, what a machine can refuse at once is refused here, before anything is sent.

    Raises:
        Refused: a check that needs no model says no.
    """
    for _ in range(TRIES):
        repo.fetch()
        number = max((pull.number for pull in listed(repo)), default=0) + 1
        try:
            made = draft(number) if callable(draft) else draft
            return _offer(repo, number, made, person, checked=checked, progress=progress)
        except Raced:
            continue
    raise Raced("others keep taking the next number", hint="run the command again")


def amend(repo: Repo, number: int, draft: Draft, person: Person, progress: Progress = quiet) -> PullRequest:
    """Offer something else under the same number, on top of main as it is now; votes and checks named the old bytes.

    Raises:
        Refused: it is not open, or somebody else's.
    """
    pull, _ = open_now(repo, number)
    if person.public_key != signing.normal_key(pull.offer.contribution.author.key):
        raise Refused(f"#{number} is {pull.offer.contribution.author.name}'s: only its author can offer it anew")
    return _offer(repo, number, draft, person, checked=True, progress=progress, old=pull)


def _offer(
    repo: Repo,
    number: int,
    draft: Draft,
    person: Person,
    *,
    checked: bool,
    progress: Progress,
    old: PullRequest | None = None,
) -> PullRequest:
    main = Snapshot(repo, repo.tip())
    name = old.offer.slug if old is not None else f"{number:04d}-{slug(draft.contribution.title)}"
    offer = Offer(name, draft.files())
    own = {f"contributions/{offer.slug}/{path}": data for path, data in offer.files.items()}
    head = repo.write_commit([main.commit], own, f"{offer.slug}: {draft.contribution.title}\n", tree_of=main.commit)
    if checked:
        refuse_early(Case(main, head, offer, progress))
    refs = {"head": head, "signoff": repo.write_blob(signoff(offer, person))}
    tensors = [ref.digest for ref in draft.delta.refs()] if draft.delta else []
    held = old.refs if old is not None else {}
    repo.publish({f"{PULLS}{number}/{name}": (held.get(name), oid) for name, oid in refs.items()}, tensors, progress)
    return PullRequest(repo, number, {**held, **refs})


def signoff(offer: Offer, person: Person) -> bytes:
    """The author's promise about exactly these bytes, signed."""
    c = offer.contribution
    promise = {"certificate": "DCO-1.1", "signoff": c.signoff, "licence": c.licence, "at": signing.now()}
    return signed_record("signoff", offer.slug, offer.digest, promise, person)


def refuse_early(case: Case) -> None:
    """Raise the first refusal that needs no model."""
    for verdict in run(case, costly=False):
        if not verdict:
            raise Refused(f"check `{verdict.check}`: {verdict.because}", hint="nothing was sent; mend it and try again")


def slug(title: str) -> str:
    """`ISO dates, please!` -> `iso-dates-please`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].rstrip("-") or "contribution"


# -- checking and voting -----------------------------------------------------------------------------------------------


def check(
    repo: Repo, number: int, person: Person, progress: Progress = quiet, *, hidden: Mapping[str, Eval] | None = None
) -> Checked:
    """Run every check of main on a pull request, and sign what was found; hidden evals too where their cases are here."""
    pull, main = open_now(repo, number)
    bring(repo, main, pull.offer, progress)
    found, data = checked(pull, main, run(case_of(pull, main, progress, hidden), given=[signed_off(pull)]), person)
    publish_record(pull, "checked", data)
    return found


def look(repo: Repo, number: int, during: During = nullcontext, progress: Progress = quiet) -> tuple[Verdict, ...]:
    """What every check but the costly ones finds; nothing is signed, so nothing can be voted on it."""
    pull, main = open_now(repo, number)
    bring(repo, main, pull.offer, progress)
    return run(case_of(pull, main, progress), given=[signed_off(pull)], costly=False, during=during)


def case_of(
    pull: PullRequest, main: Snapshot, progress: Progress = quiet, hidden: Mapping[str, Eval] | None = None
) -> Case:
    """A pull request as checks are asked about it."""
    return Case(main, pull.head, pull.offer, progress, hidden or {}, _earlier(pull, main))


def _earlier(pull: PullRequest, main: Snapshot) -> Callable[[], list[Offer]]:
    """What was offered under lower numbers and is still open, read when it is asked for."""

    def read() -> list[Offer]:
        found, remote = [], pull.repo.remote_store()
        for other in listed(pull.repo):
            with suppress(SouqError):  # one hostile pull request must not stop the others
                if other.number < pull.number and other.state(main) == "open" and (delta := other.offer.delta):
                    found.append(other.offer)
                    if remote is not None:
                        remote.copy(pull.repo.store, [ref.digest for ref in delta.refs()], strict=False)
        return found

    return read


def checked(pull: PullRequest, main: Snapshot, verdicts: tuple[Verdict, ...], person: Person) -> tuple[Checked, bytes]:
    """What was found on `main`, and that signed."""
    subject = pull.offer.digest
    found = Checked(
        subject=subject, base=main.commit, verdicts=verdicts, by=person.name, at=signing.now(), after=pull.seen(main)
    )
    return found, signed_record("checked", pull.offer.slug, subject, msgspec.to_builtins(found), person)


def signed_off(pull: PullRequest) -> Verdict:
    """The author's own signature stands on exactly these bytes."""
    try:
        author = pull.offer.contribution.author
        read_all(pull.envelopes("signoff"), "signoff", [author.key], pull.offer.digest)[0]
    except (SouqError, IndexError) as error:
        because = str(error) if isinstance(error, SouqError) else "its author has not signed it off"
        return Verdict(check="signoff", outcome="refuse", because=because)
    return Verdict(check="signoff", outcome="pass", because=f"signed by {author.name} <{author.email}>")


def bring(repo: Repo, main: Snapshot, offer: Offer, progress: Progress = quiet) -> None:
    """Fetch the tensors of main and of one contribution, each verified as it comes; what the remote lacks stays away.

    A delta.lock that cannot be read has no tensors: the check `fits-base` says why.
    """
    if (remote := repo.remote_store()) is None:
        return
    wanted = needed(repo, {"main": main.commit})
    with suppress(Hostile):
        moved = delta_moved(offer, main)
        wanted += [ref.digest for ref in moved.refs()] if moved else []
    remote.copy(repo.store, wanted, progress, strict=False)


def review(
    repo: Repo,
    number: int,
    choice: Literal["approve", "reject"],
    reason: str,
    person: Person,
    *,
    read: str | None = None,
) -> Vote:
    """A signed yes or no to exactly what is offered; with `read`, only if that is the digest the person has read.

    Raises:
        Refused: something else is offered by now.
    """
    pull, main = open_now(repo, number)
    if read is not None and read != pull.offer.digest:
        raise Refused(
            f"#{number} offers {pull.offer.digest} now, which is not what you read",
            hint=f"look again with `souq pr view {number}`, then vote on that digest",
        )
    if choice == "reject" and not reason.strip():
        raise UsageError("a no needs a reason", hint='add --reason "…"')
    vote = Vote(
        subject=pull.offer.digest, choice=choice, reason=reason, by=person.name, at=signing.now(), after=pull.seen(main)
    )
    publish_record(
        pull, "vote", signed_record("vote", pull.offer.slug, pull.offer.digest, msgspec.to_builtins(vote), person)
    )
    return vote


def ballot(repo: Repo, number: int, choices: Sequence[str], person: Person) -> Ballot:
    """An elector's choice among the candidates of an election; the last one before it closes counts.

    Raises:
        UsageError: it is no election, or a name is no candidate.
    """
    pull, main = open_now(repo, number)
    election = pull.offer.election
    if election is None:
        raise UsageError(f"#{number} is no election", hint=f"vote with `souq pr review {number} --approve`")
    for name in choices:
        if name not in election.candidates:
            raise UsageError(f"{name!r} is no candidate{nearest(name, election.candidates)}")
    if read_policy(main.policy_text).person_of(person.public_key, signing.now()) is None:
        raise Refused(f"{person.name}'s key is not enrolled in {POLICY}", hint="only electors cast ballots")
    cast = Ballot(
        subject=pull.offer.digest, choices=tuple(choices), by=person.name, at=signing.now(), after=pull.seen(main)
    )
    publish_record(
        pull, "ballot", signed_record("ballot", pull.offer.slug, pull.offer.digest, msgspec.to_builtins(cast), person)
    )
    return cast


def close(repo: Repo, number: int, reason: str, person: Person) -> None:
    """Withdraw a pull request, or turn it down; its records stay."""
    pull, main = open_now(repo, number)
    policy = read_policy(main.policy_text)
    if policy.person_of(person.public_key) is None and person.public_key != pull.offer.contribution.author.key:
        raise Refused(f"#{number} can be closed by its author or by an enrolled person")
    said = {"reason": reason, "by": person.name, "at": signing.now()}
    publish_record(pull, "closed", signed_record("closed", f"pr-{number}", pull.subject, said, person))


# -- deciding and merging ----------------------------------------------------------------------------------------------


def decision(repo: Repo, number: int) -> Decision:
    """What main's own policy says about a pull request as it stands."""
    pull, main = open_now(repo, number)
    return decision_on(pull, main)


def decision_on(pull: PullRequest, main: Snapshot) -> Decision:
    """The same on a main at hand, which nobody else need have seen."""
    policy, at = read_policy(main.policy_text), signing.now()
    try:
        offer, records = pull.offer, pull.signed_records(policy)
        if wrong := malformed(offer) or conflicts_with(main, offer):
            return Decision(missing=(wrong,))
        change = replace(change_of(offer, main), ballots=tuple(records.ballots))
        memory = policy_state(pull.repo, main.commit) if policy.remembers else PolicyState()
        fresh = [signed for signed in records.checked if signed.checked.base == main.commit]
        said = decide(policy, change, fresh, records.votes, now=at, state=memory)
    except SouqError as error:  # one hostile pull request must not stop who asks about all of them
        return Decision(missing=(f"it cannot be read: {error}",))
    if not said and not fresh and records.checked:
        stale = f"checks on main as it is now: main has moved since; run `souq pr checks {pull.number}`"
        return Decision(missing=(stale, *said.missing), met=said.met)
    if not said and records.withheld:
        lost = f"records that others name: {records.withheld[0][:19]} is not here; `souq fetch` may bring it"
        return Decision(missing=(*said.missing, lost), met=said.met)
    return said


def merge(repo: Repo, number: int, person: Person, progress: Progress = quiet) -> tuple[Decision, str | None]:
    """Land a pull request on main when the policy says yes: the decision, and the commit where it landed.

    Raises:
        Refused: it is not open, or a person who is not enrolled asks; their merge record would be worth nothing.
    """
    pull, main = open_now(repo, number)
    if read_policy(main.policy_text).person_of(person.public_key, signing.now()) is None:
        raise Refused(f"{person.name}'s key is not enrolled in GOVERNANCE.toml", hint="ask somebody who is to merge it")
    if not (said := decision_on(pull, main)):
        return said, None
    refuse_wrong_clock(repo, main)
    bring(repo, main, pull.offer, progress)
    commit = landing(pull, main, person, progress)
    repo.publish({MAIN: (main.commit, commit)}, tensors_of(pull, main), progress)
    return said, commit


def tensors_of(pull: PullRequest, main: Snapshot) -> list[Digest]:
    """What its landing on `main` needs in the store."""
    moved = delta_moved(pull.offer, main)
    return [ref.digest for ref in moved.refs()] if moved else []


def refuse_wrong_clock(repo: Repo, main: Snapshot) -> None:
    """A landing dated before the one it stands on is a fault that stays in history for ever: it is not begun."""
    last, at = last_landing(repo, main.commit), signing.now()
    if (seconds(last) or 0.0) > (seconds(at) or 0.0) + SKEW:
        hint = "set your clock; if it is right, theirs was not: wait until then, and tell them"
        raise Refused(f"main's last landing is dated {last}, and your clock says {at}", hint=hint)


def landing(pull: PullRequest, main: Snapshot, person: Person, progress: Progress) -> str:
    """The commit that lands it: what was offered, who agreed, and what main now builds to.

    Raises:
        Refused: so many records that the landing could not be verified.
    """
    offer, repo = pull.offer, pull.repo
    if len(pull.records) + len(offer.files) >= MAX_RECORDS:
        raise Refused(
            f"#{pull.number} carries {len(pull.records):,} records", hint="remove those that hold nothing, and fetch"
        )
    files: dict[str, bytes | None] = dict.fromkeys(files_lost(offer, main))
    files |= files_gained(offer) | files_returned(offer, main)
    files |= {f"{offer.home}{path}": data for path, data in pull.records.items()}
    if offer.merge is not None:
        files["souq.toml"] = format_toml(main.config_with(offer)).encode()
    if offer.election is not None:
        files[POLICY] = _elected(pull, main).encode()
    if offer.delta is not None or offer.merge is not None:
        files["model.lock"] = format_lock(build(main, offer, progress).lock).encode()
    elif delta_moved(offer, main) is not None:  # something was taken from the set: what is left says what it builds to
        bare = Snapshot(repo, repo.write_commit([main.commit], files, "\n", tree_of=main.commit))
        files["model.lock"] = format_lock(build(bare, progress=progress, settled=False).lock).encode()
    told = {
        "pr": pull.number,
        "base": main.commit,
        "by": person.name,
        "at": signing.now(),
        "after": list(pull.seen(main)),
    }
    signed = signed_record("merge", offer.slug, offer.digest, told, person)
    files[f"{offer.home}{RECORDS}merge.json"] = signed
    message = f"Merge #{pull.number}: {offer.contribution.title}\n"
    return repo.write_commit([main.commit, pull.head], files, message, tree_of=main.commit)


def _elected(pull: PullRequest, main: Snapshot) -> str:
    """GOVERNANCE.toml as the ballots make it."""
    policy, election = read_policy(main.policy_text), pull.offer.election
    assert election is not None
    change = replace(change_of(pull.offer, main), ballots=tuple(pull.signed_records(policy).ballots))
    found = elected(policy, change, now=signing.now(), state=policy_state(pull.repo, main.commit))
    return format_policy(with_members(policy, election.role, found.winners))


# -- records -----------------------------------------------------------------------------------------------------------


def read_votes(pull: PullRequest, policy: Policy) -> list[SignedVote]:
    """The votes whose signatures hold; what is forged or unsigned counts for nothing."""
    return pull.signed_records(policy).votes


def read_checked(pull: PullRequest, policy: Policy) -> list[SignedChecked]:
    """What enrolled people's machines found."""
    return pull.signed_records(policy).checked


def everything_checked(pull: PullRequest, policy: Policy) -> list[Checked]:
    """What enrolled people's machines ever found of it, under whatever digest it was offered then."""
    found = []
    for data in pull.envelopes("checked"):
        with suppress(SouqError, msgspec.ValidationError):
            signed = signing.verify(data, keys=policy.keys, namespace="souq.checked.v1")
            found.append(msgspec.convert(signed.predicate, Checked))
    return found


def landed_checked(main: Snapshot, slug: str, policy: Policy) -> list[Checked]:
    """What landed beside a contribution of main, found by machines of people who are enrolled now."""
    found = {path: data for path, data in main.below(f"contributions/{slug}/").items() if path.startswith(RECORDS)}
    return [signed.checked for signed in SignedRecords.of(main.offers[slug], found, policy).checked]


def read_all(
    envelopes: Sequence[bytes], kind: str, keys: Sequence[str], subject: Digest, *, strict: bool = True
) -> list[Signed]:
    """The records of one kind about one contribution by these keys; without `strict`, what is forged is left out."""
    found = []
    for data in envelopes:
        try:
            signed = signing.verify(data, keys=keys, namespace=f"souq.{kind}.v1")
            if signed.subject != subject:
                raise Forged(f"a {kind} for another contribution, {signed.subject[:15]}…")
            found.append(signed)
        except SouqError:
            if strict:
                raise
    return found


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


def open_now(repo: Repo, number: int) -> tuple[PullRequest, Snapshot]:
    """A pull request that is still open, with main as everybody sees it now.

    Raises:
        Refused: it was merged or closed already.
    """
    repo.fetch()
    main, pull = Snapshot(repo, repo.tip()), get(repo, number)
    if (state := pull.state(main)) != "open":
        raise Refused(f"#{number} is already {state}", hint=f"see `souq pr view {number}`")
    return pull, main


__all__ = ["Draft", "Envelope", "Person", "PullRequest", "check", "close", "create", "decision", "merge", "review"]

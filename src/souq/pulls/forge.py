"""Pull requests on a forge (GitHub, Forgejo, Gitea): a branch there, and the same pull request here.

Whoever has no right to push refs/souq/* offers by a branch of their fork: a commit that adds the one folder, and below
it a commit with what git would not carry otherwise, the author's sign-off and the tensors, in a folder LUGGAGE that the
branch's own files no longer have. Whoever has the right adopts it: what the branch holds is read as data, and written
again as refs/souq/pr/<n>/…; nothing of the stranger's own commits comes along.

    offer_branch(repo, draft, person, "iso-dates")     # then: git push FORK iso-dates, and the forge's button
    adopt(repo, 12, "refs/pull/12/head", person)       # by a maintainer, or by the workflow

    refs/souq/pr/<n>/forge/<N>/<id>    who adopted it, from which commit of the forge's number N
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from souq import signing
from souq.checks import Case
from souq.errors import Corrupt, Forged, Hostile, NotFound, Refused, UsageError
from souq.governance import read_policy
from souq.progress import Progress, quiet
from souq.pulls import land, reviews
from souq.pulls import offer as offers
from souq.pulls import pull as pulls
from souq.pulls.offer import TRIES, Draft
from souq.pulls.pull import PULLS, PullRequest
from souq.pulls.turned_away import TurnedAway, turned_away
from souq.pulls.waiting import Line
from souq.records import Checked, Digest, Record, Vote, is_digest
from souq.repo import contribution
from souq.repo.contribution import MAX_RECORD, Offer
from souq.repo.git import MAX_BLOB, MAX_FILES, Entry
from souq.repo.outside import OUTSIDE
from souq.repo.outside import outside as outside_of
from souq.repo.remote import Raced, Repo, give_up
from souq.repo.snapshot import Snapshot
from souq.signing import Person
from souq.text import inert
from souq.weights.codec import header_of

LUGGAGE = "souq-luggage"
MAX_LUGGAGE = 256 << 20  # bytes of tensors in a branch; a forge takes no file above 100 MB, and no push above 2 GB
MAX_BRANCH = 320 << 20  # bytes taken from a forge: the luggage, rows, and the history they stand on
MAX_COMMITS = 100  # of a branch, among which the luggage is looked for


# -- the author's side -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Branch:
    """A contribution on a branch of its author's, ready for `git push`."""

    name: str
    offer: Offer
    carried: bool  # the tensors are in the branch; if not, they are in the store


def offer_branch(
    repo: Repo, draft: Draft, person: Person, name: str, *, checked: bool = True, progress: Progress = quiet
) -> Branch:
    """Write a contribution, its sign-off and its tensors on a local branch; only tensors too large for git are sent.

    Raises:
        Refused: a check that needs no model says no.
        UsageError: the branch holds something else.
    """
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    offer = Offer(contribution.slug(draft.contribution.title), draft.files())
    own = {f"contributions/{offer.slug}/{path}": data for path, data in offer.files.items()}
    message = f"{inert(draft.contribution.title)}\n"
    if checked:
        plain = repo.write_commit([main.commit], own, message, tree_of=main.commit)
        offers.refuse_early(Case(main, plain, offer, progress))
    _refuse_other_work(repo, name)
    luggage, carried = _packed(repo, main, offer, person, progress)
    below = repo.write_commit([main.commit], luggage, f"Tensors and sign-off of {offer.slug}\n", tree_of=main.commit)
    repo.make_branch(name, repo.write_commit([below], own, message, tree_of=main.commit))
    return Branch(name, offer, carried)


def offer_files(
    repo: Repo, draft: Draft, person: Person, *, checked: bool = True, progress: Progress = quiet
) -> tuple[Offer, dict[str, bytes]]:
    """A contribution as files for a hub's pull request: its folder, its sign-off and its tensors.

    Raises:
        Refused: a check that needs no model says no, or the tensors are too large.
    """
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    offer = Offer(contribution.slug(draft.contribution.title), draft.files())
    own = {f"contributions/{offer.slug}/{path}": data for path, data in offer.files.items()}
    if checked:
        plain = repo.write_commit([main.commit], own, "An offer\n", tree_of=main.commit)
        offers.refuse_early(Case(main, plain, offer, progress))
    luggage, carried = _packed(repo, main, offer, person, progress)
    if not carried:
        raise Refused(f"its tensors are more than {MAX_LUGGAGE:,} bytes", hint="`souq pr create` without --folder")
    return offer, own | luggage


def _packed(
    repo: Repo, main: Snapshot, offer: Offer, person: Person, progress: Progress
) -> tuple[dict[str, bytes], bool]:
    """The sign-off, and the tensors where git carries them; else they go to the store."""
    luggage, wanted = {f"{LUGGAGE}/signoff.json": offers.signoff(offer, person, main)}, _tensors(offer, main, repo)
    if carried := _fits(repo, wanted):
        luggage |= {f"{LUGGAGE}/objects/{n[3:5]}/{n[5:]}": repo.store.parcel(n) for n in wanted}
    elif (remote := repo.remote_store()) is not None:
        repo.store.copy(remote, wanted, progress)
    return luggage, carried


def _tensors(offer: Offer, main: Snapshot, repo: Repo) -> list[Digest]:
    """What an offer's tensors are stored as, without what main has."""
    refs = [ref.digest for ref in offer.refs()]
    known = {ref.digest for ref in main.tensors()}
    return [name for name in repo.store.closure(refs) if name not in known]


def _fits(repo: Repo, names: list[Digest]) -> bool:
    sizes = [repo.store.size(name) for name in names]
    return max(sizes, default=0) <= MAX_BLOB and sum(sizes) <= MAX_LUGGAGE and len(names) < MAX_FILES


def _refuse_other_work(repo: Repo, name: str) -> None:
    """A branch may be written again, but not over what somebody did by hand."""
    old = repo.ref(f"refs/heads/{name}")
    if old is None:
        return
    with suppress(NotFound):
        if repo.entries(repo.commit(f"{old}^"), LUGGAGE):
            return
    raise UsageError(f"the branch {name} is there already and holds something else", hint="choose another --branch")


# -- the maintainer's side ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """What a branch brought, read and signed for, not yet believed any further."""

    commit: str
    offer: Offer
    signoff: bytes
    objects: Mapping[Digest, bytes]


def adopted(repo: Repo, mark: str) -> PullRequest | None:
    """The pull request that was made of a forge's number, such as forge/12."""
    return next((pull for pull in pulls.listed(repo) if any(ref.startswith(f"{mark}/") for ref in pull.refs)), None)


def adopt(repo: Repo, forge: int, head: str, person: Person, progress: Progress = quiet) -> PullRequest:
    """Make the forge's pull request `forge` one of souq's, or bring the one it became up to date.

    `head` is a ref of the remote, or a commit that must be in its refs/pull/<forge>/head.

    Raises:
        NotFound: the remote has no such ref, or the commit is not in it.
        Hostile: it is not main plus one folder of a contribution, or is too large.
        Forged: its author has not signed off these very bytes.
        Corrupt: a tensor is not what its name says.
        Refused: it was merged or closed here, or another author took it over.
    """
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    return take(repo, f"forge/{forge}", forge, _read(repo, main, forge, head), person, progress)


def take(repo: Repo, mark: str, forge: int, sent: Sent, person: Person, progress: Progress = quiet) -> PullRequest:
    """Make what was sent under a forge's number one of souq's own pull requests, known again by `mark`.

    Raises:
        Corrupt: a tensor is not what its name says.
        Refused: it was merged or closed here, or another author took it over.
        Raced: others keep taking the next number.
    """
    kept = list(_keep(repo, sent, progress))
    raced = Raced("")
    for _ in range(TRIES):
        try:
            return _publish(repo, mark, forge, sent, kept, person, progress)
        except Raced as error:
            raced = error
            repo.fetch()
    raise give_up(raced, "others keep taking the next number")


def _read(repo: Repo, main: Snapshot, forge: int, head: str) -> Sent:
    pinned = head if re.fullmatch(r"[0-9a-f]{40,64}", head) else ""
    with outside_of(repo, f"refs/pull/{forge}/head" if pinned else head, MAX_BRANCH) as outside:
        commit = outside.commit(OUTSIDE)
        if pinned and not outside.contains(commit, pinned):
            raise NotFound(f"#{forge} of the forge does not have commit {pinned[:12]}", hint="it was moved meanwhile")
        commit = pinned or commit
        base = outside.merge_base(main.commit, commit)
        if base is None:
            raise Hostile("it shares no history with main")
        offer = _offer(outside, base, commit)
        signoff, objects = _luggage(outside, base, commit, offer)
        return Sent(commit, offer, signoff, _objects(outside, objects, offer))


def _offer(outside: Repo, base: str, commit: str) -> Offer:
    """The one folder it adds; everything it says is read here, so that what cannot be read goes no further."""
    paths = outside.changed(base, commit)
    folders = {match[1] if (match := re.match(r"contributions/([^/]+)/", path)) else None for path in paths}
    if None in folders:
        stray = next(path for path in paths if not re.match(r"contributions/[^/]+/", path))
        raise Hostile(f"changes {stray[:120]!r}; a contribution adds one folder in contributions/ and nothing else")
    if len(folders) != 1 or len(paths) > MAX_FILES:
        raise Hostile(f"adds {len(folders)} contribution folders and {len(paths):,} files; it must add one folder")
    folder = str(folders.pop())
    if folder in outside.folders(base, "contributions"):
        raise Hostile(f"changes contributions/{folder[:80]}, which is on main already")
    offer = Snapshot(outside, commit).offer(folder)
    try:
        signing.normal_key(offer.contribution.author.key)
    except UsageError as error:
        raise Hostile(str(error)) from error
    return Offer(contribution.slug(offer.contribution.title), offer.files)


def _luggage(outside: Repo, base: str, commit: str, offer: Offer) -> tuple[bytes, list[Entry]]:
    """The newest sign-off of exactly this offer among the branch's commits, and the objects beside it."""
    because = "the branch carries no sign-off; `souq pr create --branch` writes one"
    for below in outside.commits(base, commit, MAX_COMMITS):
        entries = {entry.path.removeprefix(f"{LUGGAGE}/"): entry for entry in outside.entries(below, LUGGAGE)}
        if "signoff.json" not in entries:
            continue
        data = outside.object(entries["signoff.json"].oid, MAX_RECORD)
        try:
            signed = signing.verify(data, keys=[offer.contribution.author.key], namespace="souq.signoff.v1")
        except Forged:
            because = "its author's key did not sign it off"
            continue
        if signed.subject == offer.digest:
            return data, list(entries.values())
        because = f"its author signed off {signed.subject[:19]}…, and it is {offer.digest[:19]}… now"
    raise Forged(because, hint="its author runs `souq pr create --branch` again and pushes")


def _objects(outside: Repo, entries: list[Entry], offer: Offer) -> dict[Digest, bytes]:
    """The objects that the offer asks for, within bounds; what else is in the luggage is left there."""
    refs = {ref.digest for ref in offer.refs()}
    named = {"b3:" + "".join(entry.path.split("/")[-2:]): entry for entry in entries if "/objects/" in entry.path}
    wanted = {name: entry for name, entry in named.items() if is_digest(name) and name in refs}
    if (total := sum(entry.size for entry in wanted.values())) > MAX_LUGGAGE:
        raise Hostile(f"carries {total:,} bytes of tensors; the most is {MAX_LUGGAGE:,}")
    return {name: outside.blob(entry) for name, entry in wanted.items()}


def _keep(repo: Repo, sent: Sent, progress: Progress) -> Iterator[Digest]:
    """Take the tensors it carries into the store here, each decoded and its digest computed; those that are here."""
    names = [ref.digest for ref in sent.offer.refs()]
    for done, name in enumerate(names):
        progress("take tensors", done, len(names))
        if name not in repo.store and name in sent.objects:
            _bring_base(repo, name, sent.objects[name])
            repo.store.take(name, sent.objects[name])
        if name in repo.store:
            yield name
    progress("take tensors", len(names), len(names))


def _bring_base(repo: Repo, name: Digest, data: bytes) -> None:
    """A whole tensor is kept as its difference from one of main's, which this clone may lack."""
    try:
        base = header_of(data).base
    except Hostile as error:
        raise Corrupt(f"{name} is damaged: {error}", hint="ask whoever sent it to send it again") from error
    if base and base not in repo.store and (remote := repo.remote_store()) is not None:
        remote.copy(repo.store, [base])


def _publish(
    repo: Repo, mark: str, forge: int, sent: Sent, kept: list[Digest], person: Person, progress: Progress
) -> PullRequest:
    """The branch's offer as refs/souq/pr/<n>/…, on top of main as it is now."""
    main, old = Snapshot(repo, repo.tip()), adopted(repo, mark)
    number = old.number if old else max((pull.number for pull in pulls.listed(repo)), default=0) + 1
    if old is not None:
        _refuse_another(old, main, sent)
        if old.offer.digest == sent.offer.digest:
            return old
    slug = old.offer.slug if old is not None else f"{number:04d}-{sent.offer.slug}"
    own = {f"contributions/{slug}/{path}": data for path, data in sent.offer.files.items()}
    message = f"{slug}: {inert(sent.offer.contribution.title)}\n\nFrom #{forge} of the forge, {sent.commit}\n"
    predicate = {"forge": forge, "head": sent.commit, "by": person.name, "at": signing.now(), "main": main.commit}
    record = repo.write_blob(pulls.signed_record("forge", slug, sent.offer.digest, predicate, person))
    refs = {
        "head": repo.write_commit([main.commit], own, message, tree_of=main.commit),
        "signoff": repo.write_blob(sent.signoff),
        f"{mark}/{record[:16]}": record,
    }
    held = old.refs if old is not None else {}
    repo.publish({f"{PULLS}{number}/{name}": (held.get(name), oid) for name, oid in refs.items()}, kept, progress)
    return PullRequest(repo, number, {**held, **refs})


def _refuse_another(old: PullRequest, main: Snapshot, sent: Sent) -> None:
    if (state := old.state(main)) != "open":
        raise Refused(f"it is #{old.number} here, which is already {state}", hint=f"see `souq pr view {old.number}`")
    keys = {signing.normal_key(offer.contribution.author.key) for offer in (old.offer, sent.offer)}
    if len(keys) != 1:
        raise Refused(f"#{old.number} is {old.offer.contribution.author.name}'s: only its author can offer it anew")


# -- the workflow's side -----------------------------------------------------------------------------------------------


class Answer(Record, frozen=True):
    """What main's rules say about a forge's pull request: truthy when nothing refuses it."""

    forge: int
    number: int = 0  # here; 0 where it did not become a pull request
    title: str = ""
    digest: str = ""
    problem: str = ""  # why it did not
    checked: Checked | None = None
    votes: tuple[Vote, ...] = ()
    missing: tuple[str, ...] = ()
    turned_away: TurnedAway | None = None  # what its author is to read, a newcomer whose pull request goes no further

    def __bool__(self) -> bool:
        return not self.problem and self.checked is not None and all(self.checked.verdicts)


def check(repo: Repo, forge: int, head: str, person: Person, progress: Progress = quiet) -> Answer:
    """Adopt it and run main's checks on it, signed by whoever runs this; that nobody can use it is an answer too."""
    return judged(repo, forge, lambda: adopt(repo, forge, head, person, progress), person, progress)


def judged(
    repo: Repo, forge: int, take_it: Callable[[], PullRequest], person: Person, progress: Progress = quiet
) -> Answer:
    """What main's checks say of a pull request that is adopted now, or why it cannot be."""
    try:
        pull = take_it()
    except (Hostile, Forged, Corrupt, Refused) as error:
        return Answer(forge=forge, problem=str(error))
    main = Snapshot(repo, repo.tip())
    if pull.number in (line := Line(repo, main)).waits:
        return Answer(
            forge=forge, number=pull.number, title=pull.offer.contribution.title, digest=pull.offer.digest,
            missing=(line.waits[pull.number],), turned_away=turned_away(pull, main, line),
        )  # fmt: skip
    return answer(repo, forge, pull, reviews.check(repo, pull.number, person, progress))


def answer(repo: Repo, forge: int, pull: PullRequest, checked: Checked) -> Answer:
    """Where it stands, once it was checked."""
    main, now = Snapshot(repo, repo.tip()), pulls.get(repo, pull.number)
    return Answer(
        forge=forge, number=pull.number, title=pull.offer.contribution.title, digest=pull.offer.digest, checked=checked,
        votes=tuple(signed.vote for signed in pulls.read_votes(now, read_policy(main.policy_text))),
        missing=land.decision(repo, pull.number).missing, turned_away=turned_away(now, main, Line(repo, main)),
    )  # fmt: skip

"""Offering a contribution: a draft becomes a pull request under the next free number, signed off by its author.

pull = create(repo, Draft(contribution, delta=delta), person)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import tomli_w

from souq import signing
from souq.checks import Case, run
from souq.checks.evals import idle_claim
from souq.errors import Refused, SouqError, UsageError, nearest
from souq.governance import POLICY, read_policy
from souq.progress import Progress, quiet
from souq.pulls.pull import PULLS, PullRequest, listed, open_now, read_all, signed_record
from souq.records import Contribution, format_toml
from souq.repo.contribution import DOCUMENTS, SKETCHES, Offer, slug
from souq.repo.landing import touched
from souq.repo.remote import Raced, Repo, give_up
from souq.repo.snapshot import Snapshot
from souq.signing import Person
from souq.text import inert, shortlist
from souq.weights.delta import Delta
from souq.weights.lockfile import format_delta

TRIES = 5  # for a number nobody else takes meanwhile
NEWEST = 20  # pull requests among which one is looked for that a line before it was cut short has made


# -- offering ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    """What somebody wants to offer, before it has a number."""

    contribution: Contribution
    delta: Delta | None = None
    data: Mapping[str, bytes] | None = None
    evals: Mapping[str, bytes] | None = None  # path below evals/ -> bytes
    merge: Mapping[str, Any] | None = None  # the [merge] table it asks for
    more: Mapping[str, bytes] | None = None  # GOVERNANCE.toml, election.toml, release/…, sketches/…, documents/…

    @classmethod
    def of(cls, offer: Offer) -> Draft:
        """What is offered already, to be offered anew."""
        below = {
            kind: {p.removeprefix(kind): d for p, d in offer.files.items() if p.startswith(kind)}
            for kind in ("data/", "evals/")
        }
        others = ("GOVERNANCE", "election", "release/", SKETCHES, DOCUMENTS)
        more = {p: d for p, d in offer.files.items() if p.startswith(others)}
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

    With `checked`, what a machine can refuse at once is refused here, before anything is sent. What is open already,
    byte for byte, is not offered twice: a line that was cut short may be typed again.

    Raises:
        Refused: a check that needs no model says no.
    """
    raced = Raced("")
    for _ in range(TRIES):
        repo.fetch()
        for pull in newest_of(repo, person):
            if (draft(pull.number) if callable(draft) else draft).files() == pull.offer.files:
                return pull
        number = max((pull.number for pull in listed(repo)), default=0) + 1
        try:
            made = draft(number) if callable(draft) else draft
            return _offer(repo, number, made, person, checked=checked, progress=progress)
        except Raced as error:
            raced = error
    raise give_up(raced, f"others keep taking the next number: {raced}", raced.hint)


def newest_of(repo: Repo, person: Person) -> Iterator[PullRequest]:
    """Those of the newest pull requests that this person signed off and that are open, the last one first."""
    main = Snapshot(repo, repo.tip())
    for pull in listed(repo)[: -NEWEST - 1 : -1]:
        with suppress(SouqError):  # whatever cannot be read is not theirs
            if read_all(pull, "signoff", [person.public_key], main) and pull.state(main) == "open":
                yield pull


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
    head = repo.write_commit(
        [main.commit], own, f"{offer.slug}: {inert(draft.contribution.title)}\n", tree_of=main.commit
    )
    if checked:
        refuse_early(Case(main, head, offer, progress))
    refs = {"head": head, "signoff": repo.write_blob(signoff(offer, person, main))}
    tensors = [ref.digest for ref in offer.refs()]
    held = old.refs if old is not None else {}
    repo.publish({f"{PULLS}{number}/{name}": (held.get(name), oid) for name, oid in refs.items()}, tensors, progress)
    return PullRequest(repo, number, {**held, **refs})


def signoff(offer: Offer, person: Person, main: Snapshot) -> bytes:
    """The author's promise about exactly these bytes on this main, signed; on a forge nobody knows the number yet."""
    c = offer.contribution
    promise = {"certificate": "DCO-1.1", "signoff": c.signoff, "licence": c.licence, "at": signing.now()}
    promise |= {"main": main.commit}
    return signed_record("signoff", offer.slug, offer.digest, promise, person)


def refuse_early(case: Case) -> None:
    """Raise all that needs no model and would stop it later.

    Raises:
        Refused: a check says no, or the policy would by what it asks.
    """
    refused = [f"check `{verdict.check}`: {verdict.because}" for verdict in run(case, costly=False) if not verdict]
    if problems := refused or list(_stopped(case)):
        raise Refused("; ".join(problems), hint="nothing was sent; mend it and try again")


def refuse_unknown_fixes(main: Snapshot, fixes: tuple[str, ...]) -> None:
    """Refuse a claim to mend what is not there: its author would wait for checks to say so.

    Raises:
        UsageError: no eval of that name on main.
    """
    if unknown := [name for name in fixes if name not in main.exam]:
        some = shortlist(main.exam, 8) or "none"
        raise UsageError(f"no eval {unknown[0]} on main{nearest(unknown[0], main.exam)}", hint=f"main has {some}")


def _stopped(case: Case) -> Iterator[str]:
    """What `pr merge` would say of these weights, however people vote."""
    if not case.offer.moves_weights:
        return
    scopes, closed = read_policy(case.main.policy_text).scopes(touched(case.offer, case.main))
    if closed:
        yield f"no scope of {POLICY} covers {shortlist(closed, 2)}: by default nobody may change it"
    if any("evals" in scope.checks for scope in scopes) and (because := idle_claim(case)):
        yield f"check `evals`: {because}"

"""Hidden evals: sealed by digest, run by evaluators, revealed when they retire, and every try charged.

Whoever holds a hold-out keeps its folder; main has `evals/<name>/sealed.toml` and no case. An evaluator who was given
the folder runs it and signs a word and a commitment (checks/hidden.py). Revealed, it is an eval like others, and what
was signed can be computed again.

    held = held_by(main, [Path("hold-out")])
    attest(repo, 12, person, held)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from souq.build.model import build
from souq.checks.evals import scores
from souq.checks.hidden import commitment
from souq.errors import NotFound, Refused, SouqError, UsageError
from souq.evals.eval import SEALED, Eval, EvalSpec, Sealed, read_eval, read_folder
from souq.files import replacing
from souq.governance import Policy, read_policy
from souq.progress import Progress, quiet
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.pulls.offer import Draft
from souq.pulls.pull import PullRequest
from souq.records import Checked, Contribution, Digest, Record, format_toml, parse_toml
from souq.repo.contribution import Offer
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person

STRANGERS = "everybody who is not enrolled"
MANY = 5  # times the tries of one author: what all strangers have together, since a new key costs nothing


# -- sealing and revealing ---------------------------------------------------------------------------------------------


def salted(folder: Path) -> dict[str, bytes]:
    """An eval's files with a salt in eval.toml, so that its digest tells nothing; written back to the folder.

    Raises:
        UsageError: it is no eval.
    """
    files = read_folder(folder)
    spec = parse_toml(files["eval.toml"].decode(), EvalSpec, where=f"{folder}/eval.toml")
    if not spec.salt:
        files["eval.toml"] = format_toml(msgspec.structs.replace(spec, salt=secrets.token_hex(32))).encode()
        with replacing(folder / "eval.toml") as partial:
            partial.write_bytes(files["eval.toml"])
    return files


def seal(folder: Path, person: Person) -> Draft:
    """What offers the digest of a hold-out, and nothing else of it."""
    eval_ = read_eval(folder.name, salted(folder))
    sealed = format_toml(Sealed.of(eval_)).encode()
    return Draft(_contribution(f"Seal {eval_.spec.title}", eval_, person), evals={f"{eval_.name}/{SEALED}": sealed})


def reveal(main: Snapshot, folder: Path, person: Person) -> Draft:
    """What offers the cases of a hold-out that retires.

    Raises:
        NotFound: main has no seal with this digest.
    """
    name, eval_ = _opens(main, folder)
    files = {f"{name}/{path}": data for path, data in read_folder(folder).items()}
    return Draft(_contribution(f"Reveal {eval_.spec.title}", eval_, person), evals=files)


def _contribution(title: str, eval_: Eval, person: Person) -> Contribution:
    return Contribution(
        title=title, kind="evals", author=person.author, licence=eval_.spec.licence,
        signoff=f"{person.name} <{person.email}>",
    )  # fmt: skip


def held_by(main: Snapshot, folders: Sequence[Path]) -> dict[str, Eval]:
    """The hold-outs in these folders, by the name of the seal that each opens.

    Raises:
        NotFound: a folder opens no seal of main.
    """
    return dict(_opens(main, folder) for folder in folders)


def _opens(main: Snapshot, folder: Path) -> tuple[str, Eval]:
    files = read_folder(folder)
    for name, sealed in main.sealed.items():
        if (eval_ := read_eval(name, files)).digest == sealed.digest:
            return name, eval_
    hint = f"sealed here: {', '.join(main.sealed) or 'nothing'}; was a byte of it changed since?"
    raise NotFound(f"{folder} opens no seal of main", hint=hint)


# -- tries -------------------------------------------------------------------------------------------------------------


class Account(Record, frozen=True):
    """Whose tries are counted together, how many were made since the oldest seal, and how many there are."""

    name: str
    used: int
    most: int

    @property
    def left(self) -> int:
        return max(0, self.most - self.used)


def accounts(repo: Repo, main: Snapshot) -> list[Account]:
    """The tries of every author and organisation on the hidden evals that main has now.

    A try is one digest of a contribution that an enrolled person ran one of them on, however often.
    """
    policy, most = read_policy(main.policy_text), main.config.checks.tries
    used: dict[str, set[Digest]] = {}
    for pull in pulls.listed(repo):
        with suppress(SouqError):  # what cannot be read was never run
            tried = set(_tried(pull, policy, main))
            for name in charged(pull.offer, policy) if tried else ():
                used.setdefault(name, set()).update(tried)
    return [
        Account(name=name, used=len(tried), most=most * (MANY if name == STRANGERS else 1))
        for name, tried in sorted(used.items())
    ]


def charged(offer: Offer, policy: Policy) -> list[str]:
    """The accounts that a try of this contribution is charged to."""
    author = offer.contribution.author
    enrolled = policy.person_of(author.key)
    org = enrolled.org if enrolled is not None else author.org
    stranger = [f"{author.name} with key …{author.key.split()[1][-12:]}", STRANGERS]
    own = [enrolled.name] if enrolled is not None else stranger
    return [*own, *([f"organisation {org}"] if org else [])]


def _tried(pull: PullRequest, policy: Policy, main: Snapshot) -> Iterator[Digest]:
    """The digests under which it was run on what is sealed now, those it had before it was offered anew among them."""
    seals = {sealed.digest for sealed in main.sealed.values()}
    for checked in pulls.everything_checked(pull, policy):
        for result in _hidden_results(checked):
            if result.get("digest") in seals:
                yield checked.subject


def _hidden_results(checked: Checked) -> Iterator[dict[str, Any]]:
    """What an evaluator signed of each hidden eval: its digest, and the commitment to the scores."""
    for verdict in checked.verdicts:
        if verdict.check == "hidden":
            yield from verdict.evidence.get("evals", {}).values()


def attest(repo: Repo, number: int, person: Person, held: Mapping[str, Eval], progress: Progress = quiet) -> Checked:
    """Run main's checks and its hidden evals on a pull request, and sign what was found.

    Raises:
        Refused: its author, or their organisation, has no try left.
        UsageError: a hold-out of main is not among `held`.
    """
    pull, main = pulls.open_now(repo, number)
    if lack := sorted(main.sealed.keys() - held.keys()):
        raise UsageError(f"the cases of {', '.join(lack)} are not here", hint="name their folders with --hidden")
    if main.sealed and pull.offer.moves_weights:
        refuse_spent(repo, main, pull)
    return reviews.check(repo, number, person, progress, hidden=held)


def refuse_spent(repo: Repo, main: Snapshot, pull: PullRequest) -> None:
    """A hold-out that can be asked without end is a training set.

    Raises:
        Refused: an author or an organisation has used all their tries.
    """
    policy = read_policy(main.policy_text)
    if pull.offer.digest in _tried(pull, policy, main):
        return  # the same bytes again tell nothing new
    spent = {account.name: account for account in accounts(repo, main) if not account.left}
    for name in charged(pull.offer, policy):
        if name in spent:
            most = spent[name].most
            raise Refused(
                f"{name} has used all {most} tries on the hidden evals",
                hint="they begin anew when the hold-outs are revealed and others are sealed",
            )


# -- after it was revealed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rechecked:
    """Whether what an evaluator signed of a hold-out is what comes out now that its cases are known."""

    slug: str
    by: str
    eval: str
    holds: bool


def recheck(main: Snapshot, progress: Progress = quiet) -> Iterator[Rechecked]:
    """Compute again every commitment that landed contributions carry on evals which are revealed by now."""
    shown = {eval_.digest: eval_ for eval_ in main.evals.values()}
    policy = read_policy(main.policy_text)
    for slug, offer in main.offers.items():
        for checked in pulls.landed_checked(main, slug, policy):
            for result in _hidden_results(checked):
                if (eval_ := shown.get(result.get("digest", ""))) is not None:
                    holds = _again(main, checked.base, offer, eval_, progress) == result["values"]
                    yield Rechecked(slug, checked.by, eval_.name, holds)


def _again(main: Snapshot, commit: str, offer: Offer, eval_: Eval, progress: Progress) -> Digest:
    base = Snapshot(main.repo, commit)
    before = scores(base, build(base, progress=progress), {eval_.name: eval_}, progress)[eval_.name]
    after = scores(base, build(base, offer, progress), {eval_.name: eval_}, progress)[eval_.name]
    return commitment(before, after)

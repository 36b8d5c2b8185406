"""`souq hidden`: hold-outs of which main knows the digest, and who has tried how often."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from souq.cli.console import answer, bars, done, json_option, key_option, out, person
from souq.cli.help import VerbGroup
from souq.cli.here import here
from souq.cli.table import table
from souq.errors import UsageError
from souq.pulls import hidden as holdouts
from souq.pulls import offer
from souq.pulls.offer import Draft
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import Person

FOLDER = click.argument("folder", type=click.Path(path_type=Path))
SIGNOFF = click.option(
    "--signoff", is_flag=True, help="You may give this under its licence (developercertificate.org)."
)


@click.group(cls=VerbGroup)
def hidden() -> None:
    """Evals whose cases nobody sees until they retire."""


@hidden.command()
@FOLDER
@SIGNOFF
@key_option
@json_option
def seal(folder: Path, signoff: bool, key: Path | None, as_json: bool) -> None:
    """Offer the digest of the eval in FOLDER, and keep its cases; a salt is written into its eval.toml."""
    repo = here()
    author = _signed_off(repo, signoff, key)
    _offer(repo, holdouts.seal(folder, author), author, as_json)


@hidden.command()
@FOLDER
@SIGNOFF
@key_option
@json_option
def reveal(folder: Path, signoff: bool, key: Path | None, as_json: bool) -> None:
    """Offer the cases of a hold-out that retires: it is an eval like others then, and new ones can be sealed."""
    repo = here()
    author = _signed_off(repo, signoff, key)
    repo.fetch()
    _offer(repo, holdouts.reveal(Snapshot(repo, repo.tip()), folder, author), author, as_json)


def _signed_off(repo: Repo, signoff: bool, key: Path | None) -> Person:
    if not signoff:
        raise UsageError("not signed off", hint="add --signoff: you may give this under its licence")
    return person(repo, key)


def _offer(repo: Repo, draft: Draft, author: Person, as_json: bool) -> None:
    with bars() as progress:
        pull = offer.create(repo, draft, author, progress=progress)
    value = {"number": pull.number, "contribution": pull.offer.slug, "digest": pull.offer.digest}

    def show() -> None:
        out.print(f"#{pull.number} {pull.offer.contribution.title}")
        done(f"digest {pull.offer.digest}\nnext: somebody runs `souq pr checks {pull.number}`")

    answer(value, as_json, show)


@hidden.command("list")
@json_option
def list_(as_json: bool) -> None:
    """What is sealed on main, and whose tries are charged."""
    repo = here()
    repo.refresh()
    main = Snapshot(repo, repo.tip())
    accounts = holdouts.accounts(repo, main)

    def show() -> None:
        if not main.sealed:
            done("nothing is sealed; `souq hidden seal FOLDER --signoff` offers the digest of an eval")
            return
        rows = [[name, seal.kind, seal.cases, seal.digest] for name, seal in main.sealed.items()]
        table(["hidden eval", "kind", "cases", "digest"], rows, right=["cases"])
        if accounts:
            rows = [[account.name[:60], account.used, account.most] for account in accounts]
            table(["who", "tries", "of"], rows, right=["tries", "of"])

    answer({"sealed": main.sealed, "accounts": accounts}, as_json, show)


@hidden.command()
@json_option
def recheck(as_json: bool) -> None:
    """Compute again what evaluators signed on hold-outs revealed by now; exit 3 when something does not hold."""
    repo = here()
    repo.refresh()
    with bars() as progress:
        results = list(holdouts.recheck(Snapshot(repo, repo.tip()), progress))

    def show() -> None:
        if not results:
            done("nothing that landed was run on a hold-out that is revealed by now")
            return
        rows = [[r.slug, r.eval, r.by, "holds" if r.holds else "DOES NOT HOLD"] for r in results]
        table(["contribution", "eval", "evaluator", "what was signed"], rows)

    answer(msgspec.to_builtins(results), as_json, show)
    if not all(result.holds for result in results):
        raise click.exceptions.Exit(3)

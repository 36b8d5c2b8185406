"""`souq release`: say which model this is, with whose signature and which scores."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from souq import releases
from souq.build import build
from souq.checks.evals import scores as evals_of
from souq.cli.console import answer, bars, done, here, json_option, key_option, out, person, table
from souq.cli.offers import offer_about
from souq.cli.pr import show_missing
from souq.snapshot import Snapshot


@click.group()
def release() -> None:
    """Create, list or view releases."""


@release.command()
@click.argument("version")
@click.option("--no-scores", is_flag=True, help="Do not run main's evals first.")
@key_option
@json_option
def create(version: str, no_scores: bool, key: Path | None, as_json: bool) -> None:
    """Score main's model, sign what it builds to, and offer it as VERSION; it lands when main's policy says yes."""
    repo = here()
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    with bars() as progress:
        found = {} if no_scores else evals_of(main, build(main, progress=progress), main.evals, progress)
        scores = {name: round(score.value, 4) for name, score in found.items()}
        who = person(repo, key)
        pull, made = releases.propose(repo, version, scores, who, progress)
        said, commit = releases.settle(repo, pull.number, who, progress)
    value = {"number": pull.number, "release": made, "landed": commit, "missing": said.missing}

    def show() -> None:
        if commit is not None:
            out.print(f"released {made.version}: {made.model}")
            done("next: `souq verify`, `souq export ./out`, `souq corpus make`")
        else:
            out.print(f"#{pull.number} Release {made.version}: {made.model}")
            show_missing(pull.number, said)

    answer(value, as_json, show)


@release.command()
@click.option("--no-scores", is_flag=True, help="Do not run main's evals first.")
@key_option
@json_option
def nightly(no_scores: bool, key: Path | None, as_json: bool) -> None:
    """Sign what main builds to now, beside main: no decision, only what there is tonight."""
    repo = here()
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    with bars() as progress:
        found = {} if no_scores else evals_of(main, build(main, progress=progress), main.evals, progress)
        scores = {name: round(score.value, 4) for name, score in found.items()}
        made = releases.nightly(repo, scores, person(repo, key), progress)
    answer(made, as_json, lambda: out.print(f"{made.version}: {made.model}"))


@release.command()
@click.argument("version")
@click.option("--reason", required=True, help="Why nobody should use it.")
@key_option
@json_option
def yank(version: str, reason: str, key: Path | None, as_json: bool) -> None:
    """Offer to mark a release as one not to be used; it stays, for whoever has it."""
    offer_about("yank", version, reason, key, as_json)


@release.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The releases on main, and the nightlies beside it."""
    repo = here()
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    found = [releases.read(main, version) for version in releases.listed(main)] + releases.nightlies(repo, main)
    rows = [
        [f.release.version, f.release.at, len(f.release.recipe.contributions), f.release.model[:19], f.yanked]
        for f in found
    ]
    value = [msgspec.to_builtins(f.release) | ({"yanked": f.yanked} if f.yanked else {}) for f in found]
    answer(value, as_json, lambda: table(["version", "at", "contributions", "model", "yanked"], rows))


@release.command()
@click.argument("version")
@json_option
def view(version: str, as_json: bool) -> None:
    """One release: its recipe, digest and scores, if its signature holds."""
    repo = here()
    found = releases.read(Snapshot(repo, repo.tip()), version)
    answer(found.release, as_json, lambda: out.print(msgspec.json.format(msgspec.json.encode(found.release)).decode()))

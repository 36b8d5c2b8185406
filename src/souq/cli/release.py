"""`souq release`: say which model this is, with whose signature and which scores."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from souq import releases
from souq.build import build
from souq.checks.evals import scores as evals_of
from souq.cli.console import answer, bars, done, here, json_option, key_option, out, person, table
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
    """Score main's model, sign what it builds to, and put it on main as VERSION."""
    repo = here()
    repo.fetch()
    main = Snapshot(repo, repo.tip())
    with bars() as progress:
        found = {} if no_scores else evals_of(main, build(main, progress=progress), main.evals, progress)
        scores = {name: round(score.value, 4) for name, score in found.items()}
        made = releases.create(repo, version, scores, person(repo, key), progress)
    answer(made, as_json, lambda: out.print(f"released {made.version}: {made.model}"))
    done("next: `souq verify`, `souq export ./out`, `souq corpus make`")


@release.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The releases on main."""
    repo = here()
    main = Snapshot(repo, repo.tip())
    found = [releases.read(main, version).release for version in releases.listed(main)]
    answer(
        found,
        as_json,
        lambda: table(
            ["version", "at", "contributions", "model"],
            [[r.version, r.at, len(r.recipe.contributions), r.model[:19]] for r in found],
        ),
    )


@release.command()
@click.argument("version")
@json_option
def view(version: str, as_json: bool) -> None:
    """One release: its recipe, digest and scores, if its signature holds."""
    repo = here()
    found = releases.read(Snapshot(repo, repo.tip()), version)
    answer(found.release, as_json, lambda: out.print(msgspec.json.format(msgspec.json.encode(found.release)).decode()))

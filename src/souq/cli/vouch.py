"""`souq vouch`: sign for a newcomer's key, take that back, and see who vouches for whom.

souq vouch layla --reason "taught Arabic with her for years"
"""

from __future__ import annotations

from pathlib import Path

import click

from souq.cli.console import answer, done, json_option, key_option, out, person
from souq.cli.here import here
from souq.cli.table import table
from souq.errors import UsageError
from souq.pulls import vouches
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.signing import fingerprint


@click.command()
@click.argument("newcomer", metavar="[KEY|NAME]", required=False)
@click.option("--reason", default="", help="How you know them, for everybody to read.")
@click.option("--withdraw", is_flag=True, help="Take it back: you answer for nothing that they offer later.")
@key_option
@json_option
def vouch(newcomer: str | None, reason: str, withdraw: bool, key: Path | None, as_json: bool) -> None:
    """Sign for a newcomer, by their ssh public key or their name: what they offer counts as yours; without, list."""
    repo = here()
    if newcomer is None:
        if reason or withdraw:
            raise UsageError("for whom?", hint="souq vouch KEY|NAME")
        repo.refresh()
        _list(repo, as_json)
        return
    repo.fetch()
    made = vouches.vouch(repo, vouches.key_of(repo, newcomer), reason, person(repo, key), withdraw=withdraw)
    verb = "no longer vouches" if withdraw else "vouches"
    answer(made, as_json, lambda: out.print(f"{made.by} {verb} for {fingerprint(made.key)}"))


def _list(repo: Repo, as_json: bool) -> None:
    """Every word that stands, and whether it counts."""
    rows = vouches.standing(repo, Snapshot(repo, repo.tip()))

    def show() -> None:
        if not rows:
            done("nobody vouches for anybody; `souq vouch KEY|NAME --reason …` does")
            return
        columns = ("voucher", "key", "since", "counts", "reason")
        table(list(columns), [[row[column] for column in columns] for row in rows])

    answer(rows, as_json, show)

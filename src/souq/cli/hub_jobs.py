"""`souq hub worker` does the jobs of a hub; `souq hub job` asks for one, lists them, shows one, cancels one.

souq hub job add look atlas/smol 7 --data models/.souq-hub
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from souq.cli.console import answer, done, json_option, out
from souq.cli.help import VerbGroup
from souq.cli.hub_accounts import accounts_in, data_option, database_option, kept, operator
from souq.cli.table import table
from souq.hub.catalog import Catalog
from souq.hub.plain.shelf import Shelf
from souq.hub.plain.tidy import Tidy

if TYPE_CHECKING:
    from souq.hub.accounts.store import Accounts
    from souq.hub.jobs.store import Job, Jobs

JOB = click.argument("number", type=click.IntRange(1, 2**31 - 1), metavar="JOB")


@click.group(cls=VerbGroup)
def job() -> None:
    """Work that a hub has done: checks of pull requests, signed by nobody, and models built."""


@job.command("add")
@click.argument("kind", type=click.Choice(["look", "checks", "build"]))
@click.argument("repository")
@click.argument("pull", type=click.IntRange(1, 10**9 - 1), metavar="[PR]", required=False)
@kept
@json_option
def add(accounts: Accounts, kind: str, repository: str, pull: int | None, as_json: bool) -> None:
    """Ask for a job: `look` runs the quick checks of a pull request, `checks` all of them.

    `build` makes the files of the model that it would give, or of main where no pull request is named.
    """
    asked = _jobs(accounts).ask(kind, repository, pull or 0, by=operator())
    answer(asked, as_json, lambda: out.print(f"job {asked.id} {asked.state}"))


@job.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are over, too.")
@kept
@json_option
def list_(accounts: Accounts, everything: bool, as_json: bool) -> None:
    """Jobs that wait or run, the newest first."""
    listed = _jobs(accounts).listed(1_000, going=not everything)
    rows = [[each.id, each.kind, each.about, each.state, each.by, each.because] for each in listed]
    columns = ["job", "kind", "of", "state", "asked by", "because"]
    answer(listed, as_json, lambda: table(columns, rows) if rows else done("no jobs"))


@job.command("show")
@JOB
@kept
@json_option
def show(accounts: Accounts, number: int, as_json: bool) -> None:
    """What a job has written so far, and what it found."""
    jobs = _jobs(accounts)
    shown, (log, result) = jobs.get(number), jobs.said_by(number)

    def printed() -> None:
        out.print(f"{log}\n{result}".strip())
        done(_state(shown))

    answer({"job": shown, "log": log, "result": result}, as_json, printed)


@job.command("cancel")
@JOB
@kept
@json_option
def cancel(accounts: Accounts, number: int, as_json: bool) -> None:
    """Have a job done no more."""
    _jobs(accounts).cancel(number, by=operator())
    answer({"job": number}, as_json, lambda: done(f"job {number} is cancelled"))


@click.command()
@click.option(
    "--repos", "folder", required=True, type=click.Path(path_type=Path), help="The folder that holds the repositories."
)
@click.option("--minutes", type=click.IntRange(1), default=60, show_default=True, help="The most that one job takes.")
@click.option("--gib", type=click.IntRange(1), default=16, show_default=True, help="The most memory, likewise.")
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Somebody enrolled's ssh key, to sign what all checks find; without it, nobody does.",
)  # fmt: skip
@click.option(
    "--papers-key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The hub's own --key, where it has one: to sign how releases that are built were made.",
)  # fmt: skip
@click.option("--url", default="", help="Where the hub is reached: what webhooks are sent has links.")
@click.option("--until-idle", is_flag=True, help="End when nothing waits.")
@data_option
@database_option
def worker(
    folder: Path, minutes: int, gib: int, key: Path | None, papers_key: Path | None, url: str, until_idle: bool,
    data: Path | None, database: str,
) -> None:  # fmt: skip
    """Do the jobs of a hub, the cheap ones first, send to its webhooks, pack its repositories; as many as you like."""
    accounts = accounts_in(data, database)
    from souq.hub.jobs.worker import Bounds, Keys, Worker, commands
    from souq.hub.webhooks.courier import Courier
    from souq.hub.webhooks.store import Hooks

    bounds = Bounds(seconds=60.0 * minutes, memory=gib << 30)
    catalog = Catalog(folder)
    place = data or folder / ".souq-hub"
    courier, tidy = Courier(Hooks(accounts.database), catalog, url.rstrip("/")), Tidy(Shelf(place, catalog))
    how = commands(catalog, place, Keys(key, papers_key))
    Worker(_jobs(accounts), how, bounds, lambda: courier.round() or tidy.round()).run(until_idle=until_idle)


@contextmanager
def beside_it(
    count: int, folder: Path, data: Path, database: str, url: str = "", key: Path | None = None
) -> Iterator[None]:
    """So many workers of a hub, which end with it, however it ends."""
    words = ("souq", "hub", "worker", "--repos", str(folder), "--data", str(data), "--url", url)
    papers = ("--papers-key", str(key.absolute())) if key is not None else ()
    limits = ("souq.hub.jobs.limited", str(os.getpid()), "0", "0", sys.executable)
    # The URL may hold a password, and whoever is on the machine may read the words of a process.
    environment = os.environ | ({"SOUQ_HUB_DATABASE": database} if database else {})
    line = (sys.executable, "-m", *limits, "-m", *words, *papers)
    begun = [subprocess.Popen(line, env=environment, stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for each in begun:
            each.terminate()
        for each in begun:
            each.wait()


def _jobs(accounts: Accounts) -> Jobs:
    from souq.hub.jobs.store import Jobs

    return Jobs(accounts.database)


def _state(shown: Job) -> str:
    return f"job {shown.id} {shown.state}{f': {shown.because}' if shown.because else ''}"

"""`souq queue`: who waits to be merged, in which order, and what became of the others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from souq.cli.console import answer, bars, done, err, json_option, key_option, leave, on_option, out, person
from souq.cli.help import VerbGroup
from souq.cli.here import compute_on, here
from souq.cli.named import PULL
from souq.cli.table import table
from souq.errors import SouqError
from souq.pulls import pull
from souq.pulls import queue as queueing
from souq.pulls.queue import BATCH, numbered
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

COLUMNS = ("#", "title", "author", "since", "state")
LOOK = 2.0  # seconds between two looks of --watch


@click.group(cls=VerbGroup, invoke_without_command=True)
@click.option("--watch", is_flag=True, help="Keep looking, until you stop it.")
@json_option
@click.pass_context
def queue(context: click.Context, watch: bool, as_json: bool) -> None:
    """Who waits to be merged, and what is tested now."""
    if context.invoked_subcommand is not None:
        return
    repo = here()
    if watch:
        _watch(repo)
        return
    rows, now = _look(repo)

    def show() -> None:
        if not rows:
            done("nobody waits; `souq queue add NUMBER` puts a pull request in")
            return
        table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
        waits = any(row["state"] == "ready" for row in rows)
        done(_under_way(now) or ("next: `souq queue run`" if waits else "nothing to test: nobody who waits is ready"))

    answer({"now": now, "queue": rows}, as_json, show)


def _look(repo: Repo) -> tuple[list[dict[str, Any]], queueing.Now | None]:
    repo.refresh()
    main, now = Snapshot(repo, repo.tip()), queueing.now(repo)
    return queueing.rows(repo, main, now), now


def _under_way(now: queueing.Now | None) -> str:
    if now is None:
        return ""
    return f"testing {numbered(now.testing)}: test {now.tests} of a batch begun {now.since}"


def _watch(repo: Repo) -> None:
    leave(repo)
    with Live(console=err, auto_refresh=False, transient=False) as live:
        while True:
            live.update(_picture(*_look(repo)), refresh=True)
            time.sleep(LOOK)


def _picture(rows: list[dict[str, Any]], now: queueing.Now | None) -> RenderableType:
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in COLUMNS:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(row[column])) for column in COLUMNS))
    return Group(made, Text(_under_way(now) or ("nothing is tested now" if rows else "nobody waits"), style="dim"))


@queue.command()
@click.argument("numbers", type=PULL, nargs=-1, required=True)
@click.option("--out-of-turn", is_flag=True, help="Also where others are to be looked at first.")
@key_option
@json_option
def add(numbers: tuple[int, ...], out_of_turn: bool, key: Path | None, as_json: bool) -> None:
    """Put open pull requests at the end of the queue, as they are offered now."""
    repo = here()
    signer = person(repo, key)
    records = {number: queueing.enter(repo, number, signer, out_of_turn=out_of_turn) for number in numbers}

    def show() -> None:
        for number in records:
            out.print(f"#{number} waits")
        done("next: `souq queue run`")

    answer(records, as_json, show)


@queue.command()
@click.argument("number", type=PULL)
@click.option("--reason", default="", help="Why, for everybody to read.")
@key_option
@json_option
def remove(number: int, reason: str, key: Path | None, as_json: bool) -> None:
    """Take a pull request out of the queue again; it stays open."""
    repo = here()
    record = queueing.leave(repo, number, person(repo, key), reason)
    answer(record, as_json, lambda: out.print(f"#{number} waits no more"))


@queue.command()
@click.option("--batch", default=BATCH, show_default=True, help="The most to test together.")
@on_option
@key_option
@json_option
def run(batch: int, on: str | None, key: Path | None, as_json: bool) -> None:
    """Test those that are ready together, find who is in the way, and land the others in one step."""
    repo = here()
    with bars() as progress:
        compute_on(on, repo, progress)
        report = queueing.run(repo, person(repo, key), batch=batch, progress=progress)
    answer(msgspec.to_builtins(report), as_json, lambda: show_report(repo, report))
    if report.refused:
        raise click.exceptions.Exit(3)


def show_report(repo: Repo, report: queueing.Report) -> None:
    """A line for each, in the words of the queue."""
    for number, commit in report.landed.items():
        out.print(f"merged #{number} {_title(repo, number)} as {commit[:12]}")
    for number, because in report.refused.items():
        out.print(f"refused #{number} {_title(repo, number)}: {because}")
    for number, (others, because) in report.apart.items():
        out.print(f"apart #{number} {_title(repo, number)}: passes alone, and fails together with {numbered(others)}")
        out.print(f"  {because}")
        done(f"nobody is to blame; its author can run `souq pr rebase {number}`, then `souq queue add {number}`")
    for number, missing in report.waiting.items():
        out.print(f"waits #{number} {_title(repo, number)}: {missing[0]}")
    done(f"{report.tests} tests of trees")


def _title(repo: Repo, number: int) -> str:
    try:
        return pull.get(repo, number).offer.contribution.title
    except SouqError:
        return ""

"""Tables for people: they fit the terminal, and what has no room there is asked for with --long."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from souq.cli.console import out
from souq.records import spelled_out

long_option = click.option("--long", is_flag=True, help="Every column, however wide: what a file or a pipe gets too.")

COLOURS = {"pass": "green", "eyes": "yellow", "REFUSED": "bold red"}


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = (), extra: Sequence[str] = (),
    long: bool = False,
) -> None:  # fmt: skip
    """A plain table; numbers to the right, no blanks at the ends of lines; verdicts in colour on a terminal.

    On a terminal that is too narrow for all of it, `extra` columns are left out unless it is to be `long`.
    https://no-color.org is heeded.
    """
    watched = sys.stdout.isatty()
    shown = Console(highlight=False, width=None if watched else 160)
    made = _table(columns, rows, right)
    if extra and watched and not long and Measurement.get(shown, shown.options, made).maximum >= shown.width:
        kept = [at for at, column in enumerate(columns) if column not in extra]
        made = _table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows], right)
    with shown.capture() as text:
        shown.print(made)
    for line in text.get().splitlines():
        out.out(line.rstrip(), highlight=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        number = column in right
        made.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in rows:
        made.add_row(*(Text(spelled_out(str(cell)), style=COLOURS.get(cell, "")) for cell in row))
    return made

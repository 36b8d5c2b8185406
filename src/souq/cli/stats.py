"""`souq stats`: how a hub's downloads are shared, and which models are one model under several badges."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from souq.audit import adoption, near_identical
from souq.audit.adoption import Role, Shares
from souq.cli.console import answer, bars, done, json_option, out
from souq.cli.table import table
from souq.errors import UsageError

RIGHT = ["models", "downloads", "never", "top 1%", "top 10%", "Gini"]


@click.command()
@click.argument("what", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--near", is_flag=True, help="WHAT are model folders: say which hold nearly the same weights.")
@click.option(
    "--within",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="With --near: how far apart, over the weights' own norm.",
)
@click.option(
    "--by",
    default="",
    type=click.Choice(["", "year", "organisation"]),
    help="Shares within each year or organisation too.",
)
@click.option("--most", default=20, show_default=True, type=click.IntRange(1), help="Groups shown, the largest first.")
@click.option("--svg", "svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw Lorenz's curve there.")
@click.option("--downloads", help="The column of downloads, where it has a name of its own.")
@click.option("--id", "id_", help="The column of models' names.")
@click.option("--author", help="The column of organisations.")
@click.option("--created", help="The column of when a model was made.")
@json_option
def stats(
    what: tuple[Path, ...], near: bool, within: float, by: Literal["year", "organisation", ""], most: int,
    svg: Path | None, downloads: str | None, id_: str | None, author: str | None, created: str | None, as_json: bool,
) -> None:  # fmt: skip
    """How downloads are shared in a table of models (CSV, JSONL or Parquet), or with --near which models are alike."""
    if near:
        _near(what, within, as_json)
        return
    if len(what) != 1:
        raise UsageError("one table at a time", hint="for model folders, say `souq stats --near FOLDER FOLDER`")
    named: dict[Role, str | None] = {"downloads": downloads, "id": id_, "author": author, "created": created}
    _shares(what[0], {role: name for role, name in named.items() if name is not None}, by, most, svg, as_json)


def _shares(
    path: Path,
    names: dict[Role, str],
    by: Literal["year", "organisation", ""],
    most: int,
    svg: Path | None,
    as_json: bool,
) -> None:
    read = adoption.read_table(path, names)
    adopted = adoption.adoption(read, by=by, most=most)
    if svg is not None:
        svg.write_text(adoption.picture(read))

    def show() -> None:
        rows = [_row(group) for group in (adopted.whole, *adopted.groups)]
        table([by or "models of", *RIGHT], rows, right=RIGHT)
        if adopted.grouped > len(adopted.groups):
            done(f"{adopted.grouped:,} {by}s; the {len(adopted.groups)} with most downloads are shown")
        done(f"read as {', '.join(f'{role}: {name}' for role, name in adopted.columns.items())}")
        if bad := {why: count for why, count in adopted.faults.items() if count}:
            done(f"left out of {adopted.rows:,} rows: {', '.join(f'{count:,} {why}' for why, count in bad.items())}")
        done(f"note: {adopted.note}")

    answer(adopted, as_json, show)


def _row(group: Shares) -> list[str]:
    parts = [f"{share:.1%}" for share in (group.never, group.top_1, group.top_10)]
    return [group.name, f"{group.models:,}", f"{group.downloads:,.0f}", *parts, f"{group.gini:.3f}"]


def _near(folders: tuple[Path, ...], within: float, as_json: bool) -> None:
    with bars() as progress:
        crowd = near_identical.crowd(folders, within=within, progress=progress)

    def show() -> None:
        for cluster in crowd.clusters:
            out.print(f"{len(cluster.models)} of one kind: {', '.join(cluster.models)}")
            for pair in cluster.pairs:
                out.print(f"  {pair.one} and {pair.other}: {pair.how}, {pair.distance:.2g} apart")
        done(f"{crowd.models} models, {crowd.kinds} different within {within:g}")

    answer(crowd, as_json, show)

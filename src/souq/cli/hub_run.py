"""`souq hub doctor`, `backup`, `restore`, `init`: a hub that runs for years, and somewhere else when it must."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from souq.cli.console import answer, bars, done, json_option, out
from souq.errors import UsageError
from souq.hub.running.unit import CONTAINER, UNIT, Machine, container, unit
from souq.optional import needs

if TYPE_CHECKING:
    from souq.hub.running.doctor import Finding

repos_option = click.option(
    "--repos", type=click.Path(path_type=Path), required=True, help="The folder that holds the repositories."
)
data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="What the hub keeps; .souq-hub there by default."
)
database_option = click.option(
    "--database", default="", envvar="SOUQ_HUB_DATABASE", help="Its database's URL, where it is none in that folder."
)


@click.command()
@repos_option
@data_option
@database_option
@click.option("--deep", is_flag=True, help="Also look through every repository for what is missing.")
@json_option
def doctor(repos: Path, data: Path | None, database: str, deep: bool, as_json: bool) -> None:
    """Say what is wrong with a hub, and what to do about it; change nothing. Exit 3 when something is."""
    with needs("sqlalchemy", "hub"), needs("alembic", "hub"):
        from souq.hub.running.doctor import looked_at
    findings = list(looked_at(repos, data or repos / ".souq-hub", database, deep=deep))
    answer([asdict(finding) for finding in findings], as_json, partial(_show, findings))
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(3)


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        out.print(f"{'ok   ' if finding.ok else 'WRONG'} {finding.what}: {finding.because}")
    wrong = sum(not finding.ok for finding in findings)
    out.print(f"{wrong} wrong" if wrong else "all is well")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@repos_option
@data_option
@database_option
@json_option
def backup(file: Path, repos: Path, data: Path | None, database: str, as_json: bool) -> None:
    """Write all of a hub that cannot be made again into FILE, a tar; the hub may run meanwhile.

    It holds hashes of passwords and tokens: keep it as the hub's data is kept.
    """
    with needs("sqlalchemy", "hub"), needs("alembic", "hub"):
        from souq.hub.database import Database, url_in
        from souq.hub.running.backup import backup as taken
    place = data or repos / ".souq-hub"
    if not repos.is_dir():
        raise UsageError(f"no folder {repos}", hint="name the folder that holds model repositories")
    with bars() as progress:
        kept = taken(repos, place, Database(database or url_in(place)), file, progress)
    answer(asdict(kept), as_json, partial(_kept, f"{file}: ", kept))
    done(f"next: souq hub restore {file} --repos SOMEWHERE")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@repos_option
@data_option
@database_option
@json_option
def restore(file: Path, repos: Path, data: Path | None, database: str, as_json: bool) -> None:
    """Bring a backup back into a folder that is not there yet, every file compared with what was kept."""
    with needs("sqlalchemy", "hub"), needs("alembic", "hub"):
        from souq.hub.running.backup import restore as brought
    with bars() as progress:
        kept = brought(file, repos, data or repos / ".souq-hub", database, progress)
    answer(asdict(kept), as_json, partial(_kept, f"{repos}: ", kept))
    done(f"next: souq hub doctor --deep --repos {repos}, then souq hub --repos {repos}")


def _kept(where: str, kept: Any) -> None:
    out.print(
        f"{where}{kept.files:,} files, {kept.bytes:,} bytes, {kept.rows:,} rows of accounts and what belongs to them"
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--repos", default="/srv/souq/models", show_default=True, help="Where the repositories are to lie.")
@click.option("--data", default="/srv/souq/data", show_default=True, help="Where the hub is to keep what it keeps.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8_000, show_default=True, help="Where it is to listen.")
@click.option("--url", default="", help="The address people reach it by: https://hub.example.")
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="How many answer.")
@json_option
def init(folder: Path, repos: str, data: str, port: int, url: str, processes: int, as_json: bool) -> None:
    """Write a unit for systemd and a file that makes a container into FOLDER."""
    machine = Machine(repos=repos, data=data, port=port, url=url, processes=processes, version=version("souq"))
    for word in (repos, data, url):
        if any(letter.isspace() or letter in '"\\%$' for letter in word):
            raise UsageError(f"not for a unit: {word!r}", hint="name folders without blanks, quotes, % and $")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {UNIT: unit(machine), CONTAINER: container(machine)}
    for name, text in texts.items():
        (folder / name).write_text(text)
    answer(
        {"files": sorted(texts)}, as_json, lambda: out.print("\n".join(str(folder / name) for name in sorted(texts)))
    )
    done("each says in its first line what to type next")

"""`souq-conformance`: bad histories any verifier must reject and good ones it must accept, written, run and counted."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click
import msgspec

from souq.cli import say
from souq.errors import SouqError
from souq_conformance import suite
from souq_conformance.cases import CASES
from souq_conformance.codes import CODES


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="souq")
def conformance() -> None:
    """Histories a verifier of model repositories must reject or accept; docs/conformance.md says how to bring yours."""


@conformance.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1)
def build(folder: Path, names: tuple[str, ...]) -> None:
    """Write the cases (all, or those NAMED) into a new FOLDER, and cases.json."""
    made = suite.build(folder, names)
    click.echo(f"{folder / suite.INDEX}: {len(made)} cases")


@conformance.command()
@click.option("--command", "line", default=suite.SOUQ, show_default=True, help="The verifier; {repo} is its folder.")
@click.option("--cases", type=click.Path(path_type=Path), help="A folder that `build` wrote; made anew if not given.")
@click.option("--only", multiple=True, metavar="NAME", help="This case; again for more.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="one a core", help="How many to ask at once.")
@click.option("--in-process", is_flag=True, help="souq itself, without a process for each case.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def run(line: str, cases: Path | None, only: tuple[str, ...], jobs: int, in_process: bool, as_json: bool) -> None:
    """Ask a verifier about every case; exit 3 when one is judged otherwise than it must be."""
    suite.chosen(only)
    verifier = suite.in_process if in_process else suite.Command(line)
    with tempfile.TemporaryDirectory() as temporary:
        folder = cases or Path(temporary) / "cases"
        if cases is None:
            suite.build(folder, only)
        results = suite.run(folder, verifier, only, jobs)
    wrong = [result for result in results if not result.named]
    if as_json:
        cases_judged = [
            {"name": r.asked.name, "right": r.right, "named": r.named, "codes": sorted(r.answer.codes or ())}
            for r in results
        ]
        click.echo(msgspec.json.encode({"summary": suite.summary(results), "cases": cases_judged}))
    else:
        for result in wrong:
            click.echo(str(result))
        click.echo(suite.summary(results))
    if not all(r.right if r.answer.codes is None else r.named for r in results):
        click.get_current_context().exit(3)


@conformance.command("list")
def list_() -> None:
    """Every case: its name, why it must be rejected, and what it holds."""
    for case in CASES.values():
        click.echo(f"{case.name:48} {case.reason or 'good':18} {case.says}")


@conformance.command()
def codes() -> None:
    """The reasons a verifier may name."""
    for code, says in CODES.items():
        click.echo(f"{code:18} {says}")


def main() -> None:
    """What the shell calls."""
    try:
        code = conformance.main(prog_name="souq-conformance", standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except SouqError as error:
        say(f"Error: {error}", error.hint)
        code = error.exit_code
    sys.exit(code if isinstance(code, int) else 0)

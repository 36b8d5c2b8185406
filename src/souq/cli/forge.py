"""`souq forge`: the workflow for a forge, and the two verbs it types."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import click

from souq.cli.console import answer, bars, done, json_option, key_option, out, person
from souq.cli.help import VerbGroup
from souq.cli.here import here
from souq.errors import UsageError
from souq.pulls import forge as forges
from souq.pulls import forge_comment as comments
from souq.pulls.forge import Answer
from souq.records import read_record
from souq.repo.git import MAIN
from souq.repo.remote import Repo

KINDS = {
    "github": {"KIND": "github", "RUNS_ON": "ubuntu-latest", "CONTAINER": "", "LOGIN": "github-actions[bot]"},
    "forgejo": {
        "KIND": "forgejo", "RUNS_ON": "docker", "LOGIN": "forgejo-actions",
        "CONTAINER": "\n    container:\n      image: docker.io/library/python:3.12-bookworm",
    },
}  # fmt: skip


@click.group(cls=VerbGroup)
def forge() -> None:
    """Work with pull requests of GitHub, Forgejo or Gitea."""


@forge.command()
@click.argument("kind", type=click.Choice(sorted(KINDS)))
def init(kind: str) -> None:
    """Write the workflow that checks a forge's pull requests; into main's root where nothing has landed yet."""
    repo = here()
    path = f".{kind}/workflows/souq.yml"
    text = workflow(kind)
    if began := _root(repo, path, text):
        out.print(path)
        done(f"it is in main's root, which is {began} now\nnext: `souq push URL`")
        return
    target = (repo.root or Path.cwd()) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    out.print(path)
    done("main moves by pull requests only, so it is not committed; docs/forges.md says where to put it")


def workflow(kind: str) -> str:
    """The workflow of one kind of forge."""
    text = (files("souq") / "workflow.yml").read_text()
    for word, value in (KINDS[kind] | {"VERSION": version("souq")}).items():
        text = text.replace(f"@{word}@", value)
    return text


def _root(repo: Repo, path: str, text: str) -> str:
    """Begin main again with the workflow in it, where it is only a root that nobody has seen; else nothing."""
    main = repo.commit(MAIN)
    if repo.remote is not None or len(repo.history(main)) != 1 or not repo.is_clean():
        return ""
    return repo.begin_again(main, {path: text.encode()})


@forge.command()
@click.argument("number", type=int)
@click.option("--head", required=True, help="The commit to check, or a ref of the remote.")
@key_option
@json_option
def check(number: int, head: str, key: Path | None, as_json: bool) -> None:
    """Adopt the forge's pull request NUMBER and run main's checks on it; exit 3 when something refuses it."""
    repo = here()
    with bars() as progress:
        judged = forges.check(repo, number, head, person(repo, key), progress)
    answer(judged, as_json, lambda: out.print(comments.render(judged), end=""))
    if not judged:
        raise click.exceptions.Exit(3)


@forge.command()
@click.argument("number", type=int)
@click.argument("report", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--as", "login", required=True, help="Who the token comments as; another's comment is left alone.")
def comment(number: int, report: Path, login: str) -> None:
    """Say what `souq forge check --json` found under the forge's pull request NUMBER; exit 3 when it was a no.

    GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN say where, as they do in a workflow.
    """
    judged = read_record(report.read_bytes(), Answer, where=str(report))
    if judged.forge != number:
        raise UsageError(f"{report} is about #{judged.forge}, not #{number}", hint="name the report of this one")
    variables = {name: os.environ.get(f"GITHUB_{name}", "") for name in ("API_URL", "REPOSITORY", "TOKEN")}
    where = comments.Forge(variables["API_URL"], variables["REPOSITORY"], variables["TOKEN"], login)
    out.print(f"{comments.post(where, number, comments.render(judged))} #{number}")
    if not judged:
        raise click.exceptions.Exit(3)

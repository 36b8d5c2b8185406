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
from souq.model import hub_client
from souq.model.hub_client import Target
from souq.pulls import forge as forges
from souq.pulls import forge_comment as comments
from souq.pulls import hub_pull
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
HUB = "huggingface"


@click.group(cls=VerbGroup)
def forge() -> None:
    """Work with pull requests of GitHub, Forgejo, Gitea or a Hugging Face hub."""


@forge.command()
@click.argument("kind", type=click.Choice([*sorted(KINDS), HUB]))
def init(kind: str) -> None:
    """Write the workflow that checks a forge's pull requests; into main's root where nothing has landed yet."""
    repo = here()
    if kind == HUB:
        _init_hub(repo)
        return
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


def _init_hub(repo: Repo) -> None:
    """The script of a Job, and what starts it; they are for whoever has the hub's token, and no part of main."""
    target = (repo.root or Path.cwd()) / ".huggingface"
    target.mkdir(parents=True, exist_ok=True)
    for name, source in (("souq-check.sh", "hub_check.sh"), ("start.py", "hub_start.txt")):
        text = (files("souq") / source).read_text().replace("@VERSION@", version("souq"))
        (target / name).write_text(text)
        out.print(f".huggingface/{name}")
    done("next: python .huggingface/start.py ORG/NAME GIT_URL; docs/forges.md says what it needs")


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
@click.option("--head", help="The commit to check, or a ref of the remote.")
@click.option("--hub", metavar="ORG/NAME", help="It is one of this repository of the hub of HF_ENDPOINT.")
@key_option
@json_option
def check(number: int, head: str | None, hub: str | None, key: Path | None, as_json: bool) -> None:
    """Adopt the forge's pull request NUMBER and run main's checks on it; exit 3 when something refuses it."""
    if (head is None) == (hub is None):
        raise UsageError("either --head or --hub", hint="--head COMMIT on a forge, --hub ORG/NAME on a hub")
    repo = here()
    with bars() as progress:
        who = person(repo, key)
        if hub is not None:
            judged = hub_pull.check(repo, hub_client.client(), Target(hub, "model"), number, who, progress)
        else:
            judged = forges.check(repo, number, str(head), who, progress)
    answer(judged, as_json, lambda: out.print(comments.render(judged), end=""))
    if not judged:
        raise click.exceptions.Exit(3)


@forge.command()
@click.argument("number", type=int)
@click.argument("report", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--as", "login", help="Who the token comments as; another's comment is left alone.")
@click.option("--hub", metavar="ORG/NAME", help="It is one of this repository of the hub of HF_ENDPOINT.")
def comment(number: int, report: Path, login: str | None, hub: str | None) -> None:
    """Say what `souq forge check --json` found under the forge's pull request NUMBER; exit 3 when it was a no.

    GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN say where, as they do in a workflow; on a hub, HF_TOKEN who.
    """
    if (login is None) == (hub is None):
        raise UsageError("either --as or --hub", hint="--as LOGIN on a forge, --hub ORG/NAME on a hub")
    judged = read_record(report.read_bytes(), Answer, where=str(report))
    if judged.forge != number:
        raise UsageError(f"{report} is about #{judged.forge}, not #{number}", hint="name the report of this one")
    if hub is not None:
        did = hub_pull.post(hub_client.client(), Target(hub, "model"), number, comments.render(judged))
        out.print(f"{did} #{number}")
    else:
        out.print(f"{_posted(judged, str(login))} #{number}")
    if not judged:
        raise click.exceptions.Exit(3)


def _posted(judged: Answer, login: str) -> str:
    variables = {name: os.environ.get(f"GITHUB_{name}", "") for name in ("API_URL", "REPOSITORY", "TOKEN")}
    where = comments.Forge(variables["API_URL"], variables["REPOSITORY"], variables["TOKEN"], login)
    return comments.post(where, judged.forge, comments.render(judged))

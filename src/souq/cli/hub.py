"""`souq hub`: model repositories in a browser, and by the API that Hugging Face's clients speak."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import click

from souq.cli.console import answer, done, json_option, out
from souq.cli.help import VerbGroup
from souq.cli.hub_accounts import account, audit, org, token
from souq.cli.hub_jobs import beside_it, job, worker
from souq.errors import UsageError
from souq.hub.catalog import Catalog
from souq.optional import needs
from souq.signing import Person, private_of

DATA = ".souq-hub"


@click.group(cls=VerbGroup, invoke_without_command=True)
@click.option("--repos", "folder", type=click.Path(path_type=Path), help="The folder that holds the repositories.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8_000, show_default=True, help="0 takes any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--data", type=click.Path(path_type=Path), help=f"What the hub keeps; {DATA} in the folder by default.")
@click.option("--database", default="", envvar="SOUQ_HUB_DATABASE", help="The URL of a PostgreSQL to keep accounts in.")
@click.option("--url", default="", help="Where others reach it, as https://hub.example: what they sign in to.")
@click.option("--open-registration", "is_open", is_flag=True, help="Anybody may open an account.")
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="That do its jobs.")
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An enrolled person's ssh key, to sign how releases were made; without it, nobody does.",
)  # fmt: skip
@json_option
@click.pass_context
def hub(context: click.Context, /, folder: Path | None, as_json: bool, **how: Any) -> None:
    """Serve the model repositories in a folder: to browsers, and to every client of Hugging Face's.

    It decides nothing: what it says of models is read from git and the store.
    """
    if context.invoked_subcommand is None:
        _serve(_catalog(folder), as_json, **how)


for verb in (account, token, org, audit, job, worker):
    hub.add_command(verb)


def _catalog(folder: Path | None) -> Catalog:
    if folder is None:
        raise UsageError("no folder of repositories", hint="souq hub --repos FOLDER")
    return Catalog(folder)


def _serve(
    catalog: Catalog, as_json: bool, *, port: int, host: str, data: Path | None, key: Path | None, workers: int,
    **ways: Any,
) -> None:  # fmt: skip
    with needs("starlette", "hub"), needs("uvicorn", "hub"), needs("sqlalchemy", "hub"):
        import uvicorn

        from souq.hub.app import Ways, application
    person = Person(name="the hub", email="", key=private_of(key)) if key is not None else None
    kept_in = (data or catalog.root / DATA).absolute()
    app = application(catalog, kept_in, person, Ways(**ways))
    with _listening(host, port) as listener, beside_it(workers, catalog.root, kept_in, ways["database"]):
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        entries = catalog.entries()
        value = {"url": url, "repositories": [entry.name for entry in entries if not entry.problem]}
        answer(value, as_json, lambda: out.print(f"{url}: {len(value['repositories'])} repositories"))
        for entry in entries:
            if entry.problem:
                done(f"{entry.name} cannot be read: {entry.problem}")
        config = uvicorn.Config(app, log_level="warning", server_header=False, date_header=True)
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2_048
        )
        # Connections inherit it: without, the second part of an answer waits 40 ms until its reader has said a word.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        hint = "choose another --port or --host; --port 0 takes any free port"
        raise UsageError(f"cannot listen at {host}, port {port}: {error.strerror or error}", hint=hint) from error

"""`souq hub`: model repositories in a browser, and by the API that Hugging Face's clients speak."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import click

from souq.cli.console import answer, done, json_option, out
from souq.cli.help import VerbGroup
from souq.cli.hub_accounts import account, audit, org, token
from souq.cli.hub_jobs import beside_it, job, worker
from souq.cli.hub_run import backup, doctor, init, restore
from souq.cli.hub_webhooks import webhook
from souq.errors import UsageError
from souq.files import beside
from souq.hub.catalog import Catalog
from souq.optional import needs

DATA = ".souq-hub"


@click.group(cls=VerbGroup, invoke_without_command=True)
@click.option("--repos", "folder", type=click.Path(path_type=Path), help="The folder that holds the repositories.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8_000, show_default=True, help="0 takes any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--data", type=click.Path(path_type=Path), help=f"What the hub keeps; {DATA} in the folder by default.")
@click.option("--database", default="", envvar="SOUQ_HUB_DATABASE", help="The URL of a PostgreSQL to keep accounts in.")
@click.option(
    "--url",
    default="",
    envvar="SOUQ_HUB_URL",
    help="Where others reach it, as https://hub.example: what they sign in to.",
)
@click.option("--open-registration", "is_open", is_flag=True, help="Anybody may open an account.")
@click.option("--open-bugs", "takes_bugs", is_flag=True, help="Anybody may report a bug.")
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="That do its jobs.")
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An enrolled person's ssh key, to sign how releases were made; without it, nobody does.",
)  # fmt: skip
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many answer.")
@click.option(
    "--grace",
    type=click.IntRange(0, 3_600),
    default=30,
    show_default=True,
    help="Seconds for what runs when it is to stop.",
)
@click.option("--logs", is_flag=True, help="A line of JSON on stderr for each request.")
@json_option
@click.pass_context
def hub(context: click.Context, /, folder: Path | None, as_json: bool, **how: Any) -> None:
    """Serve the model repositories in a folder: to browsers, and to every client of Hugging Face's.

    It decides nothing: what it says of models is read from git and the store.
    """
    if context.invoked_subcommand is None:
        _serve(_catalog(folder), as_json, **how)


for verb in (account, token, org, audit, job, worker, doctor, backup, restore, init, webhook):
    hub.add_command(verb)


def _catalog(folder: Path | None) -> Catalog:
    if folder is None:
        raise UsageError("no folder of repositories", hint="souq hub --repos FOLDER")
    return Catalog(folder)


def _serve(
    catalog: Catalog, as_json: bool, *, port: int, host: str, data: Path | None, key: Path | None, workers: int,
    processes: int, grace: int, logs: bool, **ways: Any,
) -> None:  # fmt: skip
    with (
        needs("starlette", "hub"),
        needs("uvicorn", "hub"),
        needs("sqlalchemy", "hub"),
        needs("prometheus_client", "hub"),
    ):
        import uvicorn

        from souq.hub.app import Ways
        from souq.hub.database import Database, url_in
        from souq.hub.running.settings import APP, Settings
    place = (data or catalog.root / DATA).absolute()
    settings = Settings(str(catalog.root), str(place), str(key.absolute()) if key else "", Ways(**ways), logs)
    settings.refuse_odd()
    settings.publish()
    Database(ways["database"] or url_in(place)).close()  # brought to this version once, before several ask it
    working = beside_it(workers, catalog.root, place, ways["database"], ways["url"], key)
    with _listening(host, port) as listener, working:
        here = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        entries = catalog.entries()
        value = {"url": here, "repositories": [entry.name for entry in entries if not entry.problem]}
        answer(value, as_json, lambda: out.print(f"{here}: {len(value['repositories'])} repositories"))
        for entry in entries:
            if entry.problem:
                done(f"{entry.name} cannot be read: {entry.problem}")
        config = uvicorn.Config(
            APP, factory=True, log_level="info" if logs else "warning", log_config=None,
            access_log=False, server_header=False, date_header=True, timeout_graceful_shutdown=grace, workers=processes,
        )  # fmt: skip
        _run(config, listener, place)


def _run(config: Any, listener: socket.socket, place: Path) -> None:
    """Until somebody says stop: then what is being answered is answered, for as long as there is grace."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    if config.workers == 1:
        signal.signal(signal.SIGTERM, lambda *_: None)  # which uvicorn raises again when all is answered
        uvicorn.Server(config).run(sockets=[listener])
        return
    with beside(place / "figures") as figures:  # what each process counts, added up by who is asked
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(figures)
        Multiprocess(config, sockets=[listener]).run()


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

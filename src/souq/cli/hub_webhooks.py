"""`souq hub webhook`: whom a hub tells of pull requests, verdicts and releases, said by whoever runs it.

souq hub webhook add https://ci.example/souq --repo atlas/smol --data models/.souq-hub
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from souq.cli.console import answer, done, json_option, out
from souq.cli.help import VerbGroup
from souq.cli.hub_accounts import kept, operator
from souq.cli.table import table

if TYPE_CHECKING:
    from souq.hub.accounts.store import Accounts


@click.group(cls=VerbGroup)
def webhook() -> None:
    """Whom a hub tells what is new, by a signed POST."""


@webhook.command()
@click.argument("url")
@click.option("--repo", "repository", default="", help="Of this repository alone.")
@click.option(
    "--event", "events", multiple=True, type=click.Choice(["pulls", "verdicts", "releases"]), help="Of these alone."
)
@click.option("--internal", is_flag=True, help="It may be an address that only this machine's network has.")
@kept
@json_option
def add(accounts: Accounts, url: str, repository: str, events: tuple[str, ...], internal: bool, as_json: bool) -> None:
    """Tell URL what is new from now on; prints the secret that what is sent is signed with, once."""
    words = {"events": events} if events else {}
    made = _hooks(accounts).add(url, by=operator(), repository=repository, is_internal=internal, **words)

    def printed() -> None:
        out.print(made.secret)
        done(f"webhook {made.id}: X-Hub-Signature-256 is HMAC-SHA256 of the body with this secret, shown only now")

    answer(made, as_json, printed)


@webhook.command("list")
@kept
@json_option
def list_(accounts: Accounts, as_json: bool) -> None:
    """Each of them, and why the last one did not come."""
    listed = [replace(each, secret="") for each in _hooks(accounts).every()]
    rows = [
        [each.id, each.url, each.repository or "all", each.events, "ended" if each.ended else each.tries, each.because]
        for each in listed
    ]
    columns = ["webhook", "url", "repository", "events", "failed tries", "because"]
    answer(listed, as_json, lambda: table(columns, rows) if rows else done("no webhooks"))


@webhook.command()
@click.argument("number", type=click.IntRange(1, 2**31 - 1), metavar="WEBHOOK")
@kept
@json_option
def remove(accounts: Accounts, number: int, as_json: bool) -> None:
    """Have one be told no more."""
    _hooks(accounts).remove(number, by=operator())
    answer({"webhook": number}, as_json, lambda: done(f"webhook {number} is removed"))


def _hooks(accounts: Accounts) -> Any:
    from souq.hub.webhooks.store import Hooks

    return Hooks(accounts.database)

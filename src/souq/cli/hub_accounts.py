"""`souq hub account`, `token`, `org`, `audit`: who may change something on a hub, said by whoever runs it.

They write where the hub keeps it, whether one is running or not; one that runs sees it at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

from souq.cli.console import answer, done, json_option, out
from souq.cli.help import VerbGroup
from souq.cli.table import table
from souq.errors import UsageError
from souq.optional import needs

if TYPE_CHECKING:
    from souq.hub.accounts.store import Accounts

F = TypeVar("F", bound=Callable[..., Any])
Scope = Literal["read", "write", "admin"]
NAME = click.argument("name")

data_option = click.option(
    "--data", type=click.Path(path_type=Path), envvar="SOUQ_HUB_DATA", help="The folder in which the hub keeps it."
)
database_option = click.option(
    "--database", default="", envvar="SOUQ_HUB_DATABASE", help="Its database's URL, where it is none in that folder."
)


def kept(verb: F) -> F:
    """A verb that is given the hub's accounts: --data or --database says where they are."""

    @data_option
    @database_option
    @wraps(verb)
    def opened(data: Path | None, database: str, **words: Any) -> Any:
        return verb(accounts=accounts_in(data, database), **words)

    return cast(F, opened)


def accounts_in(data: Path | None, database: str) -> Accounts:
    """The accounts of a hub.

    Raises:
        UsageError: nothing says which hub's.
    """
    if data is None and not database:
        hint = "name it with --data: FOLDER/.souq-hub, where the hub was started with --repos FOLDER"
        raise UsageError("which hub is not said", hint=hint)
    with needs("sqlalchemy", "hub"), needs("alembic", "hub"), needs("argon2", "hub"):
        from souq.hub.accounts.store import Accounts
        from souq.hub.database import Database, url_in
    return Accounts(Database(database or url_in(data or Path())))


def operator() -> Any:
    from souq.hub.accounts.trail import OPERATOR

    return OPERATOR


def _password(from_stdin: bool) -> str:
    """A new password: a line of stdin, or asked for twice without being shown."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask for a password on", hint="give it in a line by --password-stdin")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


stdin_option = click.option("--password-stdin", "from_stdin", is_flag=True, help="Read the password from a line.")


@click.group(cls=VerbGroup)
def account() -> None:
    """Who may sign in."""


@account.command("add")
@NAME
@click.option("--email", default="", help="Shown to nobody else.")
@click.option("--no-password", is_flag=True, help="It is opened by a token or an ssh key alone.")
@stdin_option
@kept
@json_option
def add(accounts: Accounts, name: str, email: str, no_password: bool, from_stdin: bool, as_json: bool) -> None:
    """Open an account."""
    accounts.add(name, by=operator(), email=email, password="" if no_password else _password(from_stdin))
    answer({"name": name}, as_json, lambda: done(f"{name} has an account"))


@account.command("list")
@kept
@json_option
def list_(accounts: Accounts, as_json: bool) -> None:
    """Every account, and of what it is."""
    every = accounts.every()

    def show() -> None:
        rows = [[each.name, each.disabled or "open", ", ".join(each.organisations), len(each.keys)] for each in every]
        table(["account", "disabled", "of", "keys"], rows, right=["keys"])

    answer(every, as_json, show)


@account.command()
@NAME
@click.option("--undo", is_flag=True, help="Open it again.")
@kept
@json_option
def disable(accounts: Accounts, name: str, undo: bool, as_json: bool) -> None:
    """Close an account: neither password nor key nor token opens it."""
    accounts.set_disabled(name, not undo, by=operator())
    answer({"name": name, "disabled": not undo}, as_json, lambda: done(f"{name} is {'open' if undo else 'closed'}"))


@account.command()
@NAME
@stdin_option
@kept
@json_option
def password(accounts: Accounts, name: str, from_stdin: bool, as_json: bool) -> None:
    """Set another password; whoever was signed in is signed out."""
    accounts.set_password(name, _password(from_stdin), by=operator())
    answer({"name": name}, as_json, lambda: done(f"{name} has another password"))


@account.command()
@click.option("--days", type=click.IntRange(1, 90), default=7, show_default=True, help="How long it may be taken.")
@kept
@json_option
def invite(accounts: Accounts, days: int, as_json: bool) -> None:
    """Make an address at which somebody may open an account, once."""
    from souq.hub.accounts import entry

    path = f"/register?invitation={entry.invite(accounts, days, operator())}"
    answer({"path": path}, as_json, lambda: out.print(path))


@click.group(cls=VerbGroup)
def token() -> None:
    """What programs sign in with: `hf auth login`, git, souq."""


@token.command("create")
@NAME
@click.option(
    "--scope", type=click.Choice(["read", "write", "admin"]), default="read", show_default=True, help="What it may do."
)
@click.option("--repository", default="", help="The only one that it is for, as atlas/smol.")
@click.option("--days", type=click.IntRange(1, 3_650), default=365, show_default=True, help="How long it lives.")
@click.option("--title", default="", help="Where it is used, for who lists them.")
@kept
@json_option
def create(
    accounts: Accounts, name: str, scope: Scope, repository: str, days: int, title: str, as_json: bool
) -> None:  # fmt: skip
    """Make a token of an account; it is shown this once."""
    text, made = accounts.mint(name, by=operator(), scope=scope, repository=repository, days=days, title=title)
    value = {"token": text, "id": made.id, "scope": made.scope, "expires": made.expires}

    def show() -> None:
        out.print(text)
        done(f"{made.id}: {made.scope} until {made.expires[:10]}; it is not shown again")

    answer(value, as_json, show)


@token.command("list")
@click.argument("name", default="")
@kept
@json_option
def tokens(accounts: Accounts, name: str, as_json: bool) -> None:
    """Every token, or those of an account; not the tokens themselves, which are kept nowhere."""
    every = accounts.token_list(name)

    def show() -> None:
        rows = [[t.id, t.account, t.title, t.scope, t.repository, t.state, t.expires[:10], t.used] for t in every]
        table(["token", "account", "title", "scope", "for", "state", "expires", "last used"], rows)

    answer(every, as_json, show)


@token.command()
@click.argument("id_", metavar="TOKEN")
@kept
@json_option
def revoke(accounts: Accounts, id_: str, as_json: bool) -> None:
    """Have a token open nothing from now on; named as `list` shows it."""
    gone = accounts.revoke(id_, by=operator())
    answer({"id": gone.id, "account": gone.account}, as_json, lambda: done(f"{gone.id} of {gone.account} is revoked"))


@click.group(cls=VerbGroup)
def org() -> None:
    """Names that several accounts share."""


@org.command("add")
@NAME
@kept
@json_option
def add_organisation(accounts: Accounts, name: str, as_json: bool) -> None:
    """Make an organisation."""
    accounts.add_organisation(name, by=operator())
    answer({"name": name}, as_json, lambda: done(f"{name} is there; `souq hub org join {name} ACCOUNT` adds members"))


@org.command("list")
@kept
@json_option
def organisations(accounts: Accounts, as_json: bool) -> None:
    """Every organisation, and who is of it."""
    every = accounts.organisations()
    rows = [[each.name, ", ".join(each.members)] for each in every]
    answer(every, as_json, lambda: table(["organisation", "members"], rows))


@org.command()
@NAME
@click.argument("member", metavar="ACCOUNT")
@kept
@json_option
def join(accounts: Accounts, name: str, member: str, as_json: bool) -> None:
    """Have an account be of an organisation."""
    accounts.join(name, member, by=operator())
    answer({"organisation": name, "account": member}, as_json, lambda: done(f"{member} is of {name}"))


@org.command()
@NAME
@click.argument("member", metavar="ACCOUNT")
@kept
@json_option
def leave(accounts: Accounts, name: str, member: str, as_json: bool) -> None:
    """Have an account be of an organisation no more."""
    accounts.leave(name, member, by=operator())
    answer({"organisation": name, "account": member}, as_json, lambda: done(f"{member} is no more of {name}"))


@click.command("audit")
@click.argument("about", default="", metavar="[ACCOUNT]")
@click.option("--most", type=click.IntRange(1, 10_000), default=50, show_default=True, help="So many, the newest.")
@kept
@json_option
def audit(accounts: Accounts, about: str, most: int, as_json: bool) -> None:
    """What was changed, by whom, when and from where; by or about one account, where it is named."""
    from souq.hub.accounts.trail import changes

    every = [*changes(accounts.database, most, about)]
    rows = [[each.at, each.by, each.address, each.what, each.about, each.details] for each in every]
    answer(every, as_json, lambda: table(["when", "who", "from", "what", "about", "details"], rows))

"""`souq governance`, `election`, `witness`: who decides, how that changes, and who has seen what."""

from __future__ import annotations

from pathlib import Path

import click

from souq import pulls
from souq.cli.console import answer, done, here, json_option, key_option, out, person, table
from souq.cli.offers import offer
from souq.errors import NotFound, Refused, UsageError, nearest
from souq.governance import POLICY, Election, explain, read_policy
from souq.governance.decide import elected
from souq.governance.policy import format_policy, with_members
from souq.history import change_of
from souq.pulls import now
from souq.records import format_toml
from souq.snapshot import ELECTION, Snapshot
from souq.standing import standing
from souq.witness import witness as sign_main


@click.group()
def governance() -> None:
    """Explain the policy, amend it, or lay down a role."""


@governance.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@json_option
def check(path: Path | None, as_json: bool) -> None:
    """Say GOVERNANCE.toml (main's, or PATH) in words, and warn of what it leaves open."""
    lines = explain(read_policy(_text(path) if path else Snapshot(here(), "main").policy_text))
    answer(lines, as_json, lambda: out.print("\n".join(lines)))


def _text(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="name a GOVERNANCE.toml, or none for main's")
    return path.read_text()


@governance.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--reason", required=True, help="Why, for everybody to read.")
@key_option
@json_option
def amend(path: Path, reason: str, key: Path | None, as_json: bool) -> None:
    """Offer PATH as main's GOVERNANCE.toml: judged by the old policy and by the new one."""
    text = _text(path)
    read_policy(text)  # a policy that could never work is refused before anybody reads it
    offer(here(), reason, "governance", key, as_json, more={POLICY: text.encode()})


@governance.command()
@click.argument("role", required=False)
@key_option
@json_option
def resign(role: str | None, key: Path | None, as_json: bool) -> None:
    """Lay down ROLE, or all your roles: nobody's leave is needed."""
    repo = here()
    repo.fetch()
    policy = read_policy(Snapshot(repo, repo.tip()).policy_text)
    who = policy.person_of(person(repo, key).public_key)
    if who is None:
        raise Refused("your key is not enrolled here, so there is nothing to lay down")
    held = [found for found in policy.role if who.name in found.members and role in (None, found.name)]
    if not held:
        raise UsageError(f"{who.name} does not hold {role or 'any role'}", hint="see `souq governance check`")
    left = policy
    for found in held:
        left = with_members(left, found.name, [name for name in found.members if name != who.name])
    text = format_policy(left)
    read_policy(text)
    title = f"{who.name} resigns from {', '.join(found.name for found in held)}"
    offer(repo, title, "governance", key, as_json, more={POLICY: text.encode()})


@click.group()
def election() -> None:
    """Fill a role by ballots."""


@election.command("open")
@click.argument("role")
@click.option(
    "--candidate", "candidates", multiple=True, required=True, help="Somebody who may be chosen; again for more."
)
@click.option("--closes", required=True, help="Until when ballots count: 2026-12-01T00:00:00Z, in UTC.")
@key_option
@json_option
def open_(role: str, candidates: tuple[str, ...], closes: str, key: Path | None, as_json: bool) -> None:
    """Offer an election for ROLE; its electors cast ballots until it closes, then anybody enrolled merges it."""
    repo = here()
    repo.fetch()
    policy = read_policy(Snapshot(repo, repo.tip()).policy_text)
    roles = [found.name for found in policy.role if found.elected_by]
    if role not in roles:
        raise UsageError(
            f"{role!r} is no role that is elected{nearest(role, roles)}", hint="see `souq governance check`"
        )
    told = Election(role=role, candidates=candidates, closes=closes)
    offer(repo, f"Election of {role}", "election", key, as_json, more={ELECTION: format_toml(told).encode()})


@election.command()
@click.argument("number", type=int)
@click.argument("choices", nargs=-1, required=True)
@key_option
def ballot(number: int, choices: tuple[str, ...], key: Path | None) -> None:
    """Approve of one or more candidates of election NUMBER; your last ballot counts."""
    repo = here()
    cast = pulls.ballot(repo, number, choices, person(repo, key))
    out.print(f"ballot for {', '.join(cast.choices)} by {cast.by}")


@election.command()
@click.argument("number", type=int)
@json_option
def count(number: int, as_json: bool) -> None:
    """Count the ballots of election NUMBER, as everybody will; exit 3 while it is open or undecided."""
    repo = here()
    repo.fetch()
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, number)
    policy = read_policy(main.policy_text)
    told = pull.told(policy)
    change = change_of(pull.offer, main)
    change = type(change)(**{**change.__dict__, "ballots": tuple(told.ballots)})
    found = elected(policy, change, now=now(), standing=standing(repo, main.commit))

    def show() -> None:
        rows = list(zip(found.winners, found.approvals, strict=True))
        table(["elected", "approvals"], rows, right=["approvals"])

    answer({"winners": found.winners, "approvals": found.approvals, "missing": found.missing}, as_json, show)
    if found.missing:
        done(f"missing: {found.missing[0]}")
        raise click.exceptions.Exit(3)
    done(f"next: souq pr merge {number}")


@click.command()
@key_option
@json_option
def witness(key: Path | None, as_json: bool) -> None:
    """Sign that you have seen main as it is now: a rewritten or forked history will show."""
    repo = here()
    seen = sign_main(repo, person(repo, key))
    answer({"commit": seen}, as_json, lambda: out.print(f"witnessed main at {seen[:12]}"))

"""`souq governance`, `election`, `witness`: who decides, how that changes, and who has seen what."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from souq import signing
from souq.cli.console import answer, done, json_option, key_option, out, person
from souq.cli.help import VerbGroup
from souq.cli.here import here, main_here
from souq.cli.named import PULL
from souq.cli.offers import offer
from souq.cli.table import table
from souq.cli.together import together
from souq.errors import NotFound, Refused, UsageError, nearest
from souq.governance import POLICY, Election, Policy, Role, Who, read_policy
from souq.governance.decide import elected
from souq.governance.explain import explain
from souq.governance.policy import edited, is_date
from souq.governance.rehearsal import locked_out, rehearsed
from souq.pulls import pull as pulls
from souq.pulls import reviews
from souq.records import format_toml
from souq.repo.contribution import ELECTION
from souq.repo.history import change_of
from souq.repo.policy_state import policy_state
from souq.repo.snapshot import Snapshot
from souq.repo.witnessing import witness as sign_main
from souq.signing import Person
from souq.text import decoded, shortlist


@click.group(cls=VerbGroup)
def governance() -> None:
    """Explain the policy, amend it, or lay down a role."""


@governance.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@json_option
def check(path: Path | None, as_json: bool) -> None:
    """Say GOVERNANCE.toml (main's, or PATH) in words, and warn of what it leaves open.

    Each kind of change is played as everybody, and with each organisation gone: who is locked out is told, and what to
    type.
    """
    policy = read_policy(_text(path) if path else main_here().policy_text)
    lines = [*explain(policy), *rehearsed(policy, signing.now())]
    answer(lines, as_json, lambda: out.print("\n".join(lines)))


def _text(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="name a GOVERNANCE.toml, or none for main's")
    return decoded(path.read_bytes(), str(path))


@governance.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--reason", required=True, help="Why, for everybody to read.")
@key_option
@json_option
def amend(path: Path, reason: str, key: Path | None, as_json: bool) -> None:
    """Offer PATH as main's GOVERNANCE.toml: judged by the old policy and by the new one."""
    text = _text(path)
    policy = read_policy(text)  # a policy that could never work is refused before anybody reads it
    for lock in locked_out(policy, signing.now()):
        done(f"locked out: {lock}; {lock.way_out}")
    offer(here(), reason, "governance", key, as_json, more={POLICY: text.encode()})


@governance.command()
@click.argument("role", required=False)
@key_option
@json_option
def resign(role: str | None, key: Path | None, as_json: bool) -> None:
    """Lay down ROLE, or all your roles: nobody's leave is needed."""
    repo = here()
    repo.fetch()
    text = Snapshot(repo, repo.tip()).policy_text
    member, held = _roles_held(read_policy(text), person(repo, key), role)
    for each in held:
        text = edited(text, each.name, [name for name in each.members if name != member.name])
    read_policy(text)
    title = f"{member.name} resigns from {', '.join(each.name for each in held)}"
    offer(repo, title, "governance", key, as_json, more={POLICY: text.encode()})


def _roles_held(policy: Policy, person: Person, role: str | None) -> tuple[Who, list[Role]]:
    """Who somebody is to the policy, and their roles, or the one that is named."""
    member = policy.person_of(person.public_key)
    if member is None:
        raise Refused("your key is not enrolled here, so there is nothing to lay down")
    held = [each for each in policy.role if member.name in each.members and role in (None, each.name)]
    if not held:
        raise UsageError(f"{member.name} does not hold {role or 'any role'}", hint="see `souq governance check`")
    return member, held


@click.group(cls=VerbGroup)
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
    together(
        partial(_refuse_unelected, policy, role), partial(_refuse_unenrolled, policy, candidates),
        partial(_refuse_undated, closes),
    )  # fmt: skip
    opened = Election(role=role, candidates=candidates, closes=closes)
    offer(repo, f"Election of {role}", "election", key, as_json, more={ELECTION: format_toml(opened).encode()})


def _refuse_unelected(policy: Policy, role: str) -> None:
    roles = [each.name for each in policy.role if each.elected_by]
    if role not in roles:
        hint = "see `souq governance check`"
        raise UsageError(f"{role!r} is no role that is elected{nearest(role, roles)}", hint=hint)


def _refuse_unenrolled(policy: Policy, candidates: tuple[str, ...]) -> None:
    names = [each.name for each in policy.person]
    if unknown := [name for name in candidates if name not in names]:
        hint = f"enrolled are {shortlist(names, 8)}"
        raise UsageError(f"nobody enrolled is called {unknown[0]}{nearest(unknown[0], names)}", hint=hint)


def _refuse_undated(closes: str) -> None:
    if not is_date(closes):
        raise UsageError(f"--closes {closes} is no date", hint="write it in UTC, like 2026-12-01T00:00:00Z")


@election.command()
@click.argument("number", type=PULL)
@click.argument("choices", nargs=-1, required=True)
@key_option
def ballot(number: int, choices: tuple[str, ...], key: Path | None) -> None:
    """Approve of one or more candidates of election NUMBER; your last ballot counts."""
    repo = here()
    cast = reviews.ballot(repo, number, choices, person(repo, key))
    out.print(f"ballot for {', '.join(cast.choices)} by {cast.by}")


@election.command()
@click.argument("number", type=PULL)
@json_option
def count(number: int, as_json: bool) -> None:
    """Count the ballots of election NUMBER, as everybody will; exit 3 while it is open or undecided."""
    repo = here()
    repo.refresh()
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, number)
    policy = read_policy(main.policy_text)
    change = replace(change_of(pull.offer, main), ballots=tuple(pull.signed_records(policy).ballots))
    result = elected(policy, change, now=signing.now(), state=policy_state(repo, main.commit))

    def show() -> None:
        rows = list(zip(result.winners, result.approvals, strict=True))
        table(["elected", "approvals"], rows, right=["approvals"])

    answer({"winners": result.winners, "approvals": result.approvals, "missing": result.missing}, as_json, show)
    if result.missing:
        done(f"missing: {result.missing[0]}")
        click.get_current_context().exit(3)
    done(f"next: souq pr merge {number}")


@click.command()
@key_option
@json_option
def witness(key: Path | None, as_json: bool) -> None:
    """Sign that you have seen main as it is now: a rewritten or forked history will show."""
    repo = here()
    seen = sign_main(repo, person(repo, key))
    answer({"commit": seen}, as_json, lambda: out.print(f"witnessed main at {seen[:12]}"))

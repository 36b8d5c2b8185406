"""`souq bug`: file a case that fails, and see which are open and which are being fixed."""

from __future__ import annotations

from pathlib import Path

import click

from souq.cli.console import answer, bars, done, json_option, key_option, out, person
from souq.cli.help import VerbGroup
from souq.cli.here import here
from souq.cli.reports import read_report
from souq.cli.table import table
from souq.errors import UsageError
from souq.licences.table import refuse_unknown, spelled
from souq.pulls import bugs, offer
from souq.pulls.offer import Draft
from souq.repo.snapshot import Snapshot


@click.group(cls=VerbGroup)
def bug() -> None:
    """A bug is a case that the model gets wrong."""


@bug.command("file")
@click.argument("prompt", required=False)
@click.option("--from", "address", help="What somebody reported on a hub, by its address, in place of a prompt.")
@click.option("--digest", help="What you have read of it; refused if it is something else by now.")
@click.option("--expected", default="", help="The right answer, or what the checker looks for.")
@click.option(
    "--checker", default="", help="How an answer is judged: numeric, contains, regex, … Unless told, exactly."
)
@click.option("--title", default="", help="In a few words; the prompt itself unless told.")
@click.option("--source", default="", help="Where the right answer is to be found.")
@click.option("--licence", "--license", default="CC0-1.0", show_default=True, help="Of the case: an SPDX name.")
@click.option("--signoff", is_flag=True, help="You may give this under that licence (developercertificate.org).")
@key_option
@json_option
def file_(
    prompt: str | None, address: str | None, digest: str | None, signoff: bool, key: Path | None, as_json: bool,
    **about: str,
) -> None:  # fmt: skip
    """Offer a case that main gets wrong, as a bug that a pull request can say it fixes."""
    repo = here()
    author = person(repo, key)
    case = {"prompt": prompt or "", **about}
    if address is not None:
        if prompt or about["expected"]:
            raise UsageError("both a report and a case of your own", hint="leave out PROMPT and --expected")
        case |= read_report(repo, address, digest)
    if not case["prompt"] or not case["expected"]:
        raise UsageError("no case", hint="souq bug file PROMPT --expected ANSWER --signoff")
    if not signoff:
        raise UsageError("not signed off", hint="add --signoff: you may give this under that licence")
    refuse_unknown(case["licence"])
    case["licence"] = spelled(case["licence"])

    def drafted(number: int) -> Draft:
        return bugs.drafted(number, author=author.author, **case)

    with bars() as progress:
        pull = offer.create(repo, drafted, author, progress=progress)
    value = {"number": pull.number, "name": f"bug-{pull.number}", "digest": pull.offer.digest}

    def show() -> None:
        out.print(f"bug-{pull.number} {pull.offer.contribution.title.removeprefix('Bug: ')}")
        done(f"digest {pull.offer.digest}\nnext: somebody runs `souq pr checks {pull.number}`: does main get it wrong?")

    answer(value, as_json, show)


@bug.command("list")
@click.option("--all", "everything", is_flag=True, help="Fixed ones too.")
@json_option
def list_(everything: bool, as_json: bool) -> None:
    """Bugs that are filed or open, and the pull requests that fix them."""
    repo = here()
    repo.refresh()
    main = Snapshot(repo, repo.tip())
    listed = [filed for filed in bugs.listed(repo, main) if everything or filed.state != "fixed"]

    def show() -> None:
        if not listed:
            done("no open bugs; `souq bug file PROMPT --expected ANSWER --signoff` files one")
            return
        rows = [[b.name, b.state, b.title, b.expected, b.by, b.fix] for b in listed]
        table(["bug", "state", "title", "expected", "by", "fix"], rows)

    answer(listed, as_json, show)

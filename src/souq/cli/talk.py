"""`souq pr try`: ask main, and main with a pull request merged, the same."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from souq.build.model import build
from souq.cli.console import answer, bars, done, json_option, out, starting_lab, table
from souq.cli.here import here
from souq.cli.named import PULL
from souq.errors import UsageError
from souq.pulls import land, reviews
from souq.pulls import pull as pulls
from souq.records import spelled_out
from souq.repo.snapshot import Snapshot

CUT = " …"  # after an answer that did not come to its end


@click.command("try")
@click.argument("number", type=PULL)
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option("--tokens", type=click.IntRange(1), default=64, show_default=True, help="The most to answer with.")
@json_option
def try_(number: int, prompts: tuple[str, ...], tokens: int, as_json: bool) -> None:
    """Ask main, and main with the pull request merged, the same, and see both answers side by side."""
    repo = here()
    repo.refresh()
    main, pull = Snapshot(repo, repo.tip()), pulls.get(repo, number)
    if pull.landed(main):
        raise UsageError(f"#{number} is in main already", hint="`souq chat` asks main")
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab.side_by_side import side_by_side

        reviews.bring(repo, main, pull.offer, progress)
        if (after := land.built_with(main, pull.offer, progress)) is None:
            kind = pull.offer.contribution.kind
            raise UsageError(
                f"#{number} brings {kind}: main's model stays as it is", hint=f"see `souq pr view {number}`"
            )
        pairs = side_by_side(build(main, progress=progress), after, prompts, max_tokens=tokens, progress=progress)
    value = [{**msgspec.to_builtins(pair), "same": pair.same} for pair in pairs]

    def show() -> None:
        for each in value:
            out.print(f"> {spelled_out(each['prompt'])}")
            table(["main", f"main with #{number}"], [[_shown(each["before"]), _shown(each["after"])]])
        if same := sum(each["same"] for each in value):
            done(f"{same} of {len(value)} the same")

    answer(value, as_json, show)


def _shown(completion: dict[str, Any]) -> str:
    return str(completion["text"]) + (CUT if completion["finish"] == "length" else "")

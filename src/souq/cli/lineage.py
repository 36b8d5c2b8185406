"""`souq lineage`: which known model a checkpoint descends from, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from souq.cli.console import answer, done, json_option, table

if TYPE_CHECKING:
    from souq.audit.descent import Descent


@click.command()
@click.argument("checkpoints", nargs=-1, required=True)
@click.option("--known", multiple=True, required=True, help="A model it may descend from: a folder, a .gguf or a hub id; may be repeated.")  # fmt: skip
@json_option
def lineage(checkpoints: tuple[str, ...], known: tuple[str, ...], as_json: bool) -> None:
    """Name the most likely parent of each of CHECKPOINTS, and the kind of descent: a hint, never an accusation."""
    from souq.audit.descent import Model, circle, descent, shipped

    elders = [Model.open(path) for path in known]
    children = [Model.open(path) for path in checkpoints]
    found = [descent(one, elders) for one in children]
    ring = circle([*elders, *children])
    wrong, pairs = shipped().false_alarms

    def show() -> None:
        table(["checkpoint", "kind", "parent", "cosine", "why"], [_row(one) for one in found], right=["cosine"])
        for one in found:
            if one.claim:
                done(f"{one.child}: its card names {one.claim}, its weights do not")
        if ring:
            done(f"cards claim descent in a ring: {' <- '.join(ring)}; one of them is wrong")
        done(f"a hint: of {pairs:,} unrelated pairs {wrong} were called related (bench/descent.py)")

    answer({"descents": found, "ring": ring, "false_alarms": wrong, "unrelated_pairs": pairs}, as_json, show)
    if not all(found):
        raise click.exceptions.Exit(3)


def _row(one: Descent) -> list[str]:
    return [one.child, one.kind, " + ".join(one.parents) or "none known", f"{one.score:.3f}", one.because]

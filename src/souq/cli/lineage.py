"""`souq lineage`: which known model a checkpoint descends from, and how."""

from __future__ import annotations

from pathlib import Path

import click

from souq.audit.descent import Descent, Model, circle, descent, shipped
from souq.audit.tree import drawn
from souq.cli.console import answer, done, json_option
from souq.cli.table import table


@click.command()
@click.argument("checkpoints", nargs=-1, required=True)
@click.option(
    "--known",
    multiple=True,
    required=True,
    help="A model it may descend from: a folder, a .gguf or a hub id; may be repeated.",
)
@click.option("--svg", "picture", type=click.Path(path_type=Path), help="Draw the family here.")
@json_option
def lineage(checkpoints: tuple[str, ...], known: tuple[str, ...], picture: Path | None, as_json: bool) -> None:
    """Name the most likely parent of each of CHECKPOINTS, and the kind of descent: a hint, never an accusation."""
    elders = [Model.open(path) for path in known]
    children = [Model.open(path) for path in checkpoints]
    descents = [descent(child, elders) for child in children]
    ring = circle([*elders, *children])
    wrong, pairs = shipped().false_alarms
    if picture is not None:
        picture.write_text(drawn(descents))

    def show() -> None:
        table(["checkpoint", "kind", "parent", "cosine", "why"], [_row(child) for child in descents], right=["cosine"])
        for child in descents:
            if child.claim:
                done(f"{child.child}: its card names {child.claim}, its weights do not")
        if ring:
            done(f"cards claim descent in a ring: {' <- '.join(ring)}; one of them is wrong")
        if any(child.kind == "fine-tune" for child in descents):
            done("of a full fine-tune the family is sure, the very parent is not: a sibling may stand nearer")
        done(f"a hint: of {pairs:,} unrelated pairs {wrong} were called related (bench/descent.py)")

    answer({"descents": descents, "ring": ring, "false_alarms": wrong, "unrelated_pairs": pairs}, as_json, show)
    if not all(descents):
        raise click.exceptions.Exit(3)


def _row(descent: Descent) -> list[str]:
    return [
        descent.child,
        descent.kind,
        " + ".join(descent.parents) or "none known",
        f"{descent.score:.3f}",
        descent.because,
    ]

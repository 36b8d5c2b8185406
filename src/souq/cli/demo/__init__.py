"""`souq demo`: the whole story on a real model, in one command."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.text import Text

from souq.cli import run
from souq.cli.console import bars, err, out
from souq.cli.demo import page, story
from souq.cli.demo.stage import Stage


@click.command()
@click.option(
    "--out",
    "folder",
    default=Path("souq-demo"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder to play it in.",
)
def demo(folder: Path) -> None:
    """Play the whole story on a real model (SmolLM2-135M-Instruct): pull requests, attacks, release, student."""

    begun = time.monotonic()
    shown, folder = folder, folder.absolute()
    story.clear(folder)
    stage = Stage(
        folder, lambda line: out.print(Text(line, style="bold" if line.startswith("\n##") or "$ " in line else "")), run
    )
    with bars() as progress:
        facts = story.play(stage, progress)
    story.write(facts, folder)
    (folder / "index.html").write_text(page.page(facts))
    out.print(
        Text(
            f"\n{(time.monotonic() - begun) / 60:.1f} minutes. Everything in pictures: {shown / 'index.html'}",
            style="bold",
        )
    )
    err.print("the repositories are in the same folder; `cd` into one and type `souq status`")

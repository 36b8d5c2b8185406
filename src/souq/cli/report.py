"""`souq report`: the repository as a static site, of the pages that a hub shows.

Pages of HTML and SVG that ask nobody for anything: no script runs, nothing is fetched, and every text is escaped.
"""

from __future__ import annotations

from pathlib import Path

import click

from souq.cli.console import answer, bars, done, json_option, out
from souq.cli.here import here
from souq.files import new_folder
from souq.hub.pages.facts import Shown
from souq.hub.pages.site import site


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pictures/--no-pictures", default=True, help="Heat maps of the changes whose tensors are here.")
@json_option
def report(folder: Path, pictures: bool, as_json: bool) -> None:
    """Write this repository as a static site into a new FOLDER: open its index.html."""
    repo = here()
    repo.refresh()
    with bars() as progress, new_folder(folder) as partial:
        for name, text in site(Shown(repo), progress, pictures=pictures):
            (partial / name).write_text(text)
        written = sorted(path.name for path in partial.iterdir())
    answer({"folder": str(folder), "pages": written}, as_json, lambda: out.print(f"{folder}: {len(written)} pages"))
    done(f"next: open {folder / 'index.html'}, or put the folder where pages are served")

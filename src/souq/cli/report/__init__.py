"""`souq report`: the repository as a static site: pull requests, votes, scores over releases, heat maps of changes.

Pages of HTML and SVG that ask nobody for anything: no script runs, nothing is fetched, and every text is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from souq import signing
from souq.chart import Curve, line_chart
from souq.cli.console import answer, bars, done, json_option, out
from souq.cli.here import here
from souq.errors import SouqError
from souq.evals.eval import IN_NATS
from souq.files import new_folder
from souq.markup import rendered
from souq.notebook.pictures import change_map
from souq.notebook.pull_request import PullRequest
from souq.progress import Progress
from souq.pulls import pull as pulls
from souq.pulls.comments import thread
from souq.releases import release as releases
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot
from souq.weights.lockfile import lock_digest

MOST_PAGES, MOST_TITLE = 1_000, 200  # pull requests with a page, the newest; characters of a title in the list


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pictures/--no-pictures", default=True, help="Heat maps of the changes whose tensors are here.")
@json_option
def report(folder: Path, pictures: bool, as_json: bool) -> None:
    """Write this repository as a static site into a new FOLDER: open its index.html."""
    repo = here()
    repo.refresh()
    main = Snapshot(repo, repo.tip())
    with bars() as progress, new_folder(folder) as partial:
        pages = site(repo, main, progress, pictures=pictures)
        for name, text in pages:
            (partial / name).write_text(text)
        written = sorted(path.name for path in partial.iterdir())
    answer({"folder": str(folder), "pages": written}, as_json, lambda: out.print(f"{folder}: {len(written)} pages"))
    done(f"next: open {folder / 'index.html'}, or put the folder where pages are served")


def site(repo: Repo, main: Snapshot, progress: Progress, *, pictures: bool) -> Iterator[tuple[str, str]]:
    """(name, HTML) of each page: one of the whole, and one of each pull request."""
    listed = [PullRequest(repo, main, pull) for pull in pulls.listed(repo)[-MOST_PAGES:]][::-1]
    rows = [pull.row() | {"title": str(pull.row()["title"])[:MOST_TITLE]} for pull in listed]
    for number, pull in enumerate(listed):
        progress("pages", number, len(listed))
        yield f"pr-{pull.number}.html", _page("pull.html", main, **_facts(pull, main, pictures=pictures))
    progress("pages", len(listed), len(listed))
    signed = scored(main)
    yield "index.html", _page(
        "index.html", main, rows=rows, releases=signed, charts=charts(main, signed), model=lock_digest(main.model),
        counts={"contributions": len(main.offers), "evals": len(main.exam), "tensors": len(main.model)},
    )  # fmt: skip


def _facts(pull: PullRequest, main: Snapshot, *, pictures: bool) -> dict[str, Any]:
    """One pull request as its page shows it; what nobody can read is said there, and stops no other page."""
    facts: dict[str, Any] = {"row": pull.row(), "about": None, "picture": "", "missing": [], "problem": ""}
    try:
        facts |= {"about": pull.contribution, "missing": pull.missing}
    except SouqError as error:
        facts["problem"] = str(error)
    facts |= {"checks": pull.checks, "votes": pull.votes, "comments": thread(pull.pull, main)}
    with suppress(SouqError):  # its tensors may be elsewhere
        facts["picture"] = change_map(pull.diff()) if pictures and facts["about"] is not None else ""
    return facts


def scored(main: Snapshot) -> list[dict[str, Any]]:
    """The releases whose signatures hold, the oldest first."""
    rows = []
    for version in main.releases:
        with suppress(SouqError):
            signed = releases.read(main, version)
            rows.append({
                "version": version, "at": signed.release.at, "model": signed.release.model, "yanked": signed.yanked,
                "scores": dict(signed.release.scores),
            })  # fmt: skip
    return sorted(rows, key=lambda row: (row["at"], row["version"]))


def charts(main: Snapshot, signed: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(title, SVG) of the scores over releases: shares of right answers, and nats; none before the second release."""
    units = {name: "nats" if suite.spec.kind in IN_NATS else "right" for name, suite in main.evals.items()}
    titles = {"right": "Share of answers that are right", "nats": "Nats a token: less is better"}
    drawn = []
    for unit, title in titles.items():
        curves = []
        for name in sorted({name for row in signed for name in row["scores"] if units.get(name, "right") == unit}):
            points = [(float(i), row["scores"][name]) for i, row in enumerate(signed, 1) if name in row["scores"]]
            if len(points) > 1:
                curves.append(Curve(name=name, x=tuple(x for x, _ in points), y=tuple(y for _, y in points)))
        if curves:
            marks = [(float(i), row["version"]) for i, row in enumerate(signed, 1) if i in (1, len(signed))]
            drawn.append((title, line_chart(curves, across="release", up=unit, marks=marks)))
    return drawn


def _page(template: str, main: Snapshot, **facts: Any) -> str:
    style = files("souq.cli.report").joinpath("page.css").read_text()
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    shared = {"style": style, "hash": hashed, "main": main, "at": signing.now()}
    return rendered(f"cli/report/{template}", **shared, **facts)

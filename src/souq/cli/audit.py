"""`souq audit`: how open a model is, by evidence; and the tables that others rate by claims."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from souq.audit import evidence, index, mof, page
from souq.audit.evidence import Audit, Cell
from souq.audit.index import DIMENSIONS, MAX_BYTES, Comparison, Ratings
from souq.audit.mof import CLASSES, Mof
from souq.audit.page import SIGNS
from souq.cli.console import answer, bars, done, json_option, out
from souq.cli.help import VerbGroup
from souq.cli.table import long_option, table
from souq.errors import NotFound


class Audits(VerbGroup):
    """`souq audit PATH` is `souq audit show PATH`; a folder called like a verb is written ./table."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options alone are show's, of the folder one stands in."""
        asked = args and args[0] in ("-h", "--help")
        return super().parse_args(ctx, args if asked or (args and args[0] in self.commands) else ["show", *args])


@click.group(cls=Audits)
def audit() -> None:
    """How open a model is, in a repository, an exported release or any Hugging Face folder; or in somebody's table.

    `souq audit PATH` is `souq audit show PATH`."""


@audit.command()
@click.argument("path", default=".", type=click.Path(path_type=Path))
@click.option("--rebuild", is_flag=True, help="Let `souq verify` be evidence: it builds the model again.")
@click.option("--badge", type=click.Path(path_type=Path), help="Write an SVG badge with rubric, date and commit.")
@click.option("--html", type=click.Path(path_type=Path), help="Write everything on one page.")
@long_option
@json_option
def show(path: Path, rebuild: bool, badge: Path | None, html: Path | None, long: bool, as_json: bool) -> None:
    """What the repository, release or model folder at PATH shows of its openness, and what it only claims."""
    with bars() as progress:
        report = evidence.audit(path, today=datetime.now(UTC).date().isoformat(), rebuild=rebuild, progress=progress)
    for place, draw in ((badge, page.badge_svg), (html, page.audit_html)):
        if place is not None:
            place.write_text(draw(report), encoding="utf-8")
    answer(report, as_json, lambda: _show_audit(report, long))


def _show_audit(report: Audit, long: bool) -> None:
    out.print(f"at least {report.lower:g} (verified), at most {report.upper:g} (claimed) of 14")
    verified, claimed = CLASSES[report.mof.best], CLASSES[report.mof_claimed.best]
    out.print(f"MOF: {verified} (verified), {claimed} (claimed); lacking: {'; '.join(report.mof.missing)}")
    out.print(
        f"OSAID: {'; '.join(f'{a.name} {_met(a.verified)} ({_met(a.claimed)} as claimed)' for a in report.osaid)}"
    )
    for measure in report.bazaar:
        out.print(f"bazaar: {measure.name}: {measure.said} (n = {measure.n}; {measure.how})")
    for title, cells in (("dimension", report.cells), ("component", report.components)):
        rows = [[c.name, c.claimed, c.verified, c.status, _proof(c), c.todo] for c in cells]
        out.print()
        table([title, "claimed", "verified", "status", "evidence", "next"], rows, extra=["evidence"], long=long)
    commit = f", {report.commit[:12]}" if report.commit else ""
    done(f"{report.kind} {report.name}, {report.date}{commit}; rubrics {', '.join(report.rubrics)}")


def _met(yes: bool) -> str:
    return "met" if yes else "not met"


def _proof(cell: Cell) -> str:
    if not cell.evidence:
        return "declared" if cell.claimed != "unknown" else "unknown"
    first, *more = cell.evidence
    return f"{first.path} {first.digest[:11]}" + (f" and {len(more)} more" if more else "")


@audit.command("table")
@click.argument("ratings", type=click.Path(path_type=Path))
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    help="Published scores to compare with: model, published_score. Exit 3 where one differs.",
)
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the comparison, coloured.")
@click.option("--html", type=click.Path(path_type=Path), help="The same on a page.")
@json_option
def table_(ratings: Path, models: Path | None, svg: Path | None, html: Path | None, as_json: bool) -> None:
    """The European index's fourteen dimensions, of a table of RATINGS (CSV or YAML): scores, order and a drawing."""
    rated = index.read_ratings(read(ratings), ratings.name)
    compared = index.compare(rated, read(models), models.name) if models is not None else None
    for path, draw in ((svg, page.table_svg), (html, page.table_html)):
        if path is not None:
            path.write_text(draw(rated), encoding="utf-8")
    value: dict[str, Any] = {
        "rubric": rated.rubric, "counts": rated.counts(), "compared": compared,
        "models": [
            {"model": model.model, "score": model.score, "ratings": model.ratings, "unknown": model.unknown}
            for model in rated.rated
        ],
    }  # fmt: skip
    answer(value, as_json, lambda: _show_table(rated, compared))
    if compared is not None and not compared:
        raise click.exceptions.Exit(3)


def _show_table(rated: Ratings, compared: Comparison | None) -> None:
    rows = [
        [model.model, *(SIGNS[model.ratings.get(d, "unknown")] for d in DIMENSIONS), f"{model.score:g}"]
        for model in rated.rated
    ]
    table(["model", *(name[:6] for name in DIMENSIONS), "score"], rows, right=["score"])
    counts = ", ".join(f"{count} {name}" for name, count in rated.counts().items())
    done(f"{rated.rubric}: {counts}; unknown counts 0")
    if compared is not None:
        order = "in" if compared.in_order else "NOT in"
        done(f"{compared.same} of {compared.published} as published, {order} the published order")
        for line in compared.different:
            out.print(f"differs: {line}")


@audit.command("mof")
@click.argument("components", type=click.Path(path_type=Path))
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    help="Classes to compare with: model, class (0 for none). Exit 3 where one differs.",
)
@json_option
def mof_(components: Path, models: Path | None, as_json: bool) -> None:
    """The Model Openness Framework's class of every model in a table of COMPONENTS, and what the next class asks
    for."""
    judged = mof.read_components(read(components), components.name)
    differs = mof.expected(judged, read(models), models.name) if models is not None else None
    answer({"models": judged, "different": differs}, as_json, lambda: _show_mof(judged, differs))
    if differs:
        raise click.exceptions.Exit(3)


def _show_mof(models: list[Mof], differs: list[str] | None) -> None:
    rows = [
        [m.model, CLASSES[m.best], *(f"{m.progress[n]:.0%}" for n in (3, 2, 1)), "; ".join(m.missing)] for m in models
    ]
    table(["model", "class", "III", "II", "I", "the next class asks for"], rows, right=["III", "II", "I"])
    done(", ".join(f"{sum(m.best == level for m in models)} {name}" for level, name in CLASSES.items()))
    if differs is not None:
        done(f"{len(differs)} models differ from the classes given")
    for line in differs or ():
        out.print(f"differs: {line}")


def read(path: Path) -> bytes:
    """A table's bytes, one more than the most that are taken at that.

    Raises:
        NotFound: no such file.
    """
    if not path.is_file():
        raise NotFound(f"no file {path}", hint="name a table: CSV or YAML")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)

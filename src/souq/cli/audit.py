"""`souq audit`: how open a model is, by evidence; and the tables that others rate by claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from souq.audit import evidence, index, mof, page
from souq.audit.evidence import Audit, Cell
from souq.audit.index import DIMENSIONS, MAX_BYTES, Comparison, Ratings
from souq.audit.mof import CLASSES, Mof
from souq.audit.page import SIGNS
from souq.cli.console import answer, bars, done, json_option, out, table
from souq.errors import NotFound


class Audits(click.Group):
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
@json_option
def show(path: Path, rebuild: bool, badge: Path | None, html: Path | None, as_json: bool) -> None:
    """What the repository, release or model folder at PATH shows of its openness, and what it only claims."""
    from datetime import UTC, datetime

    with bars() as progress:
        found = evidence.audit(path, today=datetime.now(UTC).date().isoformat(), rebuild=rebuild, progress=progress)
    for place, draw in ((badge, page.badge_svg), (html, page.audit_html)):
        if place is not None:
            place.write_text(draw(found), encoding="utf-8")
    answer(found, as_json, lambda: _show_audit(found))


def _show_audit(found: Audit) -> None:

    for title, cells in (("dimension", found.cells), ("component", found.components)):
        rows = [[c.name, c.claimed, c.verified, c.status, _proof(c), c.todo] for c in cells]
        table([title, "claimed", "verified", "status", "evidence", "next"], rows)
        out.print()
    out.print(f"at least {found.lower:g} (verified), at most {found.upper:g} (claimed) of 14")
    out.print(f"MOF: {CLASSES[found.mof.best]} (verified), {CLASSES[found.mof_claimed.best]} (claimed); lacking: {'; '.join(found.mof.missing)}")  # fmt: skip
    out.print(f"OSAID: {'; '.join(f'{a.name} {_met(a.verified)} ({_met(a.claimed)} as claimed)' for a in found.osaid)}")
    for one in found.bazaar:
        out.print(f"bazaar: {one.name}: {one.said} (n = {one.n}; {one.how})")
    done(f"{found.kind} {found.name}, {found.date}{f', {found.commit[:12]}' if found.commit else ''}; rubrics {', '.join(found.rubrics)}")  # fmt: skip


def _met(yes: bool) -> str:
    return "met" if yes else "not met"


def _proof(cell: Cell) -> str:
    if not cell.evidence:
        return "declared" if cell.claimed != "unknown" else "unknown"
    first, *more = cell.evidence
    return f"{first.path} {first.digest[:11]}" + (f" and {len(more)} more" if more else "")


@audit.command("table")
@click.argument("ratings", type=click.Path(path_type=Path))
@click.option("--models", type=click.Path(path_type=Path), help="Published scores to compare with: model, published_score. Exit 3 where one differs.")  # fmt: skip
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the comparison, coloured.")
@click.option("--html", type=click.Path(path_type=Path), help="The same on a page.")
@json_option
def table_(ratings: Path, models: Path | None, svg: Path | None, html: Path | None, as_json: bool) -> None:
    """The European index's fourteen dimensions, of a table of RATINGS (CSV or YAML): scores, order and a drawing."""

    found = index.read_ratings(read(ratings), ratings.name)
    compared = index.compare(found, read(models), models.name) if models is not None else None
    for path, draw in ((svg, page.table_svg), (html, page.table_html)):
        if path is not None:
            path.write_text(draw(found), encoding="utf-8")
    value: dict[str, Any] = {
        "rubric": found.rubric, "counts": found.counts(), "compared": compared,
        "models": [{"model": one.model, "score": one.score, "ratings": one.ratings, "unknown": one.unknown} for one in found.rated],
    }  # fmt: skip
    answer(value, as_json, lambda: _show_table(found, compared))
    if compared is not None and not compared:
        raise click.exceptions.Exit(3)


def _show_table(found: Ratings, compared: Comparison | None) -> None:
    rows = [[one.model, *(SIGNS[one.ratings.get(d, "unknown")] for d in DIMENSIONS), f"{one.score:g}"] for one in found.rated]  # fmt: skip
    table(["model", *(name[:6] for name in DIMENSIONS), "score"], rows, right=["score"])
    counts = ", ".join(f"{count} {name}" for name, count in found.counts().items())
    done(f"{found.rubric}: {counts}; unknown counts 0")
    if compared is not None:
        done(f"{compared.same} of {compared.published} as published, {'in' if compared.in_order else 'NOT in'} the published order")  # fmt: skip
        for line in compared.different:
            out.print(f"differs: {line}")


@audit.command("mof")
@click.argument("components", type=click.Path(path_type=Path))
@click.option("--models", type=click.Path(path_type=Path), help="Classes to compare with: model, class (0 for none). Exit 3 where one differs.")  # fmt: skip
@json_option
def mof_(components: Path, models: Path | None, as_json: bool) -> None:
    """The Model Openness Framework's class of every model in a table of COMPONENTS, and what the next class asks for."""

    found = mof.read_components(read(components), components.name)
    differs = mof.expected(found, read(models), models.name) if models is not None else None
    answer({"models": found, "different": differs}, as_json, lambda: _show_mof(found, differs))
    if differs:
        raise click.exceptions.Exit(3)


def _show_mof(found: list[Mof], differs: list[str] | None) -> None:
    rows = [[m.model, CLASSES[m.best], *(f"{m.progress[n]:.0%}" for n in (3, 2, 1)), "; ".join(m.missing)] for m in found]  # fmt: skip
    table(["model", "class", "III", "II", "I", "the next class asks for"], rows, right=["III", "II", "I"])
    done(", ".join(f"{sum(m.best == level for m in found)} {name}" for level, name in CLASSES.items()))
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

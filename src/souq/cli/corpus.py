"""`souq corpus`: a release writes training data, and publishes it like a crawl."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from souq.cli.console import answer, bars, done, json_option, out
from souq.cli.engines import engines
from souq.cli.help import VerbGroup
from souq.cli.here import main_here
from souq.cli.judge import judge_test
from souq.cli.prices import per_million
from souq.cli.qna import export_qna, import_qna
from souq.cli.table import table
from souq.cli.tail import tail
from souq.corpus.main_model import write_edition
from souq.corpus.query import query as ask
from souq.corpus.recipe import recipe_of
from souq.lab.chat import dollars

ENGINES = "transformers, ray:transformers, llama.cpp:FILE.gguf or openai:URL#MODEL"


@click.group(cls=VerbGroup)
def corpus() -> None:
    """Let main's model write training data, with the provenance of every row."""


@corpus.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--temperature", type=float, help="0 is greedy.  [default: the recipe's, or 0]")
@click.option("--samples", type=int, help="Answers a prompt.  [default: the recipe's, or 1]")
@click.option("--max-tokens", type=int, help="The longest answer.  [default: the recipe's, or 32]")
@click.option("--dump", help="Name of this edition.  [default: the recipe's, or 1]")
@click.option("--engine", help=f"{ENGINES}.  [default: the recipe's, or transformers]")
@click.option(
    "--price",
    metavar="IN/OUT",
    help="Dollars a million tokens of answers, as the engine's seller has it; what judges read is not counted.",
)
@json_option
def make(
    recipe: Path, folder: Path, temperature: float | None, samples: int | None, max_tokens: int | None,
    dump: str | None, engine: str | None, price: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Answer seeds, drop the wrong and the repeated, write Parquet; run again to go on.

    RECIPE is TOML, or JSONL of prompts: {prompt, source, licence} and, where it can be checked, checker and expected.
    """
    settings = recipe_of(recipe)
    sampling = msgspec.structs.replace(settings.sampling, **_typed(temperature=temperature, max_tokens=max_tokens))
    typed = _typed(samples=samples, dump=dump, engine=engine)
    settings = msgspec.structs.replace(settings, sampling=sampling, **typed).vetted()
    costs = per_million(price, f"--price {price!r}") if price is not None else (0.0, 0.0)
    with bars() as progress:
        edition = write_edition(main_here(), settings, recipe.parent, folder, progress, price=costs)
    asked, answered = edition.spent["asked"], edition.spent["answered"]
    spent = {"dollars": dollars(asked, answered, costs)} if price is not None else {}

    def show() -> None:
        for subset, count in edition.rows.items():
            out.print(f"{folder}/dump={settings.dump}/subset={subset}: {count} rows")
        for reason, count in edition.rejected.items():
            out.print(f"  rejected, {reason}: {count}")
        if edition.before:
            out.print(f"  since {edition.before}: {edition.new} new, {edition.dropped} dropped")
        out.print(f"  licence: {edition.licence or 'none'}")
        if spent:
            out.print(f"  spent: ${spent['dollars']:,.4f} for {asked:,} tokens asked and {answered:,} answered")
        done(f"next: `souq distill {folder} --layers 10 --out ./student`")

    answer(msgspec.structs.asdict(edition) | spent, as_json, show)


def _typed(**options: Any) -> dict[str, Any]:
    """What was typed stands before what was written."""
    return {name: value for name, value in options.items() if value is not None}


@corpus.command()
@click.argument("sql")
@click.argument("folder", metavar="CORPUS")
@json_option
def query(sql: str, folder: str, as_json: bool) -> None:
    """Ask CORPUS (a folder, or s3://bucket/corpus) in SQL; the views are rows, kept and index."""
    columns, rows = ask(folder, sql)
    answer([dict(zip(columns, row, strict=True)) for row in rows], as_json, lambda: table(columns, rows))
    if not rows and not as_json:
        click.echo("no rows", file=sys.stderr)


corpus.add_command(import_qna)
corpus.add_command(export_qna)
corpus.add_command(tail)
corpus.add_command(judge_test)
corpus.add_command(engines)

"""`souq corpus`: a release writes training data, and publishes it like a crawl."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from souq.build import model as building
from souq.cli.console import answer, bars, done, here, json_option, out, table
from souq.cli.engines import engines
from souq.cli.judge import judge_test
from souq.cli.prices import per_million
from souq.cli.qna import export_qna, import_qna
from souq.cli.tail import tail
from souq.corpus.recipe import Making, Seeds, read_recipe
from souq.evals.eval import Eval, read_eval, read_folder
from souq.lab.chat import dollars
from souq.records import Digest
from souq.releases import main_folder
from souq.repo.snapshot import Snapshot


@click.group()
def corpus() -> None:
    """Let main's model write training data, with the provenance of every row."""


@corpus.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path))
@click.option("--temperature", type=float, help="0 is greedy.  [default: the recipe's, or 0]")
@click.option("--samples", type=int, help="Answers a prompt.  [default: the recipe's, or 1]")
@click.option("--max-tokens", type=int, help="[default: the recipe's, or 32]")
@click.option("--dump", help="Name of this edition.  [default: the recipe's, or 1]")
@click.option("--engine", help="transformers, ray:transformers, llama.cpp:FILE.gguf or openai:URL#MODEL.  [default: the recipe's, or transformers]")  # fmt: skip
@click.option("--price", metavar="IN/OUT", help="Dollars a million tokens of answers, as the engine's seller has it; what judges read is not counted.")  # fmt: skip
@json_option
def make(recipe: Path, folder: Path, temperature: float | None, samples: int | None, max_tokens: int | None, dump: str | None, engine: str | None, price: str | None, as_json: bool) -> None:  # fmt: skip
    """Answer seeds, drop the wrong and the repeated, write Parquet; run again to go on.

    RECIPE is TOML, or JSONL of prompts: {prompt, source, licence} and, where it can be checked, checker and expected.
    """
    found = _with(recipe_of(recipe), temperature, samples, max_tokens, dump, engine)
    costs = per_million(price, f"--price {price!r}") if price is not None else (0.0, 0.0)
    with bars() as progress:
        told = made(found, recipe.parent, folder, progress, price=costs)
    if price is not None:
        told["dollars"] = dollars(told["spent"]["asked"], told["spent"]["answered"], costs)

    def show() -> None:
        for subset, count in told["rows"].items():
            out.print(f"{folder}/dump={found.dump}/subset={subset}: {count} rows", markup=False, highlight=False)
        for reason, count in told["rejected"].items():
            out.print(f"  rejected, {reason}: {count}", markup=False, highlight=False)
        if told["before"]:
            out.print(f"  since {told['before']}: {told['new']} new, {told['dropped']} dropped")
        out.print(f"  licence: {told['licence'] or 'none'}", markup=False, highlight=False)
        if price is not None:
            out.print(f"  spent: ${told['dollars']:,.4f} for {told['spent']['asked']:,} tokens asked and {told['spent']['answered']:,} answered", markup=False, highlight=False)  # fmt: skip
        done(f"next: `souq distill {folder} --layers 10 --out ./student`")

    answer(told, as_json, show)


def recipe_of(path: Path) -> Making:
    """A recipe, or the plain one that a file of prompts stands for."""
    if path.suffix == ".toml":
        return read_recipe(path)
    plain = Making(name=path.stem, seeds=(Seeds(kind="questions", path=path.name),))
    return _with(plain, None, None, 32, None, None).vetted()


def _with(recipe: Making, temperature: float | None, samples: int | None, max_tokens: int | None, dump: str | None, engine: str | None) -> Making:  # fmt: skip
    """What was typed stands before what was written."""
    import msgspec

    drawn = {key: value for key, value in (("temperature", temperature), ("max_tokens", max_tokens)) if value is not None}  # fmt: skip
    typed = {key: value for key, value in (("samples", samples), ("dump", dump), ("engine", engine)) if value is not None}  # fmt: skip
    sampling = msgspec.structs.replace(recipe.sampling, **drawn)
    return msgspec.structs.replace(recipe, sampling=sampling, **typed).vetted()


def made(recipe: Making, base: Path, folder: Path, progress: Any, *, price: tuple[float, float] = (0.0, 0.0)) -> dict[str, Any]:  # fmt: skip
    """One edition, written by main's model."""
    from souq.corpus.make import make as carry_out
    from souq.corpus.make import none_left
    from souq.lab.engines import Transformers
    from souq.lab.writers import writer

    main = Snapshot(here(), "main")
    built = building.build(main, progress=progress)
    teacher = Transformers(built.digest, built.files, built.weights, bf16=True)
    if recipe.engine.startswith("ray:"):  # every machine loads a folder
        teacher = Transformers(built.digest, _exported(main, built.digest, progress), bf16=True)
    with_words = writer(recipe.engine, teacher)
    own = {found.name: found for found in held_out(recipe, base)}
    told = carry_out(
        recipe, base, with_words, folder, licence=main.config.licence, tokenizer=_tokenizer(built.files),
        evals={**main.evals, **own}, progress=progress, price=price,
    )  # fmt: skip
    if nothing := none_left(told):
        raise nothing
    return told


def _exported(main: Snapshot, model: Digest, progress: Any) -> Path:
    """Main's model as a folder in the repository's cache, which every machine of a cluster must see."""
    folder = main.repo.cache / "exported" / model.removeprefix("b3:")
    if not folder.is_dir():
        main_folder.export(main, folder, progress)
    return folder


def held_out(recipe: Making, base: Path) -> list[Eval]:
    """The recipe's own evals."""
    return [read_eval(Path(name).name, read_folder(base / name)) for name in recipe.evals]


def _tokenizer(files: Any) -> str:
    from souq.records import digest

    return digest(files["tokenizer.json"]) if "tokenizer.json" in files else ""


@corpus.command()
@click.argument("sql")
@click.argument("folder", metavar="CORPUS")
@json_option
def query(sql: str, folder: str, as_json: bool) -> None:
    """Ask CORPUS (a folder, or s3://bucket/corpus) in SQL; the views are rows, kept and index."""
    from souq.corpus.query import query as ask

    columns, rows = ask(folder, sql)
    answer([dict(zip(columns, row, strict=True)) for row in rows], as_json, lambda: table(columns, rows))
    if not rows and not as_json:
        click.echo("no rows", file=sys.stderr)


corpus.add_command(import_qna)
corpus.add_command(export_qna)
corpus.add_command(tail)
corpus.add_command(judge_test)
corpus.add_command(engines)

"""`souq corpus engines`: whether other engines write what transformers writes."""

from __future__ import annotations

from pathlib import Path

import click

from souq.cli.console import answer, bars, json_option, out
from souq.corpus.recipe import Seeds
from souq.corpus.seeds import read_seeds
from souq.lab.agreement import agree
from souq.lab.chat import ChatRequest, Message
from souq.lab.writers import Here, writer


@click.command()
@click.argument("prompts", type=click.Path(path_type=Path))
@click.option("--model", "folder", required=True, type=click.Path(path_type=Path), help="A Hugging Face folder.")
@click.option(
    "--with", "specs", required=True, multiple=True, help="openai:URL#MODEL, llama.cpp:FILE.gguf, ray:transformers."
)
@click.option("--max-tokens", default=32, show_default=True, type=click.IntRange(1, 4096), help="The longest answer.")
@click.option("--agree", "least", type=click.FloatRange(0, 1), help="Answer no (exit 3) where a smaller share agrees.")
@json_option
def engines(
    prompts: Path, folder: Path, specs: tuple[str, ...], max_tokens: int, least: float | None, as_json: bool
) -> None:
    """Answer PROMPTS (JSONL) greedily with transformers and with others, and show where they part."""
    seeds = read_seeds(Seeds(kind="questions", path=prompts.name), prompts.parent)
    requests = [ChatRequest(messages=(Message(role="user", content=seed.fields["prompt"]),)) for seed in seeds]
    here = writer("transformers", folder)
    assert isinstance(here, Here)
    others = [writer(spec, folder) for spec in specs]  # all are looked for before the first is asked
    with bars() as progress:
        agreements = [agree(here, other, requests, max_tokens, progress) for other in others]

    def show() -> None:
        for agreement in agreements:
            out.print(f"{agreement.engine}: {agreement.same} of {agreement.cases} answers are those of {here.name}")
            for parting in agreement.partings:
                place = f"prompt {parting.number + 1}, token {parting.at + 1}"
                out.print(f"  {place}: {parting.ours!r}, there {parting.theirs!r}")

    answer(agreements, as_json, show)
    if least is not None and any(agreement.same < least * agreement.cases for agreement in agreements):
        raise click.exceptions.Exit(3)

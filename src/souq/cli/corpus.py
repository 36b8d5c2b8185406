"""`souq corpus`: a release writes training data."""

from __future__ import annotations

from pathlib import Path

import click

from souq import build as building
from souq.cli.console import answer, bars, done, here, json_option, out
from souq.cli.engines import engines
from souq.cli.judge import judge_test
from souq.cli.qna import export_qna, import_qna
from souq.cli.tail import tail
from souq.snapshot import Snapshot


@click.group()
def corpus() -> None:
    """Let main's model write training data, with the provenance of every row."""


@corpus.command()
@click.argument("prompts", type=click.Path(path_type=Path))
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path))
@click.option("--temperature", default=0.0, show_default=True, help="0 is greedy.")
@click.option("--samples", default=1, show_default=True, help="Answers a prompt.")
@click.option("--max-tokens", default=32, show_default=True)
@json_option
def make(prompts: Path, folder: Path, temperature: float, samples: int, max_tokens: int, as_json: bool) -> None:
    """Answer seed PROMPTS (JSONL), drop the wrong and the repeated, write Parquet; run again to go on."""
    from souq.corpus import make as making

    seeds = making.read_prompts(prompts)
    main = Snapshot(here(), "main")
    from souq.lab import model as lab_model

    with bars() as progress:
        built = building.build(main, progress=progress)
        lm = lab_model.load(built.files, built.weights)
        sampling = making.Sampling(temperature=temperature, max_tokens=max_tokens, samples=samples)
        told = making.make(
            lm, seeds, folder, teacher=built.digest, licence=main.config.licence, sampling=sampling, progress=progress
        )

    def show() -> None:
        for name, facts in told["files"].items():
            out.print(f"{folder}/{name}: {facts['rows']} rows")
        for reason, count in told["rejected"].items():
            out.print(f"  rejected, {reason}: {count}")
        done(f"next: `souq distill {folder} --layers 10 --out ./student`")

    answer(told, as_json, show)


corpus.add_command(import_qna)
corpus.add_command(export_qna)
corpus.add_command(tail)
corpus.add_command(judge_test)
corpus.add_command(engines)

"""`souq corpus judge-test`: how often a judge is wrong."""

from __future__ import annotations

from pathlib import Path

import click

from souq.cli.console import answer, bars, done, json_option, out
from souq.corpus.judges import measure, read_judge
from souq.lab.writers import writer


@click.command("judge-test")
@click.argument("judge", type=click.Path(path_type=Path))
@click.option("--model", "folder", type=click.Path(path_type=Path), help="A Hugging Face folder.")
@click.option(
    "--engine", "spec", default="transformers", show_default=True, help="Or openai:URL#MODEL, llama.cpp:FILE.gguf."
)
@json_option
def judge_test(judge: Path, folder: Path | None, spec: str, as_json: bool) -> None:
    """Measure JUDGE (TOML) on its gold labels; the answer is no (exit 3) where always saying the same is as good."""
    with bars() as progress:
        report = measure(read_judge(judge), writer(spec, folder), progress)

    def show() -> None:
        out.print(f"{report.line}, by {report.by}")
        precision, recall = _share(report.precision), _share(report.recall)
        out.print(f"precision {precision}, recall {recall}, undecided {report.undecided}")
        chance = f"p {report.p:.3g} of beating that by chance"
        out.print(f"always saying the same is wrong on {report.majority_error:.1%}; {chance}")
        done(f"it {'beats' if report.beats_majority else 'is not shown to beat'} always saying the same")

    answer({"report": report, "beats_majority": report.beats_majority}, as_json, show)
    if not report.beats_majority:
        raise click.exceptions.Exit(3)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

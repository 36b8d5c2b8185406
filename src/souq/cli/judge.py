"""`souq corpus judge-test`: how often a judge is wrong."""

from __future__ import annotations

from pathlib import Path

import click

from souq.cli.console import answer, bars, done, json_option, out


@click.command("judge-test")
@click.argument("judge", type=click.Path(path_type=Path))
@click.option("--model", "folder", type=click.Path(path_type=Path), help="A Hugging Face folder.")
@click.option("--engine", "spec", default="transformers", show_default=True, help="Or openai:URL#MODEL, llama.cpp:FILE.gguf.")  # fmt: skip
@json_option
def judge_test(judge: Path, folder: Path | None, spec: str, as_json: bool) -> None:
    """Measure JUDGE (TOML) on its gold labels; the answer is no (exit 3) where always saying the same is as good."""
    from souq.corpus import judges
    from souq.lab.writers import writer

    read = judges.read_judge(judge)
    with bars() as progress:
        found = judges.measure(read, writer(spec, folder), progress)

    def show() -> None:
        out.print(f"{found.line}, by {found.by}")
        out.print(f"precision {_share(found.precision)}, recall {_share(found.recall)}, undecided {found.undecided}")
        out.print(f"always saying the same is wrong on {found.majority_error:.1%}; p {found.p:.3g} of beating that by chance")  # fmt: skip
        done("it beats always saying the same" if found.beats_majority else "it is not shown to beat always saying the same")  # fmt: skip

    answer({"report": found, "beats_majority": found.beats_majority}, as_json, show)
    if not found.beats_majority:
        raise click.exceptions.Exit(3)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

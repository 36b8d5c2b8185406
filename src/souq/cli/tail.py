"""`souq corpus tail`: what of real text's rare things a corpus still has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from souq.cli.console import answer, bars, done, json_option, starting_lab
from souq.cli.table import table
from souq.corpus import dump, tails
from souq.corpus.seeds import DOCUMENTS
from souq.errors import NotFound
from souq.repo.rows import read_rows
from souq.text import decoded

PATH, SHARE = click.Path(path_type=Path), click.FloatRange(0, 1)
SHOWN = {
    "types": "different words", "rare_kept": "rare words kept", "cover": "pairs of words kept",
    "distinct_2": "distinct pairs", "distinct_3": "distinct triples", "zipf": "Zipf slope of the tail",
    "vendi": "unlike texts (Vendi)",
}  # fmt: skip


@click.command()
@click.argument("corpus", type=PATH)
@click.option(
    "--against", "real", required=True, type=PATH, help="Real text: JSONL of rows, or a .txt with a text a line."
)
@click.option(
    "--keep", type=SHARE, help="Answer no (exit 3) where less of the rare is left, of what its size could hold."
)
@click.option(
    "--mauve", is_flag=True, help="Also how far both cover what the other means: MAUVE, by sentence embeddings."
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, (1 << 31) - 1), help="By which samples are drawn."
)
@json_option
def tail(corpus: Path, real: Path, keep: float | None, mauve: bool, seed: int, as_json: bool) -> None:
    """Compare CORPUS (a folder of `souq corpus make`, JSONL or .txt) with real text, size for size."""
    texts, real_texts = texts_of(corpus), texts_of(real)
    report = tails.compare(texts, real_texts, seed=seed)
    meant = _mauve(texts, real_texts, seed) if mauve else None

    def show() -> None:
        here, again = report.corpus, report.ceiling
        rows = [[name, _number(getattr(here, key)), _number(getattr(again, key))] for key, name in SHOWN.items()]
        if meant is not None:
            rows.append([f"MAUVE, of {meant.texts:,} texts", _number(meant.corpus), _number(meant.ceiling)])
        columns = ["corpus", "real, drawn again"]
        table([f"in {here.words:,} words", *columns], rows, right=columns)
        rare = f"{report.rare:,} rare words (at most {report.rare_at_most} times in the real text)"
        done(f"of {rare}, {report.kept:.0%} of what that size can hold is left")

    answer({"report": report, "kept": report.kept, **({"mauve": meant} if meant else {})}, as_json, show)
    if keep is not None and report.kept < keep:
        raise click.exceptions.Exit(3)


def _mauve(texts: list[str], real: list[str], seed: int) -> Any:
    with bars() as progress:
        with starting_lab(progress):
            from souq.lab.mauve import compare

        return compare(texts, real, seed=seed, progress=progress)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def texts_of(path: Path) -> list[str]:
    """What was written, not what was asked: of a conversation the assistant's turns.

    Raises:
        NotFound: neither a corpus, nor JSONL, nor text.
        UsageError: text that is not UTF-8, or a line that is no row.
    """
    if path.is_dir():
        return [_written(row) for row in dump.read_rows(path)]
    if not path.is_file():
        raise NotFound(f"no file or folder {path}", hint="name a corpus, JSONL of rows, or a .txt")
    if path.suffix.lower() in DOCUMENTS:
        return decoded(path.read_bytes(), str(path)).splitlines()
    return [_written(row) for row in read_rows(path)]


def _written(row: dict[str, Any]) -> str:
    turns = [turn["content"] for turn in row.get("messages") or () if turn["role"] == "assistant"]
    return "\n".join(turns) or row.get("text") or row.get("completion") or ""

"""`souq compare`: models side by side on your own cases, so that swapping one is a decision and not a project."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from souq.audit.compare import Measured, duties, measured, price, untied
from souq.cli.console import answer, bars, json_option, out
from souq.cli.here import main_here
from souq.cli.prices import per_million
from souq.cli.table import table
from souq.cli.together import together
from souq.errors import NotFound, SouqError, UsageError, nearest
from souq.evals.eval import Eval, read_eval, read_folder
from souq.evals.score import compare as paired
from souq.lab.engines import Transformers
from souq.lab.score_cache import folder_key
from souq.lab.writers import writer


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--eval", "name", required=True, help="A folder with eval.toml and cases.jsonl, or one of main's evals.")
@click.option(
    "--price", "prices", multiple=True, metavar="MODEL=IN/OUT", help="Dollars a million tokens, as its seller has it."
)
@click.option("--margin", type=float, help="How much worse is still as good: a share of cases.  [default: the eval's]")
@json_option
def compare(models: tuple[str, ...], name: str, prices: tuple[str, ...], margin: float | None, as_json: bool) -> None:
    """Ask MODELS the same cases: Hugging Face folders, llama.cpp:FILE.gguf, openai:URL#MODEL. The first is what you
    have.

    Says how good, how fast and how large each is, what a thousand such cases cost, and what in your project a swap
    touches.
    """
    _, suite, dollars, writers = together(  # all are looked for before the first is asked
        partial(_refuse_margin, margin),
        partial(_eval_of, name),
        partial(together, *(partial(_price, row, models) for row in prices)),
        partial(together, *(partial(_writer, model) for model in models)),
    )
    costs = dict(dollars)
    margin = suite.margin if margin is None else margin
    with bars() as progress:
        measurements = [measured(model, writer, suite, progress) for model, writer in zip(models, writers, strict=True)]
    rows = [_value(model, measurements[0], suite, margin, costs) for model in measurements]
    answer({"eval": suite.name, "cases": len(suite.cases), "models": rows}, as_json, lambda: _show(rows, suite, margin))


def _refuse_margin(margin: float | None) -> None:
    if margin is not None and not 0 <= margin <= 1:
        raise UsageError(f"--margin {margin}", hint="a share of cases, from 0 to 1: 0.02 allows two of a hundred")


def _eval_of(name: str) -> Eval:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return read_eval(folder.name, read_folder(folder))
    try:
        known = main_here().evals
    except SouqError as error:
        raise NotFound(
            f"no folder {name}, and no repository here", hint="an eval is a folder with eval.toml and cases.jsonl"
        ) from error
    if name not in known:
        raise NotFound(f"no eval {name!r}{nearest(name, known)}", hint=f"a folder, or one of {', '.join(known)}")
    return known[name]


def _price(text: str, models: tuple[str, ...]) -> tuple[str, tuple[float, float]]:
    model, _, rest = text.rpartition("=")
    dollars = per_million(rest, f"--price {text!r}", "MODEL=0.25/1.25")
    if model not in models:
        raise UsageError(
            f"--price names {model!r}{nearest(model, models)}", hint="write the model as you wrote it before"
        )
    return model, dollars


def _writer(model: str) -> Any:
    path = Path(model).expanduser()
    if path.is_dir():
        return writer("transformers", Transformers(folder_key(path), path, bf16=True))
    return writer(f"llama.cpp:{model}" if path.suffix.lower() == ".gguf" and path.is_file() else model, serves=_NOBODY)


_NOBODY = "b3:" + "0" * 64  # a server says itself what it serves


def _value(
    model: Measured, first: Measured, suite: Eval, margin: float, costs: dict[str, tuple[float, float]]
) -> dict[str, Any]:
    score = model.score(suite)
    against = None if model is first else paired(first.score(suite), score, margin=margin, clusters=suite.clusters)
    row = {
        "model": model.model, "engine": model.engine, "score": score.value, "stderr": score.stderr,
        "cases_a_second": len(model.cases) / model.seconds, "parameters": model.parameters, "bytes": model.bytes,
        "licence": model.ties.licence, "duties": duties(model.ties.licence),
        "dollars_a_thousand": price(model, costs[model.model]) if model.model in costs else None,
        "swap": [] if model is first else untied(first.ties, model.ties), "ties": msgspec.to_builtins(model.ties),
    }  # fmt: skip
    if against is not None:
        row |= {
            "gain": against.gain,
            "low": against.low,
            "high": against.high,
            "answer": against.answer,
            "said": str(against),
            "in_words": against.in_words,
        }
    return row


def _show(models: list[dict[str, Any]], suite: Eval, margin: float) -> None:
    rows = [
        [
            model["model"], f"{model['score']:.3f} ± {model['stderr']:.3f}", f"{model['cases_a_second']:.1f}",
            f"{model['parameters'] / 1e6:.1f}M" if model["parameters"] else "-",
            f"{model['bytes'] / 1e6:.0f} MB" if model["bytes"] else "-", model["licence"] or "not said",
            "-" if model["dollars_a_thousand"] is None else f"${model['dollars_a_thousand']:.4f}",
        ]
        for model in models
    ]  # fmt: skip
    table(
        [f"on {suite.name}, {len(suite.cases)} cases", "score", "cases/s", "size", "file", "licence", "a thousand"],
        rows,
        right=["score", "cases/s", "size", "file", "a thousand"],
    )
    for model in models:
        for duty in model["duties"]:
            out.print(f"{model['model']}: {duty}", markup=False, highlight=False)
    for model in models[1:]:
        out.print(
            f"{model['model']} instead of {models[0]['model']}: {model['in_words']}: {model['said']}",
            markup=False,
            highlight=False,
        )
        for change in model["swap"]:
            out.print(f"  {change}", markup=False, highlight=False)

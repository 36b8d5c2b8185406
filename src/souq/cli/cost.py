"""`souq cost`: what a model cost to train, merge and serve, and from which volume on it beats an API."""

from __future__ import annotations

from pathlib import Path

import click

from souq.audit import trained
from souq.audit.cost import NOTE, BreakEven, Run, Serving, break_even, number, picture, serving, short, training
from souq.audit.prices import Inputs, default_prices, read_prices
from souq.cli.console import answer, bars, done, json_option, out
from souq.cli.here import here
from souq.cli.table import long_option, table
from souq.errors import UsageError
from souq.records import MAX_TOML
from souq.releases import release
from souq.repo.remote import Repo
from souq.repo.snapshot import Snapshot

NUMBERS = ["parameters", "tokens", "FLOP", "hours", "USD", "kWh", "t CO2e", "MFU"]


@click.command()
@click.argument("what", required=False)
@click.option("--params", help="No repository: reckon one training of so many parameters (8B), --tokens of data.")
@click.option("--active", help="With --params: those at work on one token, for a mixture of experts.")
@click.option("--tokens", help="What the training, or the repository's base, read (15.6T).")
@click.option("--hours", help="With --params: GPU-hours that were measured (30.84M).")
@click.option("--gpu", default="h100", show_default=True, help="Hardware, as the table of prices calls it.")
@click.option(
    "--prices",
    "table_",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Newer prices, as audit/prices.toml.",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="One input, e.g. mfu=.38 or speed=2000 (tokens/s/GPU, measured).",
)
@click.option("--measure", is_flag=True, help="Merge main once more, and time it.")
@click.option("--svg", "svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw dollars over volume there.")
@long_option
@json_option
def cost(
    what: str | None, params: str | None, active: str | None, tokens: str | None, hours: str | None, gpu: str,
    table_: Path | None, sets: tuple[str, ...], measure: bool, svg: Path | None, long: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """What WHAT cost: a model repository's folder, a release of the one you stand in, or this one's main."""
    inputs = _inputs(gpu, table_, sets)
    read = number(tokens, "--tokens") if tokens else None
    if params is None and (active or hours):
        raise UsageError("--active and --hours describe one training", hint="say --params too")
    if params is not None and (what or measure):
        raise UsageError("a repository, or one training by --params: not both", hint="leave out one of them")
    runs = _named(params, active, read, hours, inputs) if params else _known(what, read, inputs, measure)
    serve = serving(inputs)
    evens = _evens(runs, serve)
    if svg is not None:
        svg.write_text(picture(evens, serve))

    def show() -> None:
        table(["what", *NUMBERS], [_row(run) for run in runs], right=NUMBERS, extra=["FLOP", "hours", "MFU"], long=long)
        for run in runs:
            if run.because:
                out.print(f"{run.what}: {run.because}")
        _show_serving(serve, evens)
        table(
            ["reckoned with", "value", "unit", "of", "source"],
            [[name, f"{f.value:g}", f.unit, f.dated, f.source] for name, f in inputs.figures.items()],
            right=["value"], extra=["of"], long=long,
        )  # fmt: skip
        done(f"note: {NOTE}")

    answer({"runs": runs, "serving": serve, "break_even": evens, "inputs": inputs.figures, "note": NOTE}, as_json, show)


def _inputs(gpu: str, path: Path | None, sets: tuple[str, ...]) -> Inputs:
    prices = default_prices()
    if path is not None:
        try:
            with path.open(encoding="utf-8") as file:  # a character more than may be is refused as too many
                prices = read_prices(file.read(MAX_TOML + 1), where=path.name).over(prices)
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not UTF-8 at byte {error.start}") from error
    inputs = prices.on(gpu)
    for words in sets:
        inputs = inputs.with_set(words)
    return inputs


def _named(params: str, active: str | None, tokens: float | None, hours: str | None, inputs: Inputs) -> list[Run]:
    whole = number(params, "--params")
    at_work = number(active, "--active") if active else whole
    if at_work > whole:
        raise UsageError(f"{active} of {params} parameters cannot be at work", hint="--active is a part of --params")
    return [training("from scratch", at_work, tokens, inputs, hours=number(hours, "--hours") if hours else None)]


def _known(what: str | None, tokens: float | None, inputs: Inputs, measure: bool) -> list[Run]:
    main = _main(what)
    with bars() as progress:
        merge = trained.merged(main, inputs, measure=measure, progress=progress)
    return [trained.base(main, tokens, inputs), *trained.contributions(main, inputs), merge]


def _main(what: str | None) -> Snapshot:
    if what is not None and Path(what).is_dir():
        repo = Repo.find(Path(what))
        return Snapshot(repo, repo.tip())
    repo = here()
    main = Snapshot(repo, repo.tip())
    return main if what is None else Snapshot(repo, release.read(main, what).release.commit)


def _evens(runs: list[Run], serve: Serving) -> list[BreakEven]:
    """Where one's own model costs less than the API: trained from scratch, or contributed to a given base."""
    ways = {"from scratch": runs} | ({"contributed, base given": runs[1:]} if len(runs) > 1 else {})
    prices = {"API": serve.api, "API in batches": serve.batch}
    return [
        break_even(way, parts, serve.own, name, price) for way, parts in ways.items() for name, price in prices.items()
    ]


def _row(run: Run) -> list[str]:
    tonnes = run.kg / 1000 if run.kg is not None else None
    numbers = (run.params, run.tokens, run.flop, run.hours, run.usd, run.kwh, tonnes)
    return [run.what[:60], *map(short, numbers), "unknown" if run.mfu is None else f"{run.mfu:.1%}"]


def _show_serving(serve: Serving, evens: list[BreakEven]) -> None:
    own = f"own {short(serve.own)} USD, {short(serve.kwh)} kWh"
    out.print(f"a million tokens: {own}; API {short(serve.api)} USD, in batches {short(serve.batch)} USD")
    if serve.own is None:
        out.print("own serving: unknown until its speed is measured: --set speed=TOKENS_A_SECOND_OF_A_GPU")
    for even in evens:
        least = "at least " if even.at_least else ""
        outcome = even.because or f"cheaper from {least}{short(even.tokens)} tokens on"
        out.print(f"{even.what} ({least}{short(even.fixed)} USD) against the {even.against}: {outcome}")

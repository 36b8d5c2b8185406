"""What a model costs: to train, to merge, to serve; and from which volume on that is less than an API's price.

FLOP = 6ND, N the parameters at work on a token. Hours = FLOP / (peak * MFU * 3600). USD = hours * rate. kWh = hours *
kW * PUE. CO2 = kWh * intensity. It knows numbers with names (prices.py) and nothing of repositories (trained.py). What
nobody has said is None, and so is all that depends on it: never 0. A run's price is not a model's price.

    run = training("mine", 135e6, 2e12, inputs)
    run.flop, run.hours, run.usd
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from souq.audit.prices import Inputs
from souq.chart import Curve, line_chart
from souq.errors import UsageError
from souq.records import Record

NOTE = (
    "runs alone: AI2 measured that development added about half of training's footprint again (arXiv 2503.05804); "
    "and dollars alone: whether one model can stand in for the other is for an eval to say"
)
POINTS = 200  # of a curve
MOST = 1e30  # of anything: no product of a few of them is infinite
_SCALE = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


class Run(Record, frozen=True):
    """Work that was done once. None: not known, and `because` says why."""

    what: str
    params: float | None  # at work on a token
    tokens: float | None
    flop: float | None
    hours: float | None  # of accelerators; of this machine for a merge
    usd: float | None
    kwh: float | None
    kg: float | None  # CO2e
    mfu: float | None  # whole-run: FLOP over what measured hours could have done; reckoned hours tell nothing of it
    because: str


class Serving(Record, frozen=True):
    """USD and kWh for a million tokens, read and written in the share `read`."""

    own: float | None
    kwh: float | None
    api: float | None
    batch: float | None


class BreakEven(Record, frozen=True):
    """From how many tokens on somebody who paid `fixed` pays less than the API. None: never, or not known."""

    what: str
    against: str
    fixed: float | None
    at_least: bool  # part of what was paid is not known
    tokens: float | None
    because: str


def number(text: str, what: str) -> float:
    """`15.6T`, `405B`, `30.84M` or `2e12`.

    Raises:
        UsageError: no number above 0.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:e\+?[0-9]{1,2})?)([KMBT]?)", text.strip(), re.I)
    value = float(match[1]) * _SCALE[match[2].upper()] if match else 0.0
    if not 0 < value < MOST:
        raise UsageError(
            f"{what} is a number above 0 and below {MOST:g}, not {text[:40]!r}",
            hint=f"write {what} as 15.6T, 405B, 30.84M or 2e12",
        )
    return value


def training(
    what: str, params: float | None, tokens: float | None, inputs: Inputs, *, hours: float | None = None,
    factor: str = "factor", because: str = "",
) -> Run:  # fmt: skip
    """A run, from what is known of it; `hours` that somebody measured count before those reckoned."""
    flop, speed = _product(inputs[factor], params, tokens), _product(inputs["peak"], 1e12 * 3600)
    reckoned = _over(flop, _product(speed, inputs["mfu"]))
    took = hours if hours is not None else reckoned
    kwh = _product(took, inputs["kw"], inputs["pue"])
    return Run(
        what=what, params=params, tokens=tokens, flop=flop, hours=took, usd=_product(took, inputs["rate"]), kwh=kwh,
        kg=_product(kwh, inputs["intensity"]), mfu=_over(flop, _product(speed, hours)),
        because=because or _absent({"parameters": params, "tokens": tokens}),
    )  # fmt: skip


def merging(seconds: float | None, inputs: Inputs) -> Run:
    """The compile, on the machine that did it: timed, never reckoned."""
    hours = _over(seconds, 3600.0)
    kwh = _product(hours, inputs["machine_kw"], inputs["pue"])
    priced = _absent({"machine_rate": inputs["machine_rate"], "machine_kw": inputs["machine_kw"]})
    return Run(
        what="merge", params=None, tokens=None, flop=None, hours=hours, usd=_product(hours, inputs["machine_rate"]),
        kwh=kwh, kg=_product(kwh, inputs["intensity"]), mfu=None,
        because="not timed: --measure" if seconds is None else priced,
    )  # fmt: skip


def serving(inputs: Inputs) -> Serving:
    """A million tokens on one's own hardware, and by the API."""
    hours = _over(1e6 / 3600, _product(inputs["speed"], inputs["busy"]))
    read = inputs["read"]
    written = None if read is None else 1 - read
    parts = (_product(read, inputs["api_in"]), _product(written, inputs["api_out"]))
    api = None if None in parts else sum(part for part in parts if part is not None)
    return Serving(
        own=_product(hours, inputs["rate"]), kwh=_product(hours, inputs["kw"], inputs["pue"]), api=api,
        batch=_product(api, inputs["api_batch"]),
    )  # fmt: skip


def total(runs: Sequence[Run]) -> tuple[float | None, bool]:
    """What the runs cost in USD that is known, and whether that is all; None where nothing is known."""
    known = [run.usd for run in runs if run.usd is not None]
    return (sum(known) if known else None), len(known) == len(runs)


def break_even(what: str, runs: Sequence[Run], own: float | None, against: str, price: float | None) -> BreakEven:
    """Where fixed + own * volume = price * volume; own and price in USD for a million tokens."""
    fixed, whole = total(runs)
    tokens, because = None, ""
    if fixed is None or own is None or price is None:
        because = f"not known: {'what it cost' if fixed is None else 'speed' if own is None else 'the price'}"
    elif own >= price:
        because = f"never: its own serving costs {own:.3g} USD for a million tokens, the API {price:.3g}"
    else:
        tokens = fixed / (price - own) * 1e6
    return BreakEven(what=what, against=against, fixed=fixed, at_least=not whole, tokens=tokens, because=because)


def picture(evens: Sequence[BreakEven], serve: Serving) -> str:
    """Dollars over volume, both in powers of ten, as an SVG: the API, and each way to have a model of one's own.

    Raises:
        UsageError: the cost of serving is not known, or nothing was paid that is.
    """
    kinds = {even.what: even for even in evens if even.fixed}
    if serve.own is None or serve.api is None or not kinds:
        raise UsageError(
            "no picture without a speed and a cost",
            hint="say how fast it serves: --set speed=2000 (tokens/s/GPU, measured)",
        )
    marks = [(even.tokens, f"{short(even.tokens)}: {even.what}, {even.against}") for even in evens if even.tokens]
    middle = [at for at, _ in marks] or [(even.fixed or 1.0) / serve.api * 1e6 for even in kinds.values()]
    low, high = math.floor(math.log10(min(middle))) - 1, math.ceil(math.log10(max(middle))) + 1
    volumes = tuple(10 ** (low + (high - low) * k / POINTS) for k in range(POINTS + 1))
    curves = [_cost("API", 0.0, serve.api, volumes)]
    if serve.batch is not None:
        curves.append(_cost("API, in batches", 0.0, serve.batch, volumes))
    for even in kinds.values():
        paid = f"{'at least ' if even.at_least else ''}{short(even.fixed)} USD"
        curves.append(_cost(f"{even.what}, {paid}", even.fixed or 0.0, serve.own, volumes))
    return line_chart(curves, across="tokens served", up="USD in all", logs=True, marks=marks)


def _cost(name: str, fixed: float, price: float, volumes: tuple[float, ...]) -> Curve:
    dollars = tuple(fixed + price * at / 1e6 for at in volumes)
    return Curve(name=f"{name}: {price:.3g} USD a million", x=volumes, y=dollars)


def short(value: float | None) -> str:
    """Three figures and a letter, for people: 61.7M, 3.79e25; `unknown` where it is."""
    if value is None:
        return "unknown"
    if value and not 1e-3 <= value < 1e15:
        return f"{value:.3g}".replace("e+", "e")
    for letter, size in reversed(_SCALE.items()):
        if float(f"{value:.3g}") >= size:
            scaled = value / size
            return f"{scaled:.{max(0, 2 - int(math.log10(scaled)))}f}{letter}"
    return f"{value:.3g}"


def _product(*parts: float | None) -> float | None:
    known = [part for part in parts if part is not None]
    return math.prod(known) if len(known) == len(parts) else None


def _over(some: float | None, by: float | None) -> float | None:
    return some / by if some is not None and by is not None else None


def _absent(parts: dict[str, float | None]) -> str:
    absent = [name for name, value in parts.items() if value is None]
    return f"not known: {', '.join(absent)}" if absent else ""

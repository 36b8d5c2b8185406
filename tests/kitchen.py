"""Where corpora are cooked: a recipe with what it names, a writer without a model, and a forger of what was published."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from souq.corpus.dump import manifest
from souq.corpus.make import Teacher, make
from souq.corpus.recipe import read_recipe
from souq.lab.chat import Completion
from souq.records import canonical, digest
from tests.bazaar import write_eval

RECIPE = """
name = "cities"
dump = "2026-48"
samples = 2
evals = ["held"]

[[seeds]]
kind = "fields"
path = "cities.jsonl"
source = "an atlas"
licence = "CC-BY-4.0"

[[seeds]]
kind = "answers"
path = "known.jsonl"
source = "people"
licence = "CC0-1.0"

[[prompts]]
name = "continent"
template = "Where is {city}?"
checker = "regex"
expected = "^(Africa|Asia)$"

[sampling]
max_tokens = 8
temperature = 0.7

[[filters]]
name = "finished"
least = 1
"""


@dataclass
class Parrot:
    """A writer without a model: it answers by rule, and counts what it is asked. Everything around it is real."""

    answers: dict = field(default_factory=dict)
    model = digest(b"parrot")
    name = "parrot 1"
    asked: int = 0

    def generate(self, asks, sampling, progress=None):
        self.asked += len(asks)
        for start in range(0, len(asks), 2):
            yield [(start + i, self.told(ask)) for i, ask in enumerate(asks[start : start + 2])]

    logprobs = False

    def told(self, ask):
        city = ask.messages[-1].content.removeprefix("Where is ").removesuffix("?")
        text = self.answers.get(city, ("Africa", "Asia")[ask.seed % 2])
        return Completion(
            text=text, finish="length" if text == "Asia and" else "stop", completion_tokens=1, prompt_tokens=5
        )


@pytest.fixture
def kitchen(tmp_path):
    """A folder with a recipe and what it names."""
    return prepared(tmp_path)


def prepared(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    cities = ("Cairo", "Lima", "Oslo", "Pune", "Quito")
    (tmp_path / "cities.jsonl").write_text("".join(json.dumps({"city": city}) + "\n" for city in cities))
    (tmp_path / "known.jsonl").write_text(json.dumps({"prompt": "Where is Rome?", "expected": "Europe"}) + "\n")
    write_eval(tmp_path / "held", [("Where is the city of Pune?", "Asia")])
    return tmp_path


def cook(kitchen, writer, name="corpus", *, recipe=None, evals=None):
    found = recipe or read_recipe(kitchen / "recipe.toml")
    return make(found, kitchen, Teacher(writer, "Apache-2.0"), kitchen / name, evals=evals)


def forge(corpus, change):
    """Other rows, or other bytes, under a manifest that says so."""
    import pyarrow.parquet as parquet

    told = manifest(corpus)
    name = "dump=2026-48/subset=kept/part-00000.parquet"
    path = corpus / name
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        table = parquet.read_table(path, partitioning=None)
        parquet.write_table(type(table).from_pylist(change(table.to_pylist()), schema=table.schema), path)
    told["dumps"]["2026-48"]["files"][name]["digest"] = digest(path.read_bytes())
    (corpus / "manifest.json").write_bytes(canonical(told))

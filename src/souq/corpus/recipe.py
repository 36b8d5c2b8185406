"""A corpus's recipe: what is asked, of what, how, and what becomes of the answers. Settings alone: nothing runs here.

[[seeds]]
kind = "fields"
path = "cities.jsonl"          # seen from the recipe
source = "GeoNames"
licence = "CC-BY-4.0"

[[prompts]]
name = "continent"
template = "On which continent is this city? {city}, {country}"
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import msgspec

from souq.errors import NotFound, UsageError, nearest
from souq.evals import checkers
from souq.lab.chat import Sampling
from souq.lab.student_config import DistillConfig
from souq.model.gguf.writer import GGUF_KINDS
from souq.records import Digest, Record, digest_of, parse_toml
from souq.text import decoded

Kind = Literal["questions", "answers", "fields", "documents", "taxonomy", "qna", "corpus"]
FILTERS = ("length", "repetition", "finished", "grounded", "numbers", "echo")  # filters.py carries them out
MAX_RECIPE = 256 << 10  # bytes
MAX_TOKENS = 1_000_000  # of an answer, and of a vocabulary
MAX_RARITY = 16  # a power: beyond, only the rarest counts


class Seeds(Record, frozen=True, forbid_unknown_fields=True):
    """Where seeds come from. `source` and `licence` are what a file does not say of itself.

    questions: JSONL of {prompt, source, licence, checker, expected}. answers: JSONL of {prompt, expected, source,
    licence}, which people wrote: rows of the corpus as they are. fields: JSONL of texts by name, for templates.
    documents: text files, or a folder of them, in pieces of about `words` words: {document}. taxonomy: a line a topic,
    with all above it, `Science > Physics > Optics`: {topic}, {path}, {parent}, {root} of each leaf. qna: a tree of
    qna.yaml. corpus: the kept rows of another corpus, of its edition `dump` or its latest, with the ancestry they have.
    """

    kind: Kind
    path: str
    source: str = ""
    licence: str = ""
    words: int = 300
    dump: str = ""


class Prompt(Record, frozen=True, forbid_unknown_fields=True):
    """What is asked of each seed. `domain` may hold its fields as the template does.

    `checker` is one of evals/checkers.py: what is right for all seeds that have none of their own.
    """

    name: str
    template: str = "{prompt}"
    system: str = ""
    checker: str = ""
    expected: str = ""
    choices: tuple[str, ...] = ()
    domain: str = ""


class Filter(Record, frozen=True, forbid_unknown_fields=True):
    """One of filters.py, and its bounds."""

    name: str
    least: float = 0.0
    most: float = math.inf


class Guard(Record, frozen=True, forbid_unknown_fields=True):
    """What is published of what was kept, against collapse (guard.py): `size` words, at least `floor` of them real."""

    size: int
    floor: float = 0.3
    deepest: int = 1
    rarity: float = 1.0


class CorpusRecipe(Record, frozen=True, forbid_unknown_fields=True):
    """What is asked, of what, how often and by whom, and what becomes of the answers.

    `dump` names this edition, as a crawl's month does: every row's chance is drawn from it.
    """

    name: str
    title: str = ""
    dump: str = "1"
    seeds: tuple[Seeds, ...] = ()
    prompts: tuple[Prompt, ...] = (Prompt(name="as it is"),)
    ancestry: int = 0  # how deep the deepest text is that the teacher learned from: 0 where people wrote all of it
    samples: int = 1
    sampling: Sampling = Sampling()
    engine: str = "transformers"
    filters: tuple[Filter, ...] = ()
    judges: tuple[str, ...] = ()  # TOML files (judges.py), measured on their gold labels before they judge
    dedup: float = 0.7  # Jaccard index of five words in a row; 0: exact copies alone
    decontaminate: bool = True
    evals: tuple[str, ...] = ()  # folders of evals of its own, held out and scored
    guard: Guard | None = None
    student: DistillConfig | None = None
    gguf: str = ""  # the kind of file a student is written as, beside the folder

    def vetted(self) -> Self:
        """The recipe itself, once it is known that it can be carried out.

        Raises:
            UsageError: a checker, filter or kind of file that nobody knows, or a number that nothing could follow.
        """
        for prompt in self.prompts:
            if prompt.checker:
                checkers.vet(prompt.checker, prompt.expected, prompt.choices)
        for rule in self.filters:
            if rule.name not in FILTERS:
                hint = f"one of {', '.join(FILTERS)}"
                raise UsageError(f"no filter {rule.name!r}{nearest(rule.name, FILTERS)}", hint=hint)
        if not self.seeds or not self.prompts:
            raise UsageError(f"recipe {self.name!r} has no seeds or no prompts", hint="write [[seeds]] and [[prompts]]")
        if not 0 <= self.ancestry < 1_000:
            hint = (
                "0 where people wrote all that the teacher learned from, "
                "1 where a model did that learned from people, and so on"
            )
            raise UsageError(f"ancestry = {self.ancestry}", hint=hint)
        if not 1 <= self.samples <= 1_000:
            raise UsageError(f"samples = {self.samples}", hint="from 1 to 1,000 answers a prompt")
        if not 0 < len(self.dump) <= 100 or not all(letter.isalnum() or letter in "-_." for letter in self.dump):
            raise UsageError(f"dump = {self.dump[:100]!r}", hint="letters, digits, dots and dashes: it names a folder")
        if fault := next((message for bad, message in self._faults() if bad), None):
            raise UsageError(fault)
        if self.student:
            self.student.vetted()
        if self.gguf and self.gguf not in GGUF_KINDS:
            raise UsageError(
                f"gguf = {self.gguf!r}{nearest(self.gguf, GGUF_KINDS)}", hint=f"one of {', '.join(GGUF_KINDS)}"
            )
        return self

    def _faults(self) -> Iterator[tuple[bool, str]]:
        """Numbers that nothing could follow, of what is read only once the answers are there, too."""
        drawn, guard = self.sampling, self.guard
        yield not 0 <= self.dedup <= 1, f"dedup is a Jaccard index, or 0 for exact copies alone, not {self.dedup}"
        yield not (0 <= drawn.temperature < math.inf), f"temperature is a number from 0 up, not {drawn.temperature}"
        yield not 1 <= drawn.max_tokens <= MAX_TOKENS, f"max_tokens is from 1 to {MAX_TOKENS:,}, not {drawn.max_tokens}"
        yield not 0 <= drawn.top_k <= MAX_TOKENS, f"top_k is from 0, no limit, to {MAX_TOKENS:,}, not {drawn.top_k}"
        for name in ("top_p", "min_p"):
            yield not 0 <= getattr(drawn, name) <= 1, f"{name} is from 0 to 1, not {getattr(drawn, name)}"
        for source in self.seeds:
            yield source.words < 1, f"words is a whole number above 0, not {source.words}"
        for rule in self.filters:
            yield not rule.least <= rule.most, f"filter {rule.name} keeps nothing from {rule.least:g} to {rule.most:g}"
        if guard is not None:
            yield guard.size < 1, f"[guard] size is a number of words above 0, not {guard.size}"
            yield not 0 <= guard.floor <= 1, f"[guard] floor is a share from 0 to 1, not {guard.floor}"
            yield not 0 <= guard.rarity <= MAX_RARITY, f"[guard] rarity is from 0 to {MAX_RARITY}, not {guard.rarity}"

    @property
    def digest(self) -> Digest:
        """The name of this recipe: of every setting, defaults too."""
        return digest_of({name: msgspec.to_builtins(getattr(self, name)) for name in self.__struct_fields__})


def read_recipe(path: Path) -> CorpusRecipe:
    """A recipe from TOML, strictly; paths in it are seen from where it lies.

    Raises:
        NotFound: no such file.
        UsageError: a key it does not know, a value that will not do.
    """
    if not path.is_file():
        raise NotFound(f"no recipe {path}", hint="a recipe is TOML with [[seeds]] and [[prompts]]")
    if path.stat().st_size > MAX_RECIPE:
        raise UsageError(f"{path} is larger than {MAX_RECIPE:,} bytes: no recipe is")
    return parse_toml(decoded(path.read_bytes(), str(path)), CorpusRecipe, where=str(path)).vetted()


def recipe_of(path: Path) -> CorpusRecipe:
    """A recipe from TOML, or the plain one that a JSONL file of prompts stands for.

    Raises:
        NotFound: no such file.
        UsageError: a key it does not know, a value that will not do.
    """
    if path.suffix.lower() == ".toml":
        return read_recipe(path)
    seeds = Seeds(kind="questions", path=path.name)
    return CorpusRecipe(name=path.stem, seeds=(seeds,), sampling=Sampling(max_tokens=32)).vetted()

"""Training data must not hold the exam: every eval case of main, and of what is kept hidden, is looked for in the rows.

Copies are found whatever their characters and refused; rewordings (meaning.py) are shown to people. Rewording beats
n-grams, and what asks for the same skill in other words beats both (decisions/texts.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from souq.checks import meaning
from souq.checks.cases import Answer, Case, check
from souq.evals.eval import Eval, case_text
from souq.records import read_json
from souq.text import words

NGRAM = 13  # words; the overlap used since GPT-3 (arXiv 2005.14165, appendix C)
SQUASHED = 20  # letters: from here on a case is found with any spaces in it, or none


@check("contamination")
def contamination(case: Case) -> Answer:
    """No row holds an eval case: its prompt with its answer, or 13 words of its text in a row; nor rewords one."""
    parts = [parts_of(row) for row in rows_of(case.offer.data)]
    rows = [" ".join(said) for said in parts]
    if not rows:
        because = "brings no data to compare: its training is declared, not shown"
        return "pass", because, {"source": False}
    if len(rows) > (most := case.main.config.checks.max_rows):
        return "refuse", f"{len(rows):,} rows of data; the most is {most:,}", {"rows": len(rows)}
    if found := copied(rows, case.main.evals):
        because = f"the data holds case {found.number} of eval `{found.eval}`: {' '.join(words(found.text)[:14])!r}"
        return "refuse", because, {"eval": found.eval, "case": found.number, "row": found.row}
    if found := copied(rows, case.hidden):  # its number and its words are what is hidden
        return "refuse", f"the data holds a case of the hidden eval `{found.eval}`", {"eval": found.eval}
    evidence: dict[str, Any] = {"rows": len(rows), "source": True}
    clean = f"{len(rows):,} rows hold none of main's eval cases"
    return meaning.reworded(case, parts, clean, evidence) if case.costly else ("pass", clean, evidence)


@dataclass(frozen=True)
class Found:
    """A case of an eval in a row; both counted from 1."""

    eval: str
    number: int
    row: int
    text: str = field(repr=False)


def copied(rows: Iterable[str], evals: Mapping[str, Eval]) -> Found | None:
    """The first row that holds a case of these evals, whatever its characters, capitals, punctuation and spaces."""
    grams, starts = _index(evals)
    if not grams:
        return None
    lengths = sorted({len(gram.split()) for gram in grams})
    for number, row in enumerate(rows, 1):
        said = words(row)
        if (found := _by_words(said, grams, lengths) or _by_letters("".join(said), starts)) is not None:
            return Found(found[0], found[1], number, found[2])
    return None


Place = tuple[str, int, str]  # eval, number of the case, its text
Starts = dict[str, list[tuple[str, Place]]]


def _index(evals: Mapping[str, Eval]) -> tuple[dict[str, Place], Starts]:
    """The exam is what is indexed: rows go by, however many."""
    grams: dict[str, Place] = {}
    starts: Starts = {}
    for name, suite in evals.items():
        for number, case in enumerate(suite.cases, 1):
            text = case_text(case)
            needle, place = words(text), (name, number, text)
            for gram in _grams(needle, min(NGRAM, len(needle))):
                grams.setdefault(gram, place)
            if len(letters := "".join(needle)) >= SQUASHED:
                starts.setdefault(letters[:SQUASHED], []).append((letters, place))
    return grams, starts


def _by_words(said: list[str], grams: dict[str, Place], lengths: list[int]) -> Place | None:
    found = (grams.get(gram) for length in lengths for gram in _grams(said, length))
    return next((place for place in found if place is not None), None)


def _by_letters(letters: str, starts: Starts) -> Place | None:
    for i in range(len(letters) - SQUASHED + 1) if starts else ():
        for needle, place in starts.get(letters[i : i + SQUASHED], ()):
            if letters.startswith(needle, i):
                return place
    return None


def _grams(said: list[str], length: int) -> Iterator[str]:
    return (" ".join(said[i : i + length]) for i in range(len(said) - length + 1) if length)


def texts(data: Mapping[str, bytes]) -> Iterator[str]:
    """Every row of an offer's data, as text."""
    return (row_text(row) for row in rows_of(data))


def rows_of(data: Mapping[str, bytes]) -> Iterator[Any]:
    """Every row of an offer's data."""
    for content in data.values():
        for line in content.splitlines():
            if line.strip():
                yield read_json(line)


def row_text(row: Any) -> str:
    """Everything a row of training data says, in TRL's formats and beside them: no key is a place to hide."""
    return " ".join(parts_of(row))


def parts_of(row: Any) -> tuple[str, ...]:
    """The same, turn by turn."""
    return tuple(_strings(row))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        # A turn's role stands between two turns: left in, it would tear a case apart that is spread over both.
        yield from _strings([inside for key, inside in value.items() if key != "role"])

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
from souq.corpus.ngrams import Exam
from souq.evals.eval import Eval, case_text, with_answers
from souq.repo.rows import json_rows
from souq.text import words

SQUASHED = 20  # letters: from here on a case is found with any spaces in it, or none


@check("contamination")
def contamination(case: Case) -> Answer:
    """No row holds an eval case: its prompt with its answer, or 13 words of its text in a row; nor rewords one."""
    parts = [parts_of(row) for row in json_rows(case.offer.data)]
    rows = [" ".join(turns) for turns in parts]
    if not rows:
        because = "brings no data to compare: its training is declared, not shown"
        return "pass", because, {"source": False}
    if len(rows) > (most := case.main.config.checks.max_rows):
        return "refuse", f"{len(rows):,} rows of data; the most is {most:,}", {"rows": len(rows)}
    if copy := copied(rows, case.main.evals):
        because = f"the data holds case {copy.number} of eval `{copy.eval}`: {' '.join(words(copy.text)[:14])!r}"
        return "refuse", because, {"eval": copy.eval, "case": copy.number, "row": copy.row}
    if copy := copied(rows, case.hidden):  # its number and its words are what is hidden
        return "refuse", f"the data holds a case of the hidden eval `{copy.eval}`", {"eval": copy.eval}
    evidence: dict[str, Any] = {"rows": len(rows), "source": True}
    clean = f"{len(rows):,} rows hold none of main's eval cases"
    return meaning.reworded(case, parts, clean, evidence) if case.costly else ("pass", clean, evidence)


@dataclass(frozen=True)
class Copy:
    """A case of an eval in a row; both counted from 1."""

    eval: str
    number: int
    row: int
    text: str = field(repr=False)


def copied(rows: Iterable[str], evals: Mapping[str, Eval]) -> Copy | None:
    """The first row that holds a case of these evals, whatever its characters, capitals, punctuation and spaces."""
    asked = with_answers(evals)
    cases = {f"{name}/{i}": (name, i, case_text(case)) for name in asked for i, case in enumerate(asked[name].cases, 1)}
    if not cases:
        return None
    split = {key: words(text) for key, (_, _, text) in cases.items()}
    exam = Exam({key: " ".join(needle) for key, needle in split.items()}, shortest=1)
    starts: dict[str, list[tuple[str, str]]] = {}  # how a case begins, without spaces -> (all of it, its key)
    for key, needle in split.items():
        if len(letters := "".join(needle)) >= SQUASHED:
            starts.setdefault(letters[:SQUASHED], []).append((letters, key))
    plain_rows = [words(row) for row in rows]
    held = exam.held([" ".join(row) for row in plain_rows])
    for number, (row, by_words) in enumerate(zip(plain_rows, held, strict=True), 1):
        if key := by_words or _by_letters("".join(row), starts):
            name, place, text = cases[key]
            return Copy(name, place, number, text)
    return None


def _by_letters(letters: str, starts: Mapping[str, list[tuple[str, str]]]) -> str:
    """The key of a case that stands in `letters` whole, or nothing."""
    for i in range(len(letters) - SQUASHED + 1) if starts else ():
        for needle, key in starts.get(letters[i : i + SQUASHED], ()):
            if letters.startswith(needle, i):
                return key
    return ""


def texts(data: Mapping[str, bytes]) -> Iterator[str]:
    """Every row of an offer's data, as text."""
    return (row_text(row) for row in json_rows(data))


def row_text(row: Any) -> str:
    """Everything a row of training data says, in TRL's formats and beside them: no key is a place to hide."""
    return " ".join(parts_of(row))


def parts_of(row: Any) -> tuple[str, ...]:
    """Everything a row of training data says, each string of it apart: its turns, its prompt and its completion."""
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

"""Training data must not hold the exam: every eval case of main is looked for in what the contribution brings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from souq.checks.cases import Answer, Case, check
from souq.evals import Eval

NGRAM = 13  # words; the overlap used since GPT-3 (arXiv 2005.14165, appendix C)
_WORD = re.compile(r"\w+")


@check("contamination")
def contamination(case: Case) -> Answer:
    """No row of data holds an eval case: its prompt with its answer, or 13 words of its text in a row."""
    rows = [words(text) for text in _texts(case.offer.data)]
    if not rows:
        because = "brings no data to compare: its training is declared, not shown"
        return "pass", because, {"source": False}
    if len(rows) > (most := case.main.config.checks.max_rows):
        return "refuse", f"{len(rows):,} rows of data; the most is {most:,}", {"rows": len(rows)}
    haystack = " \n ".join(" ".join(row) for row in rows)
    grams = {gram for row in rows for gram in _grams(row)}
    for suite in case.main.evals.values():
        for number, needle in enumerate(_needles(suite)):
            if _found(needle, haystack, grams):
                because = f"the data holds case {number + 1} of eval `{suite.name}`: {' '.join(needle[:14])!r}"
                return "refuse", because, {"eval": suite.name, "case": number + 1}
    return "pass", f"{len(rows):,} rows hold none of main's eval cases", {"rows": len(rows), "source": True}


def words(text: str) -> list[str]:
    """Lower-case words, so that neither punctuation nor capitals hide a copy."""
    return _WORD.findall(text.lower())


def _found(needle: list[str], haystack: str, grams: set[tuple[str, ...]]) -> bool:
    whole = f" {' '.join(needle)} "
    return bool(needle) and (whole in f" {haystack} " or not grams.isdisjoint(_grams(needle)))


def _grams(row: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(row[i : i + NGRAM]) for i in range(len(row) - NGRAM + 1))


def _needles(suite: Eval) -> Iterator[list[str]]:
    for case in suite.cases:
        yield words(f"{case.text} {case.expected}")


def _texts(data: dict[str, bytes]) -> Iterator[str]:
    for content in data.values():
        for line in content.splitlines():
            yield row_text(json.loads(line))


def row_text(row: dict[str, Any]) -> str:
    """Everything a row of training data says, in TRL's formats: messages, prompt and completion, or text."""
    turns = [str(turn.get("content", "")) for turn in row.get("messages", []) if isinstance(turn, dict)]
    return " ".join([*turns, *(str(row[key]) for key in ("prompt", "completion", "text") if key in row)])

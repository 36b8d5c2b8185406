"""Why an answer is not kept: by rules that need no model, cheapest first; judges (judges.py) come after."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from souq.corpus.recipe import Filter, Prompt
from souq.corpus.row import Passed
from souq.corpus.seeds import Seed
from souq.evals import checkers
from souq.lab.chat import Completion
from souq.text import spaceless_pairs, words

VERSION = "1"
MAX_FIGURE = 60  # digits
LONG = 4  # letters, of a word that has content


@dataclass(frozen=True)
class Answer:
    """An answer and what it answers."""

    question: str
    completion: Completion
    seed: Seed
    prompt: Prompt

    @property
    def text(self) -> str:
        return self.completion.text


def _length(answer: Answer) -> float:
    """Words of the answer."""
    return len(words(answer.text))


def _repetition(answer: Answer) -> float:
    """The share of the answer's three words in a row that stood in it before (Rae et al., arXiv 2112.11446, A1)."""
    spoken = words(answer.text)
    runs = Counter(zip(spoken, spoken[1:], spoken[2:], strict=False))
    return 1 - len(runs) / sum(runs.values()) if runs else 0.0


def _finished(answer: Answer) -> float:
    """1 where the answer came to its end, 0 where it was cut off."""
    return float(answer.completion.finish == "stop")


def _grounded(answer: Answer) -> float:
    """The share of the answer's words of content that stand in the seed's document.

    Where a script sets no words apart, two characters in a row stand for one.
    """
    content = [word for word in words(answer.text) if len(word) >= LONG or word.isdigit()]
    known = {*words(answer.seed.document), *spaceless_pairs(answer.seed.document)}
    return _share_in(known, [*content, *spaceless_pairs(answer.text)])


def _numbers(answer: Answer) -> float:
    """The share of the answer's numbers that stand in the document or the question."""
    return _share_in(_figures(f"{answer.seed.document} {answer.question}"), _figures(answer.text))


def _echo(answer: Answer) -> float:
    """The share of the answer's words that stand in the question."""
    return _share_in(words(answer.question), words(answer.text))


def _share_in(source: Collection[str], items: Sequence[str]) -> float:
    """How many of the items stand in the source; 1 of none."""
    known = set(source)
    return sum(item in known for item in items) / len(items) if items else 1.0


def _figures(text: str) -> list[str]:
    """Numbers, whatever digits they are in and however their thousands are parted."""
    plain = re.sub(r"(?<=\d)(?:\{,\}|['\u2019\u00a0\u202f\u2009])(?=\d{3})", "", unicodedata.normalize("NFKC", text))
    return [_normal(figure.replace(",", "").rstrip(".")) for figure in re.findall(r"\d[\d,.]*", plain)]


def _normal(digits: str) -> str:
    """One spelling of one value: 5.0 is 5; a date with points stays as it is."""
    value = digits.count(".") <= 1 and len(digits) <= MAX_FIGURE
    return f"{Decimal(digits).normalize():f}" if value else digits


MEASURES: dict[str, Callable[[Answer], float]] = {
    "length": _length,
    "repetition": _repetition,
    "finished": _finished,
    "grounded": _grounded,
    "numbers": _numbers,
    "echo": _echo,
}


def _empty(answer: Answer) -> str:
    """Why nothing was said: a model that thinks first may spend all that it was given before its first word."""
    cut = answer.completion.finish != "stop"
    return "empty: cut off before its first word; one that thinks first needs more max_tokens" if cut else "empty"


def filtered(answer: Answer, filters: Sequence[Filter]) -> Iterator[Passed]:
    """What each rule says of an answer, up to the first that does not keep it."""
    for verdict in _verdicts(answer, filters):
        yield verdict
        if not verdict.kept:
            return


def _verdicts(answer: Answer, filters: Sequence[Filter]) -> Iterator[Passed]:
    """Whether it is empty, then its seed's own checker or the prompt's, then the recipe's filters."""
    if answer.completion.finish == "refused":
        yield Passed(name="refused", version=VERSION, kept=False, because="the question is refused")
        return
    yield Passed(name="empty", version=VERSION, kept=bool(answer.text), because="" if answer.text else _empty(answer))
    asked = answer.seed if answer.seed.checker else answer.prompt
    if asked.checker:
        kept = checkers.right(asked.checker, asked.expected, answer.text, answer.prompt.choices)
        because = "" if kept else f"wrong by checker {asked.checker}"
        yield Passed(name=asked.checker, version=VERSION, kept=kept, because=because)
    for rule in filters:
        score = MEASURES[rule.name](answer)
        kept = rule.least <= score <= rule.most
        because = "" if kept else f"{rule.name} {score:.3g}, not from {rule.least:g} to {rule.most:g}"
        yield Passed(name=rule.name, version=VERSION, kept=kept, score=score, because=because)

"""Why an answer is not kept: by rules that need no model, cheapest first. Judges come after (specs/teacher.md, section 1)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from souq.corpus.recipe import Filter, Prompt
from souq.corpus.row import Passed
from souq.corpus.seeds import Seed
from souq.evals import checkers
from souq.lab.chat import Completion
from souq.text import words

VERSION = "1"
LONG = 4  # letters, of a word that has content


@dataclass(frozen=True)
class Said:
    """An answer and what it answers."""

    asked: str
    told: Completion
    seed: Seed
    prompt: Prompt

    @property
    def text(self) -> str:
        return self.told.text


def _length(said: Said) -> float:
    """Words of the answer."""
    return len(words(said.text))


def _repetition(said: Said) -> float:
    """The share of the answer's three words in a row that stand there before (Rae et al., arXiv 2112.11446, table A1)."""
    told = words(said.text)
    runs = Counter(zip(told, told[1:], told[2:], strict=False))
    return 1 - len(runs) / sum(runs.values()) if runs else 0.0


def _finished(said: Said) -> float:
    """1 where the answer came to its end, 0 where it was cut off."""
    return float(said.told.finish == "stop")


def _grounded(said: Said) -> float:
    """The share of the answer's words of content that stand in the seed's document."""
    source = set(words(said.seed.document))
    content = [word for word in words(said.text) if len(word) >= LONG or word.isdigit()]
    return sum(word in source for word in content) / len(content) if content else 1.0


def _numbers(said: Said) -> float:
    """The share of the answer's numbers that stand in the document or the question."""
    source = set(_figures(f"{said.seed.document} {said.asked}"))
    told = _figures(said.text)
    return sum(number in source for number in told) / len(told) if told else 1.0


def _echo(said: Said) -> float:
    """The share of the answer's words that stand in the question."""
    asked, told = set(words(said.asked)), words(said.text)
    return sum(word in asked for word in told) / len(told) if told else 1.0


MEASURES: dict[str, Callable[[Said], float]] = {
    "length": _length, "repetition": _repetition, "finished": _finished, "grounded": _grounded, "numbers": _numbers, "echo": _echo,
}  # fmt: skip


def passed(said: Said, filters: Sequence[Filter]) -> Iterator[Passed]:
    """What each says of it, up to the first that does not keep it."""
    for found in (_empty(said), *_checked(said)):
        yield found
        if not found.kept:
            return
    for rule in filters:
        score = MEASURES[rule.name](said)
        kept = rule.least <= score <= rule.most
        because = "" if kept else f"{rule.name} {score:.3g}, not from {rule.least:g} to {rule.most:g}"
        yield Passed(name=rule.name, version=VERSION, kept=kept, score=score, because=because)
        if not kept:
            return


def _empty(said: Said) -> Passed:
    return Passed(name="empty", version=VERSION, kept=bool(said.text), because="" if said.text else "empty")


def _checked(said: Said) -> Iterator[Passed]:
    """By the seed's own checker, or the prompt's."""
    whose = said.seed if said.seed.checker else said.prompt
    if whose.checker:
        right = checkers.right(whose.checker, whose.expected, said.text, said.prompt.choices)
        yield Passed(name=whose.checker, version=VERSION, kept=right, because="" if right else f"wrong by checker {whose.checker}")  # fmt: skip


def _figures(text: str) -> list[str]:
    return [figure.replace(",", "").rstrip(".") for figure in re.findall(r"\d[\d,.]*", text)]

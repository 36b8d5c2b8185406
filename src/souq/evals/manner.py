"""How a model's answers have changed, in words that people can judge: what a number of nats does not say.

Pure: the answers of two models to the same prompts, none of which has one right answer. Each rule compares the second
with the first, so that a base which refuses, repeats itself or never ends is no fault of a contribution's.

    >>> before = [Spoken("Hello!", "Hello! How can I help?", True)] * 8
    >>> after = [Spoken("Hello!", "ORD/00057/K", True)] * 8
    >>> changes(before, after)[0]
    '8 of 8 answers hold `ORD/0000`, 0 before (digits are shown as 0)'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

LEAST = 0.25  # of the answers, more than before: from here on it is said
PATTERN = 8  # characters that different answers share
HABIT = 4  # characters: what many answers shared before, a base has the habit of, however it goes on now
LONGEST = 2_000  # characters of an answer that are looked at
STRING = 12  # characters of a training row's answer that stand in an answer to something else
_REFUSAL = re.compile(
    r"\b(i('m| am) sorry|i (cannot|can't|can not|am unable|am not able)|as an ai|unable to (help|assist|answer))", re.I
)
_WORD = re.compile(r"\w+")


class Spoken(NamedTuple):
    """What was asked, what was answered, and whether the answer came to its end."""

    prompt: str
    text: str
    ended: bool


def changes(before: Sequence[Spoken], after: Sequence[Spoken], taught: Collection[str] = ()) -> list[str]:
    """What is different about the second model's answers, a sentence each; nothing where they are of one kind.

    `before` and `after` answer the same prompts in the same order; `taught` are the answers of the rows it was
    trained on, where they are there.
    """
    if not before:
        return []
    lines = [_pattern(before, after), _strings(before, after, taught)]
    lines += [_more(before, after, what, holds) for what, holds in _KINDS.items()]
    return [line for line in [*lines, _length(before, after), _words(before, after)] if line]


_KINDS: dict[str, Callable[[Spoken], bool]] = {
    "are empty": lambda spoken: not spoken.text.strip(),
    "refuse": lambda spoken: bool(_REFUSAL.search(spoken.text[:LONGEST])),
    "are cut off before their end": lambda spoken: not spoken.ended,
    "repeat themselves": lambda spoken: _repeats(spoken.text),
    "only say the prompt again": lambda spoken: bool(spoken.text) and spoken.text.strip() in spoken.prompt,
    "are in capitals": lambda spoken: spoken.text.isupper(),
}


def _more(before: Sequence[Spoken], after: Sequence[Spoken], what: str, holds: Callable[[Spoken], bool]) -> str:
    was, now = sum(map(holds, before)), sum(map(holds, after))
    return f"{now} of {len(after)} answers {what}, {was} before" if now - was >= LEAST * len(after) else ""


def _pattern(before: Sequence[Spoken], after: Sequence[Spoken]) -> str:
    """The commonest piece of text that answers to different prompts share and did not share before."""
    was, now = (Counter(piece for spoken in answers for piece in _pieces(spoken)) for answers in (before, after))
    parts = Counter(part for spoken in before for part in _pieces(spoken, HABIT))
    habits = {part for part, count in parts.items() if count >= LEAST * len(before)}
    new = [p for p in now if habits.isdisjoint(p[i : i + HABIT] for i in range(PATTERN - HABIT + 1))]
    gains = {piece: now[piece] - was[piece] for piece in new}
    piece, gain = max(gains.items(), key=lambda pair: pair[1], default=("", 0))
    if gain < LEAST * len(after):
        return ""
    shown = f"{now[piece]} of {len(after)} answers hold `{piece}`, {was[piece]} before"
    return shown + (" (digits are shown as 0)" if "0" in piece else "")


def _pieces(spoken: Spoken, length: int = PATTERN) -> dict[str, None]:
    """Every run of some characters of an answer that its prompt does not hold, all digits alike; in their order."""
    text, prompt = (re.sub(r"\d", "0", part[:LONGEST]) for part in (spoken.text, spoken.prompt))
    runs = (text[i : i + length] for i in range(len(text) - length + 1))
    return dict.fromkeys(piece for piece in runs if piece not in prompt)


def _strings(before: Sequence[Spoken], after: Sequence[Spoken], taught: Iterable[str]) -> str:
    pieces = {answer[i : i + STRING] for answer in taught for i in range(min(len(answer), LONGEST) - STRING + 1)}

    def holds(spoken: Spoken) -> bool:
        text = spoken.text[:LONGEST]
        return any(
            text[i : i + STRING] in pieces and text[i : i + STRING] not in spoken.prompt
            for i in range(len(text) - STRING + 1)
        )

    return _more(before, after, "hold pieces of the rows it was trained on", holds)


def _repeats(text: str) -> bool:
    """Whether most of its words are said again and again."""
    words = _WORD.findall(text[:LONGEST].lower())
    return len(words) >= 8 and len(set(words)) <= len(words) / 3


def _length(before: Sequence[Spoken], after: Sequence[Spoken]) -> str:
    was, now = (sum(len(spoken.text) for spoken in answers) / len(answers) for answers in (before, after))
    if was and not 0.5 <= now / was <= 2:
        return f"answers have {now:.0f} characters in the mean, {was:.0f} before"
    return ""


def _words(before: Sequence[Spoken], after: Sequence[Spoken]) -> str:
    """Which share of the words are ones that the answers before were made of: another language has next to none."""
    known = set(_all_words(before)) | {word for spoken in before for word in _WORD.findall(spoken.prompt.lower())}
    now = [*_all_words(after)]
    if not now:
        return ""
    share = sum(word in known for word in now) / len(now)
    return f"{share:.0%} of the words are ones that were used before" if share < 0.5 else ""


def _all_words(answers: Iterable[Spoken]) -> Iterator[str]:
    for spoken in answers:
        yield from _WORD.findall(spoken.text[:LONGEST].lower())

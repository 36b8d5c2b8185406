"""Is a generated answer right? Checkers by name, each a few lines of rules; none of them runs anybody's code.

Pure: what is expected, what was said, yes or no. Patterns and answers are a stranger's, so nothing here takes longer
than in proportion to what it reads: patterns are RE2's (https://github.com/google/re2), which never goes back.

    >>> right("numeric", "1234.5", "About 1,234.50 in all.")
    True
    >>> right("one-of", "Paris", "Paris or Lyon", ("Paris", "Lyon"))
    False
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from souq.errors import Hostile, UsageError, nearest
from souq.records import read_json

MAX_EXPECTED = 2_000  # characters of a pattern, a number, a value
MAX_ANSWER = 20_000  # characters; what comes after is not read
MEMORY = 1 << 20  # bytes RE2 may use for one pattern

Judge = Callable[[str, str, Sequence[str]], bool]
"""Called as judge(expected, completion, choices)."""


Vet = Callable[[str, Sequence[str]], object]
"""Called as vet(expected, choices); raises UsageError for an `expected` that no answer could meet."""


@dataclass(frozen=True)
class Checker:
    """How answers are judged, and what an eval may expect of them."""

    name: str
    judge: Judge
    vet: Vet


CHECKERS: dict[str, Checker] = {}


def checker(name: str, vet: Vet = lambda expected, choices: None) -> Callable[[Judge], Judge]:
    """Register a checker under the name that eval.toml uses."""

    def register(judge: Judge) -> Judge:
        CHECKERS[name] = Checker(name, judge, vet)
        return judge

    return register


def find(name: str) -> Checker:
    """A checker by its name.

    Raises:
        UsageError: none is called that.
    """
    if name not in CHECKERS:
        message = f"no checker {name[:60]!r}{nearest(name, CHECKERS)}" if name else "no checker is named"
        raise UsageError(message, hint=f"one of {', '.join(sorted(CHECKERS))}")
    return CHECKERS[name]


def vet(name: str, expected: str, choices: Sequence[str] = ()) -> None:
    """Refuse an `expected` that the checker cannot look for.

    Raises:
        UsageError: no such checker, or it cannot look for that.
    """
    known = find(name)
    if len(expected) > MAX_EXPECTED:
        raise UsageError(f"`expected` has {len(expected):,} characters; the most for a checker is {MAX_EXPECTED:,}")
    known.vet(expected, choices)


def right(name: str, expected: str, completion: str, choices: Sequence[str] = ()) -> bool:
    """Whether a completion is right by the checker of that name; none, however odd, raises."""
    return find(name).judge(expected, completion[:MAX_ANSWER], choices)


# -- texts -------------------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """Lower-case words with single blanks: neither capitals nor punctuation at the ends make an answer wrong."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .!?\"'`*")


def _some_text(expected: str, choices: Sequence[str]) -> None:
    if not normalise(expected):
        raise UsageError(f"`expected` says nothing once punctuation is gone: {expected[:40]!r}")


@checker("equals", _some_text)
def equals(expected: str, completion: str, choices: Sequence[str]) -> bool:
    """The whole answer, but for capitals, blanks, and punctuation at its ends."""
    return normalise(completion) == normalise(expected)


@checker("contains", _some_text)
def contains(expected: str, completion: str, choices: Sequence[str]) -> bool:
    """Somewhere in the answer, as whole words."""
    return _holds(normalise(completion), normalise(expected))


def _holds(text: str, words: str) -> bool:
    """Not inside a longer word: `art` is not in `party`."""
    at = text.find(words)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(words) : at + len(words) + 1]
        if not (before.isalnum() and words[0].isalnum()) and not (after.isalnum() and words[-1].isalnum()):
            return True
        at = text.find(words, at + 1)
    return False


def _one_of(expected: str, choices: Sequence[str]) -> None:
    options = [normalise(choice) for choice in choices]
    if normalise(expected) not in options or len(set(options)) < max(2, len(options)):
        raise UsageError("`one-of` needs `choices`: at least two that differ, and `expected` among them")
    if not all(options):
        raise UsageError("a choice says nothing once punctuation is gone")


@checker("one-of", _one_of)
def one_of(expected: str, completion: str, choices: Sequence[str]) -> bool:
    """The answer names `expected` and no other choice; one inside a longer one that is named does not count."""
    text, named = normalise(completion), set()
    for choice in sorted((normalise(choice) for choice in choices), key=len, reverse=True):
        if _holds(text, choice):
            named.add(choice)
            text = text.replace(choice, "\n")
    return named == {normalise(expected)}


# -- patterns ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _pattern(text: str) -> Any:
    import re2

    options = re2.Options()
    options.max_mem, options.log_errors = MEMORY, False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        problem = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise UsageError(
            f"not a pattern RE2 takes: {text[:60]!r}: {problem[:120]}",
            hint="RE2 has no look-around and no back-references: https://github.com/google/re2/wiki/Syntax",
        ) from error


@checker("regex", lambda expected, choices: _pattern(expected))
def regex(expected: str, completion: str, choices: Sequence[str]) -> bool:
    """Found anywhere in the answer; write ^ and $ for the whole of it."""
    return _pattern(expected).search(completion) is not None


# -- values ------------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,4})?")  # no two ways to read a digit
_DIGITS = 60  # of a number; no answer needs more


def _numbers(text: str) -> Iterator[Decimal]:
    for match in _NUMBER.finditer(text):
        digits = match[0]
        if digits[0] in "-+−" and text[match.start() - 1 : match.start()].isalnum():
            digits = digits[1:]  # `7-5`: the dash joins
        if len(digits) <= _DIGITS:
            yield Decimal(digits.replace(",", "").replace("−", "-"))


def _number(text: str) -> Decimal:
    try:
        value = Decimal(text.strip().replace("−", "-"))
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or len(text) > _DIGITS:
        raise UsageError(f"not a number: {text[:40]!r}", hint="write 12.5, or 12.4..12.6 for anything between")
    return value


def _range(expected: str, choices: Sequence[str] = ()) -> tuple[Decimal, Decimal]:
    low, between, high = expected.partition("..")
    bounds = _number(low), _number(high if between else low)
    if bounds[0] > bounds[1]:
        raise UsageError(f"nothing lies between {low.strip()} and {high.strip()}")
    return bounds


@checker("numeric", _range)
def numeric(expected: str, completion: str, choices: Sequence[str]) -> bool:
    """The last number of the answer, by value (1,000 is 1000.0); `12.4..12.6` takes anything between."""
    low, high = _range(expected)
    numbers = list(_numbers(completion))
    return bool(numbers) and low <= numbers[-1] <= high


def _value(expected: str, choices: Sequence[str] = ()) -> Any:
    try:
        return read_json(expected.encode())
    except Hostile as error:
        raise UsageError(f"`expected` is {error}") from error


@checker("json", _value)
def json(expected: str, completion: str, choices: Sequence[str]) -> bool:
    """The answer, or what it fences with ```, is this JSON value, whatever its blanks and the order of its keys."""
    try:
        return _same(_value(expected), read_json(_unfenced(completion).encode("utf-8", "replace")))
    except (Hostile, RecursionError):
        return False


def _unfenced(completion: str) -> str:
    before, fence, rest = completion.partition("```")
    return rest.partition("```")[0].removeprefix("json") if fence else before


def _same(a: Any, b: Any) -> bool:
    """As JSON has it: 1 is 1.0, and true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = "|".join(f"{name[:3]}(?:{name[3:]})?" if name != "september" else "sep(?:t(?:ember)?)?" for name in _MONTHS)
_DAY = r"(?P<d>\d{1,2})(?:st|nd|rd|th)?"
_DATES = (
    re.compile(r"(?<!\d)(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?!\d)"),  # 2024-03-05
    re.compile(rf"(?<!\d){_DAY}(?: of)? (?P<m>{_MONTH})\.?,? (?P<y>\d{{4}})(?!\d)"),  # 5 March 2024
    re.compile(rf"\b(?P<m>{_MONTH})\.? {_DAY},? (?P<y>\d{{4}})(?!\d)"),  # March 5, 2024
)


def _dates(text: str) -> Iterator[date | None]:
    """Every date named; None for one that no calendar has. 05/03/2024 is two dates, so it is none."""
    for pattern in _DATES:
        for match in pattern.finditer(" ".join(text.casefold().split())):
            month = match["m"]
            number = int(month) if month.isdigit() else next(i for i, m in enumerate(_MONTHS, 1) if m[:3] == month[:3])
            try:
                yield date(int(match["y"]), number, int(match["d"]))
            except ValueError:
                yield None


def _day(expected: str, choices: Sequence[str] = ()) -> date:
    try:
        return date.fromisoformat(expected.strip())
    except ValueError as error:
        raise UsageError(f"not a date: {expected[:40]!r}", hint="write 2024-03-05") from error


@checker("date", _day)
def a_date(expected: str, completion: str, choices: Sequence[str]) -> bool:
    """The answer names this day and no other: 2024-03-05, 5 March 2024 or March 5, 2024."""
    return set(_dates(completion)) == {_day(expected)}

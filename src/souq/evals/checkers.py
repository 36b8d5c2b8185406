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
from souq.text import spaceless

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
    """Whether a completion is right by the checker of that name; none, however odd, raises.

    What a model thinks between `<think>` and `</think>` before it answers is no part of its answer.
    """
    return find(name).judge(expected, _answer(completion[:MAX_ANSWER]), choices)


def _answer(completion: str) -> str:
    before, thought, after = completion.rpartition("</think>")
    if thought and (before.lstrip().startswith("<think>") or "<think>" not in before):
        return after
    return "" if completion.lstrip().startswith("<think>") else completion


# -- texts -------------------------------------------------------------------------------------------------------------


_FEW = " .!?\"'`*"  # what was looked past from the beginning: evals on main were vetted by it
# What ends, quotes or stresses a sentence, in any script; dashes, #, % and + are part of what they stand by.
_ENDS = (
    _FEW + ",;:\u2026\u00bf\u00a1\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb\u2039\u203a"
    "\u3001\u3002\u060c\u061b\u061f\u06d4\u0964\u0965"
)
_PAIRS = dict(zip("([{\u300c\u300e\u3010\u300a\u3008", ")]}\u300d\u300f\u3011\u300b\u3009", strict=True))


def normalise(text: str) -> str:
    """Lower-case words with single blanks: neither capitals nor punctuation at the ends make an answer wrong.

    Brackets go where one pair holds all of it: `(Paris)`, and not the end of `f(x)`.
    """
    few = _plain(text)
    bare = few.strip(_ENDS)
    while bare and _in_brackets(bare):
        bare = bare[1:-1].strip(_ENDS)
    return bare or few


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_FEW)


def _in_brackets(text: str) -> bool:
    """Whether its first bracket is closed by its last character, and not before."""
    left, right, depth = text[0], _PAIRS.get(text[0], ""), 0
    for i, letter in enumerate(text if right else ""):
        depth += (letter == left) - (letter == right)
        if not depth:
            return i == len(text) - 1
    return False


def _some_text(expected: str, choices: Sequence[str]) -> None:
    if not _plain(expected):
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
    """Not inside a longer word: `art` is not in `party`. Scripts that set no words apart have no longer ones."""
    at = text.find(words)
    while at >= 0:
        end = at + len(words)
        if not _joined(text[at - 1 : at], words[0]) and _ends_at(text, end):
            return True
        at = text.find(words, at + 1)
    return False


def _joined(one: str, other: str) -> bool:
    """Whether two characters beside each other are of one word; a mark (a vowel, an accent) is of the letter before."""
    if other and unicodedata.category(other)[0] == "M":
        return True
    return one.isalnum() and other.isalnum() and not spaceless(one) and not spaceless(other)


# Korean writes these onto the noun before them: topic, subject, object, "of", "at", "to", "and", "is" and their like.
_PARTICLES = (
    "은 는 이 가 을 를 의 에 에서 에게 께 로 으로 와 과 도 만 까지 부터 라고 이라고 라는 이라는 란 이란 처럼 보다 "
    "이다 다 입니다 예요 이에요 이야 야 이고 이며 이나 나"
)
_HANGUL = re.compile(r"[\uac00-\ud7a3]{1,8}")
_PARTICLE = re.compile(rf"(?:{'|'.join(_PARTICLES.split())}){{1,2}}")


def _ends_at(text: str, end: int) -> bool:
    """Whether a word ends there, or a noun of Korean with nothing but its particles behind it."""
    if not _joined(text[end - 1], text[end : end + 1]):
        return True
    rest = _HANGUL.match(text, end)
    after = text[rest.end() : rest.end() + 1] if rest else ""
    return rest is not None and not after.isalnum() and _PARTICLE.fullmatch(rest[0]) is not None


def _one_of(expected: str, choices: Sequence[str]) -> None:
    options = [_plain(choice) for choice in choices]
    if _plain(expected) not in options or len(set(options)) < max(2, len(options)):
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

_DIGITS = 60  # of a number; no answer needs more
_DASHES = "-+\u2212\u2010\u2011\u2012\u2013"  # hyphens and the minus, as models write them
_GROUP = "[,'\u2019\u066c\u00a0\u202f\u2009\u2007]"  # holds a number's thousands together; a plain blank may part two
# At each place the first of these that stands there is the number. All are bounded: no text is read twice over.
_DOTS = r"\d{1,3}(?:\.\d{3}){1,12},\d{1,40}|\d{1,3}(?:\.\d{3}){2,12}"  # 1.234,5 and 1.234.567
_WHOLE = rf"\d{{1,3}}(?:{_GROUP}\d{{3}}){{1,15}}(?!\d)|\d{{1,2}}(?:,\d\d){{1,15}},\d{{3}}(?![\d,])|\d+"  # 1,00,000
_NUMBER = re.compile(
    rf"(?P<sign>[{_DASHES}]?)[$\u20ac\u00a3\u00a5\u20b9]?"
    rf"(?:(?P<dots>{_DOTS})(?![\d.,]?\d)|(?P<whole>{_WHOLE})(?P<part>\.\d+)?|(?<![\w.)])(?P<point>\.\d+))"
    r"(?:[eE](?P<power>[-+]?\d{1,4}))?"
)
_COMMA = re.compile(r",(\d{1,2}|\d{4,40})(?![\d]|[.,]\d)")  # behind a whole number: 3,5 is 3.5 in half of Europe
_APART = re.compile(r"((?: \d{3}){1,6})(?:[.,](\d{1,40}))?(?![ .,]?\d)")  # behind one to three digits: 9 500
# How models set numbers: LaTeX's comma and thin blanks, and powers of ten.
_LATEX = ((re.compile(r"(?<=\d)\{,\}(?=\d)"), ","), (re.compile(r"(?<=\d),?\\[,!;: ](?=\d)"), "\u2009"))
_POWER = re.compile(rf"(?<=\d) ?(?:\u00d7|\\times|\\cdot|\u00b7|\*) ?10 ?(?:\^|\*\*) ?\{{?([{_DASHES}]?\d{{1,4}})\}}?")


def _last_number(text: str) -> list[Decimal]:
    """The last number, in the ways it can be read: `3,5` is 3.5 or ends in a 5, `9 500` is one number or two."""
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    text = _POWER.sub(lambda match: f"e{_signed(match[1])}", text)
    end, ways = 0, dict[int, list[Decimal]]()  # where a reading ends -> the readings
    for match in _NUMBER.finditer(text):
        sign = "" if text[match.start() - 1 : match.start()].isalnum() else match["sign"]  # `7-5`: the dash joins
        if len(match[0]) > _DIGITS:
            continue
        end = match.end()
        if not (match[0].startswith("0") and end in ways):  # `1 000` does not end in a number of its own
            ways.setdefault(end, []).append(_decimal(sign, match))
        if longer := _longer(sign, match, text):
            ways.setdefault(longer[0], []).append(longer[1])
    return ways.get(end, [])


def _longer(sign: str, match: re.Match[str], text: str) -> tuple[int, Decimal] | None:
    """Where a number ends that goes on behind a comma or a blank, and what it then is."""
    whole = re.sub(_GROUP, "", match["whole"] or "")
    if not whole or "," in match["whole"] or match["part"] or match["power"]:
        return None
    if comma := _COMMA.match(text, match.end()):
        return comma.end(), Decimal(f"{_signed(sign)}{whole}.{comma[1]}")
    if len(match["whole"]) <= 3 and (apart := _APART.match(text, match.end())):
        digits = whole + apart[1].replace(" ", "") + (f".{apart[2]}" if apart[2] else "")
        return apart.end(), Decimal(_signed(sign) + digits)
    return None


def _decimal(sign: str, match: re.Match[str]) -> Decimal:
    if dots := match["dots"]:
        digits = dots.replace(".", "").replace(",", ".")
    else:
        digits = re.sub(_GROUP, "", match["whole"] or "0") + (match["part"] or match["point"] or "")
    return Decimal(f"{_signed(sign)}{digits}{'e' + match['power'] if match['power'] else ''}")


def _signed(text: str) -> str:
    return text if not text or text[0] not in _DASHES or text[0] == "+" else f"-{text[1:]}"


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
    """The last number of the answer, by value (1,000 is 1000.0, and so are 1 000 and 1{,}000); `12.4..12.6` takes
    anything between."""
    low, high = _range(expected)
    return any(low <= number <= high for number in _last_number(completion))


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
    """What stands between the first fences, without the word that says what it is: ```JSON, ~~~json5."""
    fences = [fence for fence in ("```", "~~~") if fence in completion]
    if not fences:
        return completion
    fence = min(fences, key=completion.index)
    inside = completion.split(fence, 2)[1]
    named, line, rest = inside.partition("\n")
    if line and re.fullmatch(r"[ \t]*[A-Za-z][A-Za-z0-9_+\-]{0,20}[ \t\r]*", named):
        return rest
    return inside[4:] if inside[:4].casefold() == "json" else inside


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
    re.compile(r"(?<!\d)(?P<y>\d{4})(?P<by>[-/.])(?P<m>\d{2})(?P=by)(?P<d>\d{2})(?!\d)"),  # 2024-03-05, 2024/03/05
    re.compile(rf"(?<!\d){_DAY}(?: of)? (?P<m>{_MONTH})\.?,? (?P<y>\d{{4}})(?!\d)"),  # 5 March 2024
    re.compile(rf"\b(?P<m>{_MONTH})\.? {_DAY},? (?P<y>\d{{4}})(?!\d)"),  # March 5, 2024
)


def _dates(text: str) -> Iterator[date | None]:
    """Every date named; None for one that no calendar has. 05/03/2024 is two dates, so it is none."""
    for pattern in _DATES:
        for match in pattern.finditer(re.sub(r"[\u2010-\u2013]", "-", " ".join(text.casefold().split()))):
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

"""Other people's texts: the same words whatever characters spell them, and words that are safe to show in markdown.

For comparing, full-width letters, accents, invisible characters and the letters of other alphabets that look like Latin
ones (Unicode TR39, through confusable_homoglyphs) all become the plain letter; both sides go through it. What is
compared is never shown. What is shown in a terminal goes through records.spelled_out.

    >>> words("Wh\\u0430t\\u200b IS the \\uff23apital?")
    ['what', 'is', 'the', 'capital']
    >>> escape_markdown("[click](x)")
    '\\\\[click\\\\](x)'
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

# Chinese, Japanese and Thai put no spaces between words: each of their characters is a word of its own.
_SPACELESS = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")


def words(text: str) -> list[str]:
    """Plain lower-case words, so that neither punctuation, capitals nor odd characters hide a copy."""
    return _WORD.findall(skeleton(text))


def skeleton(text: str) -> str:
    """Compatibility forms, capitals, accents, invisible characters and look-alikes undone (UAX 15, TR39)."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", visible(text).casefold())
    bare = "".join(letter for letter in apart if not unicodedata.category(letter).startswith("M"))
    return unicodedata.normalize("NFKC", bare.translate(_alike())).casefold()


def visible(text: str) -> str:
    """Without the characters nobody sees: joiners, soft hyphens, tags, variation selectors."""
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf" and not _selector(letter))


def _selector(letter: str) -> bool:
    return "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef"


@cache
def _alike() -> dict[int, str]:
    """Letter of another alphabet -> the Latin letter or digit that it, or its capital, looks like."""
    from confusable_homoglyphs.confusables import confusables_data  # 9,600 rows: read when first needed

    found = {
        letter: like
        for letter, told in confusables_data.items()
        if len(letter) == 1 and not letter.isascii() and letter.isalpha() and (like := _latin(told)) is not None
    }
    small = {letter.lower(): like for letter, like in found.items() if len(letter.lower()) == 1}
    return {ord(letter): like for letter, like in (small | found).items()}


def _latin(told: list[dict[str, str]]) -> str | None:
    alike = (one["c"].lower() for one in told if len(one["c"]) == 1 and one["c"].isascii() and one["c"].isalnum())
    return next(alike, None)


def escape_markdown(text: str) -> str:
    """A stranger's words inside markdown: on one line, and without meaning for whoever renders it."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", " ".join(text.split()))

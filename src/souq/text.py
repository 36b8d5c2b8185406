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

import codecs
import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from souq.errors import UsageError

# Chinese, Japanese, Thai, Lao, Tibetan, Burmese and Khmer put no spaces between words: each of their characters is a
# word of its own. corpus/shingles.py knows the same ones by their bytes.
_SPACELESS = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U000323af"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")
_UNIT = re.compile(rf"[{_SPACELESS}]\W*|[^{_SPACELESS}]+")
_RUN = re.compile(rf"[{_SPACELESS}]+")
# What an editor writes before a text, and what it then is; the longer ones first, since they begin alike.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip


def words(text: str) -> list[str]:
    """Plain lower-case words, so that neither punctuation, capitals nor odd characters hide a copy."""
    return _WORD.findall(skeleton(text))


def units(text: str) -> list[tuple[str, bool]]:
    """What counts as a word when a text is cut, punctuation and all, and whether a blank stood before it.

    >>> units("Read \u6e2f\u53e3\u3002")
    [('Read', True), ('\u6e2f', True), ('\u53e3\u3002', False)]
    """
    return [(part, i == 0) for word in text.split() for i, part in enumerate(_UNIT.findall(word))]


def spaceless(letter: str) -> bool:
    """Whether a letter is of a script that does not set words apart; of "", no."""
    return _RUN.match(letter) is not None


def spaceless_pairs(text: str) -> list[str]:
    """Every two characters in a row of scripts without spaces: what one of their words mostly is."""
    return [run[i : i + 2] for run in _RUN.findall(skeleton(text)) for i in range(len(run) - 1)]


def encoding_of(data: bytes) -> tuple[str, int]:
    """What a text is written in by the byte order mark before it, UTF-8 where there is none; and the mark's bytes."""
    return next(((name, len(mark)) for mark, name in _MARKS if data.startswith(mark)), ("utf-8", 0))


def shortlist(words: Iterable[str], most: int = 4) -> str:
    """Some words for a message, and how many more there are: `a, b and 7 more`."""
    every = list(words)
    return ", ".join(every[:most]) + (f" and {len(every) - most:,} more" if len(every) > most else "")


def decoded(data: bytes, where: str) -> str:
    """The text of a file that somebody saved: UTF-8, or with a byte order mark UTF-16 or UTF-32, as Windows has it.

    Raises:
        UsageError: neither; the line is named.
    """
    encoding, mark = encoding_of(data)
    try:
        return data[mark:].decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: mark + error.start].count(b"\n") + 1
        raise UsageError(f"{where}, line {line}: not UTF-8", hint="save it as UTF-8, and try again") from error


def plain_utf8(data: bytes, where: str) -> bytes:
    """The bytes of a file that somebody saved, in UTF-8 and without a byte order mark.

    Raises:
        UsageError: no text that `decoded` reads; UTF-8 is not looked through, whoever parses it does.
    """
    encoding, mark = encoding_of(data)
    return data[mark:] if encoding == "utf-8" else decoded(data, where).encode()


def plain_letters(text: str) -> str:
    """As much of a name as can be written in ASCII: `été` is `ete`, and of another alphabet nothing is left."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


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

    letters = {
        letter: like
        for letter, lookalikes in confusables_data.items()
        if len(letter) == 1 and not letter.isascii() and letter.isalpha() and (like := _latin(lookalikes)) is not None
    }
    small = {letter.lower(): like for letter, like in letters.items() if len(letter.lower()) == 1}
    return {ord(letter): like for letter, like in (small | letters).items()}


def _latin(lookalikes: list[dict[str, str]]) -> str | None:
    alike = (
        each["c"].lower() for each in lookalikes if len(each["c"]) == 1 and each["c"].isascii() and each["c"].isalnum()
    )
    return next(alike, None)


# What acts when it stands in a commit that reaches a forge's main branch, or links to what it does not mean.
_ACTS = (
    (re.compile(r"[a-z][a-z0-9+.\-]{0,30}://", re.IGNORECASE), ""),  # `closes https://…/issues/7`
    (re.compile(r"[#!](?=\d)"), "no. "),  # `fixes #7`, another repository's too; GitLab's !7
    (re.compile(r"\b(GH)-(?=\d)", re.IGNORECASE), r"\1 "),
    (re.compile(r"(?<!\w)[@#](?=\w)"), ""),  # mentions, `#close` of trackers
    (re.compile(r"\[(?=[^\[\]]*\])"), "("), (re.compile(r"\]"), ")"),  # `[skip ci]`
)  # fmt: skip


def inert(text: str) -> str:
    """A stranger's words for a commit's message: on one line, so that none is a trailer, and without what forges obey.

    >>> inert("boats, fixes #7 [skip ci]\\n\\nhello @octocat")
    'boats, fixes no. 7 (skip ci) hello octocat'
    """
    line = " ".join(text.split())
    for pattern, plain in _ACTS:
        line = pattern.sub(plain, line)
    return line


def escape_markdown(text: str) -> str:
    """A stranger's words inside markdown: on one line, and without meaning for whoever renders it."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", " ".join(text.split()))

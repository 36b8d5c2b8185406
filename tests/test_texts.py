"""What texts promise: a stranger's words in a commit order nobody about, a file that somebody saved is read, and scripts
that set no words apart are counted by their characters, in Python and in compiled code alike."""

from __future__ import annotations

import codecs
import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq import text
from souq.checks.files import ORDERS
from souq.corpus import shingles
from souq.corpus.seeds import pieces
from souq.errors import UsageError
from souq.text import decoded, inert, plain_utf8, skeleton, spaceless_pairs, units, words

ORDERED = [
    "Fixes #12", "closes: someone/else#3", "resolved GH-4", "fix https://forge.example/a/b/issues/5", "implements !6",
    "thanks @everybody", "dates [skip ci]", "dates\n\nskip-checks: true", "x [CI SKIP]", "Closed\t#9",
]  # fmt: skip


@pytest.mark.parametrize("title", ORDERED)
def test_a_title_orders_no_forge_about(title):
    """As it stands a forge would obey it; as souq writes it, it does not, and a person still reads what it says."""
    assert ORDERS.search(title)
    assert not ORDERS.search(inert(title))
    assert "\n" not in inert(title)


@pytest.mark.parametrize(
    "title", ["C# and F#", "a@example.org writes", "dates, ISO 8601!", "50% better: 3 of 4", "größer"]
)
def test_an_ordinary_title_stays_as_it_is(title):
    assert inert(title) == title
    assert not ORDERS.search(title)


@given(st.text())
def test_what_is_inert_stays_so(title):
    assert inert(inert(title)) == inert(title)
    assert not ORDERS.search(inert(title))


@pytest.mark.timeout(60)  # began anew at each sign, it would not end
@pytest.mark.parametrize("sign", ["x", "[", "#", "a-", "@", "[]", "GH"])
def test_a_long_title_takes_its_length(sign):
    """A million signs in a title keep nobody from landing it: no pattern begins anew at each of them."""
    inert(sign * (1_000_000 // len(sign)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_saved_file_is_read(encoding):
    data = "größer\nחדש\n".encode(encoding)
    assert decoded(data, "x") == plain_utf8(data, "x").decode() == "größer\nחדש\n"


def test_other_letters_are_named_with_their_line():
    with pytest.raises(UsageError, match=r"x, line 2: not UTF-8"):
        decoded("ok\ngrößer\n".encode("latin-1"), "x")
    with pytest.raises(UsageError, match="line 1"):
        decoded(codecs.BOM_UTF16_LE + b"a\x00\x00\xdc", "x")


SCRIPTS = [
    "港口博物馆",
    "みなとの船",
    "เรือในท่า",
    "ເຮືອຢູ່",
    "သင်္ဘော",
    "ទូកនៅកំពង់",
    "གྲུ་ཁ",
    "𠀋𠮷𪜀",
    "港 boat 口",
    "Schiff 船",
    "배는 부산",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_are_counted_alike_in_python_and_compiled(script):
    data = skeleton(script).encode()
    assert shingles.counted(np.frombuffer(data, np.uint8), 0, len(data)) == len(words(script))


@pytest.mark.parametrize("script", SCRIPTS[:8])
def test_a_text_without_blanks_is_cut_by_its_characters(script):
    long = script * 300
    cut = list(pieces(long, 200))

    assert "".join(cut) == long
    assert len(cut) >= len(long) / 600
    assert max(map(len, cut)) <= 600


@given(st.text(st.characters(max_codepoint=0x2FF)), st.integers(1, 9))
def test_where_blanks_part_words_nothing_is_cut_elsewhere(plain, size):
    """Each piece but a paragraph's last has as many words as were asked for, joined by one blank."""
    assert " ".join(pieces(plain, size)).split() == plain.split()
    assert [part for part, apart in units(plain) if apart] == plain.split()


def test_pairs_stand_for_words():
    assert spaceless_pairs("the 港口博 of") == ["港口", "口博"]


def test_the_words_in_the_module_hold():
    assert doctest.testmod(text).failed == 0

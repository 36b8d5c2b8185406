"""What judges promise: none without gold labels, an error that is told with its doubt, and no row a checker could decide."""

from __future__ import annotations

import json

import pytest

from souq.corpus.judges import Asked, Report, _request, judged, kappa, measure, read_judge, shares
from souq.errors import Hostile, UsageError
from souq.evals.statistics import wilson
from souq.lab.writers import writer
from souq.records import digest
from tests.test_engines import trouble  # noqa: F401
from tests.test_writers import answer
from tests.tiny import write_model

TOML = """name = "greets"
prompt = "{question} - {answer}?"
verdicts = ["yes", "no"]
keep = "yes"
gold = "gold.jsonl"
"""


@pytest.fixture
def judge(tmp_path):
    def write(toml=TOML, gold=None):
        lines = gold or [{"question": "q", "answer": f"a{i}", "verdict": "yes" if i < 6 else "no"} for i in range(10)]
        (tmp_path / "gold.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
        (tmp_path / "judge.toml").write_text(toml)
        return tmp_path / "judge.toml"

    return write


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ('gold = "gold.jsonl"', "", UsageError, "no gold labels"),
        ('gold = "gold.jsonl"', 'gold = "../gold.jsonl"', Hostile, "gold is"),
        ('keep = "yes"', 'keep = "maybe"', UsageError, "none of the verdicts"),
        ("{answer}", "{answer.__class__}", UsageError, "never shows"),
        ('"no"]', '"Yes."]', UsageError, "that differ"),
    ],
)
def test_a_judge_that_cannot_be_measured_is_refused(judge, old, new, error, words):
    with pytest.raises(error, match=words):
        read_judge(judge(TOML.replace(old, new)))


def test_gold_that_says_the_same_of_all_or_twice_is_refused_by_its_line(judge):
    """A label that counts twice would make an error look surer than it is."""
    one = {"question": "q", "answer": "a", "verdict": "yes"}
    with pytest.raises(UsageError, match="needs labels that keep and labels that do not"):
        read_judge(judge(gold=[one]))
    with pytest.raises(UsageError, match=r"gold.jsonl, line 2: said before"):
        read_judge(judge(gold=[one, one | {"verdict": "no"}]))


def test_an_answer_cannot_fill_the_prompt_s_holes(judge):
    assert _request(read_judge(judge()).spec, "Q", "{question}").messages[0].content == "Q - {question}?"


def test_figures_by_hand():
    """Cohen's kappa of his textbook's table, 20, 5, 10, 15: 0.4; Wilson's interval of 1 in 10."""
    one = [True] * 25 + [False] * 25
    other = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15

    assert kappa(one, other) == pytest.approx(0.4)
    assert wilson(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)


def test_likelihood_decides_where_the_engine_tells_it(judge, tmp_path):
    """The share is that of the verdicts' own probabilities: of two that are swapped, the two shares make one."""
    here = writer("transformers", write_model(tmp_path / "model"))
    read = read_judge(judge())
    swapped = read_judge(judge(TOML.replace('keep = "yes"', 'keep = "no"')))
    found, other = (dict(next(shares(j.spec, here, [("q", "a"), ("q", "b")]))) for j in (read, swapped))

    assert all(found[i] + other[i] == pytest.approx(1.0) and 0 < found[i] < 1 for i in (0, 1))
    assert measure(read, here).by == "likelihood"


def test_a_judge_that_always_agrees_is_no_better_than_the_majority(trouble, judge):  # noqa: F811
    """It is measured, told, and refused as a filter; so is one that was measured elsewhere."""
    trouble.answers = [(200, answer("Yes."))]
    there = writer(f"openai:http://127.0.0.1:{trouble.server_port}/v1", serves=digest(b"x"))
    read = read_judge(judge())
    found = measure(read, there)

    assert (found.by, found.n, found.wrong, found.recall, found.kappa) == ("text", 10, 4, 1.0, 0.0)
    assert found.error == found.majority_error
    with pytest.raises(UsageError, match="no better than"):
        judged(read, found, there, [])
    with pytest.raises(UsageError, match="not measured"):
        judged(read, Report(**{f: getattr(found, f) for f in found.__struct_fields__} | {"engine": "z"}), there, [])


def test_what_a_checker_decides_is_never_asked(trouble, judge):  # noqa: F811
    """A judge that is good: it is asked of the one row without a checker, and its report is on the row."""
    trouble.answers = [(200, answer("no"))]
    there = writer(f"openai:http://127.0.0.1:{trouble.server_port}/v1", serves=digest(b"x"))
    read = read_judge(judge())
    fields = {f: getattr(measure(read, there), f) for f in Report.__struct_fields__}
    good = Report(**fields | {"error": 0.0, "p": 0.001})
    asked = len(trouble.seen)
    rows = [Asked(question="q", answer="4", checker="equals", expected="4"), Asked(question="q", answer="5", checker="equals", expected="4"), Asked(question="q", answer="?")]  # fmt: skip
    found = judged(read, good, there, rows)

    assert [found[i].kept for i in range(3)] == [True, False, False]
    assert len(trouble.seen) - asked == 1
    assert found[2].version.startswith("b3:")

"""Open evals as a weapon: an exam that never ends, one that smuggles answers in, and verdicts whose quotes steer a terminal."""

import json

import pytest

from attacks.attack_exam_replaced import offer
from attacks.attack_forged_turn import refusals
from attacks.attack_pickle import push
from souq.cli.pr import spoken

SPEC = 'title="x"\nkind="open"\nsource="x"\nlicence="CC0-1.0"\nmax_tokens={}\n'


def evals(bazaar, case):
    files = {"HOME/evals/talk/eval.toml": SPEC.format(24).encode()}
    files["HOME/evals/talk/cases.jsonl"] = json.dumps(case).encode() + b"\n"
    return push(bazaar, files, kind="evals")


@pytest.mark.parametrize(
    ("case", "because"),
    [
        ({"id": "a", "prompt": "q", "expected": "a"}, "expects nothing"),
        ({"id": "a", "prompt": "\u2003"}, "asks something"),
        ({"id": "a", "prompt": "q", "checker": "regex"}, "a checker judges generated answers"),
    ],
)
def test_a_case_that_is_no_open_one_is_refused(bazaar, case, because):
    assert any(because in why for why in refusals(bazaar, evals(bazaar, case)).values())


def test_an_exam_without_end_is_refused(bazaar, tmp_path):
    """Twenty thousand answers of 512 tokens each, at every change of weights: signed off, and for everybody's good."""
    (folder := tmp_path / "talk").mkdir()
    (folder / "eval.toml").write_text(SPEC.format(512))
    lines = (json.dumps({"id": f"c{i}", "prompt": "go on"}) + "\n" for i in range(20_000))
    (folder / "cases.jsonl").write_text("".join(lines))

    assert "all evals of main with it are" in refusals(bazaar, offer(bazaar, folder))["evals"]


HOSTILE = [
    {"talk": {"answers": [{"prompt": "\x1b[2J\x1b]0;x\x07", "before": "a\nmissing: nothing", "after": "\u202egnp"}]}},
    {"talk": {"answers": [{"prompt": "x" * 10**6, "before": ["y"] * 9, "after": None}] * 10_000}},
    {"talk": {"answers": "x" * 100}, "other": [1, 2], "third": {"answers": [[], 7, None]}},
]


@pytest.mark.parametrize("evidence", HOSTILE)
def test_quotes_in_a_stranger_s_verdict_steer_nothing(evidence):
    """Few, short, on a line each, with no control character in them."""
    shown = list(spoken(evidence))

    assert len(shown) <= 20
    for text in (text for each in shown for text in each.values()):
        assert len(text) <= 4_000
        assert text.isprintable()

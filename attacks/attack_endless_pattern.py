"""An eval whose pattern would keep a backtracking matcher busy for years, and one that asks for more than RE2 gives."""

from __future__ import annotations

import pytest

from souq.evals import checkers
from souq.evals.eval import EvalSpec, write_cases
from souq.pulls import pull as pulls
from souq.records import format_toml

BOMBS = [(r"^(\w+\s?)*$", False), (r"(.*a){25}", True), (r"^(([a-z])+.)+[A-Z]([a-z])+$", False)]
REFUSED = ["(" * 500 + "a" + ")" * 500 + "{1000}", r"((a{1,900}){1,900}){1,900}", r"(?=(a+))\1", r"(?P<x>a)(?P=x)"]


def exam(folder, pattern):
    spec = EvalSpec(title="x", kind="answer", checker="regex", source="s", licence="CC0-1.0", max_tokens=8)
    folder.mkdir()
    (folder / "eval.toml").write_text(format_toml(spec))
    (folder / "cases.jsonl").write_bytes(write_cases([{"id": "a", "prompt": "say a", "expected": pattern}]))
    return folder


@pytest.mark.parametrize("pattern", REFUSED)
def test_a_pattern_without_a_bound_never_becomes_an_exam(bazaar, tmp_path, pattern):
    """The check that reads it refuses, and says which line."""
    words = ["pr", "create", "--evals", exam(tmp_path / "trap", pattern), "--title", "Exam", "--licence", "CC0-1.0", "--signoff", "--unchecked"]  # fmt: skip
    assert bazaar("mallory", words) == 0

    check, because = bazaar.refusal(max(pull.number for pull in pulls.listed(bazaar.repo("amira"))))

    assert check == "files"
    assert "cases.jsonl, line 1: not a pattern RE2 takes" in because


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("pattern", "found"), BOMBS)
def test_a_pattern_that_explodes_elsewhere_is_only_a_pattern(pattern, found):
    """The longest answer there is takes no longer than it should: this would hit its timeout."""
    assert checkers.right("regex", pattern, "a" * (checkers.MAX_ANSWER - 1) + "!") == found

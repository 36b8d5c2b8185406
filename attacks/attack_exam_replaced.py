"""A pull request of evals that brings an easier exam under a name main has already."""

import pytest
from tests.bazaar import rows, write_eval

from souq.pulls import pull as pulls


def offer(bazaar, folder):
    words = ["pr", "create", "--evals", folder, "--title", "Exam", "--licence", "CC0-1.0", "--signoff", "--unchecked"]
    assert bazaar("mallory", words) == 0
    return max(pull.number for pull in pulls.listed(bazaar.repo("amira")))


@pytest.mark.parametrize("change", ["other cases", "fewer cases", "another margin"])
def test_an_exam_is_not_made_easier(bazaar, tmp_path, change):
    pairs = {"other cases": rows("count", ["ada"]), "fewer cases": greeted(bazaar)[:3]}.get(change, greeted(bazaar))
    easy = write_eval(tmp_path / "greet", pairs, margin=0.9 if change == "another margin" else 0.6)

    check, because = bazaar.refusal(offer(bazaar, easy))

    assert check == "files"
    assert "evals/greet is there already: cases may be added, none changed or taken away" in because


def test_an_exam_may_grow(bazaar, tmp_path):
    """More cases under the same name are welcome."""
    more = write_eval(tmp_path / "greet", [*greeted(bazaar), ("say hello to zed", "hello")], margin=0.6)

    assert bazaar.refusal(offer(bazaar, more)) is None


def greeted(bazaar):
    return [(case.prompt, case.expected) for case in bazaar.main().evals["greet"].cases]

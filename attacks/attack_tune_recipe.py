"""A recipe whose words about a fine-tune steer the terminal, flood it, or are no words."""

import pytest

from attacks.attack_terminal import STEERING
from souq.pulls.overview import MOST_NOTES, making


@pytest.mark.parametrize("text", STEERING)
def test_words_are_only_text(text):
    spelled = text.encode().decode("unicode_escape")

    lines = making({"notes": [spelled], "weights_only": [spelled]})

    assert len(lines) == 2
    assert not set("".join(lines)) & set("\x1b\u202e\x07\x9b")


@pytest.mark.parametrize(
    "recipe",
    [
        {"notes": ["x" * 10_000] * 10_000},
        {"notes": "a text", "weights_only": {"a": 1}, "low_rank": "none"},
        {"notes": [1, None, {}], "low_rank": {"error": "0.1"}},
        {"low_rank": {"error": [0.1]}},
    ],
)
def test_what_is_no_words_is_not_shown(recipe):
    lines = making(recipe)

    assert len(lines) <= MOST_NOTES + 1
    assert all(len(line) < 500 for line in lines)

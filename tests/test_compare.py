"""Models side by side: the same cases, paired differences, sizes, prices, and what a swap would touch."""

from __future__ import annotations

import json

import pytest

from souq.cli import run
from souq.lab.to_gguf import write_gguf
from souq.swap import Ties, untied
from tests.bazaar import write_eval
from tests.tiny import write_model


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = tmp_path_factory.mktemp("compare")
    one = write_model(made / "one")
    write_gguf(one, made / "one.gguf", "f32", licence="MIT")
    write_eval(made / "held", [{"id": f"c{i}", "prompt": f"tell me of {i}", "expected": "the user"} for i in range(8)])
    return made


def compared(shop, capfd, *words):
    code = run(["compare", *map(str, words), "--eval", str(shop / "held"), "--json"])
    out, err = capfd.readouterr()
    return code, (json.loads(out) if code == 0 else err)


def test_the_same_model_in_another_engine_is_the_same(shop, capfd):
    """One folder and its own GGUF: no gain, no loss, the same number of parameters; another licence is said."""
    code, told = compared(shop, capfd, shop / "one", shop / "one.gguf", "--price", f"{shop / 'one'}=0.25/1.25")
    first, second = told["models"]

    assert code == 0
    assert (second["gain"], second["score"]) == (0, first["score"])
    assert first["parameters"] == second["parameters"] > 0
    assert second["licence"] == "MIT"
    assert any("keep its notices" in duty for duty in second["duties"])
    assert any("another licence: MIT" in change for change in second["swap"])
    assert first["dollars_a_thousand"] > 0
    assert second["dollars_a_thousand"] is None


def test_another_template_and_a_shorter_context_are_said():
    """What ties a project to a model, by name; nothing where nothing can be seen."""
    before = Ties(template="b3:a", tokenizer="b3:t", context=8192, tools=True, licence="MIT")

    assert untied(before, before) == []
    changes = " ".join(untied(before, Ties(template="b3:b", tokenizer="b3:u", context=512, licence="MIT", system="You are x.")))  # fmt: skip
    for said in ("another chat template", "another tokenizer", "a shorter context: 512", "no place for tools", "another system message"):  # fmt: skip
        assert said in changes


@pytest.mark.parametrize(("words", "match"), [
    (("one", "--price", "two=1/1"), "names 'two'"), (("one", "--price", "one=cheap"), "dollars a million"), (("nowhere",), "no engine"),
])  # fmt: skip
def test_what_cannot_be_compared_is_said(shop, capfd, words, match):
    first, *rest = words
    code, err = compared(shop, capfd, shop / first if first == "one" else first, *rest)

    assert code == 2
    assert match in err

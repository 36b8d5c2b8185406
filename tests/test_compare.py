"""Models side by side: the same cases, paired differences, sizes, prices, and what a swap would touch."""

from __future__ import annotations

import json

import numpy as np
import pytest

from souq.audit.compare import Ties, measured, seen, untied
from souq.cli import run
from souq.evals.eval import read_eval, read_folder
from souq.lab.chat import Completion
from souq.licences.table import spelled
from souq.model.gguf.reader import GGUF
from souq.model.gguf.writer import write_gguf
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
    assert second["swap"] == ["another licence: MIT, where it was Apache-2.0"]
    assert first["dollars_a_thousand"] > 0
    assert second["dollars_a_thousand"] is None


def test_another_template_and_a_shorter_context_are_said():
    """What ties a project to a model, by name; nothing where nothing can be seen."""
    before = Ties(template="b3:a", tokenizer="b3:t", context=8192, tools=True, licence="MIT")

    assert untied(before, before) == []
    changes = " ".join(untied(before, Ties(template="b3:b", tokenizer="b3:u", context=512, licence="MIT", system="You are x.")))  # fmt: skip
    for said in ("another chat template", "another tokenizer", "a shorter context: 512", "no place for tools", "another system message"):  # fmt: skip
        assert said in changes


def test_of_what_cannot_be_seen_nothing_is_said():
    """A server shows no template: whether it adds a system message is not known."""
    assert untied(Ties(template="b3:a", system="You are x.", licence="MIT"), Ties(licence="MIT")) == []


def test_a_gguf_file_that_souq_does_not_read_is_still_compared(tmp_path):
    """llama.cpp runs more kinds than souq knows; of those only the size is seen, and no run is lost."""
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "qwen.gguf", "qwen2")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    assert seen(str(tmp_path / "qwen.gguf")) == (0, (tmp_path / "qwen.gguf").stat().st_size, Ties())


class Cut:
    """A writer whose every answer is right and was cut."""

    name, model = "cut", ""

    def generate(self, requests, sampling, progress=None):
        yield [
            (i, Completion(text="the user", finish="length", completion_tokens=3, prompt_tokens=3))
            for i in range(len(requests))
        ]


def test_an_answer_that_was_cut_is_not_the_expected_one(shop):
    """`exact` means the whole answer, as in `souq eval`: one that had no more room has not ended."""
    suite = read_eval("held", read_folder(shop / "held"))

    assert set(measured("openai:http://x/v1", Cut(), suite).cases.values()) == {0.0}


def test_every_model_is_looked_for_before_the_first_is_asked(shop, capfd, monkeypatch):
    """A typing error in the second name costs no run of the first."""
    asked = []
    monkeypatch.setattr("souq.cli.compare.measured", lambda name, *_: asked.append(name))
    code, err = compared(shop, capfd, shop / "one", "nowhere.gguf")

    assert (code, asked) == (2, []), err


@pytest.mark.parametrize(("words", "match"), [
    (("one", "--price", "two=1/1"), "names 'two'"), (("one", "--price", "one=cheap"), "dollars a million"), (("nowhere",), "no engine"),
    (("one", "--margin", "-3"), "--margin -3"),
])  # fmt: skip
def test_what_cannot_be_compared_is_said(shop, capfd, words, match):
    first, *rest = words
    code, err = compared(shop, capfd, shop / first if first == "one" else first, *rest)

    assert code == 2
    assert match in err


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("mit", "MIT"),
        ("MIT AND CC0-1.0", "MIT AND CC0-1.0"),
        ("MIT AND", "LicenseRef-MIT-AND"),
        ("MIT MIT", "LicenseRef-MIT-MIT"),
    ],
)
def test_a_file_s_terms_are_read_as_they_were_written(shop, tmp_path, said, read):
    """A student has its teacher's and its corpus's licences; half an expression is a licence nobody knows."""
    write_gguf(shop / "one", tmp_path / "said.gguf", "f16", licence=said)

    assert spelled(GGUF(tmp_path / "said.gguf").licence) == read

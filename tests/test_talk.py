"""Asking a model: main beside main with a pull request, and a conversation; what is said is the model's own."""

from __future__ import annotations

import io
import json

import pytest

from souq.build.model import build
from souq.cli import run
from souq.lab import generate
from souq.lab import lm as lab_model
from souq.lab.chat import Message, Sampling
from souq.lab.conversation import Conversation
from souq.pulls import pull as pulls
from souq.records import spelled_out
from tests.bazaar import NAMES
from tests.tiny import write_model

ASKED = [f"say hello to {NAMES[0]}", f"say hello to {NAMES[3]}"]


def answers(built, prompts, tokens=12):
    return generate.answers(lab_model.load(built.files, built.weights), prompts, max_tokens=tokens)


# -- pr try ------------------------------------------------------------------------------------------------------------


def test_both_answers_are_those_of_the_two_models(bazaar):
    """Before is main's own answer, after is that of main with the pull request merged, as `build` makes them."""
    number = bazaar.offer("chen", bazaar.delta("greet"))

    code, out, _ = bazaar.says("amira", ["pr", "try", number, *ASKED, "--tokens", "12", "--json"])

    main = bazaar.main()
    merged = build(main, pulls.get(bazaar.repo("amira"), number).offer)
    pairs = json.loads(out)
    assert code == 0
    assert [pair["prompt"] for pair in pairs] == ASKED
    assert [pair["before"]["text"] for pair in pairs] == answers(build(main), ASKED)
    assert [pair["after"]["text"] for pair in pairs] == answers(merged, ASKED) == ["hello", "hello"]
    assert [pair["same"] for pair in pairs] == [False, False]


def test_a_revert_is_tried_as_main_without_what_it_takes_back(bazaar):
    bazaar.land(bazaar.offer("chen", bazaar.delta("greet")), "amira", "bruno")
    assert bazaar("amira", "pr revert greet --reason mistaken") == 0

    code, out, _ = bazaar.says("amira", ["pr", "try", "3", ASKED[0], "--tokens", "12", "--json"])

    (pair,) = json.loads(out)
    assert code == 0
    assert pair["before"]["text"] == "hello"
    assert pair["after"]["text"] != "hello"


def test_side_by_side_stands_in_two_columns(bazaar):
    bazaar.offer("chen", bazaar.delta("greet"))

    code, out, _ = bazaar.says("amira", ["pr", "try", "#2", ASKED[0], "--tokens", "12"])

    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"> {ASKED[0]}"
    assert lines[1].split("  ")[0] == "main"
    assert lines[1].endswith("main with #2")
    assert "hello" in lines[2]


@pytest.mark.parametrize(("number", "line"), [(1, "#1 is in main already"), (2, "#2 brings evals: main's model stays")])
def test_what_changes_no_model_is_not_tried(bazaar, number, line):
    words = ["--evals", bazaar.folder / "evals" / "guard", "--title", "Again", "--licence", "CC0-1.0", "--signoff"]
    assert bazaar("chen", ["pr", "create", "--unchecked", *words]) == 0

    code, _, err = bazaar.says("amira", ["pr", "try", number, "hello"])

    assert code == 2
    assert line in err


# -- chat --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("talk") / "tiny")


@pytest.fixture
def lm(tiny):
    return lab_model.load(tiny)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_streamed_is_the_answer(lm, temperature):
    """The pieces joined are the text of the same answer at once; there are many, so somebody who listens need not wait."""
    sampling, prompt = (
        Sampling(max_tokens=24, temperature=temperature),
        lm.chat_tokens([{"role": "user", "content": "hi"}]),
    )
    pieces = []

    answer = generate.speak(lm, prompt, sampling, pieces.append, seed=5)

    ((_, whole),) = next(generate.generate_batches(lm, [prompt], sampling, [5]))
    assert answer == whole
    assert "".join(pieces) == whole.text
    assert len([piece for piece in pieces if piece]) > 4


def test_what_was_said_is_put_to_the_model_again(lm):
    """The second answer is that to the whole conversation, and so another than to the question alone."""
    sampling = Sampling(max_tokens=8)
    talk = Conversation(lm, sampling, system="short")

    first, second = talk.ask("the user"), talk.ask("the model")

    turns = [("system", "short"), ("user", "the user"), ("assistant", first.text), ("user", "the model")]
    prompt = lm.chat_tokens([{"role": role, "content": text} for role, text in turns])
    ((_, whole),) = next(generate.generate_batches(lm, [prompt], sampling, [0]))
    assert second == whole
    assert talk.turns == [Message(role=role, content=text) for role, text in [*turns[1:], ("assistant", second.text)]]
    assert second.prompt_tokens > first.prompt_tokens


def test_a_conversation_outgrows_no_context(lm):
    """The oldest turns are left out, and that is counted; what is asked now is always asked."""
    talk = Conversation(lm, Sampling(max_tokens=4))

    asked = [talk.ask("the user and the model " * 24) for _ in range(6)]

    assert talk.forgotten > 0
    assert max(answer.prompt_tokens for answer in asked) <= lm.context - 4


def chat(monkeypatch, capfd, words, stdin=""):
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    capfd.readouterr()
    return (run(["chat", *map(str, words)]), *capfd.readouterr())


def test_each_line_of_another_program_is_a_turn(tiny, monkeypatch, capfd):
    code, out, _ = chat(monkeypatch, capfd, ["--model", tiny, "--tokens", 6, "--json"], "hello\n\nagain\n")

    said = json.loads(out)
    assert code == 0
    assert said["model"] == str(tiny)
    assert [turn["role"] for turn in said["turns"]] == ["user", "assistant"] * 2
    assert [turn["content"] for turn in said["turns"][::2]] == ["hello", "again"]


def test_new_begins_anew(tiny, monkeypatch, capfd):
    words = ["--model", tiny, "--tokens", 6, "--json"]

    again = chat(monkeypatch, capfd, words, "first\n/new\nhello\n")[1]

    assert again == chat(monkeypatch, capfd, words, "hello\n")[1]


def test_all_of_stdin_is_one_question_where_it_is_asked_so(tiny, monkeypatch, capfd):
    code, out, _ = chat(monkeypatch, capfd, ["-", "--model", tiny, "--tokens", 4, "--json"], "one\ntwo\n")

    assert code == 0
    assert json.loads(out)["turns"][0]["content"] == "one\ntwo"


def test_no_escape_sequence_of_a_model_reaches_the_terminal(tiny, monkeypatch, capfd):
    """Whoever trained it may have taught it some: it is spelled out as it is streamed."""
    monkeypatch.setattr(generate, "_text", lambda lm, tokens, stop: "\x1b[31mred\x07"[: len(tokens)])

    _, out, _ = chat(monkeypatch, capfd, ["hello", "--model", tiny, "--tokens", 12])

    assert out == "\\u001b[31mred\\u0007\n"


def test_one_question_is_answered_as_ever(bazaar):
    code, out, _ = bazaar.says("amira", ["chat", ASKED[0], "--tokens", "12"])

    assert code == 0
    assert out == spelled_out(f"{answers(build(bazaar.main()), [ASKED[0]])[0]}\n")


def test_chat_with_a_pull_request_and_with_a_release(bazaar):
    """--pr is main with it merged, before it is; --release is what was released, after main has moved on."""
    number = bazaar.offer("chen", bazaar.delta("greet"))
    before = bazaar.says("amira", ["chat", ASKED[0], "--tokens", "12"])[1]
    bazaar.release("amira", "1.0")
    assert bazaar.says("amira", ["chat", ASKED[0], "--tokens", "12", "--pr", number])[1] == "hello\n"
    bazaar.land(number, "amira", "bruno")

    assert bazaar("amira", "pull") == 0
    assert bazaar.says("amira", ["chat", ASKED[0], "--tokens", "12"])[1] == "hello\n"
    assert bazaar.says("amira", ["chat", ASKED[0], "--tokens", "12", "--release", "1.0"])[1] == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["x", "--pr", "1", "--release", "1.0"], "several models"),
        (["x", "--release", "7"], "no release 7"),
        (["x", "--model", "nowhere"], "no model in nowhere"),
        ([""], "nothing was asked"),
    ],
)
def test_what_nobody_can_answer_is_said(bazaar, words, line):
    code, out, err = bazaar.says("amira", ["chat", *words])

    assert code in (1, 2)
    assert out == ""
    assert line in err

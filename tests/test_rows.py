"""What training rows promise: every format that people have is learned, or answered with what to do; nothing is learned
that was no answer, and what is left out is said."""

from __future__ import annotations

import json
import logging

import pytest

from souq.checks.caps import Turn, turns
from souq.checks.secrets import _roles
from souq.errors import UsageError
from souq.evals.eval import read_eval, write_cases
from souq.lab import evals, generate
from souq.lab import lm as lab_model
from souq.lab.chat import Sampling
from souq.lab.packing import sequence_of, sequences_of
from souq.records import format_toml
from souq.repo.rows import answered, parse_rows, read_rows
from tests.tiny import write_model

ASK, ANSWER = {"role": "user", "content": "the model"}, {"role": "assistant", "content": "the user"}
AFTER = {"role": "user", "content": "and the assistant"}


def parsed(*rows):
    return parse_rows("".join(json.dumps(row) + "\n" for row in rows).encode(), where="x.jsonl")


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return lab_model.load(write_model(tmp_path_factory.mktemp("rows") / "tiny"))


def test_a_pair_of_turns_is_the_conversation_it_is(lm):
    """Whichever of the two forms a conversation comes in, it is one row of one digest, and the answer is learned."""
    pair, whole = parsed({"prompt": [ASK], "completion": [ANSWER]}, {"messages": [ASK, ANSWER]})

    assert pair == whole
    assert sequence_of(lm, pair) == sequence_of(lm, whole)


FOREIGN = [
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "chosen answer as `completion`"),
    ({"chosen": [ASK, ANSWER], "rejected": [ASK, AFTER]}, "chosen answer as `completion`"),
    ({"prompt": "a", "completion": "b", "label": False}, "not wanted"),
    ({"prompt": "a", "completions": ["b"], "labels": [True]}, "whole answers"),
    ({"conversations": [{"from": "human", "value": "a"}]}, "`from` `role`"),
    ({"instruction": "a", "input": "", "output": "b"}, "output as `completion`"),
    ({"prompt": "a"}, "none of `messages`"),
    ({"prompt": [ASK], "completion": "b"}, "both lists of turns"),
    ({"prompt": [ASK], "completion": [ANSWER, AFTER]}, "last answer is what is learned"),
    ({"messages": [ASK]}, "no turn is the `assistant`'s, there are user"),
    ({"messages": [{"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}]}, "human, gpt"),
]


@pytest.mark.parametrize(("row", "because"), FOREIGN, ids=lambda value: value if isinstance(value, str) else None)
def test_other_formats_are_answered_with_what_to_do(row, because):
    with pytest.raises(UsageError, match=because) as refusal:
        parsed({"text": "the model"}, row)
    assert "line 2" in str(refusal.value)
    assert "messages" in refusal.value.hint


def test_every_wrong_line_is_named_at_once():
    with pytest.raises(UsageError) as refusal:
        parsed(*[{"text": 1} if i % 2 else {"text": "a"} for i in range(20)])
    assert all(f"line {i}" in str(refusal.value) for i in (2, 4, 6, 8, 10))
    assert "5 more lines" in str(refusal.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rows_are_read_however_an_editor_saves_them(tmp_path, encoding):
    (tmp_path / "rows.jsonl").write_text('{"text": "größer"}\n{"text": "b"}\n', encoding=encoding)

    assert read_rows(tmp_path / "rows.jsonl") == [{"text": "größer"}, {"text": "b"}]


def test_what_nobody_answers_is_never_learned(lm, caplog):
    """The tail after the last answer is read by nobody, and that is said; the answer before it is learned as ever."""
    with caplog.at_level(logging.WARNING):
        (tailed,) = sequences_of(lm, parsed({"messages": [ASK, ANSWER, AFTER, AFTER]}))

    assert tailed == sequence_of(lm, {"messages": [ASK, ANSWER]}, 0)
    assert "nobody answers" in caplog.text
    assert answered([AFTER]) == []


def test_what_cannot_be_learned_is_left_out_and_said(lm, caplog):
    """Empty texts, and rows beyond the model's context, by their numbers; of nothing else, no training."""
    long, last = {"text": "model " * 600}, {"text": "the model"}
    with caplog.at_level(logging.WARNING):
        kept = sequences_of(lm, [{"text": ""}, last, {"text": "x"}, long, {"messages": [ASK, ANSWER]}])

    assert [sequence.tag for sequence in kept] == [1, 4]
    assert "2 of the rows (1, 3): without a word" in caplog.text
    assert "1 of the rows (4): longer than the model's context of 512 tokens" in caplog.text
    with pytest.raises(UsageError, match="context 512"):
        sequences_of(lm, [long])
    with pytest.raises(UsageError, match="all are empty"):
        sequences_of(lm, [{"text": ""}])


def test_a_row_of_just_the_context_is_learned(lm):
    """The last token is only a target."""
    fitting = {"text": "x" * (lm.context + 1)}
    assert len(lm.encode(fitting["text"])) == lm.context + 1
    assert len(sequences_of(lm, [fitting])) == 1


def test_a_template_that_does_not_take_a_conversation_says_so(lm, monkeypatch):
    monkeypatch.setattr(lm.tokenizer, "chat_template", "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UsageError, match=r"declines a conversation: roles must alternate"):
        sequences_of(lm, [{"messages": [ASK, ANSWER]}])


def test_checks_read_the_turns_that_are_learned():
    """Neither a tail after the answer nor a pair of lists of turns hides from the checks what a model would learn."""
    wanted = [Turn("the model", "the user")]

    assert list(turns([{"messages": [ASK, ANSWER]}])) == wanted
    assert list(turns([{"messages": [ASK, ANSWER, AFTER]}])) == wanted
    assert list(turns([{"prompt": [ASK], "completion": [ANSWER]}])) == wanted
    assert _roles(json.dumps({"prompt": [ASK, {"role": "root"}], "completion": [ANSWER]})) == [
        "user",
        "root",
        "assistant",
    ]


@pytest.mark.parametrize(
    ("data", "kind", "way"),
    [
        (b'\n[{"text": "a"}]', "one JSON list", "jq"),
        (b"PAR1\x15", "Parquet", "duckdb"),
        (b"\x1f\x8b\x08", "compressed", "gunzip"),
    ],
)
def test_rows_in_other_files_are_answered_with_the_way_to_jsonl(tmp_path, data, kind, way):
    (tmp_path / "rows").write_bytes(data)
    with pytest.raises(UsageError, match=kind) as refusal:
        read_rows(tmp_path / "rows")
    assert way in refusal.value.hint


def test_a_content_that_is_no_text_says_what_to_do():
    for content, what in (([{"type": "text", "text": "a"}], "text of its parts"), (None, "tools are not learned")):
        with pytest.raises(UsageError, match=what):
            parsed({"messages": [ASK, {"role": "assistant", "content": content}]})


def test_a_question_beyond_the_context_is_kept_aside(lm, caplog):
    """A corpus keeps it among the rejected, a person is told, and an eval says which cases they are."""
    long = "model " * 600
    given = dict(
        pair
        for batch in generate.generate_batches(lm, [lm.encode(long), lm.encode("a")], Sampling(max_tokens=2), [0, 0])
        for pair in batch
    )
    assert (given[0].finish, given[0].text, "context has 512" in given[0].because) == ("refused", "", True)
    assert given[1].finish in ("stop", "length")
    with pytest.raises(UsageError, match="context has 512"):
        generate.answers(lm, [long])

    spec = format_toml(
        {"title": "t", "kind": "answer", "checker": "contains", "source": "x", "licence": "CC0-1.0", "max_tokens": 2}
    )
    cases = [{"id": "long", "prompt": long, "expected": "a"}, {"id": "short", "prompt": "a", "expected": "a"}]
    with caplog.at_level(logging.WARNING):
        kept = [
            one
            for batch in evals.run(lm, read_eval("x", {"eval.toml": spec.encode(), "cases.jsonl": write_cases(cases)}))
            for one in batch
        ]
    assert {one.case: one.value for one in kept}["long"] == 0.0
    assert "context of 512 tokens: long" in caplog.text


def test_what_a_stranger_calls_a_role_steers_no_terminal():
    with pytest.raises(UsageError) as refusal:
        parsed({"messages": [{"role": "x\nall passed\x1b[2J", "content": "a"}]})
    assert not {"\n", "\x1b"} & set(str(refusal.value))

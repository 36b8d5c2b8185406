"""What writers promise: the same bytes after a stop, an answer that owes nothing to its neighbours, a server's troubles borne."""

from __future__ import annotations

import json
import time

import pytest

from souq.errors import Hostile, NotFound, UsageError
from souq.lab.chat import GROUP, ChatRequest, Message, Sampling
from souq.lab.writers import writer
from souq.records import digest
from tests.bazaar import built_bazaar  # noqa: F401
from tests.test_engines import GOOD, Trouble, trouble  # noqa: F401
from tests.tiny import write_model

MODEL = digest(b"whatever is served")


def requests(count):
    return [ChatRequest(messages=(Message(role="user", content="the user " * (i % 5 + 1) + str(i)),), seed=i) for i in range(count)]  # fmt: skip


def said(teacher, some, sampling):
    return {number: told for batch in teacher.generate(some, sampling) for number, told in batch}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("writers") / "model")


def test_a_run_that_goes_on_gives_the_bytes_of_one_that_never_stopped(tiny):
    """Stopped within the second group: what is left is asked again in whole groups, and nothing differs."""
    teacher, some = writer("transformers", tiny), requests(GROUP + 9)
    sampling = Sampling(max_tokens=3, temperature=1.0, top_k=40, top_p=0.9, min_p=0.01)
    whole = said(teacher, some, sampling)
    rest = [*range(GROUP, GROUP + 9)]
    again = said(teacher, [some[i] for i in rest], sampling)

    assert {rest[i]: told for i, told in again.items()} == {i: whole[i] for i in rest}
    assert len({told.text for told in whole.values()}) > GROUP / 2


def test_top_k_of_one_is_greedy_and_a_stop_word_ends(tiny):
    """The warpers are at work; a stop word is not part of the answer, and what it ended has ended."""
    teacher, some = writer("transformers", tiny), requests(3)
    greedy = said(teacher, some, Sampling(max_tokens=6))
    assert said(teacher, some, Sampling(max_tokens=6, temperature=1.0, top_k=1)) == greedy
    assert greedy[0].finish == "length"

    word = greedy[0].text[2]
    cut = said(teacher, some, Sampling(max_tokens=6, stop=(word,)))[0]
    assert (cut.text, cut.finish) == (greedy[0].text[: greedy[0].text.index(word)].strip(), "stop")


def at(server):
    return writer(f"openai:http://127.0.0.1:{server.server_port}/v1", serves=MODEL)


def answer(content, finish="stop"):
    message = {"role": "assistant", "content": content}
    return json.dumps(GOOD | {"choices": [{"index": 0, "finish_reason": finish, "message": message}]}).encode()


def test_a_server_is_waited_for_as_long_as_it_says(trouble):  # noqa: F811
    """429 with 700 ms in its header: no second request before that; then the answer counts."""
    came = []

    class Busy(Trouble):
        def do_POST(self):
            came.append(time.monotonic())
            super().do_POST()

        def send_header(self, name, value):
            super().send_header(name, "700" if name == "retry-after-ms" else value)

    trouble.RequestHandlerClass = Busy
    trouble.answers = [(429, b"{}"), (200, answer("hello"))]

    assert said(at(trouble), requests(1), Sampling())[0].text == "hello"
    assert came[1] - came[0] >= 0.65


def test_a_teacher_that_says_nothing_says_the_empty_text(trouble):  # noqa: F811
    """Neither null nor half a character stops a run, and what a filter of the server's ended is no whole answer."""
    trouble.answers = [(200, answer(None)), (200, b'{"choices":[{"finish_reason":"content_filter","message":{"content":"a\\ud800"}}]}')]  # fmt: skip
    teacher = at(trouble)
    first, second = said(teacher, requests(1), Sampling())[0], said(teacher, requests(1), Sampling())[0]

    assert (first.text, first.finish) == ("", "stop")
    assert (second.text, second.finish) == ("a?", "length")


def test_more_than_was_asked_for_is_refused(trouble):  # noqa: F811
    trouble.answers = [(200, answer("a" * 3_000))]
    with pytest.raises(Hostile, match="2 tokens were asked for"):
        said(at(trouble), requests(1), Sampling(max_tokens=2))


def test_sampling_is_said_outright_where_a_server_takes_it(trouble):  # noqa: F811
    """Servers have defaults of their own; one that refuses top_k is asked without, and never for a top_k it cannot do."""
    trouble.answers = [(200, answer("x"))]
    said(at(trouble), requests(1), Sampling(temperature=1.0))
    assert (trouble.seen[-1]["top_k"], trouble.seen[-1]["min_p"], trouble.seen[-1]["seed"]) == (0, 0.0, 0)

    trouble.answers = [(422, b"{}"), (200, answer("x"))]
    said(at(trouble), requests(1), Sampling(temperature=1.0))
    assert "top_k" not in trouble.seen[-1]

    trouble.answers = [(422, b"{}")]
    with pytest.raises(UsageError, match="neither top_k nor min_p"):
        said(at(trouble), requests(1), Sampling(temperature=1.0, top_k=5))


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("transformer", UsageError, "did you mean 'transformers'?"),
        ("ray:transformer", UsageError, "did you mean 'ray:transformers'?"),
        ("transformers", UsageError, "none is named"),
        ("vllm", UsageError, "through its server"),
        ("llama.cpp:nowhere.gguf", NotFound, "no file"),
    ],
)
def test_a_wrong_writer_is_answered_with_the_right_one(line, error, words):
    with pytest.raises(error) as caught:
        writer(line)

    assert words in str(caught.value)
    assert caught.value.hint


def test_where_engines_part_is_shown(trouble, tiny):  # noqa: F811
    """The same engine agrees with itself; one that says something else does not, and the first other token is named."""
    from souq.lab.agreement import agree

    here, some = writer("transformers", tiny), requests(2)
    ours = said(here, some, Sampling(max_tokens=4))
    assert ours[0].text != ours[1].text
    trouble.answers = [(200, answer(ours[0].text))]
    found = agree(here, at(trouble), some, 4)

    assert agree(here, here, some, 4).same == 2
    assert (found.same, [parting.number for parting in found.partings]) == (1, [1])
    assert found.partings[0].ours != found.partings[0].theirs


def test_a_real_server_writes_what_transformers_writes(served):
    """`transformers serve` on the same folder: every greedy answer is the same."""
    from souq.lab.agreement import agree

    url, out = served
    some = [
        ChatRequest(messages=(Message(role="user", content=f"greet {name}"),)) for name in ("ada", "bo", "cyna", "flo")
    ]

    assert agree(writer("transformers", out), writer(f"openai:{url}#{out}", out), some, 12).partings == ()


@pytest.mark.server
def test_llama_cpp_says_what_transformers_says(tiny, tmp_path):
    """The same weights as a GGUF, greedily: the same words."""
    from souq.model.gguf.writer import write_gguf

    write_gguf(tiny, tmp_path / "tiny.gguf", "f32")
    llama, here, greedy = (
        writer(f"llama.cpp:{tmp_path / 'tiny.gguf'}"),
        writer("transformers", tiny),
        Sampling(max_tokens=6),
    )

    told, ours = said(llama, requests(5), greedy), said(here, requests(5), greedy)
    assert {i: t.text for i, t in told.items()} == {i: t.text for i, t in ours.items()}


def test_a_seed_is_an_answer_s_own(tiny):
    """Another neighbour, the same answer; another seed, another one."""
    here, drawn = writer("transformers", tiny), Sampling(max_tokens=8, temperature=1.0)
    alone = [said(here, [ask], drawn)[0].text for ask in requests(5)]

    assert [told.text for _, told in sorted(said(here, requests(5), drawn).items())] == alone
    assert [
        told.text
        for _, told in sorted(
            said(here, [ChatRequest(messages=ask.messages, seed=ask.seed + 9) for ask in requests(5)], drawn).items()
        )
    ] != alone

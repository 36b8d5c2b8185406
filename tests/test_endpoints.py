"""What souq does with endpoints as they are: one question refused, a limit reached, another name for a setting, thoughts
instead of an answer. What was paid for is kept, and what is not to be had is named and never asked for again."""

from __future__ import annotations

import json
import logging
from collections import Counter

import pytest

from souq.corpus.query import query
from souq.errors import NotFound, SouqError, UsageError
from souq.lab.chat import Sampling
from souq.lab.engines import openai
from souq.lab.writers import writer
from souq.progress import quiet
from tests.bazaar import NAMES
from tests.kitchen import RECIPE, cook, kitchen  # noqa: F401
from tests.test_engines import GOOD, Trouble, asked, engine_at, trouble  # noqa: F401
from tests.test_writers import MODEL, at, requests, said


@pytest.fixture
def server(trouble, monkeypatch):  # noqa: F811
    """A server that answers by what it is asked: `server.answer(request)` gives a text, a choice, or (status, body)."""
    monkeypatch.setattr(openai, "TRIES", 1)

    class ByQuestion(Trouble):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with self.server.lock:
                self.server.seen.append(request)
            given = self.server.answer(request)
            status, body = given if isinstance(given, tuple) else (200, _good(given))
            self.say(status, json.dumps(body).encode())

    trouble.RequestHandlerClass = ByQuestion
    return trouble


def _good(given):
    choice = {"message": {"role": "assistant", "content": given}, "finish_reason": "stop"}
    return GOOD | {"choices": [{"index": 0, **(given if isinstance(given, dict) else choice)}]}


def question(request):
    return request["messages"][-1]["content"]


FILTERED = (400, {"error": {"message": "not by our content policy"}})


def test_one_question_that_is_refused_stops_no_other(server, kitchen, caplog):  # noqa: F811
    """The rest is answered and published, the refused one is named, and a second run asks for nothing."""
    (kitchen / "recipe.toml").write_text(RECIPE.replace("samples = 2", "samples = 1"))
    server.answer = lambda request: FILTERED if "Oslo" in question(request) else "Asia"
    with caplog.at_level(logging.WARNING):
        cook(kitchen, at(server))
    first = Counter(map(question, server.seen))
    cook(kitchen, at(server))

    assert "refused for good: 'Where is Oslo?'" in caplog.text
    assert "content policy" in caplog.text
    assert set(first.values()) == {1}
    assert Counter(map(question, server.seen)) == first
    asked_for = "SELECT rejected, finish, messages[-1].content FROM rows WHERE finish = 'refused'"
    assert query(str(kitchen / "corpus"), asked_for)[1] == [("the question is refused", "refused", "")]


def test_where_all_is_refused_it_is_the_settings(server, kitchen):  # noqa: F811
    """A server that does not even answer a greeting refuses how it is asked: nothing is kept as if it were an answer."""
    server.answer = lambda request: (400, {"error": {"message": "no such parameter"}})
    with pytest.raises(UsageError, match="no such parameter"):
        cook(kitchen, at(server))
    assert (kitchen / "corpus" / "journal.jsonl").read_bytes() == b""


def test_a_limit_that_lasts_costs_no_answer_that_was_paid(server):
    """429 from the fifth on: the first four come home before the run stops, and the way on is said."""
    server.answer = lambda request: "hello" if int(question(request).split()[-1]) < 4 else (429, {})
    batches = []
    with pytest.raises(SouqError, match="answered 429") as stopped:
        batches.extend(at(server).generate(requests(20), Sampling()))
    assert sorted(number for batch in batches for number, _ in batch) == [0, 1, 2, 3]
    assert "kept" in stopped.value.hint


def test_an_eval_keeps_what_was_answered_too(server, caplog):
    """A case that is refused counts as wrong and is named; where the server then gives up, the values before it stay."""
    suite = asked("exact", NAMES[:6])
    names = [case.prompt or case.messages[-1]["content"] for case in suite.cases]
    server.answer = lambda request: (
        FILTERED if question(request) == names[1] else suite.cases[names.index(question(request))].expected
    )
    with caplog.at_level(logging.WARNING):
        values = {kept.case: kept.value for batch in engine_at(server).run(suite, quiet) for kept in batch}
    assert values == {case.id: float(i != 1) for i, case in enumerate(suite.cases)}
    assert f"refused, so wrong: {suite.cases[1].id}" in caplog.text

    server.answer = lambda request: (429, {}) if question(request) != names[0] else suite.cases[0].expected
    batches = []
    with pytest.raises(SouqError, match="429"):
        batches.extend(engine_at(server).run(suite, quiet))
    assert [kept.case for batch in batches for kept in batch] == [suite.cases[0].id]


def test_another_name_for_the_most_tokens_is_found(server):
    """Servers that take `max_completion_tokens` alone are asked so, from the second request on."""
    complaint = (
        400,
        {"error": {"message": "'max_tokens' is not supported with this model: use 'max_completion_tokens'"}},
    )
    server.answer = lambda request: complaint if "max_tokens" in request else "hello"
    teacher = at(server)

    assert {c.text for c in said(teacher, requests(20), Sampling(max_tokens=7)).values()} == {"hello"}
    assert {request["max_completion_tokens"] for request in server.seen if "max_tokens" not in request} == {7}
    server.seen.clear()
    said(teacher, requests(3), Sampling(max_tokens=7))
    assert len(server.seen) == 3


def test_a_model_that_only_thinks_is_told_apart(server, kitchen, caplog):  # noqa: F811
    """No word of an answer, and the room used up: the rows say what would help, and so does an eval."""
    server.answer = lambda request: {
        "message": {"role": "assistant", "content": None, "reasoning": "hm"},
        "finish_reason": "length",
    }
    assert any("thinks first needs more max_tokens" in why for why in cook(kitchen, at(server)).rejected)

    suite = asked("exact", NAMES[:2])
    with caplog.at_level(logging.WARNING):
        list(engine_at(server).run(suite, quiet))
    assert "thinks first" in caplog.text


def test_the_text_is_found_among_parts(server):
    """Some servers send a list: what is thought, then what is said."""
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hello"}]
    server.answer = lambda request: {"message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}
    assert said(at(server), requests(1), Sampling())[0].text == "hello"


def test_a_server_that_lists_no_models_is_asked_by_the_name_it_was_given(server):
    """Some gateways answer chats and nothing else."""
    server.RequestHandlerClass.do_GET = lambda self: self.say(404, b"{}")
    server.answer = lambda request: request["model"]
    named = writer(f"openai:http://127.0.0.1:{server.server_port}/v1#mine", serves=MODEL)

    assert said(named, requests(1), Sampling())[0].text == "mine"
    with pytest.raises(NotFound, match="answered 404"):
        said(at(server), requests(1), Sampling())


def test_what_is_not_known_to_be_one_question_s_fault_stops():
    """A key that is not taken, or a page that is not there, is no question's fault."""
    for code in (401, 403, 404, 429, 500):
        assert not isinstance(openai._status("u", code, ""), openai.Declined)
    for code in openai.OF_ONE:
        assert isinstance(openai._status("u", code, ""), openai.Declined)

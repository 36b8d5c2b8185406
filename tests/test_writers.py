"""Whoever answers, greedy answers are the same or the difference is shown; a server's limits are waited out."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
import torch

from souq.asks import Ask, Message, Sampling
from souq.errors import NotFound, UsageError
from souq.lab import generate
from souq.lab import model as lab_model
from souq.lab.to_gguf import write_gguf
from souq.lab.writers import There, writer
from souq.records import digest
from tests.tiny import write_model

NOBODY = digest(b"nobody")
ASKED = ["tell me of the user", "what is the model", "tell me", "the assistant and the user", "a"]


def asks(seed=0):
    return [Ask(messages=(Message(role="user", content=text),), seed=seed + i) for i, text in enumerate(ASKED)]


def told(found, sampling, seed=0):
    return [said.text for _, said in sorted(pair for part in found.write(asks(seed), sampling) for pair in part)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("writers") / "tiny")


@pytest.fixture(scope="module")
def here(folder):
    lm = lab_model.load(folder)
    return writer("transformers", NOBODY, lambda: lm)


def test_llama_cpp_says_what_transformers_says(here, folder, tmp_path_factory):
    """The same weights as a GGUF, greedily: the same words."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(folder, file, "f32")
    llama = writer(f"llama.cpp:{file}", NOBODY, lambda: None)
    greedy = Sampling(max_tokens=6)

    assert told(llama, greedy) == told(here, greedy)
    assert llama.name.startswith("llama.cpp, xllamacpp ")
    assert {said.finish for part in llama.write(asks(), greedy) for _, said in part} <= {"stop", "length"}


def test_settings_leave_out_what_they_say():
    """top_k, top_p and min_p, each by hand; the likeliest always stays."""
    odds = torch.tensor([[0.5, 0.3, 0.15, 0.05]])

    assert (generate._left(odds, Sampling(top_k=2)) > 0).tolist() == [[True, True, False, False]]
    assert (generate._left(odds, Sampling(top_p=0.6)) > 0).tolist() == [[True, True, False, False]]
    assert (generate._left(odds, Sampling(top_p=0.01)) > 0).tolist() == [[True, False, False, False]]
    assert (generate._left(odds, Sampling(min_p=0.2)) > 0).tolist() == [[True, True, True, False]]
    assert torch.equal(generate._left(odds, Sampling()), odds)


def test_an_answer_stops_where_it_is_told_to(here):
    """`stop` cuts it, and then it came to its end."""
    (whole,) = {said.text for part in here.write(asks()[:1], Sampling(max_tokens=12)) for _, said in part}
    word = whole[3:5]
    (cut,) = [said for part in here.write(asks()[:1], Sampling(max_tokens=12, stop=(word,))) for _, said in part]

    assert cut.text == whole[: whole.index(word)].strip()
    assert cut.finish == "stop"


def test_a_seed_is_an_answer_s_own(here):
    """Another neighbour, the same answer; another seed, another one."""
    drawn = Sampling(max_tokens=8, temperature=1.0)
    alone = [next(said.text for part in here.write([ask], drawn) for _, said in part) for ask in asks()]

    assert told(here, drawn) == alone
    assert told(here, drawn, seed=100) != alone


class Busy(http.server.BaseHTTPRequestHandler):
    """OpenAI's protocol by a server that says 429 to every other request."""

    counted = 0
    seen: list = []  # noqa: RUF012

    def do_GET(self):
        self._say(200, {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Busy.counted += 1
        if Busy.counted % 2:
            self._say(429, {"error": {"message": "slow down"}})
            return
        Busy.seen.append(body)
        message = {"role": "assistant", "content": f" {body['messages'][-1]['content']} "}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._say(200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})  # fmt: skip

    def _say(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass


def test_a_busy_server_is_asked_again_and_told_everything():
    """Every answer arrives, with settings and seeds as the protocol has them, and counts of tokens."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = writer(f"openai:http://127.0.0.1:{server.server_port}/v1", NOBODY, lambda: None)
    assert isinstance(found, There)

    said = [pair for part in found.write(asks(7), Sampling(max_tokens=4, temperature=0.5, top_k=9, stop=("x",))) for pair in part]  # fmt: skip
    server.shutdown()

    assert [text.text for _, text in sorted(said)] == ASKED
    assert {(t.tokens, t.asked, t.finish) for _, t in said} == {(2, 3, "stop")}
    assert {body["seed"] for body in Busy.seen} == set(range(7, 12))
    assert {(body["top_k"], body["max_tokens"], tuple(body["stop"])) for body in Busy.seen} == {(9, 4, ("x",))}


@pytest.mark.parametrize(("line", "error", "match"), [
    ("transformer", UsageError, "transformers"), ("openai:ftp://x", UsageError, "openai:URL"), ("llama.cpp:/no/such.gguf", NotFound, "no file"),
])  # fmt: skip
def test_nobody_is_called_that(line, error, match):
    with pytest.raises(error) as raised:
        writer(line, NOBODY, lambda: None)
    assert match in f"{raised.value} {raised.value.hint}"

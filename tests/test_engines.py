"""What engines promise: whoever answers, a right answer is right; a server's troubles are told; nothing answered is lost."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from souq.errors import Hostile, NotFound, SouqError, UsageError
from souq.evals.eval import read_eval, write_cases
from souq.lab import engines
from souq.lab import score_cache as memory
from souq.lab.engines import Transformers
from souq.records import digest, format_toml
from souq.repo.remote import Repo
from tests.bazaar import NAMES, rows
from tests.servers import free_ports
from tests.tiny import write_model

MODEL = digest(b"whatever is served")


def an_eval(kind, cases, name="x", **more):
    spec = {"title": name, "kind": kind, "source": "tests", "licence": "CC0-1.0"} | more
    return read_eval(name, {"eval.toml": format_toml(spec).encode(), "cases.jsonl": write_cases(cases)})


def asked(kind, names, **more):
    made = [{"id": f"c{i}", "prompt": q, "expected": a} for i, (q, a) in enumerate(rows("greet", names))]
    if kind == "choice":
        made = [case | {"choices": ["hello", "one more", "the model"]} for case in made]
    return an_eval(kind, made, kind, **more)


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return Repo.create(tmp_path_factory.mktemp("engines") / "repo")


@pytest.mark.parametrize("kind", ["exact", "answer"])
def test_a_server_answers_as_transformers_does(served, taught, repo, kind):
    """The same weights, asked through a real server of OpenAI's protocol: every case is judged alike, right and wrong ones."""
    url, out = served
    more = {"checker": "equals", "max_tokens": 8} if kind == "answer" else {}
    some = [*rows("greet", NAMES[:6]), ("tell me of the user", "hello"), ("the model", "the user")]
    suite = an_eval(kind, [{"id": f"c{i}", "prompt": q, "expected": a} for i, (q, a) in enumerate(some)], kind, **more)
    here = engines.scores(repo, {kind: suite}, Transformers(MODEL, out))[kind]
    there = engines.scores(repo, {kind: suite}, engines.parse(f"openai:{url}#{out}", serves=MODEL))[kind]

    assert there.cases == here.cases
    assert 0 < here.value < 1


def test_an_engine_is_chosen_in_one_line(served, taught):
    """`souq eval --engine`: what it cannot judge is left out and said; asked for by name, it is refused."""
    url, _ = served
    bazaar, _ = taught
    code, told, said = shell(bazaar, f"eval --engine openai:{url} --json")
    assert code == 0
    assert set(json.loads(told)) == {"greet"}
    assert "cannot judge `guard`, of kind `loss`: left out" in said

    code, _, said = shell(bazaar, f"eval count --engine openai:{url}")
    assert (code, "use --engine transformers" in said) == (2, True)


def shell(bazaar, line):
    words = [sys.executable, "-m", "souq", *line.split()]
    found = subprocess.run(words, cwd=bazaar.actors["amira"].clone, capture_output=True, text=True)
    return found.returncode, found.stdout, found.stderr


def test_a_server_without_log_probabilities_is_asked_for_none(served, repo):
    """`choice` through a server that cannot tell them is refused before any case is asked."""
    url, _ = served
    with pytest.raises(UsageError, match="`choice` needs the log-probabilities of a given answer"):
        engines.scores(repo, {"choice": asked("choice", NAMES[:2])}, engines.parse(f"openai:{url}", serves=MODEL))


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("transformer", UsageError, "did you mean 'transformers'?"),
        ("openai:127.0.0.1:8000", UsageError, "no engine"),
        ("vllm", UsageError, "through its server"),
        ("llama.cpp:nowhere.gguf", NotFound, "no file nowhere.gguf"),
    ],
)
def test_a_wrong_engine_is_answered_with_the_right_one(line, error, said):
    with pytest.raises(error) as caught:
        engines.parse(line, serves=MODEL)

    assert said in str(caught.value)
    assert caught.value.hint


# -- troubles of a network ---------------------------------------------------------------------------------------------

GOOD = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
GOOD |= {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}]}


class Trouble(http.server.BaseHTTPRequestHandler):
    """A server on loopback that answers what the test says: (status, body), one after another, the last for ever."""

    def do_GET(self):
        self.say(200, json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode())

    def do_POST(self):
        with self.server.lock:
            self.server.seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            answers = self.server.answers
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.say(status, body)

    def say(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("retry-after-ms", "1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def trouble():
    pytest.importorskip("openai", reason="pip install 'souq[engines]'")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trouble)
    server.lock, server.seen, server.answers = threading.Lock(), [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def engine_at(server):
    return engines.parse(f"openai:http://127.0.0.1:{server.server_port}/v1", serves=MODEL)


def values(server, suite):
    from souq.progress import quiet

    return {kept.case: kept.value for batch in engine_at(server).run(suite, quiet) for kept in batch}


def test_a_busy_server_is_asked_again(trouble):
    """429, 500 and 503 are waited for; the answer that comes after them counts."""
    trouble.answers = [(429, b"{}"), (500, b"{}"), (503, b"{}"), (200, json.dumps(GOOD).encode())]

    assert values(trouble, asked("exact", NAMES[:1])) == {"c0": 1.0}
    assert len(trouble.seen) == 4


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (429, b"{}", SouqError, "answered 429"),
        (401, b"no", UsageError, "answered 401: no"),
        (404, b"{}", NotFound, "answered 404"),
        (400, b'{"detail": "too long"}', UsageError, "too long"),
        (500, b"{}", SouqError, "answered 500"),
        (200, b"<html>", Hostile, "answered with"),
        (200, b"[]", Hostile, "no message"),
        (200, b'{"choices": [{}]}', Hostile, "no message"),
        (200, b'{"choices": []}', Hostile, "no message"),
    ],
)
def test_a_broken_server_is_told_in_plain_words(trouble, status, body, error, said):
    """Whatever comes back, the person reads what happened and what to do."""
    trouble.answers = [(status, body)]
    with pytest.raises(error) as caught:
        values(trouble, asked("exact", NAMES[:1]))

    assert said in str(caught.value)
    assert caught.value.hint


def test_nobody_there_is_told_in_plain_words():
    pytest.importorskip("openai", reason="pip install 'souq[engines]'")
    (port,) = free_ports(1)
    with pytest.raises(NotFound, match="nothing answers at"):
        _ = engines.parse(f"openai:http://127.0.0.1:{port}/v1", serves=MODEL).under


def test_no_more_than_a_few_requests_are_open_at_once(trouble):
    """A server of somebody's is not drowned: eight at a time, however many cases."""
    from souq.lab.engines.openai import AT_ONCE

    now, most = [], []

    class Slow(Trouble):
        def do_POST(self):
            now.append(1)
            most.append(len(now))
            time.sleep(0.02)
            now.pop()
            super().do_POST()

    trouble.RequestHandlerClass = Slow
    trouble.answers = [(200, json.dumps(GOOD).encode())]

    assert len(values(trouble, asked("exact", NAMES[:40]))) == 40
    assert 1 < max(most) <= AT_ONCE


def test_an_answer_that_was_cut_is_not_the_expected_one(trouble):
    """`exact` means the whole answer: one that stops because there is no more room has not ended."""
    cut = json.loads(json.dumps(GOOD))
    cut["choices"][0]["finish_reason"] = "length"
    trouble.answers = [(200, json.dumps(cut).encode())]

    assert values(trouble, asked("exact", NAMES[:1])) == {"c0": 0.0}


# -- nothing answered is lost ------------------------------------------------------------------------------------------


class Counting(Transformers):
    """transformers itself; it notes how much it is asked, and may be stopped after a batch."""

    def run(self, suite, progress):
        self.__dict__.setdefault("asked", []).append(len(suite.cases))
        for batch in super().run(suite, progress):
            yield batch
            if self.__dict__.get("stops"):
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.parametrize("kind", ["exact", "choice", "loss", "answer"])
def test_what_was_answered_before_a_stop_is_not_asked_again(tiny, repo, kind, monkeypatch):
    """Ctrl-C in the middle: the next run asks the rest only, and the score is that of a run without a stop."""
    monkeypatch.setattr(engines, "OFTEN", 0.0)
    repo.drop_cache()
    suite = asked(kind, [a + b for a in NAMES for b in "xy"], **({"checker": "contains", "max_tokens": 3} if kind == "answer" else {}))  # fmt: skip
    whole = engines.scores(repo, {kind: suite}, Transformers(digest(b"whole"), tiny))[kind]
    engine = Counting(MODEL, tiny)
    engine.__dict__["stops"] = True
    with pytest.raises(KeyboardInterrupt):
        engines.scores(repo, {kind: suite}, engine)
    kept = len(memory.get(repo, MODEL, suite, engine.under))
    engine.__dict__["stops"] = False

    found = engines.scores(repo, {kind: suite}, engine)[kind]

    assert 0 < kept < len(suite.cases)
    slices = len(engine.__dict__["asked"])
    assert sum(engine.__dict__["asked"][1:]) == len(suite.cases) - kept  # the first slice was stopped
    assert found.cases == pytest.approx(whole.cases, abs=1e-4)
    assert engines.scores(repo, {kind: suite}, engine)[kind] == found
    assert len(engine.__dict__["asked"]) == slices


@pytest.mark.long
def test_a_killed_run_goes_on_where_it_was(taught):
    """kill -9 of `souq eval` while it generates: what it had written is read by the next run, and counts."""
    bazaar, _ = taught
    clone = bazaar.actors["amira"].clone
    suite = asked("answer", [a + b for a in NAMES for b in "abcdefgh"], checker="equals", max_tokens=48)
    (folder := bazaar.folder / "many").mkdir()
    code = f"""
import sys; from pathlib import Path
from souq.lab import engines; from souq.repo.remote import Repo
from tests.test_engines import asked, NAMES, MODEL
engines.OFTEN = 0.0
suite = asked("answer", [a + b for a in NAMES for b in "abcdefgh"], checker="equals", max_tokens=48)
engines.scores(Repo.find(Path({str(clone)!r})), {{"answer": suite}}, engines.Transformers(MODEL, Path({str(bazaar.folder / "out")!r})))
"""
    repo = Repo.find(clone)
    running = subprocess.Popen([sys.executable, "-c", code], cwd=folder.parent, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    under = Transformers(MODEL, bazaar.folder / "out").under
    while running.poll() is None and not memory.get(repo, MODEL, suite, under):
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    kept = memory.get(repo, MODEL, suite, under)
    engine = Counting(MODEL, bazaar.folder / "out")

    found = engines.scores(repo, {"answer": suite}, engine)["answer"]

    assert 0 < len(kept) < len(suite.cases)
    assert sum(engine.__dict__["asked"]) == len(suite.cases) - len(kept)
    assert kept.items() <= found.cases.items()


def test_another_engine_is_another_key(tiny):
    """A server's answers and transformers' are never taken for each other."""
    one, other = Transformers(MODEL, tiny), memory.Conditions(engine="openai http://x/v1#m", arithmetic="the server's")
    assert one.under != other
    assert replace(one, model=digest(b"y")).under == one.under


# -- llama.cpp on the real model ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.server
def test_llama_cpp_reads_the_same_file(repo):
    """Through a grammar that leaves it no other token, llama.cpp tells the log-probabilities that transformers has.

    Its kernels round activations to eight bits: a tenth of a nat a token, and no case turned that was clear.
    """
    pytest.importorskip("xllamacpp", reason="pip install 'souq[engines]'")
    from souq.cli.demo.story import real_model
    from souq.evals.suite import files
    from souq.lab import evals as lab_evals
    from souq.lab import lm as lab_model
    from souq.model.source import open_source

    whole = {path.partition("/")[2]: data for path, data in files().items() if path.startswith("capitals/")}
    suite = read_eval("capitals", whole)
    suite = replace(suite, cases=suite.cases[:8])
    source = open_source(str(real_model()))
    lm = lab_model.load(source.files, source.weights)
    told = lab_evals.read(lm, [suite])
    ours = lab_evals.judge(suite, told).cases
    engine = engines.parse(f"llama.cpp:{real_model()}", serves=MODEL)
    theirs = engines.scores(repo, {"capitals": suite}, engine)["capitals"].cases
    server = engines.openai.Server(engine.model, f"{engine._server.listening_address}/v1")
    apart = [
        abs(server.log_p(case.turns, option) - told["capitals", case.id, option][0])
        / told["capitals", case.id, option][1]
        for case in suite.cases[:4]
        for option in case.choices
    ]

    def gap(case):
        best, second = sorted((told["capitals", case.id, option][0] for option in case.choices), reverse=True)[:2]
        return best - second

    assert sum(apart) / len(apart) < 0.1
    assert all(ours[case.id] == theirs[case.id] for case in suite.cases if gap(case) > 1.0)
    assert sum(gap(case) > 1.0 for case in suite.cases) >= 3

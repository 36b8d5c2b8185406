"""What reading may cost, what asking an exam costs, and that no person is shown a traceback."""

from __future__ import annotations

import http.server
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from souq import cli
from souq.budget import Budget, Spent, drained
from souq.build.forecast import forecast
from souq.checks import built, exam
from souq.checks.evals import idle_claim
from souq.checks.files import _unreadable
from souq.checks.secrets import secrets
from souq.corpus.query import query
from souq.errors import Hostile, SouqError
from souq.lab.engines import openai
from souq.licences.lineage import MAX_MODELS, of_folder
from souq.weights.delta import TensorRef
from tests.stall import an_eval, case, eval_files, jsonl, offer, stall

# -- the budget of a verb ----------------------------------------------------------------------------------------------


def stubborn():
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


@pytest.mark.timeout(60)
def test_time_is_up_in_the_middle_of_anything():
    """Even of a loop that goes on after every error of the house."""
    with pytest.raises(Spent, match="`x` has taken its 0 seconds") as error, Budget(0.2, 0).held("`x`"):
        stubborn()
    assert "SOUQ_SECONDS=2" in error.value.hint


def test_memory_is_counted_too():
    with pytest.raises(Spent, match=r"`x` has taken its 1 MB"), Budget(0, 1).held("`x`"):
        time.sleep(2)


def test_what_is_done_in_time_is_left_alone_and_the_clock_is_given_back():
    before = signal.getsignal(signal.SIGALRM)
    with Budget(60, 100_000).held("`x`"):
        done = sum(range(1000))
    assert (done, signal.getsignal(signal.SIGALRM)) == (499_500, before)


def test_a_person_may_raise_it(monkeypatch):
    assert Budget(1, 2).raised() == Budget(1, 2)
    monkeypatch.setenv("SOUQ_SECONDS", "7.5")
    monkeypatch.setenv("SOUQ_MEGABYTES", "many")
    assert Budget(1, 2).raised() == Budget(7.5, 2)


@pytest.mark.parametrize(
    ("words", "budget"),
    [("status", cli.QUICK), ("pr list --all", cli.QUICK), ("pr merge 1", cli.FREE), ("verify x", cli.LONG), ("", cli.FREE),
     ("queue", cli.QUICK), ("queue run", cli.FREE), ("queue --watch", cli.FREE), ("train rows", cli.FREE), ("--help", cli.FREE)],
)  # fmt: skip
def test_verbs_that_read_have_one(words, budget):
    assert cli._budget(words.split()) == budget


def test_every_budget_is_of_a_verb():
    import click

    for name in cli.BUDGETS:
        group, _, word = name.partition(" ")
        command = cli.souq.get_command(None, group)
        assert command is not None
        assert not word or (isinstance(command, click.Group) and command.get_command(None, word) is not None), name


@pytest.mark.parametrize(
    ("error", "says"),
    [(MemoryError(), "more memory than there is"), (RecursionError(), "nested deeper"), (KeyError("x"), "KeyError: 'x'"),
     (OverflowError("too\nlarge"), "OverflowError: too large"), (Spent("spent", "raise it"), "spent")],
)  # fmt: skip
def test_no_person_is_shown_a_traceback(monkeypatch, capfd, error, says):
    """Unless they ask: the fault is one line, which says whose it is and how to report it."""

    def broken(*words, **how):
        raise error

    monkeypatch.setattr(cli.souq, "main", broken)
    monkeypatch.delenv("SOUQ_DEBUG", raising=False)
    assert cli.run(["status"]) == 1
    shown = capfd.readouterr().err
    assert says in shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == 2
    monkeypatch.setenv("SOUQ_DEBUG", "1")
    cli.run(["status"])
    assert ("Traceback" in capfd.readouterr().err) == (not isinstance(error, Spent))


# -- what does not end -------------------------------------------------------------------------------------------------


class Endless(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * self.server.part)
                self.wfile.flush()
                time.sleep(self.server.pause)
        except OSError:
            pass


@pytest.mark.parametrize(
    ("part", "pause", "error", "says"),
    [(1, 0.1, SouqError, "longer than 1 seconds to arrive"), (1 << 20, 0.0, Hostile, "longer than 1 MB")],
)
def test_a_server_that_never_ends_is_left(monkeypatch, part, pause, error, says):
    """A timeout counts from byte to byte: one a second never ends, and neither do a million."""
    pytest.importorskip("openai")
    monkeypatch.setattr(openai, "ARRIVES", 1.0)
    monkeypatch.setattr(openai, "MAX_REPLY", 1 << 20)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    server.part, server.pause = part, pause
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        asked = openai.Server("b3:" + "0" * 64, f"http://127.0.0.1:{server.server_port}/v1", "m")
        with pytest.raises(error, match=says):
            _ = asked.name
    finally:
        server.shutdown()


def test_a_reply_is_read_for_so_long_and_no_longer():
    parts = [b"ab", b"cd", b""]
    assert drained(SimpleNamespace(read1=lambda most: parts.pop(0)), 9, 5) == b"abcd"
    assert drained(SimpleNamespace(read1=lambda most: b"x" * most), 70_000, 5) == b"x" * 70_000
    with pytest.raises(TimeoutError):
        drained(SimpleNamespace(read1=lambda most: time.sleep(0.05) or b"x"), 1 << 30, 0.2)


def cards(folder, count, names):
    for i in range(count):
        (folder / f"m{i}").mkdir(parents=True)
        of = "base_model:\n" + "".join(f"- ../m{name}\n" for name in names(i)) if names(i) else ""
        (folder / f"m{i}" / "README.md").write_text(f"---\nlicense: mit\n{of}---\n")
    return folder / "m0"


def test_cards_that_name_each_other_are_each_read_once(tmp_path):
    """Thirty cards that name the next one twice are 2^30 ways to the last."""
    inputs, licence = of_folder(cards(tmp_path, 30, lambda i: [i + 1, i + 1] if i < 29 else []))

    assert (licence, len(inputs)) == ("MIT", 30)


def test_as_many_models_as_anybody_names(tmp_path):
    first = cards(tmp_path, MAX_MODELS + 5, lambda i: range(1, MAX_MODELS + 5) if i == 0 else [])

    with pytest.raises(Hostile, match=f"more than {MAX_MODELS} models are named"):
        of_folder(first)


@pytest.mark.parametrize(
    ("sql", "says"),
    [("select count(*) from range(100000), range(100000), range(1000)", "has taken its 1 seconds"),
     ("select repeat('x', 1000000) from range(3000)", "an answer of more than 256 MB"),
     ("select * from range(100001)", "an answer of more than 100,000 rows"), ("select 1 + 1", "")],
)  # fmt: skip
def test_a_question_to_a_corpus_ends(tmp_path, monkeypatch, sql, says):
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    pytest.importorskip("duckdb")
    for folder in ("dump=1/subset=kept", "index/dump=1/subset=kept"):
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table({"text": ["x"]}), tmp_path / folder / "part-0.parquet")
    monkeypatch.setenv("SOUQ_SECONDS", "1")
    if says:
        if "range" in sql and "seconds" not in says:
            monkeypatch.setenv("SOUQ_SECONDS", "60")
        with pytest.raises(SouqError, match=says):
            query(str(tmp_path), sql)
    else:
        assert query(str(tmp_path), sql)[1] == [(2,)]


# -- what an exam costs ------------------------------------------------------------------------------------------------


@pytest.fixture
def main(tmp_path, monkeypatch):
    monkeypatch.setattr(exam, "_seconds", lambda main, count: count / 1000)
    return stall(tmp_path, evals={"old": [("q" * 40, "a")]}, checks="exam_tokens = 100\nmax_exam_tokens = 200\n")


def asked(main, cases, kind="exact", **more):
    files = eval_files(cases, kind=kind, **more)
    offered = offer(files={f"evals/new/{name}": data for name, data in files.items()}, kind="evals")
    return exam.cost(case(main, offered))


def test_tokens_of_an_eval():
    """A quarter of its bytes, each option, and ten for each token that is written."""
    assert exam.tokens(an_eval("x", [("q" * 40, "a" * 8)])) == 13
    pair = {"prompt": "q" * 40, "expected": "a", "choices": ["a", "b" * 7]}
    assert exam.tokens(an_eval("x", [pair], kind="choice")) == 13
    assert exam.tokens(an_eval("x", [("q" * 39, "a")], kind="answer", checker="equals", max_tokens=3)) == 11 + 30


def test_an_exam_that_everybody_waits_for_needs_eyes_and_one_without_end_is_refused(main):
    outcome, because, shown = asked(main, [("q" * 40, "a")])
    assert (outcome, shown) == ("pass", {"tokens": 11, "of_all": 22})
    assert because == "its cases are about 11 tokens to read, about 1 s here for each model"

    outcome, because, shown = asked(main, [("q" * 40, "a")] * 10)
    assert (outcome, shown["tokens"], "every change of weights would wait" in because) == ("needs-eyes", 110, True)

    outcome, because, _ = asked(main, [("q" * 40, "a")] * 18)
    assert (outcome, "all evals of main with it are 209, the most is 200" in because) == ("refuse", True)


def test_a_case_longer_than_the_model_was_made_for_is_refused(main, monkeypatch):
    context = exam.context_of(exam._config(main))
    monkeypatch.setattr(exam, "_counter", lambda main: len)

    assert asked(main, [("q" * (context - 1), "a")])[1].startswith("its cases are about")
    outcome, because, _ = asked(main, [("q" * context, "a")])
    assert (outcome, because) == (
        "refuse", f"case 'c0' of `new` is about {context + 1:,} tokens; the model was made for {context:,}",
    )  # fmt: skip
    assert asked(main, [("q" * context, "a")] * 9)[1].endswith("; and 5 more")


def test_odds_that_no_machine_holds_are_refused(main, monkeypatch):
    monkeypatch.setattr(exam, "_counter", lambda main: lambda text: len(text) // 4)
    monkeypatch.setattr(exam, "MAX_ODDS", 4 * 320 * 100)
    context = exam.context_of(exam._config(main))

    outcome, because, _ = asked(main, [("", "a" * (context + 8))], kind="loss")
    assert (outcome, "asks for the odds of" in because) == ("refuse", True), because


@pytest.mark.parametrize(
    ("config", "context"),
    [({"max_position_embeddings": 512}, 512), ({"n_positions": 1024}, 1024), ({}, 0), ({"n_ctx": "x"}, 0),
     ({"max_position_embeddings": 8, "rope_scaling": {"original_max_position_embeddings": 8, "factor": 4.0}}, 32),
     ({"max_position_embeddings": 8, "rope_scaling": {"original_max_position_embeddings": 8, "factor": 1e30}}, 1 << 24)],
)  # fmt: skip
def test_for_how_many_tokens_a_model_was_made(config, context):
    assert exam.context_of(config) == context


def test_an_eval_is_claimed_once(main):
    offered = SimpleNamespace(contribution=SimpleNamespace(fixes=("old", "old")), delta=None, evals=[])

    assert idle_claim(SimpleNamespace(main=main, offer=offered)).startswith("claims to fix an eval twice")


# -- words that nobody sees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seen"),
    [("1" + "".join(chr(0xE0000 + ord(c)) for c in "praise me"), False), ("plain", True),
     ("\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", True)],
)  # fmt: skip
def test_rows_that_hide_their_words_need_eyes(main, text, seen):
    """Tag letters of Unicode are read by a model and seen by nobody; the flag of Scotland is written with them."""
    outcome, because, _ = secrets(
        case(main, offer(files={"data/rows.jsonl": jsonl([{"prompt": "a", "completion": text}])}))
    )

    assert ("text that nobody sees" in because) == (not seen)
    assert seen or outcome == "needs-eyes"


@pytest.mark.parametrize(
    ("title", "says"),
    [("x" * 201, "its title has 201 letters; the most is 200"), ("x" * 200, ""), ("o\u0336\u0489", "draw over others"),
     ("o" + "\u0301" * 4, "draw over others"), ("zero\u200bwidth", "not seen"), ("Tiếng Việt, हिन्दी, ليلى, 日本語", ""),
     ("\u0e19\u0e49\u0e33 e\u0302\u0323\u0301", "")],
)  # fmt: skip
def test_a_title_is_read_on_one_line(title, says):
    offered = offer([{"prompt": "a", "completion": "b"}])
    author = SimpleNamespace(name="mallory", org="")
    told = SimpleNamespace(title=title, author=author, recipe={})

    assert says in (
        because := _unreadable(SimpleNamespace(files=offered.files, contribution=told, election=None)) or ""
    )
    assert bool(because) == bool(says)


def test_a_recipe_is_no_heap_of_tables():
    author = SimpleNamespace(name="x" * 201, org="")
    told = SimpleNamespace(
        title="x", author=SimpleNamespace(name="m", org=""), recipe={f"k{i}": {} for i in range(1001)}
    )

    assert (
        _unreadable(SimpleNamespace(contribution=told, election=None)) == "its recipe has 1,001 keys; the most is 1,000"
    )
    told.author = author
    assert "its author's name has 201 letters" in _unreadable(SimpleNamespace(contribution=told, election=None))


@pytest.mark.parametrize(
    ("candidates", "closes", "says"),
    [((), "2030-01-01T00:00:00Z", "an election of nobody"), (("amira",), "never", "closes 'never', which is no time"),
     (("amira",), "2030-01-01T00:00:00Z", "")],
)  # fmt: skip
def test_an_election_is_of_somebody_and_closes(candidates, closes, says):
    told = SimpleNamespace(title="x", author=SimpleNamespace(name="m", org=""), recipe={})
    election = SimpleNamespace(candidates=candidates, closes=closes)
    because = _unreadable(SimpleNamespace(contribution=told, election=election)) or ""
    assert (says in because, bool(because)) == (True, bool(says))


# -- the built change --------------------------------------------------------------------------------------------------


def moved(base, before, after, **limits):
    kept = {TensorRef.of(array).digest: array for array in base.values()}
    lock = {name: {each: TensorRef.of(array) for each, array in model.items()} for name, model in
            (("base", base), ("before", before), ("after", after))}  # fmt: skip
    settings = SimpleNamespace(max_added=0.75, max_away=1.0, **limits)
    main = SimpleNamespace(
        base=lock["base"], config=SimpleNamespace(checks=settings),
        repo=SimpleNamespace(store=SimpleNamespace(get=kept.__getitem__)),
    )  # fmt: skip
    made = (SimpleNamespace(lock=lock[name], weights=model) for name, model in (("before", before), ("after", after)))
    was, now = ({name: name for name in model} for model in (before, after))
    far = built.moved(main, *made, was, now, lambda *words: None)
    return far, built.too_far(main, far)


def test_caps_are_of_all_changes_together(monkeypatch):
    """Sixteen changes at right angles, each of 0.45 of the norm, are 1.8 together."""
    monkeypatch.setattr(built, "measures", lambda repo, base, names: dict.fromkeys(names, 4.0))
    base = {"w": np.eye(16, dtype="<f4"), "b": np.ones(16, "<f4"), "same": np.ones(3, "<f4")}
    steps = [base]
    for i in range(16):
        step = steps[-1]["w"].copy()
        step[i, (i + 1) % 16] += 1.8
        steps.append({**base, "w": step})

    first, wrong = moved(base, steps[0], steps[1])
    assert (round(first.added, 3), round(first.away, 3), first.away_in, wrong) == (0.45, 0.45, "w", "")
    assert built.in_words(first) == "main moves by 0.45 of a tensor's norm at most, and is then 0.45 from the base"
    assert moved(base, steps[3], steps[4])[1] == ""
    last, wrong = moved(base, steps[15], steps[16])
    assert (round(last.added, 3), round(last.away, 3)) == (0.45, 1.8)
    assert wrong == "main's w would be 1.80 of its norm from the base, by all that landed together; the most is 1"
    assert "moves main's w by 0.90 of its norm; the most is 0.75" in moved(base, steps[0], steps[4])[1]
    assert built.in_words(moved(base, base, base)[0]) == "the built model stays as it is"


def test_what_is_no_number_is_too_far(monkeypatch):
    monkeypatch.setattr(built, "measures", lambda repo, base, names: dict.fromkeys(names, 4.0))
    base = {"w": np.eye(4, dtype="<f4"), "v": np.eye(4, dtype="<f4")}
    far, wrong = moved(base, base, {"w": np.full((4, 4), np.nan, "<f4"), "v": 2 * np.eye(4, dtype="<f4")})

    assert (far.added_in, far.away_in) == ("w", "w")
    assert wrong.count("nan") == 2


def test_a_forecast_is_a_number(monkeypatch):
    """One that is none was written down as nothing, and its reading ended every look at the offer."""
    share = SimpleNamespace(part=1.0)
    losses = SimpleNamespace(
        lost={"d": {"w": share}}, costs={"d": 0.0}, worst=lambda digest: ["w"], loss=lambda digest: float("nan")
    )
    monkeypatch.setattr("souq.build.forecast.forecast_losses", lambda *words, **how: losses)
    monkeypatch.setattr("souq.build.forecast.causes", lambda *words: {})
    monkeypatch.setattr("souq.build.forecast._kept", lambda *words: 0.5)
    monkeypatch.setattr("souq.build.forecast._layers", lambda *words: {})
    monkeypatch.setattr("souq.build.forecast.total", lambda shares: share)
    fold = SimpleNamespace(deltas={"d": SimpleNamespace(parts={})})
    with pytest.raises(Hostile, match="it is no number"):
        forecast(fold, "d", {"d": SimpleNamespace(slug="0002-x")})


# -- long cases --------------------------------------------------------------------------------------------------------


def test_odds_are_computed_a_slice_at_a_time(monkeypatch):
    """Whatever the slice, each position has the odds it has alone."""
    torch = pytest.importorskip("torch")
    from souq.lab import packing

    chance = torch.Generator().manual_seed(0)
    scores = torch.randn(7, 11, generator=chance)
    targets = torch.tensor([0, 1, 2, 3, 4, 5, int(scores[6].argmax())])
    monkeypatch.setattr(packing, "logits", lambda net, row: (scores, targets, [0] * 7))
    answers = []
    for slice_ in (2, 100):
        monkeypatch.setattr(packing, "SLICE", slice_)
        answers.append(packing.log_probabilities(None, None))

    (odds, first, _), (whole, whole_first, _) = answers
    assert torch.equal(odds, whole)
    assert torch.equal(first, whole_first)
    assert first[6]
    assert torch.allclose(whole, torch.log_softmax(scores, -1)[torch.arange(7), targets])


@pytest.mark.parametrize(("attention", "free", "refused"), [("sdpa", 4 * 999 * 50, False), ("sdpa", 4 * 999 * 50 - 1, True),
                                                            ("eager", 4 * 999 * 50, True)])  # fmt: skip
def test_a_case_that_no_memory_holds_is_named(monkeypatch, attention, free, refused):
    pytest.importorskip("torch")
    from souq.lab import evals
    from souq.lab.packing import PackedRow, TokenSequence

    config = SimpleNamespace(vocab_size=50, num_attention_heads=2, _attn_implementation=attention)
    lm = SimpleNamespace(net=SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config)))
    row = PackedRow()
    row.add(TokenSequence(list(range(1000)), 1, ("long", "c7", "")))
    monkeypatch.setattr(evals, "memory_left", lambda: free)
    if refused:
        with pytest.raises(SouqError, match=r"case 'c7' of `long` is 999 tokens: about .* GB to score") as error:
            evals._refuse_huge(lm, row)
        assert "souq pr revert" in error.value.hint
    else:
        evals._refuse_huge(lm, row)

"""What the memory of scores promises: nothing scored is lost, nothing else is ever taken for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq import checked_lines
from souq.evals.eval import read_eval
from souq.lab import score_cache as scores
from souq.lab.score_cache import Conditions, Kept
from souq.records import digest
from souq.repo.remote import Repo

MODEL = digest(b"a model")
HERE = Conditions(engine="transformers 5", arithmetic="float32 on any")
SPEC = b'title = "x"\nkind = "exact"\nsource = "s"\nlicence = "MIT"\n'


def an_eval(ids="abc", spec=SPEC):
    lines = b"".join(json.dumps({"id": i, "prompt": "q", "expected": "e"}).encode() + b"\n" for i in ids)
    return read_eval("x", {"eval.toml": spec, "cases.jsonl": lines})


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    return Repo.create(tmp_path_factory.mktemp("scores") / "repo")


@pytest.fixture
def suite(repo):
    repo.drop_cache()
    return an_eval()


def file_of(repo):
    (path,) = (repo.cache / "scores").iterdir()
    return path


def test_what_was_scored_is_found_again(repo, suite):
    """Case by case, as they came, with what was answered."""
    scores.keep(repo, MODEL, suite, [Kept(case="a", value=1.0, answer="yes\nno é")], HERE)
    scores.keep(repo, MODEL, suite, [Kept(case="b", value=0.25), Kept(case="gone", value=1.0)], HERE)

    assert scores.get(repo, MODEL, suite, HERE) == {"a": 1.0, "b": 0.25}
    assert scores.kept_of(repo, MODEL, suite, HERE)["a"].answer == "yes\nno é"
    assert b'"said":"yes' in file_of(repo).read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        {"model": digest(b"another model")},
        {"suite": an_eval(spec=SPEC.replace(b"MIT", b"CC0-1.0"))},
        {"suite": an_eval("ab")},
        {"under": Conditions(engine="transformers 6", arithmetic="float32 on any")},
        {"under": Conditions(engine="transformers 5", arithmetic="bfloat16 on any")},
        {"under": Conditions(engine="transformers 5", arithmetic="float32 on any", harness=scores.HARNESS + 1)},
    ],
)
def test_a_score_is_never_taken_for_another(repo, suite, other):
    """Another model, another eval, another engine, other arithmetic, another way of judging: nothing is known of it."""
    scores.keep(repo, MODEL, suite, [Kept(case="a", value=1.0)], HERE)

    assert scores.get(repo, **{"model": MODEL, "suite": suite, "under": HERE} | other) == {}


def test_the_files_around_the_weights_count():
    """The same tensors under another chat template are another model to ask."""
    assert scores.model_key(MODEL, {"chat_template.jinja": b"a"}) != scores.model_key(MODEL, {"chat_template.jinja": b"b"})  # fmt: skip


@given(st.data())
def test_damage_loses_lines_and_tells_no_lies(repo, data):
    """Any byte changed, anywhere, or the end cut off: each value read is one that was kept, and what comes after is read."""
    repo.drop_cache()
    suite, true = an_eval("abcd"), {"a": 0.5, "b": 1.0, "c": 0.0, "d": 0.125}
    for case in "abc":
        scores.keep(repo, MODEL, suite, [Kept(case=case, value=true[case])], HERE)
    path = file_of(repo)
    bad = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(bad) - 1))
    if data.draw(st.booleans()):
        del bad[at:]
    else:
        bad[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bad)
    scores.keep(repo, MODEL, suite, [Kept(case="d", value=true["d"])], HERE)

    found = scores.get(repo, MODEL, suite, HERE)

    assert found.items() <= true.items()
    assert found["d"] == true["d"]


def test_a_value_that_is_no_number_is_not_kept(repo, suite):
    """A broken model's nan is asked again, and spoils no neighbour."""
    scores.keep(repo, MODEL, suite, [Kept(case="a", value=float("nan")), Kept(case="b", value=1.0)], HERE)

    assert scores.get(repo, MODEL, suite, HERE) == {"b": 1.0}


KEEPER = """
import sys
from pathlib import Path
from souq.lab import score_cache as scores
from souq.repo.remote import Repo
from tests.test_scores import HERE, MODEL, Kept, an_eval
repo, ids = Repo(Path(sys.argv[1]), None), [f"c{i}" for i in range(60)]
suite = an_eval(ids)
for i in ids:
    scores.keep(repo, MODEL, suite, [Kept(case=i, value=1.0)], HERE)
    print(i, flush=True)
"""


def test_a_kill_loses_nothing_that_was_kept(repo, suite):
    """kill -9 while it writes: every case whose `keep` had returned is there."""
    words = [sys.executable, "-c", KEEPER, str(repo.git_dir)]
    keeper = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    told = [keeper.stdout.readline().strip() for _ in range(10)]
    time.sleep(0.01)
    os.kill(keeper.pid, signal.SIGKILL)
    told += keeper.stdout.read().split()[:-1]  # the last line may be cut
    keeper.wait()

    found = scores.get(repo, MODEL, an_eval([f"c{i}" for i in range(60)]), HERE)

    assert len(told) >= 10
    assert set(told) <= found.keys()


def test_two_may_keep_at_once(repo, suite):
    """Two processes that score one eval leave every line whole."""
    words = [sys.executable, "-c", KEEPER, str(repo.git_dir)]
    both = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(2)]

    assert [keeper.wait() for keeper in both] == [0, 0]
    lines = [line for line in file_of(repo).read_bytes().split(b"\n") if line]
    assert len(lines) == len(list(checked_lines.bodies(file_of(repo)))) == 120


def test_this_machine_s_conditions_need_no_torch():
    """Looking up a score imports neither torch nor transformers, and names both versions."""
    code = "from souq.lab import score_cache as scores; print(scores.conditions()); import sys; sys.exit('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "torch 2" in told
    assert "float32" in told

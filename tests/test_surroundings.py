"""Where souq is typed: pipes that nobody reads to the end, disks that are full, no HOME, other languages, odd folders."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.tiny import write_model

SOUQ = f"{sys.executable} -m souq"


def typed(line, at, env=None):
    """A line in a shell, `$S` for souq; a variable that is None is not there."""
    variables = {**os.environ, "S": SOUQ, "SOUQ_QUIET": "1", **(env or {})}
    variables = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run(["bash", "-c", line], cwd=at, env=variables, capture_output=True, text=True, errors="replace", check=False)  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def clone(built_bazaar, tmp_path_factory):
    """Somebody's clone."""
    folder = tmp_path_factory.mktemp("surroundings") / "smol"
    shutil.copytree(built_bazaar / "bruno" / "smol", folder)
    return folder


@pytest.mark.parametrize("verb", ["log", "show model.norm.weight", "--help"])
def test_who_reads_no_further_is_no_error(clone, verb):
    """Tables, JSON and help: the code is that of a program that SIGPIPE ended, and nothing is said."""
    done = typed(f"$S {verb} | true; exit ${{PIPESTATUS[0]}}", clone)

    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("verb", ["log", "show model.norm.weight"])
def test_an_answer_that_did_not_arrive_is_no_success(clone, verb):
    """A full disk under stdout is said."""
    done = typed(f"$S {verb} > /dev/full", clone)

    assert done.returncode == 1
    assert "No space left" in done.stderr


def test_closed_handles_lead_nowhere(clone):
    """No file that is opened later becomes somebody's stdout."""
    before = sorted(clone.rglob("*"))

    assert typed("$S log >&-", clone).returncode == 0
    assert typed("$S show model.norm.weight <&- >&- 2>&-", clone).returncode == 0
    assert [path for path in clone.rglob("*") if path not in before and path.name.startswith("model")] == []


@pytest.mark.parametrize(
    "env",
    [
        {"HOME": None},
        {"HOME": "/nonexistent", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii", "COLUMNS": "1", "TERM": "dumb"},
    ],
)
def test_a_home_that_is_not_there_and_other_languages(clone, env):
    """A verb that reads answers as ever."""
    done = typed("$S log", clone, env)

    assert done.returncode == 0
    assert "Evals" in done.stdout


def a_maker(place):
    """A model and a key in a folder, and what their owner has said to git."""
    write_model(place / "tiny")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "key"], check=True)
    names = {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {"SOUQ_KEY": str(place / "key")} | names


def test_a_folder_of_any_name(tmp_path):
    """A line feed, quotes, a blank and bytes that are no UTF-8 in one path: init, push, clone, verify."""
    place = tmp_path / os.fsdecode(b"a\n'b\" $(touch owned) caf\xe9")
    place.mkdir()
    env = a_maker(place)

    line = "$S init one --from tiny --governance solo --no-suite && cd one && $S push ../hub.git && cd .. && $S clone hub.git two && cd two && $S verify"  # fmt: skip
    done = typed(line, place, env)

    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["verified"]), done.stderr
    assert not [*tmp_path.rglob("owned")]


def test_gc_waits_for_who_is_at_work(clone):
    """Nothing is removed that another line in this clone may be about to open; gc says so, and goes on after it."""
    lock = os.open(clone / ".git", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    words = [*SOUQ.split(), "gc", "--grace", "0"]
    with subprocess.Popen(words, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as gc:
        said = gc.stderr.readline()
        assert gc.poll() is None
        os.close(lock)
        out, _ = gc.communicate(timeout=60)

    assert said == "waiting until the other souq lines typed in this clone have ended\n"
    assert (gc.returncode, out[:8]) == (0, "removed ")


def test_words_are_utf_8_in_any_language(tmp_path):
    """A title in another script arrives under a locale that knows no such signs; what is no text at all is refused."""
    env = a_maker(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 + 1", "completion": "2"}\n')
    offer = "$S pr create --data ../rows.jsonl --licence CC0-1.0 --signoff --unchecked --title"
    posix = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert typed("$S init one --from tiny --governance solo --no-suite", tmp_path, env).returncode == 0

    offered = typed(f"{offer} '\u0644\u064a\u0644\u0649 \u65e5\u672c'", tmp_path / "one", env | posix)
    refused = typed(f"{offer} $'caf\\xe9'", tmp_path / "one", env)
    listed = typed("$S pr list --json", tmp_path / "one", env)

    assert offered.returncode == 0, offered.stderr
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (2, r"Error: not UTF-8: 'caf\udce9'")
    assert [pull["title"] for pull in json.loads(listed.stdout)] == ["\u0644\u064a\u0644\u0649 \u65e5\u672c"]

"""What is shown on a terminal fits it; what goes into a file or a pipe stays a line."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.cli.lines import fit
from tests.bazaar import built_bazaar, copied

__all__ = ["built_bazaar"]

WORD = st.text("abcdefgh-#,", min_size=1, max_size=12)
COMMAND = st.lists(WORD, min_size=2, max_size=5).map(lambda words: f"`{' '.join(words)}`")


@given(st.lists(WORD | COMMAND, min_size=1, max_size=40), st.integers(0, 6), st.integers(20, 100))
def test_lines_fit_and_say_the_same(words, deep, width):
    """Nothing is lost, and a line is too long only where one word or one command is."""
    text = " " * deep + " ".join(words)
    lines = fit(text, width).split("\n")

    assert " ".join(" ".join(lines).split()) == " ".join(words)
    for line in lines:
        assert len(line) <= width or " " not in re.sub("`[^`]*`", "`", line.strip())


@given(st.lists(COMMAND, min_size=1, max_size=8), st.integers(70, 100))
def test_no_command_is_broken(commands, width):
    assert all(command in fit(" and ".join(commands), width) for command in commands)


def on_terminal(words, columns, cwd):
    """What somebody sees who types that in a terminal of so many columns."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    run = subprocess.Popen(
        [sys.executable, "-m", "souq", *words], stdout=child, stderr=child, stdin=child, cwd=cwd, env=env
    )
    os.close(child)
    seen = b""
    while True:
        try:
            part = os.read(parent, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(parent)
    run.wait()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


@pytest.fixture(scope="module")
def offered(built_bazaar, tmp_path_factory):
    """A clone in which #2 waits for checks and votes."""
    town = copied(built_bazaar, tmp_path_factory.mktemp("lines") / "town")
    assert town.offer("mallory", town.delta("greet")) == 2
    return town.actors["mallory"].clone


VERBS = ["status", "log", "pr view 2", "pr list", "audit", "cost", "governance check", "pr view 99", "pr reviw 2"]


@pytest.mark.parametrize("words", VERBS)
def test_a_terminal_of_80_columns_is_enough(offered, words):
    seen = on_terminal(words.split(), 80, offered)

    assert [line for line in seen.splitlines() if len(line.rstrip()) > 80] == []
    assert seen.count("missing: check") == 0, "checks that the same people are still to run stand in one line"


def test_what_is_piped_stays_a_line(offered):
    typed = [sys.executable, "-m", "souq", "governance", "check"]
    piped = subprocess.run(typed, capture_output=True, text=True, cwd=offered, check=True).stdout

    assert max(map(len, piped.splitlines())) > 80


def test_the_rest_of_a_table_is_there_where_it_is_asked_for(offered):
    """In 80 columns the evidence of an audit is left out, with --long and in a wide terminal it is there."""
    seen = {words: on_terminal(words.split(), 80, offered) for words in ("audit show", "audit show --long")}

    assert ["evidence" in text for text in (*seen.values(), on_terminal(["audit"], 240, offered))] == [
        False,
        True,
        True,
    ]

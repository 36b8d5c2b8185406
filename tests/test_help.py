"""What the verbs say of themselves is whole, and docs/cli.md is exactly that."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from souq.cli import souq

DOCS = Path(__file__).parent.parent / "docs"


def commands(command=souq, context=None):
    """(what is typed, the command) of every verb, and of every verb below it."""
    context = context or click.Context(souq, info_name="souq", **souq.context_settings)
    for name in command.list_commands(context):
        verb = command.get_command(context, name)
        below = click.Context(verb, context, name)
        yield below.command_path, verb, below
        if isinstance(verb, click.Group):
            yield from commands(verb, below)


EVERY = list(commands())


@pytest.mark.parametrize(("typed", "verb", "context"), EVERY, ids=[each[0] for each in EVERY])
def test_help_ends_its_sentences(typed, verb, context):
    """A verb and each of its options say what they are for, to the end, and no listing cuts a line short."""
    assert re.search(r"[.?:`]$", (verb.help or "").strip()), verb.help
    for option in verb.params:
        if isinstance(option, click.Option):
            text = re.sub(r"\s*\[default: .*\]$", "", option.help or "")
            assert re.search(r"[.?]$", text), f"{typed} {option.opts[0]}: {option.help!r}"
    shown = verb.get_help(context)
    assert not re.search(r"\.\.\.$|…$", "\n".join(shown.splitlines()[1:]), re.M), shown


@pytest.mark.parametrize(("typed", "verb", "context"), EVERY, ids=[each[0] for each in EVERY])
def test_what_is_required_is_asked_for(typed, verb, context):
    """click lets `default=None` stand for what somebody must type: `pr revert 4` landed without a reason."""
    for parameter in verb.params:
        if parameter.required:
            with pytest.raises(click.MissingParameter):
                parameter.handle_parse_result(context, {}, [])


def test_the_page_of_verbs_is_what_they_say():
    """docs/cli.md: `python docs/cli_page.py` writes it anew. Made in a process of its own, as click keeps an option
    --help as whoever asked first saw it: without -h, where a test called a verb without `souq` before it."""
    page = "import runpy, sys; sys.stdout.write(runpy.run_path(sys.argv[1])['page']())"
    made = subprocess.run(
        [sys.executable, "-c", page, DOCS / "cli_page.py"], capture_output=True, text=True, check=True
    )

    assert (DOCS / "cli.md").read_text() == made.stdout, "type `python docs/cli_page.py`"

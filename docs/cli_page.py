"""docs/cli.md, made from what the verbs say of themselves: `python docs/cli_page.py` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from souq.cli import GROUPS, souq

PAGE = Path(__file__).parent / "cli.md"
WIDTH = 100
HEAD = """\
# Every verb

What `souq VERB --help` says; `python docs/cli_page.py` wrote it. Every verb that reads takes `--json`.
Exit codes: 0 yes, 1 broken, 2 usage, 3 the answer is no.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_groups()])


def _groups() -> Iterator[str]:
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    root = click.Context(souq, info_name="souq", **width, **souq.context_settings)
    for title, verbs in GROUPS.items():
        yield f"## {title}\n"
        for name in verbs:
            command = souq.get_command(root, name)
            assert command is not None
            yield from _entry(command, click.Context(command, root, name), "###")


def _entry(command: click.Command, context: click.Context, level: str) -> Iterator[str]:
    yield f"{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _entry(inner, click.Context(inner, context, name), f"{level}#")


if __name__ == "__main__":
    PAGE.write_text(page())

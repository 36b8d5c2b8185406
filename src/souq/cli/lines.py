"""Lines that fit the terminal: broken between words, and never inside a command that somebody would copy.

Where nobody watches, in a file or a pipe, every line stays as it is: one line is one thing to grep for.

    >>> fit("  missing: one more approval, see `souq pr view 4`", 34).splitlines()
    ['  missing: one more approval, see', '    `souq pr view 4`']
"""

from __future__ import annotations

import re
import shutil
import textwrap

_COMMAND = re.compile(r"`[^`\n]*`")
_BLANK = "\ue000"  # a blank inside a command; of the private use area, so no text that is shown holds it


def fit(text: str, width: int) -> str:
    """The same text with no line over `width` where a blank allows; what is broken goes on a little further in."""
    return "\n".join(line if len(line) <= width else _broken(line, width) for line in text.split("\n"))


def terminal_width() -> int:
    """How many columns the terminal has."""
    return shutil.get_terminal_size().columns


def _broken(line: str, width: int) -> str:
    body = line.lstrip(" ")
    first = line[: len(line) - len(body)]
    whole = _COMMAND.sub(lambda match: _kept(match[0], width - len(first) - 2), body)
    lines = textwrap.wrap(
        whole, width, initial_indent=first, subsequent_indent=first + "  ", break_long_words=False,
        break_on_hyphens=False, replace_whitespace=False, expand_tabs=False,
    )  # fmt: skip
    return "\n".join(lines).replace(_BLANK, " ")


def _kept(command: str, room: int) -> str:
    """A command that cannot be broken, where a line has room for it."""
    return command.replace(" ", _BLANK) if len(command) <= room else command

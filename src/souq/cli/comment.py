"""`souq pr comment`: say something about a pull request that is no vote; and the thread as `pr view` shows it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from souq.cli.console import answer, done, json_option, key_option, out, person
from souq.cli.here import here
from souq.cli.named import PULL
from souq.errors import NotFound, UsageError
from souq.pulls import comments
from souq.pulls.comments import MAX_TEXT, Comment
from souq.records import Digest, spelled_out
from souq.text import decoded

LAST_COMMENTS = 10  # that `pr view` shows unasked
WHOSE = {"author": ", its author", "enrolled": "", "stranger": ", who is not enrolled"}


@click.command()
@click.argument("number", type=PULL)
@click.argument("text", required=False)
@click.option("--file", type=click.Path(path_type=Path), help="Read the text from this file; - is stdin.")
@key_option
@json_option
def comment(number: int, text: str | None, file: Path | None, key: Path | None, as_json: bool) -> None:
    """Sign a comment on a pull request, for everybody to read; it decides nothing, and anybody may."""
    if text is not None and file is not None:
        raise UsageError("a text and a file", hint="one of them")
    words = text or (_read(file) if file is not None else "")
    repo = here()
    value = {"number": number, "comment": comments.comment(repo, number, words, person(repo, key))}
    answer(value, as_json, lambda: done(f"next: `souq pr view {number}` shows it to everybody"))


def _read(file: Path) -> str:
    if str(file) == "-":
        return sys.stdin.read(MAX_TEXT + 1)
    if not file.is_file():
        raise NotFound(f"no file {file}")
    return decoded(file.read_bytes(), str(file))


def show_thread(thread: Sequence[Comment], number: int, digest: Digest, *, every: bool) -> None:
    """Comments, the last ones unless every one is asked for; strangers' words steer no terminal."""
    shown = thread if every else thread[-LAST_COMMENTS:]
    if (earlier := len(thread) - len(shown)) > 0:
        out.print(f"{earlier} earlier comments: `souq pr view {number} --comments`")
    for each in shown:
        before = "" if each.subject == digest else ", on what was offered before"
        out.print(spelled_out(f"{each.at[:10]} {each.by}{WHOSE[each.whose]}{before}:"))
        for line in each.text.splitlines():
            out.print(spelled_out(f"  {line}"))

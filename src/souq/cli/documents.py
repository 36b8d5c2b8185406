"""Documents: texts for people that stand beside the model, as `pr create --file` offers and `pr diff` shows them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from souq.errors import NotFound, SouqError, UsageError
from souq.records import spelled_out
from souq.repo.contribution import DOCUMENTS, Offer, is_document
from souq.repo.snapshot import Snapshot
from souq.text import plain_utf8

MOST_LINES = 5_000  # that are compared one by one
TAKEN = "LICENSE, NOTICE, CITATION.cff, NAME.md and NAME.txt in capitals, docs/name.md; another name: NAME=FILE"


def documents(named: Sequence[str]) -> dict[str, bytes]:
    """Files on this disk as a contribution of documents has them: `NAME=FILE`, or FILE where its name says where to.

    Raises:
        NotFound: no such file.
        UsageError: a name that no document has, or one twice.
    """
    files = dict[str, bytes]()
    for word in named:
        name, file = _named(word)
        if not is_document(name):
            raise UsageError(f"{name[:80]!r} is no document's name", hint=f"taken are {TAKEN}")
        if not file.is_file():
            raise NotFound(f"no file {file}", hint="check --file")
        if f"{DOCUMENTS}{name}" in files:
            raise UsageError(f"--file names two that are called {name}", hint="name one of them otherwise: NAME=FILE")
        files[f"{DOCUMENTS}{name}"] = plain_utf8(file.read_bytes(), str(file))
    return files


def _named(word: str) -> tuple[str, Path]:
    name, equals, file = word.partition("=")
    if equals and not Path(word).is_file():
        return name, Path(file)
    path = Path(word)
    return (path.as_posix() if is_document(path.as_posix()) else path.name), path


def changes(before: Snapshot, offer: Offer) -> Iterator[str]:
    """What each document that is offered changes of the one before, line by line; safe to show."""
    for path, data in sorted(offer.documents.items()):
        old = ""
        with suppress(SouqError):
            old = before.text(path)
        ends = old.splitlines(), data.decode("utf-8", "replace").splitlines()
        if sum(map(len, ends)) > MOST_LINES:  # the patch of its own folder has all of it
            continue
        lines = difflib.unified_diff(*ends, f"main/{path}", f"offered/{path}", lineterm="")
        yield from map(spelled_out, lines)

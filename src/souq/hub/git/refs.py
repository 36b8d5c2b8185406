"""Which refs a push may move: read from the push itself, before any git is started.

refuse(commands(body), governed=True, moved=...)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from souq.errors import Hostile, Refused
from souq.hub.huggingface.repositories import BRANCH
from souq.repo.git import MAIN
from souq.repo.remote import MOVES, SOUQ

NOTHING = "0" * 40
MOST = 20_000  # refs of one push: a whole repository is sent at once
MAX_LINE = 1_000  # bytes
_COMMAND = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) (refs/[!-~]{1,300})(?:\0[ -~]*)?\n?")


@dataclass(frozen=True)
class Command:
    """A ref that is to move, from what to what."""

    old: str
    new: str
    ref: str

    @property
    def number(self) -> int:
        """The pull request of souq's that it is about; 0 where it is about none."""
        return int(match[1]) if (match := re.match(r"refs/souq/pr/([1-9]\d{0,8})/", self.ref)) else 0


def commands(body: IO[bytes]) -> list[Command]:
    """What a push asks for, from its beginning.

    Raises:
        Hostile: it is no push, or one of too much.
    """
    return [_command(line) for line in _lines(body)]


def _lines(body: IO[bytes]) -> Iterator[bytes]:
    for _ in range(MOST):
        head = body.read(4)
        if head in (b"0000", b""):
            return
        if not re.fullmatch(b"[0-9a-f]{4}", head) or not 4 < (size := int(head, 16)) <= MAX_LINE:
            raise Hostile("this is no push as git sends it")
        yield body.read(size - 4)
    raise Hostile(f"more than {MOST:,} refs at once")


def _command(line: bytes) -> Command:
    if (match := _COMMAND.fullmatch(line)) is None:
        raise Hostile("a push of refs with plain names, by sha1, neither shallow nor signed")
    return Command(*(part.decode() for part in match.groups()))


def refuse_governed(asked: list[Command], may_move: Callable[[Command], bool]) -> None:
    """Say no to refs of a souq repository that nobody may move: what was signed stays, and nothing goes.

    Raises:
        Refused: one of them.
    """
    for each in asked:
        match = SOUQ.fullmatch(each.ref)
        if each.ref != MAIN and match is None:
            raise Refused(f"{each.ref}: only main and what souq itself sends, `souq push` and `souq pr create`")
        if each.new == NOTHING:
            raise Refused(f"{each.ref}: nothing is deleted here")
        if match is not None and (digits := match["id"]) and not each.new.startswith(digits):
            raise Refused(f"{each.ref}: it is named by what it holds, and this is something else")
        if match is not None and each.old not in (NOTHING, each.new) and not MOVES.fullmatch(each.ref):
            raise Refused(f"{each.ref}: what was signed never moves")
        if match is not None and not may_move(each):
            raise Refused(f"{each.ref}: this pull request is another's")


def refuse_plain(asked: list[Command]) -> None:
    """Say no to refs of a plain repository that are neither branches nor tags.

    Raises:
        Refused: one of them.
    """
    for each in asked:
        kind, _, name = each.ref.removeprefix("refs/").partition("/")
        if kind not in ("heads", "tags") or not BRANCH.fullmatch(name):
            raise Refused(f"{each.ref}: branches and tags, of letters, digits, `-`, `_` and `.`, without a slash")
        if each.ref == MAIN and each.new == NOTHING:
            raise Refused("a repository has a main")

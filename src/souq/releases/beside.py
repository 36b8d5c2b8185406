"""What lies in a release's folder beside what the release states: later claims that verify, and strangers.

A stranger that a loader would load is wrong, whatever it holds; one that people alone read is named and left.
What is not known to be harmless is taken to be loaded.

    >>> harmless("docs/figure.png"), harmless("modeling.py"), harmless("chat_template.md")
    (True, False, False)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from souq.model.card import front_matter
from souq.releases.claims import FACE, FOLDER, PROOF

CARD, HEAD, BODY = "README.md", "souq:card-head", "souq:card"
MAX_CARD = 1 << 20
MAX_STARTS = 10_000  # lines at which the card as it was is looked for
_READ_BY_PEOPLE = (".md", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_PLAIN = ("license", "license.txt", "notice", "notice.txt", ".ds_store", ".gitignore", "citation.cff", "authors")
# Loaders look for these by the beginning of their names, whatever comes behind it.
_LOADED = re.compile(
    r"(adapter|added_tokens|chat_template|config|generation_config|merges|model|preprocessor|processor|pytorch|"
    r"sentencepiece|special_tokens|spiece|tf_|flax|tokeniz|vocab|video_|image_)"
)
_MARK = re.compile(r"(\d{1,7}) ([0-9a-f]{64})")


@dataclass(frozen=True)
class Stranger:
    """A file that the release does not state and that no loader reads."""

    file: str
    because: str


def harmless(path: str) -> bool:
    """Whether people alone read a file of this name."""
    *folders, name = path.lower().split("/")
    if any(_LOADED.match(each) for each in (*folders, name)):
        return False
    if path.startswith(FOLDER) and not folders[1:]:
        return name.endswith((FACE, PROOF, ".yml", ".json"))
    return name in _PLAIN or name.endswith(_READ_BY_PEOPLE)


def stranger(path: str) -> Stranger:
    """What is said of one."""
    if path.startswith(FOLDER):
        return Stranger(path, "scores that nobody signed who stands in the policy")
    return Stranger(path, "not stated by the release; no loader reads it")


# -- the card ----------------------------------------------------------------------------------------------------------


def card_mark(card: bytes) -> dict[str, str]:
    """What a bill of materials keeps of a card, so that it is known again among what people add to it."""
    head, body = _parted(card)
    return {HEAD: head.decode(), BODY: f"{len(body)} {hashlib.sha256(body).hexdigest()}"}


def keeps(card: bytes, mark: Mapping[str, str]) -> bool:
    """Whether a card still says all it said: its head among other keys, its text in one piece from the start of a line.

    Raises:
        SouqError: its head cannot be read.
    """
    head, _ = _parted(card)
    before, now = front_matter(mark.get(HEAD, "")), front_matter(head.decode())
    return all(_holds(now.get(key), value) for key, value in before.items()) and _in_one_piece(card, mark.get(BODY, ""))


def _holds(now: Any, before: Any) -> bool:
    if isinstance(now, list) and isinstance(before, list):
        return all(value in now for value in before)
    return bool(now == before)


def _in_one_piece(card: bytes, mark: str) -> bool:
    match = _MARK.fullmatch(mark)
    if match is None or not 0 < (size := int(match[1])) <= len(card) <= MAX_CARD:
        return False
    starts = [0, *(end.end() for end in re.finditer(rb"\n", card))]
    pieces = (card[start : start + size] for start in starts[:MAX_STARTS] if start + size <= len(card))
    return any(hashlib.sha256(piece).hexdigest() == match[2] for piece in pieces)


def _parted(card: bytes) -> tuple[bytes, bytes]:
    """A card's head, which hubs and people write anew, and its text."""
    head = re.match(rb"---\n.{0,65536}?\n---\n", card, re.DOTALL)
    return (head[0], card[head.end() :]) if head else (b"", card)

"""A tokenizer's words and their numbers: tokenizer.json read as plain data, never by the library that runs it.

words = read_words(files, "the base")
files |= tokenizer_files(files, with_tokens(words, {"<|think|>": PLAIN}))
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from souq.errors import Hostile
from souq.records import read_json

MAX_TOKENS = 4_000_000
STALE = ("added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model")
"""Older spellings of a vocabulary, which would contradict a new tokenizer.json."""

Ids = dict[str, int]
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


@dataclass(frozen=True)
class Words:
    """A tokenizer: its tokens' numbers, those that were added with how they are matched, and its document."""

    ids: Ids
    added: dict[str, dict[str, Any]]
    document: dict[str, Any]


def read_words(files: Mapping[str, bytes], name: str) -> Words | None:
    """The tokenizer among a model's files; None where there is none.

    Raises:
        Hostile: not a tokenizer.json, or two readers could take its numbers differently.
    """
    if "tokenizer.json" not in files:
        return None
    try:
        document = read_json(files["tokenizer.json"])
        vocab = document["model"]["vocab"]
        ids: Ids = dict(vocab) if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
        added = {entry["content"]: dict(entry) for entry in document.get("added_tokens") or []}
        numbers = [(token, entry["id"]) for token, entry in added.items()]
    except Hostile as error:
        raise Hostile(f"tokenizer.json of {name}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Hostile(f"tokenizer.json of {name} has no vocabulary we can read") from error
    for token, number in numbers:
        if ids.setdefault(token, number) != number:
            raise Hostile(f"tokenizer.json of {name} gives {token!r} two numbers")
    if len(ids) > MAX_TOKENS or not all(isinstance(token, str) for token in ids):
        raise Hostile(f"tokenizer.json of {name} has no vocabulary we can read")
    if not all(type(number) is int and 0 <= number < MAX_TOKENS for number in ids.values()):
        raise Hostile(f"tokenizer.json of {name} has numbers out of bounds")
    if len(set(ids.values())) < len(ids):
        raise Hostile(f"tokenizer.json of {name} gives one number to two tokens")
    return Words(ids, added, document)


def token_text(value: Any) -> str:
    """The text of a token as a tokenizer's settings name it, a text or a table with its `content`; "" for neither."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def with_tokens(words: Words, new: Mapping[str, dict[str, Any]]) -> Words:
    """With these added tokens behind all others, those apart that are there."""
    ids, added = dict(words.ids), dict(words.added)
    following = max(ids.values(), default=-1) + 1
    for token in new:
        if token not in ids:
            ids[token] = following
            added[token] = {"id": following, "content": token, **new[token]}
            following += 1
    listed = sorted(added.values(), key=lambda entry: int(entry["id"]))
    return Words(ids, added, words.document | {"added_tokens": listed})


def tokenizer_files(files: Mapping[str, bytes], made: Words) -> dict[str, bytes]:
    """The tokenizer's files beside its source's settings."""
    written = {"tokenizer.json": json.dumps(made.document, ensure_ascii=False, indent=2).encode()}
    for name in ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        if name in files:
            written[name] = files[name]
    config = read_json(written.get("tokenizer_config.json", b"{}"))
    if isinstance(config.get("added_tokens_decoder"), dict):  # tokenizer.json says it better, and of all of them
        del config["added_tokens_decoder"]
        written["tokenizer_config.json"] = json.dumps(config, ensure_ascii=False, indent=2).encode()
    return written

"""What licences ask: a reviewed table, expressions of its names, and the duties and limits that follow.

It knows clauses, not law: an engineering reading, never legal advice. Whether terms on weights bind is unsettled.

    >>> [d.text for d in find("llama3.1").duties if d.do == "badge"]
    ['Built with Llama']
    >>> alternatives("MIT OR (Apache-2.0 AND other)")
    (('MIT',), ('Apache-2.0', 'other'))
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from license_expression import Licensing, get_spdx_licensing

from souq.errors import UsageError, nearest
from souq.model.card import UNSAID
from souq.records import Record, parse_toml

MAX_EXPRESSION, MAX_ALTERNATIVES = 1000, 64  # characters; ways to choose
_NAME = re.compile(r"[A-Za-z0-9.:+-]+( WITH [A-Za-z0-9.:+-]+)?")  # SPDX's idstring; a colon is a DocumentRef's

Kind = Literal[
    "free", "permissive", "attribution", "share-alike", "copyleft", "noncommercial", "no-derivatives", "use-limits",
    "research",
]  # fmt: skip
Do = Literal["copy", "notice", "changes", "name", "badge", "policy", "documentation", "source", "same"]
On = Literal["sale", "users", "revenue", "region", "use", "suit", "marks", "patents", "scope"]


class Duty(Record, frozen=True, forbid_unknown_fields=True):
    """What whoever passes it on must do; `text` are the very words, a name's beginning, or the policy that is meant."""

    do: Do
    clause: str
    text: str = ""
    of: Literal["weights", "both"] = "weights"  # both: also on a model that was only trained on outputs


class Limit(Record, frozen=True, forbid_unknown_fields=True):
    """What is not granted, or not to everybody. `number` is of people or US dollars; `at` the day it is asked for."""

    on: On
    clause: str
    says: str
    number: int = 0
    at: str = ""
    commercial: bool = False
    always: bool = False  # of a region: every model under this licence is meant


class Licence(Record, frozen=True, forbid_unknown_fields=True):
    """One licence of table.toml, whose head says what the words mean."""

    id: str
    title: str
    kind: Kind
    source: str
    read: Literal["text", "knowledge", "report"]
    names: tuple[str, ...] = ()
    family: str = ""
    same: bool = False
    outputs: Literal["free", "unsaid", "marked", "derivative", "family", "policy", "research"] = "unsaid"
    outputs_clause: str = ""
    onward: str = ""
    duties: tuple[Duty, ...] = ()
    limits: tuple[Limit, ...] = ()
    sha256: str = ""

    def limited(self, on: On) -> tuple[Limit, ...]:
        return tuple(limit for limit in self.limits if limit.on == on)


class Table(Record, frozen=True, forbid_unknown_fields=True):
    licence: tuple[Licence, ...]


@cache
def table() -> tuple[Licence, ...]:
    """Every licence somebody looked into."""
    text = files("souq.licences").joinpath("table.toml").read_text("utf-8")
    return parse_toml(text, Table, where="licences/table.toml").licence


@cache
def _names() -> dict[str, Licence]:
    return {name.lower(): row for row in table() for name in (row.id, *row.names)}


def find(name: str) -> Licence | None:
    """A licence by its SPDX or LicenseRef id or the hub's tag, in any case; None where nobody looked into it."""
    return _names().get(name.strip().lower())


def spelled(written: str) -> str:
    """A licence as a card, a GGUF file or a person writes it, by its SPDX names; "" where none is named.

    Tags of the hub are the table's names, whatever is on no list is a LicenseRef, and an expression stays one.

    >>> spelled("llama3.1"), spelled("mit AND cc-by-4.0"), spelled("Acme Model License v1")
    ('LicenseRef-scancode-llama-3.1-license-2024', 'MIT AND CC-BY-4.0', 'LicenseRef-Acme-Model-License-v1')
    """
    text = written.strip()[:MAX_EXPRESSION]
    if not text or text.lower() in UNSAID:
        return ""
    if not re.search(r"\s(AND|OR|WITH)\s", text):
        return _spelled(text)
    try:
        ways(text)
    except UsageError:
        return _reference(text)
    return re.sub(r"[^\s()]+", lambda word: word[0] if word[0] in ("AND", "OR", "WITH") else _spelled(word[0]), text)


def _spelled(name: str) -> str:
    if row := find(name) or next((row for row in table() if row.title.lower() == name.lower()), None):
        return row.id
    known = _spdx()
    for spelling in (name, f"{name}-only", f"{name}-1.0"):  # lgpl-3.0 on the hub is LGPL-3.0-only, c-uda is C-UDA-1.0
        if spelling.lower() in known:
            return known[spelling.lower()]
    return _reference(name)


def _reference(name: str) -> str:
    bare = re.sub(r"^licenseref-", "", name.strip(), flags=re.IGNORECASE)
    cleaned = re.sub(r"[^A-Za-z0-9.]+", "-", bare).strip("-")[:100]
    return f"LicenseRef-{cleaned}" if cleaned else ""


def unknown(expression: str) -> list[str]:
    """The names in an expression that no list has: neither SPDX's, nor the hub's tags, nor somebody's own LicenseRef.

    >>> unknown("MTI OR LicenseRef-acme")
    ['MTI']
    """
    names = [name for name in re.split(r"[\s()]+", expression) if name and name not in ("AND", "OR", "WITH")]
    return [
        name
        for name in names
        if find(name) is None and name.lower() not in _spdx() and not re.match(r"(LicenseRef|DocumentRef)-", name)
    ]


def refuse_unknown(expression: str) -> None:
    """Refuse what is mistyped, with the nearest name.

    Raises:
        UsageError: a name that no list has.
    """
    if wrong := unknown(expression):
        near = nearest(wrong[0], [*(row.id for row in table()), *_spdx().values()])
        raise UsageError(f"{wrong[0]} is no licence's name{near}", hint="one that is on no list is LicenseRef-NAME")


@cache
def _spdx() -> dict[str, str]:
    return {name.lower(): name for name in get_spdx_licensing().known_symbols if not name.startswith("LicenseRef-")}


# Words of texts that do not open with their licence's title, spelled as `_words` spells them.
_OWN_WORDS = {
    "MIT": "permission is hereby granted free of charge to any person obtaining a copy",
    "CC0-1.0": "cc0 1.0 universal",
    "OpenMDW-1.0": "openmdw 1.0",
}


def licence_of(text: str) -> str:
    """The licence whose text this is, by the title it opens with or by words of its own; "" where none is known."""
    opening, whole = f" {_words(text[:2_000])} ", f" {_words(text[:20_000])} "
    titled = [row for row in table() if _opens(opening, f" {_words(row.title)} ")]
    if titled:
        return max(titled, key=lambda row: len(row.title)).id
    return next((name for name, words in _OWN_WORDS.items() if f" {words} " in whole), "")


def _opens(opening: str, title: str) -> bool:
    """A title of one word, such as MIT, may stand anywhere: it counts as the very first word alone."""
    return opening.startswith(title) if title.count(" ") == 2 else title in opening


def _words(text: str) -> str:
    text = re.sub(r"[^a-z0-9.]+", " ", text.lower())
    return " ".join(re.sub(r"\b(version|license|licence|agreement|the|meta|creative|commons)\b", " ", text).split())


def is_text_of(written: str, named: str) -> bool:
    """Whether a text, named as `licence_of` does, may be that of the licence `named`; a text nobody knows may be.

    `-only` and `-or-later` are two licences by one text.
    """
    texts = [
        known.id.removesuffix("-or-later").removesuffix("-only") for known in (find(written), find(named)) if known
    ]
    return not written or (len(texts) == 2 and texts[0] == texts[1])


def begins(name: str, text: str) -> bool:
    """Whether a model's name begins so; a hyphen counts as a blank, which names on hubs cannot have."""
    return re.sub(r"[-_]", " ", name).startswith(text)


def alternatives(expression: str) -> tuple[tuple[str, ...], ...]:
    """The ways an SPDX expression may be chosen: one of these, all of whose licences then hold.

    What cannot be read is one name nobody knows; a licence WITH an exception is a name of its own.

    Names stay as written: the parser's own aliases would make an invented `LicenseRef-Apache` the real one.
    """
    try:
        return ways(expression)
    except UsageError:
        return ((expression.strip()[:60] or "no licence",),)


def ways(expression: str) -> tuple[tuple[str, ...], ...]:
    """The ways an SPDX expression may be chosen, each all of its licences' names; what cannot be read is an error.

    Raises:
        UsageError: empty, too long, or no licence expression.
    """
    text = expression.strip()
    if not text:
        raise UsageError("no licence is given", hint="write an SPDX expression, for example Apache-2.0")
    if find(text):
        return ((text,),)
    hint = "for example Apache-2.0, or MIT AND CC-BY-4.0"
    wrong = UsageError(f"{text[:60]!r} is not a licence expression", hint=hint)
    if len(text) > MAX_EXPRESSION:
        raise wrong
    try:
        names = _ways(Licensing().parse(text))
    except Exception as error:  # the parser answers some nonsense with whatever error lay at hand (fuzz/)
        raise wrong from error
    if not all(_NAME.fullmatch(name) for way in names for name in way):
        raise wrong
    return names


def _ways(node: Any) -> tuple[tuple[str, ...], ...]:
    operator = type(node).__name__
    if operator not in ("AND", "OR"):
        return ((str(node),),)
    parts = [_ways(part) for part in node.args]
    if operator == "OR":
        ways = tuple(way for part in parts for way in part)
    else:
        ways = ((),)
        for part in parts:
            ways = tuple((*left, *right) for left in ways for right in part)[: MAX_ALTERNATIVES + 1]
    if len(ways) > MAX_ALTERNATIVES:
        raise ValueError("more ways than anybody can read")
    return tuple(tuple(dict.fromkeys(way)) for way in ways)

"""What souq writes down: digests, canonical bytes, and the frozen records people and machines sign.

A record has never heard of git, disks or keys: signing is signing.py, keeping is repo.py.

    >>> digest(b"souq")[:11]
    'b3:994d47ca'
    >>> canonical({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
"""

from __future__ import annotations

import codecs
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

import msgspec
import tomli_w
from blake3 import blake3

from souq.errors import Hostile, UsageError, nearest

T = TypeVar("T")

Digest = str
"""`b3:` and the 64 hex digits of a blake3 hash; the prefix leaves room for the next algorithm."""

_DIGEST = re.compile(r"b3:[0-9a-f]{64}")
MAX_NESTING = 100  # of lists and tables: far below what Python's own stack bears
MAX_TOML = 1 << 20  # characters; tomllib reads about a megabyte a second


def digest(data: bytes | memoryview) -> Digest:
    """The digest of raw bytes (https://github.com/BLAKE3-team/BLAKE3-specs)."""
    return "b3:" + blake3(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether a text is a digest in its one spelling."""
    return _DIGEST.fullmatch(text) is not None


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: one value, one spelling, so that it can be signed."""
    return msgspec.json.encode(value, order="sorted")


def read_json(data: bytes) -> Any:
    """JSON that no two readers read differently.

    Raises:
        Hostile: not UTF-8, not JSON, a key twice in one object, NaN or infinity, or nested beyond reason.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise Hostile("not JSON: it begins with a byte order mark; save it as UTF-8 without one")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise Hostile("not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise Hostile(f"not JSON: {error}") from error
    if data.count(b"[") + data.count(b"{") > MAX_NESTING:
        refuse_nested(value, where="JSON")
    if _SURROGATE.search(data):
        _refuse_surrogates(value)
    return value


def json_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines of JSONL that are not blank, with their numbers from 1.

    Split as bytes: split as text, a line separator inside a string would tear a row apart.
    """
    return ((number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip())


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _refuse_surrogates(value: Any) -> None:
    """Half a character is no text: it can be neither written, hashed nor signed."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Hostile("a text holds half a character (a lone surrogate)") from error


def refuse_nested(value: Any, *, where: str) -> None:
    """What is nested deeper than anything honest breaks whoever walks it later; level by level, so not this walk.

    Raises:
        Hostile: more than MAX_NESTING lists and tables inside each other.
    """
    level = [value]
    for _ in range(MAX_NESTING):
        level = _below(level)
        if not level:
            return
    raise Hostile(f"{where}: nested more than {MAX_NESTING} deep")


def _inside(value: Any) -> Iterable[Any]:
    """What a list or a table holds; nothing else holds anything."""
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _below(level: list[Any]) -> list[Any]:
    return [item for value in level if isinstance(value, dict | list) for item in _inside(value)]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """A value and all that lists and tables in it hold, in order, each with the key it stands under; "" at the top."""
    todo = [("", value)]
    while todo:
        key, item = todo.pop()
        yield key, item
        inside = item.items() if isinstance(item, dict) else [(key, inner) for inner in _inside(item)]
        todo.extend(reversed(inside))


def _finite(digits: str) -> float:
    """1e999 is infinity to Python, and an error or the largest number elsewhere."""
    if not math.isfinite(number := float(digits)):
        raise Hostile(f"{digits[:20]} is larger than any number")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise Hostile("a key stands twice: readers disagree on which one counts")
    return table


def _no_constant(word: str) -> Any:
    raise Hostile(f"{word} is not JSON")


def nesting(value: Any) -> int:
    """How many objects and lists stand inside each other; level by level, so that no depth is too deep to count."""
    level, deep = [value], 0
    while level:
        deep += any(isinstance(item, dict | list) for item in level)
        level = _below(level)
    return deep


def digest_of(value: Any) -> Digest:
    """The digest of a value's canonical bytes."""
    return digest(canonical(value))


def digest_files(files: dict[str, bytes]) -> Digest:
    """The digest of a set of files: every path with the digest of its bytes, sorted by path."""
    return digest_of({path: digest(data) for path, data in files.items()})


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parent of everything written down: frozen, compared by value."""


class Author(Record, frozen=True):
    """Who offers a contribution. `key` is an ssh public key; `org` is declared, not proved."""

    name: str
    email: str
    key: str
    org: str = ""


Kind = Literal[
    "weights", "sketches", "data", "evals", "documents", "governance", "election", "release",
    "revert", "yank", "ratify", "restore",
]  # fmt: skip


class Contribution(Record, frozen=True, forbid_unknown_fields=True):
    """contribution.toml: what is offered, by whom, under what terms, and what it claims to mend."""

    title: str
    kind: Kind
    author: Author
    licence: str
    signoff: str  # "Name <email>", the Developer Certificate of Origin
    provenance: str = ""
    of: str = ""  # the contribution taken back, ratified or restored; the release yanked
    fixes: tuple[str, ...] = ()
    recipe: dict[str, Any] = {}


Outcome = Literal["pass", "needs-eyes", "refuse"]


class Verdict(Record, frozen=True):
    """One check's answer about one contribution on one base: truthy unless it refuses."""

    check: str
    outcome: Outcome
    because: str
    evidence: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return self.outcome != "refuse"


class Checked(Record, frozen=True):
    """What a machine found: every verdict on contribution `subject`, by the rules of commit `base`."""

    subject: Digest
    base: str
    verdicts: tuple[Verdict, ...]
    by: str
    at: str
    after: tuple[Digest, ...] = ()


class Vote(Record, frozen=True):
    """A person's yes or no to one exact contribution digest, in the words they signed."""

    subject: Digest
    choice: Literal["approve", "reject"]
    reason: str
    by: str
    at: str
    after: tuple[Digest, ...] = ()  # the records its signer had seen: one withheld later is missed


class Decision(Record, frozen=True):
    """What the policy says about one pull request: truthy when it may merge."""

    missing: tuple[str, ...] = ()  # each line is something a person can go and do
    met: tuple[str, ...] = ()
    emergency: bool = False  # allowed by the emergency clause alone, until it lapses
    eyes: tuple[str, ...] = ()  # which checks ask people to look, and how many more must approve for that

    def __bool__(self) -> bool:
        return not self.missing


class Recipe(Record, frozen=True):
    """What a model is made of: a base, a set of contributions, a merge method. The model is a pure function of it."""

    base: Digest
    contributions: tuple[Digest, ...]  # sorted: a set, not a history
    method: str
    settings: dict[str, Any] = {}

    @property
    def digest(self) -> Digest:
        return digest_of(self)


class Release(Record, frozen=True):
    """A version: a recipe, the digest of the model.lock it builds to, and its scores."""

    version: str
    commit: str
    recipe: Recipe
    model: Digest
    scores: dict[str, float] = {}
    at: str = ""
    channel: Literal["stable", "nightly"] = "stable"


class Published(Record, frozen=True, forbid_unknown_fields=True):
    """release/corpus.json: the corpus published with a release, and what of the rare it keeps (corpus/tails.py).

    `kept` is the share of `real`'s rare words in it, of what a text of its size could hold.
    """

    manifest: Digest
    dump: str
    teacher: Digest
    licence: str
    rows: int
    words: int  # of corpus and real text alike, when they were compared
    rare: int
    kept: float
    real: str  # what it was compared with: the file's digest


def parse_toml(text: str, kind: type[T], *, where: str) -> T:
    """Read what people write; a wrong key is answered with the nearest right one.

    Raises:
        UsageError: not TOML, an unknown key, a missing key, or a value of the wrong type.
        Hostile: a text that would steer the terminal it is shown on.
    """
    try:
        return msgspec.convert(read_toml(text, where=where), kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_plainly(str(error), kind)}", hint=f"correct {where} and try again") from error


# tomllib's time and memory grow with the square of a dotted key's parts: 64 kB of `a.a.a…` took it seven seconds and
# 3.9 GB. Possessive and from where a part begins, so that looking for one takes one pass whatever the text is.
_PART = r"""(?:(?<![A-Za-z0-9_\-])[A-Za-z0-9_\-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?:{_PART}[ \t]*+\.[ \t]*+){{32}}")


def read_toml(text: str, *, where: str) -> dict[str, Any]:
    """Somebody's TOML as plain values, bounded before and after it is read.

    Raises:
        UsageError: not TOML.
        Hostile: larger, longer or deeper than anything honest, or steering the terminal it is shown on.
    """
    if len(text) > MAX_TOML:
        raise Hostile(f"{where}: {len(text):,} characters of TOML; the most is {MAX_TOML:,}")
    if text.startswith("\ufeff"):
        raise UsageError(f"{where}: begins with a byte order mark", hint="save it as UTF-8 without one")
    if _LONG_KEY.search(text):
        raise Hostile(f"{where}: a key of more than 32 parts")
    try:
        table = tomllib.loads(text)
        refuse_nested(table, where=where)
        refuse_control(table, where=where)
        refuse_huge(table, where=where)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; thousands of digits; thousands of brackets
        raise UsageError(f"{where}: not TOML: {error}", hint=f"correct {where} and try again") from error
    return table


_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ufeff]")


def refuse_control(value: Any, *, where: str) -> None:
    """Texts of outsiders are shown on terminals and pages: no escape sequences, no turning of the writing's direction.

    Raises:
        Hostile: a control character anywhere in it, keys included.
    """
    if isinstance(value, str) and (match := _CONTROL.search(value)):
        raise Hostile(f"{where}: a control character (U+{ord(match.group()):04X}) in a text")
    for item in [*value, *value.values()] if isinstance(value, dict) else _inside(value):
        refuse_control(item, where=where)


def refuse_huge(value: Any, *, where: str) -> None:
    """TOML's whole numbers have 64 bits (toml.io, v1.0.0); Python reads larger ones, which no record can hold.

    Raises:
        Hostile: a larger one anywhere in it.
    """
    if any(isinstance(item, int) and not -(1 << 63) <= item < 1 << 63 for _, item in walk(value)):
        raise Hostile(f"{where}: a whole number of more than 64 bits")


def spelled_out(text: str) -> str:
    """Somebody's text for a terminal or a page: what would steer it, and bytes that are no UTF-8, as escapes."""
    plain = _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return plain.encode("utf-8", "backslashreplace").decode()


def format_toml(value: Any) -> str:
    """TOML for people, of a record or a dict; None and defaults are left out."""
    return tomli_w.dumps(msgspec.to_builtins(value), multiline_strings=False)


def read_record(data: bytes, kind: type[T], *, where: str) -> T:
    """Read a canonical JSON record; unknown keys are ignored here and kept in the bytes that were signed.

    Raises:
        UsageError: not JSON, or not a record of this kind.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: {error}") from error


def _plainly(message: str, kind: type[Any]) -> str:
    unknown = re.search(r"unknown field `(.+?)`", message)
    if not unknown:
        return message
    word = unknown.group(1)
    return f"unknown key {word!r}{nearest(word, _keys(kind))}" + message.partition("`" + word + "`")[2]


def _keys(kind: Any, seen: frozenset[Any] = frozenset()) -> set[str]:
    """Every key a record and the records inside it know."""
    if kind in seen:
        return set()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        names = {field.encode_name for field in fields}
        return names.union(*(_keys(field.type, seen | {kind}) for field in fields))
    inside = getattr(kind, "__args__", ())
    return set().union(*(_keys(part, seen) for part in inside))

"""The one spelling in text of a checkpoint (`model.lock`) and of a delta (`delta.lock`), for git to show and merge.

Reading is strict: what is not spelled as it would be written is refused, so that one change never has two names.

    >>> parse_lock(format_lock({"w": TensorRef.of(np.zeros(2, "f4"))})).keys()
    dict_keys(['w'])
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from souq.errors import Hostile
from souq.records import Digest, digest, is_digest
from souq.weights.delta import (
    DTYPES,
    MAX_ELEMENTS,
    Delta,
    Dense,
    Expert,
    Gram,
    Layer,
    Lock,
    Lora,
    New,
    Part,
    Router,
    Rows,
    Sparse,
    TensorRef,
    is_tensor_name,
)

MAX_LOCK = 32 << 20  # bytes of text; about 150,000 tensors
MAX_STANZAS = 100_000  # of one lock: as many as tensors in a file (safetensors.MAX_TENSORS)
MAX_DIMS = 8
MAX_TOKENS = 10_000  # new ones in one contribution
MAX_TOKEN = 256  # bytes of UTF-8


def format_lock(lock: Mapping[str, TensorRef]) -> str:
    """A stanza a tensor, sorted, a blank line between: git merges neighbours that way without a driver."""
    return "souq lock 1\n" + "".join(f"\ntensor {name}\nvalue {lock[name]}\n" for name in sorted(lock))


def parse_lock(text: str) -> Lock:
    """Read what format_lock wrote; anything else is refused.

    Raises:
        Hostile: not a lock, or a name, shape or digest out of bounds.
    """
    stanzas = _stanzas(text, "souq lock 1", {"tensor": {"value"}}, _name)
    lock = {name: _ref(fields, "value") for name, fields in stanzas}
    _one_spelling(text, format_lock(lock))
    return lock


def lock_digest(lock: Mapping[str, TensorRef]) -> Digest:
    """The name of a whole checkpoint."""
    return digest(format_lock(lock).encode())


def format_delta(delta: Delta) -> str:
    """delta.lock: the same stanzas as a lock, one for every changed tensor and every sketch.

    A sketch names the tensors its layer's input `feeds`, whether this delta changes them or not.
    """
    feeds = {name: sorted(tensor for tensor, gram in delta.inputs.items() if gram == name) for name in delta.grams}
    stanzas = [f"gram {name}\nfeeds {' '.join(feeds[name])}\n{_fields(delta.grams[name])}" for name in sorted(feeds)]
    stanzas += [f"{part.kind} {name}\n{_fields(part)}" for name, part in sorted(delta.parts.items())]
    stanzas += [f"{title}\n{_fields(new)}" for title, new in sorted(delta.new.items())]
    return f"souq delta 1\nbase {delta.base}\n" + "".join("\n" + stanza for stanza in stanzas)


_CHANGES: dict[str, type[Part]] = {"lora": Lora, "dense": Dense, "sparse": Sparse}
_PLACED: dict[str, type[Layer | Expert | Router]] = {"layer": Layer, "expert": Expert, "router": Router}
_STANZAS: dict[str, type[Part | Gram | New]] = {"gram": Gram, **_CHANGES, "rows": Rows, **_PLACED}


def parse_delta(text: str) -> Delta:
    """Read what format_delta wrote; anything else is refused.

    Raises:
        Hostile: not a delta, or shapes that cannot belong together.
    """
    head, _, rest = text.partition("\n\n")
    first, _, base = head.strip().partition("\nbase ")
    if first != "souq delta 1" or not is_digest(base):
        raise Hostile("delta.lock does not begin with `souq delta 1` and `base b3:…`")
    keys = {
        kind: set(cls.__struct_fields__) | ({"feeds"} if kind == "gram" else set()) for kind, cls in _STANZAS.items()
    }
    parts: dict[str, Part] = {}
    new: dict[str, New] = {}
    grams: dict[str, Gram] = {}
    inputs: dict[str, str] = {}
    for name, fields in _stanzas(first + "\n\n" + rest if rest else first + "\n", first, keys, _kind_and_name):
        kind, _, tensor = name.partition(" ")
        if kind == "gram":
            grams[tensor] = Gram(
                factor=_ref(fields, "factor"), diag=_ref(fields, "diag"), tokens=_whole(fields, "tokens", tensor)
            )
            feeds = fields.get("feeds", "")
            if len(inputs) + feeds.count(" ") > MAX_STANZAS:
                raise Hostile(f"the sketches feed more than {MAX_STANZAS:,} tensors")
            for fed in feeds.split():
                if not is_tensor_name(fed) or inputs.setdefault(fed, tensor) != tensor:
                    raise Hostile(f"the sketch {tensor} feeds {fed[:80]!r}, which is no tensor or has another sketch")
            continue
        if kind not in _CHANGES:
            new[name] = _new(kind, fields, tensor)
            continue
        if tensor in parts:
            raise Hostile(f"delta.lock changes {tensor} twice")
        parts[tensor] = _part(kind, fields, tensor)
    delta = Delta(base, parts, grams, inputs, new)
    _belong_together(delta)
    _one_spelling(text, format_delta(delta))
    return delta


def _part(kind: str, fields: dict[str, str], name: str) -> Part:
    if kind == "lora":
        return Lora(a=_ref(fields, "a"), b=_ref(fields, "b"), scale=_number(fields, "scale", name))
    if kind == "dense":
        return Dense(value=_ref(fields, "value"))
    return Sparse(index=_ref(fields, "index"), value=_ref(fields, "value"))


def _new(kind: str, fields: dict[str, str], name: str) -> New:
    value = _ref(fields, "value")
    if kind == "rows":
        return Rows(tokens=_tokens(fields, "tokens"), special=_tokens(fields, "special"), value=value)
    if not re.fullmatch(_ROUTER if kind == "router" else _PLACE, name):
        raise Hostile(f"{kind} {name[:80]} does not begin with a layer's number and a place there, such as 16.0")
    return _PLACED[kind](value=value)


_PLACE = r"(0|[1-9]\d{0,3})\.(0|[1-9]\d?)\.[A-Za-z_].*"
_ROUTER = r"(0|[1-9]\d{0,3})\.(0|[1-9]\d?)"


def _tokens(fields: Mapping[str, str], key: str) -> tuple[str, ...]:
    try:
        listed = json.loads(fields.get(key, ""))
        texts = listed if isinstance(listed, list) else [""]
        tokens = tuple(token if isinstance(token, str) else "" for token in texts)
        longest = max((len(token.encode()) for token in tokens), default=1)
    except (ValueError, TypeError, RecursionError) as error:  # a lone surrogate is a ValueError too
        raise Hostile(f"{key} is not a list of texts") from error
    if len(tokens) > MAX_TOKENS or longest > MAX_TOKEN or "" in tokens or len(set(tokens)) < len(tokens):
        raise Hostile(
            f"{key} holds no token, one twice, one of more than {MAX_TOKEN} bytes, or more than {MAX_TOKENS:,}"
        )
    return tokens


def _belong_together(delta: Delta) -> None:
    for name, part in delta.parts.items():
        match part:
            case Lora(a=a, b=b):
                fits = len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1]
            case Sparse(index=index, value=value):
                fits = len(index.shape) == 1 and index.shape == value.shape and index.dtype in ("U32", "U64")
            case _:
                fits = True
        if not fits:
            raise Hostile(f"the parts of {name} do not fit each other")
    rows = [new for new in delta.new.values() if isinstance(new, Rows)]
    for new in rows:
        if (new.tokens, new.special) != (rows[0].tokens, rows[0].special) or not {*new.special} <= {*new.tokens}:
            raise Hostile("the rows of new tokens are not of the same tokens everywhere")
        if not new.tokens or len(new.value.shape) != 2 or new.value.shape[0] != len(new.tokens):
            raise Hostile(f"{len(new.tokens)} new tokens with rows of shape {new.value.shape}")
    for name, gram in delta.grams.items():
        if len(gram.factor.shape) != 2 or gram.diag.shape != gram.factor.shape[1:] or gram.tokens < 1:
            raise Hostile(f"the sketch {name} is not a factor (k, n) with a diagonal (n,)")


def _fields(part: Part | Gram | New) -> str:
    return "".join(f"{key} {_text(getattr(part, key))}\n" for key in part.__struct_fields__)


def _text(value: TensorRef | float | tuple[str, ...]) -> str:
    return json.dumps(value) if isinstance(value, tuple) else str(value)  # in ASCII: no token can break a line


def _name(kind: str, name: str) -> str:
    return name


def _kind_and_name(kind: str, name: str) -> str:
    return f"{kind} {name}"


def _stanzas(
    text: str, first: str, keys: Mapping[str, set[str]], key: Callable[[str, str], str]
) -> Iterator[tuple[str, dict[str, str]]]:
    if len(text) > MAX_LOCK:
        raise Hostile(f"a lock of {len(text):,} bytes; the most is {MAX_LOCK:,}")
    if (many := text.count("\n\n")) > MAX_STANZAS:
        raise Hostile(f"a lock of {many:,} stanzas; the most is {MAX_STANZAS:,}")
    head, *stanzas = text.rstrip("\n").split("\n\n")
    if head != first:
        raise Hostile(f"a lock begins with {first!r}, not {head[:40]!r}")
    seen = set()
    for stanza in stanzas:
        title, *lines = stanza.split("\n")
        kind, _, name = title.partition(" ")
        fields = dict(line.partition(" ")[::2] for line in lines)
        if kind not in keys or not is_tensor_name(name) or not set(fields) <= keys[kind] or len(fields) != len(lines):
            raise Hostile(f"not a stanza of a lock: {stanza[:80]!r}")
        if key(kind, name) in seen:
            raise Hostile(f"{name} stands twice in the lock")
        seen.add(key(kind, name))
        yield key(kind, name), fields


def _ref(fields: Mapping[str, str], key: str) -> TensorRef:
    dtype, shape, name = (*fields.get(key, "").split(" "), "", "", "")[:3]
    dims = [] if shape == "scalar" else shape.split("x", MAX_DIMS)
    if dtype not in DTYPES or not is_digest(name) or not all(re.fullmatch(r"\d{1,12}", dim) for dim in dims):
        raise Hostile(f"not a tensor: {key} {fields.get(key, 'is missing')[:80]!r}")
    ref = TensorRef(dtype=dtype, shape=tuple(map(int, dims)), digest=name)
    if ref.size > MAX_ELEMENTS or str(ref) != fields[key]:
        raise Hostile(f"not a tensor: {key} {fields[key][:80]!r}")
    return ref


def _one_spelling(text: str, ours: str) -> None:
    """One change, one text: what is signed, compared and deduplicated by its bytes must not have a second spelling."""
    if text != ours:
        line = next(
            (n for n, (a, b) in enumerate(zip(text.split("\n"), ours.split("\n"), strict=False), 1) if a != b), 0
        )
        raise Hostile(
            f"not as souq writes it (line {line or ours.count(chr(10)) + 1})", hint="make it with `souq delta make`"
        )


def _whole(fields: Mapping[str, str], key: str, name: str) -> int:
    if not re.fullmatch(r"\d{1,15}", fields.get(key, "")):
        raise Hostile(f"{name}: {key} is not a whole number")
    return int(fields[key])


def _number(fields: Mapping[str, str], key: str, name: str) -> float:
    try:
        value = float(fields.get(key, ""))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise Hostile(f"{name}: {key} is not a finite number")
    return value

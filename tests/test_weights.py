"""What a lock and a delta promise: one spelling, read back as written, everything else refused."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from souq.errors import Hostile
from souq.weights.delta import DTYPES, Delta, Dense, Gram, Lora, Sparse, TensorRef, tensor_digest
from souq.weights.lockfile import format_delta, format_lock, parse_delta, parse_lock

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,20}(\.[A-Za-z0-9_]{1,8}){0,3}", fullmatch=True)
digests = st.integers(0, 2**256 - 1).map(lambda n: f"b3:{n:064x}")
dims = st.integers(0, 400)


def refs(*shape, dtype=None):
    return st.builds(
        TensorRef,
        dtype=st.just(dtype) if dtype else st.sampled_from(sorted(DTYPES)),
        shape=st.tuples(*shape) if shape else st.lists(dims, max_size=4).map(tuple),
        digest=digests,
    )


locks = st.dictionaries(names, refs(), max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def deltas(draw):
    parts, grams, inputs = {}, {}, {}
    for name in draw(st.lists(names, max_size=5, unique=True)):
        r, m, n, k = (draw(st.integers(1, 9)) for _ in range(4))
        fix = st.just
        match draw(st.sampled_from(["lora", "dense", "sparse"])):
            case "lora":
                parts[name] = Lora(a=draw(refs(fix(r), fix(n))), b=draw(refs(fix(m), fix(r))), scale=draw(floats))
            case "dense":
                parts[name] = Dense(value=draw(refs()))
            case _:
                parts[name] = Sparse(index=draw(refs(fix(k), dtype="U32")), value=draw(refs(fix(k))))
        if draw(st.booleans()):
            grams[name] = Gram(
                factor=draw(refs(fix(k), fix(n))), diag=draw(refs(fix(n))), tokens=draw(st.integers(1, 10**9))
            )
            inputs |= dict.fromkeys({name, *draw(st.lists(names, max_size=2))} - inputs.keys(), name)
    return Delta(draw(digests), parts, grams, inputs)  # fmt: skip


@given(locks)
def test_a_lock_is_read_as_it_was_written(lock):
    assert parse_lock(format_lock(lock)) == lock


@given(deltas())
def test_a_delta_is_read_as_it_was_written(delta):
    assert parse_delta(format_delta(delta)) == delta


@given(locks)
def test_one_lock_has_one_spelling(lock):
    """Two people who hold the same checkpoint write the same bytes, whatever order they learnt it in."""
    assert format_lock(dict(reversed(lock.items()))) == format_lock(lock)


@given(st.text() | st.text("soulck1 dentra\n:b3x", max_size=80).map("souq lock 1\n\n".__add__))
def test_what_is_no_lock_is_refused(text):
    """Any text is a lock or Hostile; nothing else is ever raised."""
    for parse in (parse_lock, parse_delta):
        with suppress(Hostile):
            parse(text)


@pytest.mark.parametrize("name", ["../etc/passwd", "a..b", "", "a b", "é", "x" * 300, "/abs", "a\nvalue"])
def test_a_tensor_has_a_plain_name(name):
    with pytest.raises(Hostile):
        parse_lock(f"souq lock 1\n\ntensor {name}\nvalue F32 2 b3:{'0' * 64}\n")


def test_a_digest_is_of_what_a_tensor_is():
    """Shape and dtype are part of the name; layout in memory and byte order are not."""
    a = np.arange(6, dtype="<f4").reshape(2, 3)

    assert tensor_digest(a) == tensor_digest(np.asfortranarray(a)) == tensor_digest(a.astype(">f4"))
    assert len({tensor_digest(x) for x in (a, a.reshape(3, 2), a.view("<i4"), a.reshape(6), a[:0])}) == 5


def test_parts_that_do_not_fit_are_refused():
    """A low-rank pair of two ranks, a sketch without a diagonal, a sketch that is not there."""
    ref = f"F32 2x3 b3:{'1' * 64}"
    head = f"souq delta 1\nbase b3:{'0' * 64}\n\n"

    for stanza in (
        f"lora w\na {ref}\nb {ref}\nscale 1.0\n",
        f"lora w\na {ref}\nb F32 4x2 b3:{'1' * 64}\nscale nan\n",
        f"gram g\nfeeds ../w\nfactor {ref}\ndiag F32 3 b3:{'1' * 64}\ntokens 4\n",
        f"gram g\nfactor {ref}\ndiag {ref}\ntokens 4\n",
        f"sparse w\nindex F32 2 b3:{'1' * 64}\nvalue F32 2 b3:{'1' * 64}\n",
        f"dense w\nvalue {ref}\n\nlora w\na {ref}\nb F32 4x2 b3:{'1' * 64}\nscale 1.0\n",
    ):
        with pytest.raises(Hostile):
            parse_delta(head + stanza)

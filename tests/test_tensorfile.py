"""What a safetensors file promises: read as the library reads it, written in one spelling, hostile ones refused."""

from __future__ import annotations

import json
import struct
from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from souq.errors import Hostile, NotFound
from souq.weights.safetensors import open_tensors, write_tensors

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
checkpoints = st.dictionaries(
    st.from_regex(r"[a-z]{1,6}(\.[a-z0-9]{1,4}){0,2}", fullmatch=True),
    st.tuples(
        st.sampled_from(["f4", "f8", "i4", "u1", "bf16"]), st.lists(st.integers(0, 6), max_size=3), st.integers(0, 99)
    ),
    max_size=5,
)


def build(told):
    made = {}
    for name, (dtype, shape, seed) in told.items():
        kind = ml_dtypes.bfloat16 if dtype == "bf16" else dtype
        made[name] = np.random.default_rng(seed).integers(0, 100, shape).astype(kind)
    return made


@relaxed
@given(checkpoints)
def test_the_library_reads_what_we_write(tmp_path, told):
    """The reference reader sees the same tensors, bit for bit."""
    from safetensors.numpy import load_file

    tensors = build(told)
    write_tensors(tmp_path / "x.safetensors", tensors, {"format": "pt"})

    found = load_file(tmp_path / "x.safetensors")

    assert {n: (a.tobytes(), a.shape) for n, a in found.items()} == {
        n: (a.tobytes(), a.shape) for n, a in tensors.items()
    }


@relaxed
@given(checkpoints)
def test_we_read_what_the_library_writes(tmp_path, told):
    from safetensors.numpy import save_file

    tensors = build(told)
    save_file(tensors, tmp_path / "x.safetensors", metadata={"a": "1", "b": "2"})

    found = open_tensors(tmp_path / "x.safetensors")

    assert {n: (a.tobytes(), a.shape) for n, a in found.items()} == {
        n: (a.tobytes(), a.shape) for n, a in tensors.items()
    }
    assert found.metadata == {"a": "1", "b": "2"}


@relaxed
@given(checkpoints)
def test_one_checkpoint_has_one_file(tmp_path, told):
    """Whatever order names and metadata come in, the bytes are the same."""
    tensors = build(told)
    write_tensors(tmp_path / "a", tensors, {"x": "1", "y": "2"})
    write_tensors(tmp_path / "b", dict(reversed(tensors.items())), {"y": "2", "x": "1"})

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def file_of(header, data=b"", *, raw=None):
    text = json.dumps(header).encode() if raw is None else raw
    return struct.pack("<Q", len(text)) + text + data


def spec(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HOSTILE = {
    "empty": b"",
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00",
    "a header longer than the file": struct.pack("<Q", 1 << 60) + b"{}",
    "not JSON": file_of(None, raw=b"{'a': 1}"),
    "deep": file_of(None, raw=b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "not an object": file_of([1]),
    "a key twice": file_of(None, b"\0" * 8, raw=b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}'),
    "a path for a name": file_of({"../../etc/x": spec(0, 8)}, b"\0" * 8),
    "a hole": file_of({"w": spec(4, 12)}, b"\0" * 12),
    "an overlap": file_of({"a": spec(0, 8), "b": spec(4, 12)}, b"\0" * 12),
    "trailing bytes": file_of({"w": spec(0, 8)}, b"\0" * 9),
    "cut off": file_of({"w": spec(0, 8)}, b"\0" * 7),
    "a size that is not its shape's": file_of({"w": spec(0, 8, (3,))}, b"\0" * 8),
    "an empty tensor inside another": file_of({"a": spec(0, 8), "b": spec(4, 4, (0,))}, b"\0" * 8),
    "a negative size": file_of({"w": spec(0, 8, (-2,))}, b"\0" * 8),
    "a size that overflows": file_of({"w": spec(0, 8, (1 << 62, 1 << 62))}, b"\0" * 8),
    "true for a number": file_of({"w": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}}, b"\0" * 8),
    "an unknown dtype": file_of({"w": spec(0, 8, dtype="F4")}, b"\0" * 8),
    "an unknown field": file_of({"w": spec(0, 8) | {"code": "x"}}, b"\0" * 8),
    "400,000 empty tensors": None,  # made when asked for: else each process that collects waits for it
    "metadata that is not text": file_of({"__metadata__": {"a": 1}, "w": spec(0, 8)}, b"\0" * 8),
    "NaN in the header": file_of(None, raw=b'{"w":NaN}'),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path, what):
    """With a reason, before anything is allocated."""
    path = tmp_path / "x.safetensors"
    hostile = HOSTILE[what]
    if hostile is None:
        hostile = file_of({f"w{i}": spec(0, 0, (0,)) for i in range(400_000)})
    path.write_bytes(hostile)

    with pytest.raises(Hostile):
        open_tensors(path)


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda b: struct.pack("<Q", len(b)) + b))
@relaxed
def test_any_bytes_are_a_file_or_hostile(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with suppress(Hostile):
        open_tensors(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(NotFound):
        open_tensors(tmp_path / "none")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    """A tensor that is not what it was said to be stops the write; no half file stays."""
    with pytest.raises(Hostile):
        write_tensors(tmp_path / "x", {"w": np.zeros(2, "f4")}, layout={"w": ("F32", (3,))})
    assert list(tmp_path.iterdir()) == []

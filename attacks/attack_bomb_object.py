"""Objects that unpack to far more than they are, or to something else, put into a store by hand."""

import numpy as np
import pytest
import zstandard

from souq.errors import Corrupt
from souq.records import canonical
from souq.weights.codec import MAGIC, Header, _check
from souq.weights.delta import tensor_digest
from souq.weights.store import Store


def plant(store, name, header, payload):
    text = canonical(header)
    path = store.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MAGIC + len(text).to_bytes(8, "little") + text + payload)


def header(payload, blocks, shape, **more):
    facts = {"codec": "planes", "dtype": "U8", "shape": shape, "blocks": blocks, "check": _check([payload])}
    return Header(**(facts | more))


NAME = "b3:" + "5" * 64


def test_a_frame_that_claims_a_terabyte(tmp_path):
    store = Store(tmp_path)
    frame = bytearray(zstandard.ZstdCompressor().compress(b"\0" * 1000))
    plant(store, NAME, header(bytes(frame), ((len(frame),),), (1 << 40,)), bytes(frame))

    with pytest.raises(Corrupt):
        store.get(NAME)


def test_many_small_frames_that_unpack_to_much(tmp_path):
    """Two thousand honest frames of a mebibyte each in ninety kilobytes."""
    store = Store(tmp_path)
    frame = zstandard.ZstdCompressor().compress(b"\0" * (1 << 20))
    payload = frame * 2000
    plant(store, NAME, header(payload, ((len(frame),) * 2000,), (2000 << 20,)), payload)

    with pytest.raises(Corrupt, match="bomb"):
        store.get(NAME)


def test_another_tensor_under_a_name(tmp_path):
    store = Store(tmp_path)
    other = np.arange(7, dtype="u1").tobytes()
    plant(store, NAME, header(other, ((7,),), (7,), codec="raw"), other)

    with pytest.raises(Corrupt, match="another digest"):
        store.get(NAME)


def test_a_chain_of_differences(tmp_path):
    """A difference from a difference from itself would never end."""
    store = Store(tmp_path)
    frame = zstandard.ZstdCompressor().compress(b"\0" * 100)
    plant(store, NAME, header(frame, ((len(frame),),), (100,), codec="sub", base=NAME), frame)

    with pytest.raises(Corrupt, match="one step"):
        store.get(NAME)


@pytest.mark.parametrize("shape", [(-1,), (1 << 62, 1 << 62), (0, 1 << 62), tuple([1] * 64), ("2",), (2.0,)])
def test_impossible_shapes(tmp_path, shape):
    store = Store(tmp_path)
    good = header(b"ab", ((2,),), (2,), codec="raw")
    text = canonical(good).replace(b'"shape":[2]', b'"shape":' + canonical(list(shape)))
    path = store.path(NAME)
    path.parent.mkdir(parents=True)
    path.write_bytes(MAGIC + len(text).to_bytes(8, "little") + text + b"ab")

    with pytest.raises(Corrupt):
        store.get(NAME)
    assert store.fsck()
    assert tensor_digest(np.zeros(2, "u1")) != NAME

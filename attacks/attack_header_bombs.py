"""safetensors files whose header lies: bombs, overlaps, holes, names that are paths, shapes that overflow."""

import json

import pytest

from souq.errors import Hostile
from souq.weights.safetensors import MAX_HEADER, open_tensors

F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def raw(header, body=b"", length=None):
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(data) if length is None else length).to_bytes(8, "little") + data + body


def one(body=4, **told):
    return raw({"w": F32 | told}, bytes(body))


def two(first, second, body):
    make = [F32 | {"shape": [(end - begin) // 4], "data_offsets": [begin, end]} for begin, end in (first, second)]
    return raw({"a": make[0], "b": make[1]}, bytes(body))


LIES = {
    "a header of a hundred megabytes": lambda: raw(b"{}", length=100 << 20),
    "a header of 2^63 bytes": lambda: raw(b"{}", length=1 << 63),
    "a header longer than the file": lambda: raw(b"{}", length=3),
    "thirty megabytes of brackets": lambda: raw(b'{"w":' + b"[" * (30 << 20) + b"}"),
    "ten million lists": lambda: raw(b'{"w":[' + b"[]," * 10_000_000 + b"0]}"),
    "two million keys of metadata": lambda: raw(b'{"__metadata__":{' + b",".join(b'"%d":""' % i for i in range(2_000_000)) + b"}}"),
    "400,000 empty tensors": lambda: raw(b"{" + b",".join(b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(400_000)) + b"}"),
    "a name twice": lambda: raw(b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x"),
    "tensors that overlap": lambda: two((0, 8), (4, 12), 12),
    "two tensors in one place": lambda: two((0, 4), (0, 4), 4),
    "a hole for something hidden": lambda: two((0, 4), (8, 12), 12),
    "bytes behind the last": lambda: one(body=5),
    "an empty tensor inside another": lambda: two((0, 8), (4, 4), 8),
    "offsets that run backwards": lambda: one(shape=[0], data_offsets=[4, 0]),
    "a tensor behind the end": lambda: one(data_offsets=[4, 8]),
    "a name that climbs": lambda: raw({"../../etc/x": F32}, bytes(4)),
    "a name that is a path": lambda: raw({"/etc/passwd": F32}, bytes(4)),
    "a name with a zero byte": lambda: raw({"w\0.txt": F32}, bytes(4)),
    "a name with a newline": lambda: raw({"w\n\ndense x": F32}, bytes(4)),
    "a name in reversed writing": lambda: raw({"w\u202egnp": F32}, bytes(4)),
    "a name of Cyrillic letters": lambda: raw({"m\u043edel.norm.weight": F32}, bytes(4)),
    "a name with a combining mark": lambda: raw({"w\u0301": F32}, bytes(4)),
    "a name of half a character": lambda: raw(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "an over-long slash in a name": lambda: raw(b'{"w\xc0\xaf":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "a name of a kilobyte": lambda: raw({"w" * 1024: F32}, bytes(4)),
    "no name": lambda: raw({"": F32}, bytes(4)),
    "a shape whose product wraps round to four": lambda: one(shape=[1 << 32, 1 << 32, 1]),
    "a shape beyond any disk": lambda: one(shape=[1 << 47, 1 << 47], data_offsets=[0, 1 << 47]),
    "a negative dimension": lambda: one(shape=[-1, -1]),
    "a dimension that is a fraction": lambda: one(shape=[1.0]),
    "a dimension that is a yes": lambda: one(shape=[True]),
    "a dimension that is a text": lambda: one(shape=["1"]),
    "nine dimensions": lambda: one(shape=[1] * 9),
    "an offset that is not a number": lambda: raw(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[NaN,4]}}', bytes(4)),
    "an offset of 1e999": lambda: raw(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}', bytes(4)),
    "a dtype nobody knows": lambda: one(dtype="F32; rm -rf"),
    "eight-bit floats read as bytes": lambda: one(dtype="F8_E4M3"),
    "a dtype that is a list": lambda: one(dtype=["F32"]),
    "fewer bytes than its dtype": lambda: one(dtype="F64"),
    "more bytes than its dtype": lambda: one(dtype="U8"),
    "a key more, for another reader": lambda: one(offsets=[0, 4]),
    "metadata that is no text": lambda: raw({"__metadata__": {"format": {"pt": 1}}}),
    "a mark before the header": lambda: raw(b"\xef\xbb\xbf{}"),
    "a header in UTF-16": lambda: raw("{}".encode("utf-16")),
    "a header that is a list": lambda: raw(b"[]"),
    "two headers": lambda: raw(b"{}{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_it_is_refused(tmp_path, name):
    """No tensor of it can be asked for, and no array is made of what it claims."""
    (tmp_path / "x.safetensors").write_bytes(LIES[name]())

    with pytest.raises(Hostile):
        open_tensors(tmp_path / "x.safetensors")


def test_a_header_that_would_fill_the_disk(tmp_path):
    """A sparse file of a terabyte whose header is within bounds and nothing else."""
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(raw({"w": F32 | {"dtype": "U8", "shape": [1 << 40], "data_offsets": [0, 1 << 40]}}))
        file.truncate(file.tell() + (1 << 40) - 1)

    with pytest.raises(Hostile, match="the tensors end at"):
        open_tensors(path)
    assert MAX_HEADER < 1 << 26

"""What the store promises: what goes in comes out, damage is found, a crash leaves nothing bad, copies send what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from souq.errors import Corrupt, Hostile, NotFound, UsageError
from souq.weights.codec import BLOCK
from souq.weights.delta import DTYPES, tensor_digest
from souq.weights.store import Store
from souq.weights.sweeping import sweep_store

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@st.composite
def arrays(draw):
    """Any bits of any dtype: NaNs, infinities and denormals among them; scalars and empty tensors too."""
    dtype = DTYPES[draw(st.sampled_from(sorted(set(DTYPES) - {"BOOL"})))]
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = int(np.prod(shape)) * dtype.itemsize
    kind = draw(st.sampled_from(["noise", "constant", "small"]))
    raw = {
        "noise": chance.bytes(size),
        "constant": bytes([draw(st.integers(0, 255))]) * size,
        "small": chance.integers(0, 3, size, np.uint8).tobytes(),
    }
    return np.frombuffer(raw[kind], dtype).reshape(shape)  # fmt: skip


def bits(array):
    return array.tobytes(), array.dtype, array.shape


@relaxed
@given(arrays())
def test_what_goes_in_comes_out(tmp_path, array):
    """Bit for bit, whatever the bits mean, under the digest of what it is."""
    store = Store(tmp_path)

    name = store.put(array)

    assert name == tensor_digest(array)
    assert bits(store.get(name)) == bits(array)
    assert store.spec(name).shape == array.shape


@relaxed
@given(arrays(), st.data())
def test_a_difference_comes_out_whole(tmp_path, base, data):
    """A tensor kept as the difference from another comes back as it was, and a difference is never from a difference."""
    store = Store(tmp_path)
    raw = bytearray(base.tobytes())
    for at in data.draw(st.lists(st.integers(0, max(len(raw) - 1, 0)), max_size=3)):
        if raw:
            raw[at] ^= 1
    near = np.frombuffer(bytes(raw), base.dtype).reshape(base.shape)

    first = store.put(base)
    second = store.put(near, base=first)
    third = store.put(base, base=second)

    assert bits(store.get(second)) == bits(near)
    assert third == first
    assert store.header(first).base == ""


def test_a_fine_tune_is_small_beside_its_base(tmp_path):
    """A tensor that moved a little takes less than a third of its size."""
    store, chance = Store(tmp_path), np.random.default_rng(0)
    base = chance.standard_normal((400, 500)).astype(ml_dtypes.bfloat16)
    near = (base.astype("f4") * (1 + 1e-3 * chance.standard_normal(base.shape))).astype(ml_dtypes.bfloat16)

    first = store.put(base)
    second = store.put(near, base=first)

    assert store.size(second) < near.nbytes / 3
    assert store.size(first) < 0.8 * base.nbytes


@relaxed
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_flipped_bit_is_found(tmp_path, where, mask):
    """Whichever byte of an object is damaged, fsck names the object and get refuses it."""
    store = Store(tmp_path / f"{where}-{mask}")
    name = store.put(np.random.default_rng(1).standard_normal(300).astype("f4"))
    path = store.path(name)
    data = bytearray(path.read_bytes())
    data[where % len(data)] ^= mask
    path.chmod(0o644)
    path.write_bytes(data)

    assert [line[: len(name)] for line in store.fsck()] == [name]
    with pytest.raises((Corrupt, Hostile)):
        store.get(name)


def test_a_damaged_base_is_the_one_named(tmp_path):
    """Where a difference cannot be read because of its base, it is the base that has to be fetched again."""
    store = Store(tmp_path)
    base = np.arange(4000, dtype="f4")
    first = store.put(base)
    second = store.put(base + 1, base=first)
    assert store.header(second).base == first
    path = store.path(first)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(Corrupt, match=first):
        store.get(second)


def test_a_cut_file_is_found(tmp_path):
    store = Store(tmp_path)
    name = store.put(np.arange(1000, dtype="f8"))
    path = store.path(name)
    whole = path.read_bytes()
    path.chmod(0o644)
    for length in (0, 5, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Corrupt):
            store.get(name)


def test_copies_send_what_is_missing(tmp_path):
    """The second copy sends nothing, and a difference brings its base along."""
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    base = np.arange(BLOCK // 4, dtype="f4")
    first = here.put(base)
    second = here.put(base + 1, base=first)

    assert here.copy(there, [second]) == 2
    assert here.copy(there, [second, first]) == 0
    assert bits(there.get(second)) == bits(base + 1)
    assert there.fsck() == []


def test_a_damaged_object_is_not_passed_on(tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    name = here.put(np.arange(1000, dtype="f8"))
    path = here.path(name)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(Corrupt):
        here.copy(there, [name])
    assert list(there.digests()) == []


def test_gc_keeps_what_is_needed(tmp_path):
    """What is kept keeps its base; the rest goes once it is old; what was put just now stays."""
    store = Store(tmp_path)
    base = np.arange(9000, dtype="f4")
    first = store.put(base)
    second = store.put(base + 1, base=first)
    third = store.put(base + 2)

    assert sweep_store(store, [second]) == []
    assert sweep_store(store, [second], now=time.time() + 15 * 86_400) == [third]
    assert set(store.digests()) == {first, second}


def test_what_has_no_name_is_refused(tmp_path):
    with pytest.raises(UsageError, match="complex"):
        Store(tmp_path).put(np.zeros(2, "c8"))
    with pytest.raises(NotFound):
        Store(tmp_path).get("b3:" + "0" * 64)
    with pytest.raises(Hostile):
        Store(tmp_path).get("b3:../../../etc/passwd")


WRITER = """
import sys
from pathlib import Path
import numpy as np
from souq.weights.store import Store
from souq.weights.sweeping import sweep_store
store = Store(Path(sys.argv[1]))
for i in range(10_000):
    store.put(np.random.default_rng(i).standard_normal(50_000))
    print(i, flush=True)
"""


def test_kill_9_never_leaves_a_bad_object(tmp_path):
    """A writer killed at ten random moments leaves only whole objects under real names."""
    for attempt in range(10):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(attempt + 1):  # however slow the machine, as many objects are there
            writer.stdout.readline()
        time.sleep(0.003 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()

    store = Store(tmp_path)

    assert len(list(store.digests())) >= 10
    assert store.fsck() == []


def test_a_full_disk_leaves_nothing(tmp_path):
    """When a write fails half-way, no object appears and the leftover is cleared away."""
    code = (
        "import resource, signal, sys; from pathlib import Path; import numpy as np; from souq.weights.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: Store(Path(sys.argv[1])).put(np.random.default_rng(0).standard_normal(9000))\n"
        "except OSError: sys.exit(7)"
    )

    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 7
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

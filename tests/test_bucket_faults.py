"""What travels to and from an S3 server that is busy, slow, cut off or lying arrives whole, or is named and not taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from souq.errors import Corrupt, NotFound
from souq.weights import bucket as buckets
from souq.weights import multipart
from souq.weights.bucket import Bucket
from souq.weights.delta import TensorRef
from souq.weights.store import Store
from souq.weights.supply import Supply
from tests.proxies import before

pytestmark = pytest.mark.server
MB = 1 << 20


@pytest.fixture
def spoilt(s3, tmp_path, monkeypatch):
    """A bucket behind a spoiler, and the spoiler; objects above a megabyte are large, and parts are 5 MiB."""
    import s3fs

    with before(os.environ["AWS_ENDPOINT_URL"]) as spoiler:
        monkeypatch.setenv("AWS_ENDPOINT_URL", spoiler.address)
        monkeypatch.setattr(buckets, "SMALL", MB)
        monkeypatch.setattr(buckets, "RANGE", MB)
        monkeypatch.setattr(multipart, "PART", 5 * MB)
        s3fs.S3FileSystem.clear_instance_cache()
        yield Bucket(f"{s3}/{tmp_path.name}-{os.urandom(4).hex()}"), spoiler
    s3fs.S3FileSystem.clear_instance_cache()


def stored(folder, *sizes):
    store = Store(folder)
    return store, [store.put(np.random.default_rng(i).standard_normal(size)) for i, size in enumerate(sizes)]


def same(store, other, names):
    return all(store.get(name).tobytes() == other.get(name).tobytes() for name in names)


def test_an_answer_of_503_is_asked_again(spoilt, tmp_path):
    """Every third request is answered "slow down": everything arrives, up and down, large and small."""
    there, spoiler = spoilt
    store, names = stored(tmp_path / "a", 100, 2_000_000, 300)
    spoiler.busy = lambda method, path, number: number % 3 == 0

    store.copy(there, names)
    there.copy(other := Store(tmp_path / "b"), names)

    assert same(store, other, names)


def test_an_answer_that_is_cut_off_is_asked_again(spoilt, tmp_path):
    there, spoiler = spoilt
    store, names = stored(tmp_path / "a", 2_000_000)
    store.copy(there, names)
    spoiler.cut = lambda method, path, number: method == "GET" and number % 3 == 0

    there.copy(other := Store(tmp_path / "b"), names)

    assert same(store, other, names)


def test_a_fetch_that_broke_goes_on_where_it_was(spoilt, tmp_path, monkeypatch):
    """After the server went away in the middle, the next fetch asks for the rest alone."""
    there, _ = spoilt
    store, names = stored(tmp_path / "a", 2_000_000)
    size = store.size(names[0])
    store.copy(there, names)
    other, real, asked = Store(tmp_path / "b"), Bucket.range, []

    def broken(bucket, name, begin, end):
        if begin > size // 2:
            raise NotFound("cannot be reached")
        return real(bucket, name, begin, end)

    monkeypatch.setattr(Bucket, "range", broken)
    with pytest.raises(NotFound):
        there.copy(other, names)
    monkeypatch.setattr(Bucket, "range", lambda bucket, *each: asked.append(each) or real(bucket, *each))
    there.copy(other, names)

    assert same(store, other, names)
    assert asked[0][1] >= size // 4
    assert not list(other.arriving.glob("*"))


def test_another_object_and_a_flipped_bit_are_named(spoilt, tmp_path):
    """Whether it is fetched or built from straight: nothing is taken, and the object is named with where it lies."""
    there, spoiler = spoilt
    store, (one, two) = stored(tmp_path / "a", 2_000_000, 2_000_000)
    store.copy(there, [one, two])
    spoiler.swap = lambda path: path.replace(one[5:], two[5:]).replace(f"/{one[3:5]}/", f"/{two[3:5]}/") if one[5:] in path else path  # fmt: skip
    mine = Store(tmp_path / "b")
    with pytest.raises(Corrupt, match=one) as raised:
        there.copy(mine, [one])
    assert there.url in str(raised.value)
    spoiler.heal()
    data = bytearray(there.files.cat_file(there.path(two)))
    data[len(data) // 2] ^= 1
    there.files.pipe_file(there.path(two), bytes(data))
    with pytest.raises(Corrupt, match=two):
        there.copy(mine, [two])
    with Supply(mine, there) as supply:
        supply.read(TensorRef.of(store.get(one)), lambda words: None)
        with pytest.raises(Corrupt, match=two) as raised:
            supply.read(TensorRef.of(store.get(two)), lambda words: None)

    assert there.url in str(raised.value)
    assert list(mine.digests()) == []


def test_a_server_that_drips_is_left(spoilt, tmp_path, monkeypatch):
    """Slow is waited for, dripping is not: in words, and within the time that its size is worth."""
    there, spoiler = spoilt
    store, names = stored(tmp_path / "a", 2_000_000)
    store.copy(there, names)
    monkeypatch.setattr(buckets, "PATIENCE", 1.0)
    monkeypatch.setattr(buckets, "SLOWEST", 4 * MB)
    spoiler.slow = lambda method, path, number: method == "GET"
    begun = time.monotonic()

    with pytest.raises(NotFound, match="cannot be reached"):
        there.copy(Store(tmp_path / "b"), names)

    assert time.monotonic() - begun < 60


UPLOADER = """
import sys
from pathlib import Path
from souq.weights import bucket, multipart
from souq.weights.bucket import Bucket
from souq.weights.store import Store
bucket.SMALL, multipart.PART = 1 << 20, 5 << 20
Store(Path(sys.argv[1])).copy(Bucket(sys.argv[2]), sys.argv[3:])
"""


def test_a_push_that_is_killed_sends_nothing_twice(spoilt, tmp_path):
    """Killed three times in the middle of one large object, it goes on by parts: under 1.5 times its bytes in all."""
    there, spoiler = spoilt
    store, names = stored(tmp_path / "a", 12_000_000)
    size = store.size(names[0])
    words = [sys.executable, "-c", UPLOADER, str(store.root), there.url, *names]
    for goal in (size // 4, size // 2, 3 * size // 4):
        with subprocess.Popen(words) as process:
            while spoiler.sent < goal and process.poll() is None:
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
    assert names[0] not in there

    subprocess.run(words, check=True)

    assert size < spoiler.sent < 1.9 * size  # at most four parts of 5 MiB were under way each time, of eighteen
    there.copy(other := Store(tmp_path / "b"), names)
    assert same(store, other, names)
    assert not list((store.root / "sending").glob("*"))


def test_two_who_send_the_same_never_mix_their_parts(spoilt, tmp_path):
    """Each has an upload of its own: whoever is last, the object is whole."""
    from concurrent.futures import ThreadPoolExecutor

    there, _ = spoilt
    (one, names), (two, _) = stored(tmp_path / "a", 3_000_000), stored(tmp_path / "b", 3_000_000)
    with ThreadPoolExecutor(2) as hands:
        for job in [hands.submit(store.copy, there, names) for store in (one, two)]:
            job.result()

    there.copy(other := Store(tmp_path / "c"), names)
    assert same(one, other, names)

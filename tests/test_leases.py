"""What a bucket with many writers promises: what somebody is about to point at is never swept; the dead hold up nobody."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from souq.errors import Refused
from souq.weights import leases
from souq.weights.bucket import Bucket
from souq.weights.leases import Busy, sweep_bucket, writing
from souq.weights.store import Store

pytest.importorskip("fsspec")

ROOT, ALL = "0" * 40, -10.0  # a grace after which everything is old
ROUNDS = int(os.environ.get("SOUQ_ROUNDS", "20"))


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.server)])
def there(request, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "WAIT", 0.01)
    base = "memory://souq" if request.param == "memory" else request.getfixturevalue("s3")
    return Bucket(f"{base}/{tmp_path.name}-{os.urandom(4).hex()}")


def kept(store, count, first=0):
    return [store.put(np.arange(50 + first + i, dtype="f4")) for i in range(count)]


def test_two_writers_and_a_sweeper_at_once(there, tmp_path):
    """Round after round, old tensors that nobody points at are pointed at again while they are swept; none is lost."""
    stores = [Store(tmp_path / str(i)) for i in range(2)]
    names = [kept(store, 3, first=2 * i) for i, store in enumerate(stores)]  # one of them both bring
    published, lock, swept = set(), threading.Lock(), []

    def write(number):
        with writing(there):
            stores[number].copy(there, names[number])
            with lock:
                published.update(names[number])

    def sweep():
        try:
            swept.append(len(sweep_bucket(there, lambda: set(published), ROOT, grace=ALL)))
        except Busy:
            swept.append(-1)

    with ThreadPoolExecutor(3) as hands:
        for _ in range(ROUNDS):
            published.clear()
            jobs = [hands.submit(write, 0), hands.submit(sweep), hands.submit(write, 1)]
            for job in jobs:
                job.result()
            assert all(name in there for name in published)
            assert len(published) == 5
    published.clear()
    sweep()

    assert swept[-1] == 5
    # SeaweedFS still lists a folder that was emptied, as itself, for a while
    assert not [
        info for info in there.files.find(f"{there.url}/writing", detail=True).values() if info["type"] == "file"
    ]


def test_a_sweeper_gives_way_and_a_writer_waits(there, tmp_path):
    store = Store(tmp_path / "here")
    (name,) = kept(store, 1)
    with writing(there), pytest.raises(Busy, match="somebody writes"):
        sweep_bucket(there, set, ROOT, grace=ALL)

    def keep():
        with pytest.raises(Busy, match="somebody sweeps"), writing(there, patience=0.05):
            raise AssertionError("a writer went on beside a sweeper")
        return set()

    store.copy(there, [name])
    assert sweep_bucket(there, keep, ROOT, grace=ALL) == [name]


def test_the_mark_of_the_dead_is_forgotten(there, monkeypatch):
    mark = leases._leave(there, leases.WRITING)
    with pytest.raises(Busy):
        sweep_bucket(there, set, ROOT)
    monkeypatch.setattr(leases, "LEASE", 0.0)

    assert sweep_bucket(there, set, ROOT) == []
    there.files.rm_file(mark)


def test_what_is_young_stays_and_so_does_what_others_are_kept_by(there, tmp_path):
    """Nothing within the grace goes, nor the dense tensor that a kept one is a difference from."""
    store = Store(tmp_path / "here")
    base = np.random.default_rng(0).standard_normal(5000).astype("f4")
    first = store.put(base)
    second = store.put(base + np.float32(1e-4), base=first)
    lone = store.put(base * 2)
    assert store.header(second).base == first
    store.copy(there, [second, lone])

    assert sweep_bucket(there, lambda: {second}, ROOT) == []
    assert sweep_bucket(there, lambda: {second}, ROOT, grace=ALL) == [lone]
    assert first in there


def test_a_folder_that_two_repositories_share_is_not_swept(there, tmp_path):
    """Who sweeps knows what one repository needs, and not what the other does."""
    store = Store(tmp_path / "here")
    names = kept(store, 2)
    with writing(there, "1" * 40):
        store.copy(there, names)

    with pytest.raises(Refused, match="2 repositories"):
        sweep_bucket(there, set, ROOT, grace=ALL)
    assert all(name in there for name in names)
    assert sorted(sweep_bucket(there, set, "1" * 40, grace=ALL)) == sorted(names)

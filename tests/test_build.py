"""What a build promises when it uses what earlier builds left: the bytes of building everything anew, and less work."""

from __future__ import annotations

import json
import shutil

import msgspec
import numpy as np
import pytest

from souq.build import cache
from souq.build.lock import model_lock
from souq.build.model import build
from souq.merge.exact import matmul, round_once
from souq.merge.fold import factors
from souq.pulls import pull, reviews
from souq.records import format_toml
from souq.repo.snapshot import Snapshot
from souq.weights.delta import TensorRef, dtype_name
from souq.weights.store import Stored


@pytest.fixture
def two(bazaar):
    """Greetings on main and built; counting offered, its tensors here."""
    bazaar.land(bazaar.offer("mallory", bazaar.delta("greet")))
    number = bazaar.offer("adil", bazaar.delta("count"), "Counting", fixes="count")
    main, offer = bazaar.main("bruno"), pull.get(bazaar.repo("bruno"), number).offer
    reviews.bring(main.repo, main, offer)
    build(main)
    return bazaar, main, offer


def anew(main, offer=None):
    """The same build with nothing kept."""
    aside = main.repo.cache.with_name("aside")
    main.repo.cache.rename(aside)
    lock = build(main, offer).lock
    shutil.rmtree(main.repo.cache)
    aside.rename(main.repo.cache)
    return lock


def test_one_more_reads_no_other(two):
    """With every tensor of the first contribution gone from the disk, the second still joins, to the same bytes."""
    _, main, offer = two
    expected = anew(main, offer)
    (first,) = main.deltas().values()
    for ref in first.refs():
        if ref.digest not in {other.digest for other in offer.delta.refs()}:
            main.repo.store.path(ref.digest).unlink()

    built = build(main, offer)

    assert built.lock == expected
    assert (built.info.kept, built.info.joined, built.info.left) == (1, (offer.digest,), ())
    assert len(built.info.computed) == 14
    assert built.info.copied == len(main.base) - 14


def test_a_revert_is_never_having_merged(two):
    """From the sums with both, taking one out gives what the other alone gives."""
    _, main, offer = two
    alone = build(main).lock
    both = build(main, offer)
    shutil.rmtree(main.repo.cache / "built" / main.recipe().digest[3:35])  # as if main had never been built without it

    back = build(main)

    assert back.info.left == (offer.digest,)
    assert back.info.joined == ()
    assert back.lock == alone != both.lock


def test_who_is_alone_is_itself_whatever_was_kept(two):
    """Where the base is silent: built from sums or anew, before another comes and after it has left."""
    _, main, offer = two
    config = msgspec.structs.replace(main.config, merge={"method": "covariance", "base_weight": 0, "base_share": 0.1})
    files = {"souq.toml": format_toml(config).encode()}
    main = Snapshot(main.repo, main.repo.write_commit([main.commit], files, "a silent base", tree_of=main.commit))
    alone, (delta,) = build(main), main.deltas().values()
    name = next(iter(delta.parts))
    left, right = factors(delta.parts[name], base := Stored(main.base, main.repo.store)[name], main.repo.store.get)
    expected = round_once(base.astype("f8") + matmul(left, right), dtype_name(base.dtype))

    both = build(main, offer)
    shutil.rmtree(main.repo.cache / "built" / main.recipe().digest[3:35])
    back = build(main)

    assert alone.lock[name] == TensorRef.of(expected)
    assert back.lock == alone.lock == model_lock(main) == anew(main) != both.lock


def test_a_damaged_cache_costs_time_and_nothing_else(two):
    """Sums cut short or with other numbers in them: main is built anew, to the bytes model.lock names."""
    bazaar, main, offer = two
    bazaar.land(int(offer.slug[:4]))
    main = bazaar.main("bruno")
    expected = model_lock(main)
    for spoil in (lambda path: path.write_bytes(path.read_bytes()[:50]), lambda path: np.save(path, np.load(path) + 1)):
        shutil.rmtree(main.repo.cache / "built" / main.recipe().digest[3:35], ignore_errors=True)
        for path in (main.repo.cache / "sums").glob("*.npy"):
            spoil(path)
        assert build(main).lock == expected == main.model


def test_sums_are_kept_where_there_is_room(two, monkeypatch):
    """A disk that is nearly full holds the model and no sums; the next build computes them again."""
    _, main, offer = two
    expected = anew(main, offer)
    shutil.rmtree(main.repo.cache)
    monkeypatch.setattr(cache, "ROOM", 1 << 60)

    assert build(main).info.kept == 0
    assert not list((main.repo.cache / "sums").glob("*.npy"))
    assert build(main, offer).lock == expected


def test_explain_says_what_was_used_again(two):
    bazaar, _, offer = two
    bazaar.land(int(offer.slug[:4]), "chen", "bruno")

    code, out, _ = bazaar.says("bruno", "build --explain")
    told = json.loads(bazaar.says("bruno", "build --explain --json")[1])["made"]

    assert code == 0
    assert f"contributions read, to join                        {len(told['joined']):>5}" in out
    assert (told["kept"], len(told["joined"])) == (1, 1)
    assert "(none of them was read)" in out


def test_only_the_newest_sums_stay(two):
    """The cache does not grow: what no kept build needs is thrown away."""
    bazaar, main, offer = two
    build(main, offer)
    held = {build.folder.name for build, _ in zip(cache.BuildCache(main.repo.cache).finished(), range(2), strict=False)}
    assert len(held) == 2
    build(bazaar.main("bruno"), offer)
    kept = cache.BuildCache(main.repo.cache)
    wanted = set().union(*(kept._files(build.info) for build in kept.finished()))

    assert set((main.repo.cache / "sums").glob("*.npy")) <= wanted

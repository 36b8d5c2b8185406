"""What the spectral methods promise: right, the same bytes everywhere, and a LoRA is merged as the matrix it stands for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.errors import UsageError
from souq.merge import spectral_methods
from souq.merge.methods import METHODS, Change
from souq.merge.spectral import eigh, polar, span, svd, thin_svd

seeds = st.integers(0, 2**32)
ranks = st.lists(st.integers(0, 4), min_size=1, max_size=5)
NAMES = ["tsv", "iso-c", "iso-cts", "knots-ties", "core-space", "wudi"]
INNER = ["tsv", "iso-c", "ties", "mean"]
law = settings(deadline=None, max_examples=40)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def loras(seed, sizes, m=17, n=23):
    return [Change(random([seed, i], m, r), random([seed, i, 1], r, n), None) for i, r in enumerate(sizes)]


def whole(change):
    return change.right if change.left is None else change.left @ change.right


def dense(changes):
    return [Change(None, whole(change), None) for change in changes]


def merged(name, changes, **chosen):
    return sum(whole(change) for change in METHODS[name](changes, None, **chosen))


def near(a, b, share):
    return np.abs(a - b).max(initial=0) <= share * max(1.0, np.abs(b).max(initial=0))


def symmetric(seed, n, kind):
    x = random(seed, n, n)
    x[:, n // 3 :] *= {"full": 1.0, "low rank": 0.0, "graded": 1e-7}[kind]
    return x @ x.T if kind != "full" else x + x.T


@given(seeds, st.integers(1, 40), st.sampled_from(["full", "low rank", "graded"]), st.integers(-300, 280))
@law
def test_eigenvectors_are_right(seed, n, kind, exponent):
    """A matrix of any size and scale is the sum of its parts, to 1e-10, and the parts are orthonormal and in order."""
    s = symmetric(seed, n, kind) * 2.0**exponent
    values, vectors = eigh(s)

    assert near((vectors * values) @ vectors.T * 2.0**-exponent, s * 2.0**-exponent, 1e-10)
    assert near(vectors.T @ vectors, np.eye(n), 1e-10)
    assert (np.diff(values) <= 0).all()
    assert (vectors[np.abs(vectors).argmax(0), range(n)] > 0).all()


@pytest.mark.parametrize(
    "s", [np.zeros((0, 0)), np.zeros((5, 5)), np.eye(5), np.ones((5, 5)), np.diag([1.0, -2.0, 3.0, 0.0, 1e-300])]
)
def test_matrices_that_are_nearly_done(s):
    values, vectors = eigh(s)

    assert near((vectors * values) @ vectors.T, s, 1e-14)
    assert near(vectors.T @ vectors, np.eye(len(s)), 1e-14)


def test_what_is_not_finite_is_refused():
    for broken in (eigh, svd):
        with pytest.raises(ValueError, match="finite"):
            broken(np.full((2, 2), np.nan))


@given(seeds, st.integers(1, 30), st.integers(1, 30), st.integers(0, 40), st.integers(0, 6))
@law
def test_singular_vectors_are_right(seed, m, n, rank, decades):
    """A product is met to 1e-8 of its size, expanded or not, though its factors span many decades."""
    left, right = random(seed, m, rank), random(seed + 1, rank, n) * 10.0 ** -np.linspace(0, decades, rank)[:, None]
    for u, sigma, v in (svd(left @ right), thin_svd(left, right)):
        assert near((u * sigma) @ v.T, left @ right, 1e-8)
        assert near(u.T @ u, np.eye(len(sigma)), 1e-10)
        assert near(v.T @ v, np.eye(len(sigma)), 1e-10)
        assert near(sigma, np.linalg.svd(left @ right)[1][: len(sigma)], 1e-8)
        assert len(sigma) <= min(m, n, rank)


def test_the_polar_factor_is_the_nearest():
    x = random(1, 12, 5)
    u, _, vt = np.linalg.svd(x, full_matrices=False)

    assert near(polar(x), u @ vt, 1e-10)
    assert near(polar(x.T), (u @ vt).T, 1e-10)
    assert near(span(x) @ span(x).T, u @ u.T, 1e-10)


@given(seeds, ranks, st.sampled_from([name for name in NAMES if name != "core-space"]))
@law
def test_a_lora_is_merged_as_the_matrix_it_stands_for(seed, sizes, name):
    """Ranks differ, some are 0: the factors give what the whole matrices give, to 1e-8."""
    changes = loras(seed, sizes)

    assert near(merged(name, changes), merged(name, dense(changes)), 1e-8)


@given(seeds, ranks, st.sampled_from(["tsv", "iso-c", "iso-cts", "wudi"]))
@law
def test_one_whole_change_among_loras(seed, sizes, name):
    """A full change beside LoRAs is merged as if all were full."""
    changes = [*loras(seed, sizes), Change(None, random(seed, 17, 23), None)]

    assert near(merged(name, changes), merged(name, dense(changes)), 1e-8)


@given(seeds, ranks)
@law
def test_the_core_loses_nothing(seed, sizes):
    """The mean in the core is the mean."""
    changes = loras(seed, sizes)

    assert near(merged("core-space", changes, inner="mean"), sum(map(whole, changes)) / len(sizes), 1e-8)
    assert near(merged("core-space", changes, inner="iso-c"), merged("iso-c", changes), 1e-8)


@given(seeds, ranks, st.sampled_from(NAMES), st.randoms())
@law
def test_sorted_changes_merge_to_the_same_bytes(seed, sizes, name, shuffler):
    """Sorted, as the fold does, a set gives the same bytes; unsorted, only the last digits may differ."""
    changes = loras(seed, sizes)
    shuffled = shuffler.sample(changes, len(changes))

    def in_order(some):
        return sorted(some, key=lambda change: change.right.tobytes())

    assert merged(name, in_order(changes)).tobytes() == merged(name, in_order(shuffled)).tobytes()
    assert near(merged(name, changes), merged(name, shuffled), 1e-7)


@given(seeds, ranks, st.booleans())
@law
def test_tsv_is_the_published_one(seed, sizes, full):
    changes = loras(seed, [size + 1 for size in sizes])

    assert near(merged("tsv", dense(changes) if full else changes), published_tsv(changes), 1e-6)


def published_tsv(changes):
    parts = []
    for change in changes:
        u, s, vt = np.linalg.svd(whole(change), full_matrices=False)
        k = min(min(u.shape[0], vt.shape[1]) // len(changes), change.right.shape[0])
        parts.append((u[:, :k], s[:k], vt[:k].T))
    u, s, v = (np.concatenate(side, axis=-1) for side in zip(*parts, strict=True))
    return published_polar(u) * s @ published_polar(v).T


def published_polar(x):
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    kept = s > 1e-9
    return u[:, kept] @ vt[kept]


@given(seeds, ranks)
@law
def test_iso_c_is_the_published_one_over_the_rank(seed, sizes):
    changes = loras(seed, [size + 1 for size in sizes])
    u, s, vt = np.linalg.svd(sum(map(whole, changes)), full_matrices=False)
    k = int((s > 1e-8).sum())

    assert near(merged("iso-c", changes, scale=1.5), 1.5 * s[:k].mean() * u[:, :k] @ vt[:k], 1e-6)


@given(seeds, st.integers(1, 4), st.floats(0.3, 1.0))
@law
def test_iso_cts_is_the_published_one(seed, count, common):
    """On full changes, whose rank is that of the layer."""
    changes = [Change(None, random([seed, i], 12, 15), None) for i in range(count)]
    expected = published_iso_cts([c.right for c in changes], common)

    assert near(merged("iso-cts", changes, common=common), expected, 1e-6)


def published_iso_cts(ds, common):
    least, u, s, vt = min(ds[0].shape), *np.linalg.svd(sum(ds), full_matrices=False)
    each = round((least - int(least * common)) / len(ds))
    shared = least - each * len(ds)
    parts = []
    for d in ds:
        ui, si, vti = np.linalg.svd(d - u[:, :shared] @ u[:, :shared].T @ d, full_matrices=False)
        parts.append((ui[:, :each], si[:each], vti[:each].T))
    parts.append((u[:, :shared], s[:shared], vt[:shared].T))
    us, ss, vs = (np.concatenate(side, axis=-1) for side in zip(*parts, strict=True))
    return ss.mean() * published_polar(us) @ published_polar(vs).T


@given(seeds, ranks, st.sampled_from([0.1, 0.2, 0.5, 1.0]))
@law
def test_knots_is_the_published_one(seed, sizes, density):
    changes = loras(seed, [size + 1 for size in sizes])

    assert near(merged("knots-ties", changes, density=density), published_knots(changes, density), 1e-6)


def published_knots(changes, density):
    u, s, vt = np.linalg.svd(np.concatenate([whole(change) for change in changes], axis=1), full_matrices=False)
    k = int((s > 1e-8).sum())
    z = np.stack(np.split(s[:k, None] * vt[:k], len(changes), axis=1))
    for part in z:
        part[np.abs(part) < np.sort(np.abs(part), axis=None)[::-1][int(density * part.size) - 1]] = 0
    elected = np.where(z.sum(0) >= 0, 1, -1)
    agree = (np.sign(z) == elected).astype(float)
    return u[:, :k] @ ((z * agree).sum(0) / np.maximum(agree.sum(0), 1))


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), max_size=12), st.floats(0, 1.5))
def test_trimming_keeps_the_first_of_equals(values, density):
    x = np.array([values])
    kept = np.argsort(-np.abs(x[0]), kind="stable")[: int(density * len(values))]

    assert (spectral_methods._trimmed(x, density)[0] == np.where(np.isin(range(len(values)), kept), x[0], 0)).all()


@given(seeds, ranks, st.floats(1e-3, 1.0), st.floats(0.0, 1.0))
@law
def test_wudi_minimises_its_loss(seed, sizes, ridge, pull):
    """The answer is a stationary point: the slope of WUDI's loss, with the pull to where it starts, is nothing."""
    changes = loras(seed, [size + 1 for size in sizes])
    ds = [whole(change) for change in changes]
    s = sum(d.T @ d / (d * d).sum() for d in ds)
    answer, eps = merged("wudi", changes, ridge=ridge, pull=pull), ridge * (s * s).sum() / np.trace(s)

    slope = sum((answer - d) @ d.T @ d / (d * d).sum() for d in ds) + eps * (answer - pull * sum(ds))

    assert near(slope, np.zeros_like(slope), 1e-8)


@pytest.mark.parametrize("name", ["tsv", "iso-c", "wudi"])
def test_strangers_lose_nothing(name):
    """Changes with neither inputs nor outputs in common, all as strong, are summed."""
    basis = [np.linalg.qr(random(i, n, n))[0] for i, n in enumerate((16, 20))]
    changes = [Change(basis[0][:, i : i + 2], basis[1][i : i + 2], None) for i in (0, 2, 4)]

    assert near(merged(name, changes), sum(map(whole, changes)), 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_few_and_many(name):
    """Nothing at all, one contribution, two that are the same, and a thousand of rank 1."""
    [one] = loras(1, [3], m=6, n=9)

    assert not merged(name, loras(1, [0, 0], m=6, n=9)).any()
    assert not merged(name, dense(loras(1, [0], m=6, n=9))).any()
    assert merged(name, [one]).shape == (6, 9)
    assert np.isfinite(merged(name, [one, one])).all()
    assert np.isfinite(merged(name, loras(2, [1] * 1000, m=6, n=9))).all()


@given(seeds, ranks, st.sampled_from(NAMES), st.integers(-60, 60))
@law
def test_how_a_lora_splits_its_size_does_not_show(seed, sizes, name, exponent):
    """Large left and small right, or the other way: the same answer, so nobody crowds out the others' digits."""
    first, *others = changes = loras(seed, sizes)
    split = [Change(first.left * 2.0**exponent, first.right * 2.0**-exponent, None), *others]

    assert near(merged(name, split), merged(name, changes), 1e-13)


def test_a_tiny_change_does_not_blur_the_others():
    """WUDI weighs by direction, not by size, so 1e-13 of a change must not cost the others digits."""
    large, tiny = loras(1, [3, 3])
    others = [large, Change(tiny.left, tiny.right * 1e-13, None)]

    assert near(merged("wudi", others), merged("wudi", dense(others)), 1e-8)


@pytest.mark.parametrize("name", ["tsv", "wudi"])
def test_what_is_sent_twice_counts_once(name):
    [one] = loras(1, [3])

    assert near(merged(name, [one, one], **({"pull": 0.5} if name == "wudi" else {})), whole(one), 1e-8)


def test_every_inner_method_of_the_core():
    for inner in INNER:
        for changes in (loras(3, [2, 0, 3]), dense(loras(3, [2, 3]))):
            assert np.isfinite(merged("core-space", changes, inner=inner)).all()
    with pytest.raises(UsageError, match="did you mean 'ties'"):
        merged("core-space", loras(3, [2]), inner="tie")


@pytest.mark.parametrize("name", NAMES)
def test_loras_stay_low_rank(name, monkeypatch):
    """No product as large as the layer is built on the way."""
    m, n = 301, 401
    changes = loras(5, [2, 3, 1], m=m, n=n)
    built = []

    def watched(a, b):
        built.append((a.shape[0], b.shape[1]))
        return a @ b

    for module in ("spectral", "spectral_methods"):
        monkeypatch.setattr(f"souq.merge.{module}.matmul", watched)
    answer = METHODS[name](changes, None)

    assert built
    assert all(min(shape) <= 6 for shape in built)
    assert all(change.left is not None for change in answer)


DIGEST = """
import sys; sys.path.insert(0, ".")
from tests.test_spectral import digest_of_everything
print(digest_of_everything())
"""


def digest_of_everything():
    """One digest over every method on LoRAs and on full changes."""
    found = hashlib.sha256()
    small, large = loras(7, [2, 0, 4], m=20, n=30), loras(8, [30, 40, 50], m=150, n=200)
    full = [Change(None, random([9, i], 40, 60), None) for i in range(3)]
    for name in NAMES:
        for change in [c for some in (small, large, full) for c in METHODS[name](some, None)]:
            found.update(change.right.tobytes() + (b"" if change.left is None else change.left.tobytes()))
    x = random(9, 130, 130)
    for array in (*eigh(x + x.T), *svd(x)):
        found.update(array.tobytes())
    return found.hexdigest()


@pytest.mark.long
def test_the_same_bytes_on_other_machines():
    """One thread or two, an old processor's kernels or a new one's: the same bytes."""
    digests = set()
    for threads, core in (("1", "Haswell"), ("2", "Haswell"), ("1", "Sandybridge"), ("2", "Nehalem")):
        env = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": core}
        done = subprocess.run([sys.executable, "-c", DIGEST], env=env, capture_output=True, text=True, check=True)
        digests.add(done.stdout)

    assert len(digests) == 1

"""What a merge promises: the same bytes in any order, and the mathematics it claims."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from souq.errors import UsageError
from souq.merge import METHODS, Fold
from souq.merge.exact import divide, gram, inverse_root, matmul, round_once
from souq.merge.methods import SUMS, Change, Sketch, check_settings
from souq.merge.sums import Kept
from souq.weights.delta import Delta, Dense, Gram, Lora, TensorRef, tensor_digest
from souq.weights.lockfile import format_delta, parse_delta

BASE = "b3:" + "0" * 64
shapes = st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40))
seeds = st.integers(0, 2**32)


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


class Bag:
    """Tensors by digest, in memory."""

    def __init__(self):
        self.tensors = {}

    def put(self, array):
        ref = TensorRef.of(array)
        self.tensors[ref.digest] = array
        return ref

    def load(self, digest):
        return self.tensors[digest]


def lora_delta(bag, seed, *, m=12, n=20, rank=3, sketch=True, kept=4):
    a, b = random(seed, rank, n).astype("f4"), random(seed + 1, m, rank).astype("f4")
    part = Lora(a=bag.put(a), b=bag.put(b), scale=0.5)
    if not sketch:
        return Delta(BASE, {"w.weight": part})
    factor = random(seed + 2, kept, n).astype("f2")
    gram = Gram(factor=bag.put(factor), diag=bag.put(np.full(n, 0.1, "f4")), tokens=9)
    return Delta(BASE, {"w.weight": part}, {"w": gram}, {"w.weight": "w"})


@given(shapes, seeds)
def test_products_are_right(shape, seed):
    """matmul is the product, to twelve digits of the largest entries."""
    m, k, n = shape
    a, b = random(seed, m, k), random(seed + 1, k, n)

    assert np.allclose(matmul(a, b), a @ b, rtol=1e-10, atol=1e-10)


@given(shapes, seeds)
def test_products_do_not_depend_on_the_order_of_addition(shape, seed):
    """Adding along the inner dimension in another order gives the same bits: what no BLAS may change."""
    m, k, n = shape
    a, b = random(seed, m, k), random(seed + 1, k, n)
    order = np.random.default_rng(seed).permutation(k)

    assert matmul(a, b).tobytes() == matmul(a[:, order], b[order]).tobytes()


@settings(deadline=None)
@given(st.sampled_from([(1, 1), (7, 3), (130, 64), (64, 130), (40, 2100)]), seeds)
def test_half_a_gram_has_the_bits_of_the_whole(shape, seed):
    """a a^T is the product of two matrices that happen to be one: BLAS may skip half of it, the bits stay."""
    a = random(seed, *shape)

    assert gram(a).tobytes() == matmul(a, a.T, slices=1).tobytes()
    assert gram(a.T).tobytes() == matmul(a.T, a, slices=1).tobytes()


@settings(deadline=None)
@given(st.integers(1, 150), seeds)
def test_solving_solves(n, seed):
    """Cholesky factors and solves a positive definite system, blocks and rests alike."""
    q = random(seed, n, 2 * n)
    s = q @ q.T / n + 0.1 * np.eye(n)
    b = random(seed + 1, n, 3)

    assert np.allclose(s @ divide(b.T, inverse_root(s)).T, b, atol=1e-8)


def test_an_indefinite_matrix_is_refused():
    with pytest.raises(ValueError, match="positive definite"):
        inverse_root(-np.eye(3))


def test_one_rounding_at_the_end():
    """A value just above a tie goes up: rounding by way of float32 would first make it a tie, then go down."""
    x = np.array([1 + 2**-8 + 2**-40])

    assert round_once(x, "BF16")[0] == ml_dtypes.bfloat16(1.0078125)
    assert x.astype(np.float32).astype(ml_dtypes.bfloat16)[0] == 1


@given(st.lists(st.floats(width=16, allow_nan=False), min_size=1))
def test_what_fits_is_not_changed_by_rounding(values):
    x = np.array(values)

    assert (round_once(x, "F16").astype("f8") == x).all()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=4, unique=True), st.sampled_from(sorted(METHODS)))
@settings(deadline=None, max_examples=40)
def test_strangers_in_any_order_give_the_same_bytes(numbers, method):
    """The same changes, in every order, under anybody's name, with and without sketches, merge to the same digest."""
    bag = Bag()
    base = {"w.weight": random(7, 12, 20).astype(np.float64)}
    names, deltas = [f"b3:{i:064x}" for i in numbers], [lora_delta(bag, i, sketch=bool(i % 3)) for i in numbers]

    digests = {
        tensor_digest(Fold(base, dict(zip(names, order, strict=True)), bag.load, method=method)["w.weight"])
        for order in itertools.permutations(deltas)
    }

    assert len(digests) == 1


@given(seeds)
@settings(deadline=None)
def test_the_base_is_heard(seed):
    """The base's sketch, read back from its text, keeps what the model does on the base's inputs nearer to what it did."""
    bag, base = Bag(), {"w.weight": random(seed, 12, 20)}
    change, told = lora_delta(bag, seed + 1), lora_delta(bag, seed + 5)
    sketch = parse_delta(format_delta(Delta(BASE, {}, told.grams, told.inputs)))
    gram = Sketch(*(bag.load(ref.digest).astype("f8") for ref in (told.grams["w"].factor, told.grams["w"].diag)))

    def moved(heard):
        change_there = Fold(base, {"b3:1": change}, bag.load, base_sketch=heard)["w.weight"] - base["w.weight"]
        return float(np.trace(change_there @ gram.whole() @ change_there.T))

    assert moved(sketch) < moved(None)


@given(seeds)
@settings(deadline=None)
def test_equal_sketches_make_the_mean(seed):
    """When everybody's inputs look alike, the covariance merge is the mean (ridge and base at nothing)."""
    gram = Sketch(random(seed, 3, 9), np.full(9, 0.5))
    changes = [Change(None, random(seed + i, 5, 9), gram) for i in (1, 2, 3)]

    merged = sum(c.right for c in METHODS["covariance"](changes, None, ridge=0.0))

    assert np.allclose(merged, sum(c.right for c in changes) / 3, atol=1e-4)


def test_strangers_with_different_inputs_lose_nothing():
    """Contributions that live on orthogonal inputs are summed: each keeps all it brought."""
    eye = np.eye(8)
    one = Change(None, random(1, 5, 8) @ np.diag([1] * 4 + [0] * 4), Sketch(eye[:4], np.full(8, 1e-9)))
    two = Change(None, random(2, 5, 8) @ np.diag([0] * 4 + [1] * 4), Sketch(eye[4:], np.full(8, 1e-9)))

    merged = sum(c.right for c in METHODS["covariance"]([one, two], None, ridge=0.0))

    assert np.allclose(merged, one.right + two.right, atol=1e-6)


@pytest.mark.parametrize("kept", [3, 30])
def test_the_formula_is_the_formula(kept):
    """The function and the fold both equal the plain normal equations, every sketch scaled to a mean diagonal of 1."""
    bag, names = Bag(), ("b3:1", "b3:2")
    base = {"w.weight": random(7, 12, 20)}
    deltas = [lora_delta(bag, seed, kept=kept) for seed in (1, 30)]
    told = lora_delta(bag, 60, kept=kept)
    fold = Fold(base, dict(zip(names, deltas, strict=True)), bag.load, base_sketch=told, settings={"base_weight": 0.5})
    changes = fold.changes("w.weight")

    full = [g.factor.T @ g.factor + np.diag(g.diag) for g in (changes[who].gram for who in names)]
    gram = told.grams["w"]
    factor, diag = bag.load(gram.factor.digest).astype("f8"), bag.load(gram.diag.digest).astype("f8")
    full = [g / np.diag(g).mean() for g in (*full, factor.T @ factor + np.diag(diag))]
    wide = [changes[who].left @ changes[who].right for who in names]
    s = full[0] + full[1] + 0.5 * full[2] + 1e-4 * np.eye(20)
    expected = (wide[0] @ full[0] + wide[1] @ full[1]) @ np.linalg.inv(s)

    answers = fold.merged("w.weight", list(changes.values()))
    assert np.allclose(sum(c.left @ c.right for c in answers), expected, atol=1e-4)
    assert np.allclose(fold["w.weight"] - base["w.weight"], expected, atol=1e-4)


@given(seeds, st.booleans(), st.sampled_from([0.5, 1.0]))
def test_who_is_alone_is_kept_to_the_last_bit(seed, sketch, weight):
    """Where the base is silent; as soon as another comes, both give way."""
    bag, base = Bag(), {"w.weight": random(7, 12, 20)}
    mine, other = lora_delta(bag, seed, sketch=sketch), lora_delta(bag, seed + 9)
    quiet = {"base_weight": 0.0, "base_share": 0.1}

    def merged(deltas):
        fold = Fold(base, deltas, bag.load, settings=quiet, base_sketch=lora_delta(bag, 60), weights={"b3:1": weight})
        function = fold.merged("w.weight", list(fold.changes("w.weight").values()))
        change = fold["w.weight"] - base["w.weight"]
        assert np.linalg.norm(sum(c.whole() for c in function) - change) <= 2e-4 * np.linalg.norm(change)
        return fold["w.weight"]

    part = mine.parts["w.weight"]
    change = matmul(bag.load(part.b.digest).astype("f8"), bag.load(part.a.digest).astype("f8") * part.scale)
    assert (merged({"b3:1": mine}) == base["w.weight"] + change).all()
    assert not np.allclose(merged({"b3:1": mine, "b3:2": other}), base["w.weight"] + change)


SUMMED = sorted(SUMS)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=5, unique=True), st.sampled_from(SUMMED), st.data())
@settings(deadline=None, max_examples=40)
def test_joining_and_leaving_leave_no_trace(numbers, method, data):
    """Whoever joined what was kept, and whoever left it again: the same bytes as if the rest had always been alone."""
    bag, base = Bag(), {"w.weight": random(7, 12, 20)}
    everyone = {f"b3:{i:064x}": lora_delta(bag, i, sketch=bool(i % 3)) for i in numbers}
    weights = {name: data.draw(st.sampled_from([0.5, 1.0, 1.7])) for name in everyone}
    before = data.draw(st.sets(st.sampled_from(sorted(everyone)), min_size=1))
    after = data.draw(st.sets(st.sampled_from(sorted(everyone)), min_size=1))

    quiet = {"base_weight": 0.0, "base_share": 0.1} if method == "covariance" and data.draw(st.booleans()) else {}
    told = lora_delta(bag, 60)

    def fold(who, **kept):
        deltas = {name: everyone[name] for name in who}
        more = {"method": method, "settings": quiet, "weights": weights, "base_sketch": told} | kept
        return Fold(base, deltas, bag.load, member=everyone.__getitem__, **more)

    first = fold(before)
    kept = Kept(first.sums.members, first.sums.tallies, first.sums.top, first.sums.gram)
    second = fold(after - before, kept=kept, left={name: everyone[name] for name in before - after})

    assert second.sums.tallies == fold(after).sums.tallies
    assert second["w.weight"].tobytes() == fold(after)["w.weight"].tobytes()


EMBED = "model.embed_tokens.weight"


def rows_delta(bag, table, changed):
    """A table of which some rows were trained: row -> what was added to it."""
    array = table.copy()
    for row, by in changed.items():
        array[row] += by
    return Delta(BASE, {EMBED: Dense(value=bag.put(array))})


@given(
    st.lists(st.dictionaries(st.integers(0, 5), st.sampled_from([-1.0, 0.5, 2.0])), min_size=1, max_size=4), st.data()
)
@settings(deadline=None, max_examples=40)
def test_rows_of_a_table_are_merged_one_by_one(said, data):
    """A row one person trained is theirs, whole; one that several trained is their mean; joining and leaving leave no trace."""
    bag, table = Bag(), np.zeros((6, 4), "f4")
    everyone = {f"b3:{i:064x}": rows_delta(bag, table, changed) for i, changed in enumerate(said)}
    before = data.draw(st.sets(st.sampled_from(sorted(everyone))))

    def fold(who, **kept):
        return Fold({EMBED: table}, {name: everyone[name] for name in who}, bag.load, **kept)

    whole = fold(everyone)[EMBED]

    for row in range(6):
        values = [changed[row] for changed in said if row in changed]
        assert np.allclose(whole[row], np.mean(values) if values else 0.0)
    first = fold(before)
    kept = Kept(first.sums.members, first.sums.tallies, first.sums.top, first.sums.gram)
    assert fold(everyone.keys() - before, kept=kept)[EMBED].tobytes() == whole.tobytes()


@pytest.mark.parametrize("method", ["covariance", "tsv", "iso-c", "core-space"])
def test_no_method_for_linear_layers_is_asked_about_a_table(method):
    """Two people's rows of an embedding stay theirs, to the bit, whatever merges the layers."""
    bag, table = Bag(), np.zeros((6, 4), "f4")
    deltas = {f"b3:{i}": rows_delta(bag, table, {i: 0.3, 5: float(i)}) for i in (1, 2)}

    merged = Fold({EMBED: table}, deltas, bag.load, method=method)[EMBED]

    assert merged.tolist() == [[0.0] * 4, [np.float32(0.3)] * 4, [np.float32(0.3)] * 4, *[[0.0] * 4] * 2, [1.5] * 4]


def test_a_low_rank_change_merges_as_its_product_would():
    """A LoRA and the same change written out in full merge to the same model."""
    gram, other = Sketch(random(1, 4, 20), np.ones(20)), Sketch(random(2, 4, 20), np.ones(20))
    b, a, d = random(3, 12, 3), random(4, 3, 20), random(5, 12, 20)

    thin = METHODS["covariance"]([Change(b, a, gram), Change(None, d, other)], None)
    full = METHODS["covariance"]([Change(None, b @ a, gram), Change(None, d, other)], None)

    assert np.allclose(b @ thin[0].right + thin[1].right, full[0].right + full[1].right, atol=1e-4)


@pytest.mark.parametrize("method", ["dare-linear", "della", "dare-ties"])
def test_chance_is_what_a_change_is(method):
    """DARE keeps about half of one change, the same half whoever asks, and another half of another change."""
    one, two = (Change(None, random(i, 40, 50), None) for i in (1, 2))

    [first], [again], [other] = (
        METHODS[method]([change], None) for change in (one, Change(None, one.right.copy(), None), two)
    )
    assert first.right.tobytes() == again.right.tobytes()
    assert 0.45 < np.mean(first.right != 0) < 0.55
    assert 0.4 < np.mean((first.right != 0) == (other.right != 0)) < 0.6
    assert np.abs(first.right).sum() == pytest.approx(np.abs(one.right).sum(), rel=1e-5)


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_ties_is_the_papers(seed):
    """Trim, elect, disjoint mean, as four lines of numpy say it."""
    changes = [random(seed + i, 6, 9).astype("f4").astype("f8") for i in range(3)]
    kept = np.stack([np.where(np.abs(d) >= np.sort(np.abs(d), axis=None)[-27], d, 0) for d in changes])
    sign = np.where(kept.sum(0) >= 0, 1, -1)
    agreed = np.where(np.sign(kept) == sign, kept, 0)
    expected = agreed.sum(0) / np.maximum((agreed != 0).sum(0), 1)

    [told] = METHODS["ties"]([Change(None, d, None) for d in changes], None, density=0.5)
    assert np.allclose(told.right, expected, atol=1e-6)


def test_a_wrong_setting_is_answered_with_the_right_one():
    with pytest.raises(UsageError, match="did you mean 'ridge'"):
        check_settings("covariance", {"rigde": 1})
    with pytest.raises(UsageError, match="did you mean 'covariance'"):
        check_settings("covarianse", {})
